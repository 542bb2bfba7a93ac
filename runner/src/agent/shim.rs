//! The inside of [`super::instance`]: holds one process, its output and its exit status, and lives as long as it does. Has an agent
//! there for as long, too.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, dup2_stdout, setsid};

use super::instance::{Exit, Job};
use super::keeper;
use super::log::LogWriter;
use crate::sandbox::{self, Ended, SandboxError, Stdio};

/// Of a thread that waits.
const STACK: usize = 64 << 10;

/// Runs the job of a directory to its end. Standard output is the job, to be read; standard input is the directory's lock, held
/// until this process is gone.
pub(super) fn shim(directory: &Path) -> io::Result<()> {
    // Not killed with the terminal or the process group of whoever started it.
    let _ = setsid();
    fs::write(directory.join("pid"), std::process::id().to_string())?;
    prefer_to_end();
    let stops = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    stops.thread_block()?;
    if let Some(home) = directory.ancestors().nth(3).map(Path::to_owned) {
        // Without it all goes on but what two kills at once would stop.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || keeper::stand_by(&home));
    }
    let job: Job = serde_json::from_reader(io::BufReader::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))?;
    // Nothing of it stays in memory that a program could be given.
    dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    let exit = hold(&job, stops).unwrap_or_else(|error| not_started(&error));
    let written = directory.join("exit.new");
    fs::write(&written, serde_json::to_vec(&exit)?)?;
    fs::rename(&written, directory.join("exit.json"))
}

/// How much rather than others a process is ended where the machine has no memory left (proc(5)).
const OOM: &str = "/proc/self/oom_score_adj";
const RATHER: &str = "200";

/// Where the machine has no memory left, what serves is rather ended, and comes back, than the agent or a database.
fn prefer_to_end() {
    // Which harms nobody where it is not to be had.
    let _ = fs::write(OOM, RATHER);
}

/// Takes that back for what a shim starts that does not serve.
pub(super) fn prefer_to_stay() {
    if fs::read_to_string(OOM).is_ok_and(|score| score.trim_end() == RATHER) {
        let _ = fs::write(OOM, "0");
    }
}

fn hold(job: &Job, stops: SigSet) -> Result<Exit, SandboxError> {
    let failed = |doing| move |source| SandboxError::Io { doing, source };
    let (output, stdout) = io::pipe().map_err(failed("make a pipe"))?;
    let stderr = stdout.try_clone().map_err(failed("make a pipe"))?;
    let stdin = File::open("/dev/null").map_err(failed("open /dev/null"))?;
    let stdio = Stdio { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    let log = LogWriter::open(&job.log).map_err(failed("open a log"))?;
    let mut child = sandbox::spawn(&job.spec, stdio)?;
    let monitor = Pid::from_raw(child.id().cast_signed());
    let grace = job.grace;
    thread::spawn(move || pass_stops(stops, monitor, grace));
    let copying = thread::spawn(move || copy(output, log));
    let ended = child.wait();
    // Nothing of the process is left, so the pipe has an end.
    let _ = copying.join();
    Ok(match ended {
        Ok(Ended::Exited(code)) => Exit::Code(code),
        Ok(Ended::Killed(signal)) => Exit::Signal(signal),
        Ok(Ended::OutOfMemory) => Exit::OutOfMemory,
        Ok(Ended::TimedOut | Ended::TooMuchOutput | Ended::TooMuchWritten | Ended::Cancelled) => Exit::Lost,
        // Its grace was over.
        Err(SandboxError::Lost(_)) => Exit::Signal(Signal::SIGKILL as i32),
        Err(error) => not_started(&error),
    })
}

/// Passes the first wish to end on to the process, and ends it after its grace.
fn pass_stops(stops: SigSet, monitor: Pid, grace: Duration) {
    if stops.wait().is_ok() {
        end(monitor, Signal::SIGTERM, grace);
    }
}

/// Tells what a monitor holds to end, and ends it after its grace.
pub(super) fn end(monitor: Pid, signal: Signal, grace: Duration) {
    let _ = kill(monitor, signal);
    thread::sleep(grace);
    let _ = kill(monitor, Signal::SIGKILL);
}

/// Keeps what the process writes. A log that cannot be written is no reason to let the process wait.
fn copy(mut output: io::PipeReader, mut log: LogWriter) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => drop(log.write(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = log.finish();
}

fn not_started(error: &SandboxError) -> Exit {
    let message = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    Exit::NotStarted { message, hint: error.hint() }
}
