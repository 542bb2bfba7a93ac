//! The runner's side: starts a sandbox, listens to its output, sees to its limits, and looks at its root when it has ended.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::error::SandboxError;
use super::scratch::open_directories;
use super::spec::{Mount, Spec, build_owner};
use super::wire::{Inbox, Report, Request, send};

/// How a program is run once.
#[derive(Default)]
pub struct Run<'a> {
    /// What is on its standard input; nothing where none.
    pub stdin: Option<File>,
    /// How long it may take.
    pub time_limit: Option<Duration>,
    /// How many bytes it may write to standard output and error together.
    pub output_limit: Option<u64>,
    /// Ends it, once true.
    pub cancel: Option<&'a AtomicBool>,
}

/// One of the program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with a code.
    Exited(i32),
    /// By a signal that was not ours.
    Killed(i32),
    /// It needed more memory than it may.
    OutOfMemory,
    /// It took longer than it may.
    TimedOut,
    /// It wrote more than it may.
    TooMuchOutput,
    /// We were asked to end it.
    Cancelled,
}

/// What came of a program.
#[derive(Debug)]
pub struct Outcome<T> {
    /// How it ended.
    pub ended: Ended,
    /// Standard output, as far as it came.
    pub stdout: Vec<u8>,
    /// Standard error, as far as it came.
    pub stderr: Vec<u8>,
    /// What was made of its root; none where it did not exit by itself.
    pub collected: Option<T>,
}

/// Where the outputs of a program go that is not listened to.
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A sandbox that is there. Dropped, it ends with everything in it; so it does when this process dies.
pub struct Child {
    monitor: std::process::Child,
    control: UnixStream,
    inbox: Inbox,
    program: String,
    root: Option<Root>,
    // Last: it can only go when nothing is in it any more.
    cgroup: Option<Cgroup>,
}

/// Runs a program to its end. `on_output` sees each piece of output as it comes; `collect` is called with the root when the
/// program has exited and nothing runs in it any more.
pub fn run<T>(
    spec: &Spec,
    run: Run<'_>,
    mut on_output: impl FnMut(Stream, &[u8]),
    collect: impl FnOnce(&Root) -> T,
) -> Result<Outcome<T>, SandboxError> {
    let deadline = run.time_limit.map(|limit| Instant::now() + limit);
    let io = |doing| move |source| SandboxError::Io { doing, source };
    let (stdout, their_stdout) = io::pipe().map_err(io("make a pipe"))?;
    let (stderr, their_stderr) = io::pipe().map_err(io("make a pipe"))?;
    let stdin = match run.stdin {
        Some(file) => file,
        None => File::open("/dev/null").map_err(io("open /dev/null"))?,
    };
    let stdio = Stdio { stdin: stdin.into(), stdout: their_stdout.into(), stderr: their_stderr.into() };
    let mut child = spawn(spec, stdio)?;
    let mut outputs = [Output::new(Stream::Stdout, stdout), Output::new(Stream::Stderr, stderr)];
    let mut ended = None;
    let mut budget = run.output_limit.unwrap_or(u64::MAX);
    while ended.is_none() || outputs.iter().any(|output| output.pipe.is_some()) {
        let ready = wait(&child, &outputs, ended.is_none(), deadline, run.cancel.is_some())?;
        for output in &mut outputs {
            if ready.contains(&output.fd()) {
                budget = output.read(budget, &mut on_output).map_err(io("read a program's output"))?;
            }
        }
        if ready.contains(&Some(child.control.as_raw_fd())) && ended.is_none() {
            ended = child.progress()?;
        }
        let reason = if ended.is_some() {
            None
        } else if run.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            Some(Ended::Cancelled)
        } else if outputs.iter().any(|output| output.overflown) {
            Some(Ended::TooMuchOutput)
        } else if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            Some(Ended::TimedOut)
        } else {
            None
        };
        if reason.is_some() {
            child.kill();
            ended = reason;
        }
    }
    let ended = match ended {
        Some(_) if outputs.iter().any(|output| output.overflown) => Ended::TooMuchOutput,
        Some(ended) => ended,
        None => unreachable!("the loop ends with an end"),
    };
    let root = child.root.as_ref().filter(|_| matches!(ended, Ended::Exited(_)));
    let collected = root.map(collect);
    let [stdout, stderr] = outputs.map(|output| output.bytes);
    Ok(Outcome { ended, stdout, stderr, collected })
}

/// Starts a program that runs on; its outputs go where the caller says.
pub fn spawn(spec: &Spec, stdio: Stdio) -> Result<Child, SandboxError> {
    let io = |doing| move |source| SandboxError::Io { doing, source };
    let (control, theirs) = UnixStream::pair().map_err(io("make a socket"))?;
    let cgroup = spec.limits.memory.and_then(Cgroup::with_memory);
    let request = Request {
        spec: absolute(spec)?,
        outside: spec.user.outside.or_else(build_owner).unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
        cgroups: cgroup.iter().map(Cgroup::procs).collect(),
    };
    let exe = std::env::var_os("PIPE_EXE").map_or_else(|| PathBuf::from("/proc/self/exe"), PathBuf::from);
    let monitor = Command::new(exe)
        .arg0("pipe")
        .arg(super::INIT_COMMAND)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(stdio.stdout)
        .stderr(stdio.stderr)
        .spawn()
        .map_err(io("start the inside of a sandbox"))?;
    let program = spec.argv.first().cloned().unwrap_or_default();
    let child = Child { monitor, control, inbox: Inbox::default(), program, root: None, cgroup };
    send(&child.control, &request, Some(stdio.stdin.as_fd())).map_err(io("speak to the inside of a sandbox"))?;
    Ok(child)
}

/// Links in the paths of the machine are followed here: the inside sees the machine's root at another place.
fn absolute(spec: &Spec) -> Result<Spec, SandboxError> {
    let mut spec = spec.clone();
    let resolve = |path: &mut PathBuf| -> Result<(), SandboxError> {
        *path = path.canonicalize().map_err(|source| SandboxError::Source { path: path.clone(), source })?;
        Ok(())
    };
    for mount in &mut spec.mounts {
        match mount {
            Mount::Bind { source, .. } => resolve(source)?,
            Mount::Overlay { lower, scratch, .. } => lower.iter_mut().chain([scratch]).try_for_each(resolve)?,
            _ => {}
        }
    }
    Ok(spec)
}

type Ready = Vec<Option<std::os::fd::RawFd>>;

/// Waits until something can be read, or it is time to look at the clock or at whether to go on.
fn wait(
    child: &Child,
    outputs: &[Output],
    for_end: bool,
    deadline: Option<Instant>,
    cancellable: bool,
) -> Result<Ready, SandboxError> {
    const LOOK_UP: Duration = Duration::from_millis(50);
    let mut fds: Vec<_> = outputs.iter().filter_map(|output| output.pipe.as_ref()).map(AsFd::as_fd).collect();
    if for_end {
        fds.push(child.control.as_fd());
    }
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let left = deadline.filter(|_| for_end).map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = left.into_iter().chain((cancellable && for_end).then_some(LOOK_UP)).min();
    // Rounded up, so that a deadline is over when the wait is.
    let timeout = timeout.map_or(PollTimeout::NONE, |time| {
        PollTimeout::try_from(time.as_millis().saturating_add(1).min(60_000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(SandboxError::Io { doing: "wait for a program", source: errno.into() }),
    }
    Ok(fds.iter().filter(|fd| fd.any().unwrap_or(false)).map(|fd| Some(fd.as_fd().as_raw_fd())).collect())
}

struct Output {
    stream: Stream,
    pipe: Option<io::PipeReader>,
    bytes: Vec<u8>,
    overflown: bool,
}

impl Output {
    fn new(stream: Stream, pipe: io::PipeReader) -> Self {
        Self { stream, pipe: Some(pipe), bytes: Vec::new(), overflown: false }
    }

    fn fd(&self) -> Option<std::os::fd::RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads once and gives what is left of the budget.
    fn read(&mut self, budget: u64, on_output: &mut impl FnMut(Stream, &[u8])) -> io::Result<u64> {
        let Some(pipe) = &mut self.pipe else { return Ok(budget) };
        let mut buffer = [0; 64 << 10];
        let len = pipe.read(&mut buffer)?;
        if len == 0 {
            self.pipe = None;
            return Ok(budget);
        }
        let allowed = usize::try_from(budget).unwrap_or(usize::MAX).min(len);
        self.overflown |= allowed < len;
        self.bytes.extend_from_slice(&buffer[..allowed]);
        on_output(self.stream, &buffer[..allowed]);
        Ok(budget - allowed as u64)
    }
}

impl Child {
    /// The process to send signals to; they reach the program.
    pub fn id(&self) -> u32 {
        self.monitor.id()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        let pid = Pid::from_raw(self.id().cast_signed());
        kill(pid, signal).map_err(|errno| SandboxError::Io { doing: "signal a program", source: errno.into() })
    }

    /// Waits until the sandbox is set up and its program about to start, or says why it will not.
    pub fn wait_ready(&mut self) -> Result<(), SandboxError> {
        while self.root.is_none() {
            self.progress()?;
        }
        Ok(())
    }

    /// Waits until the program has ended, and whatever it started has too.
    pub fn wait(&mut self) -> Result<Ended, SandboxError> {
        loop {
            if let Some(ended) = self.progress()? {
                return Ok(ended);
            }
        }
    }

    /// Ends everything in the sandbox.
    fn kill(&self) {
        // It takes the end of the socket for the end of the runner.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
    }

    /// Takes one report, waiting for it.
    fn progress(&mut self) -> Result<Option<Ended>, SandboxError> {
        match self.inbox.receive(&self.control) {
            Ok(Some((Report::Ready, root))) => {
                self.root = root.map(|fd| Root { fd });
                Ok(None)
            }
            Ok(Some((Report::Refused(refusal), _))) => Err(refusal.into()),
            Ok(Some((Report::NotStarted { errno }, _))) => Err(SandboxError::Program {
                program: self.program.clone(),
                reason: Errno::from_raw(errno).desc().to_lowercase(),
            }),
            Ok(Some((Report::Ended { code: Some(0), .. }, _))) => Ok(Some(Ended::Exited(0))),
            Ok(Some((Report::Ended { .. }, _))) if self.cgroup.as_ref().is_some_and(Cgroup::ran_out) => {
                Ok(Some(Ended::OutOfMemory))
            }
            Ok(Some((Report::Ended { code: Some(code), .. }, _))) => Ok(Some(Ended::Exited(code))),
            Ok(Some((Report::Ended { signal, .. }, _))) => Ok(Some(Ended::Killed(signal.unwrap_or(0)))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.kill();
                let status = self.monitor.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(SandboxError::Lost(format!("{error}; {status}")))
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let _ = self.monitor.wait();
    }
}

/// The root of a sandbox in which nothing runs any more.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What is at a path of a root.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or something that is no value: a device, a socket.
    Nothing,
    /// A file, open for reading.
    File {
        /// Its content.
        file: File,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory: listings and files below its path are the sandbox's. Links below it are not to be followed.
    Directory(Directory),
}

/// An open directory of a root.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _fd: OwnedFd,
}

impl Directory {
    /// A path that is valid as long as this value.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Root {
    /// Opens what is at an absolute path of the root. Links on the way stay in the root, whatever they say.
    pub fn open(&self, path: &str) -> io::Result<Found> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let fd = match openat2(&self.fd, path, how) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Found::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}/", fd.as_raw_fd()));
        let metadata = File::from(fd.try_clone()?).metadata()?;
        if metadata.is_dir() {
            if !nix::unistd::geteuid().is_root() {
                open_directories(&path)?;
            }
            Ok(Found::Directory(Directory { path, _fd: fd }))
        } else if metadata.is_file() {
            let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            Ok(Found::File { file, executable: metadata.permissions().mode() & 0o100 != 0 })
        } else {
            Ok(Found::Nothing)
        }
    }
}
