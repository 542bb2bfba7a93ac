//! One start of a process, held by its shim: `pipe shim DIRECTORY`, which outlives the agent.
//!
//! All that an agent, this one or the next, has to know is in the directory: `job.json` says how long the process has to end,
//! `lock` is held as long as the shim lives, `pid` is the shim's, and `exit.json` says how the process ended. What to run is in
//! memory only, since the config is in it, which no disk sees in the clear. Knows nothing of why it is started.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::family::family;
use crate::sandbox::{Group, Spec};

/// How long a shim may take to end after the process that it holds has.
const SHIM_GRACE: Duration = Duration::from_secs(5);

/// What the next agent has to know of a job.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    grace: Duration,
}

/// What a shim is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The process.
    pub(crate) spec: Spec,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// How long it has to end by itself once it is told to.
    pub(crate) grace: Duration,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By the kernel, for it took more memory than it may.
    OutOfMemory,
    /// It never ran.
    NotStarted {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Its shim was killed, and it with the shim.
    Lost,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with status {code}"),
            Self::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
            Self::OutOfMemory => f.write_str("ran out of memory"),
            Self::NotStarted { message, .. } => write!(f, "could not be started: {message}"),
            Self::Lost => f.write_str("was killed together with its shim"),
        }
    }
}

/// A process with its shim, started by this agent or an earlier one.
pub(crate) struct Instance {
    directory: PathBuf,
    grace: Duration,
    ended: watch::Receiver<Option<Exit>>,
}

impl Instance {
    /// Starts a shim in a directory that exists.
    pub(crate) fn start(directory: &Path, job: &Job) -> io::Result<Self> {
        fs::write(directory.join("job.json"), serde_json::to_vec(&Kept { grace: job.grace })?)?;
        let lock = File::create(directory.join("lock"))?;
        // The shim inherits the lock already taken, so that there is no moment in which it lives and the lock is free.
        lock.try_lock()?;
        let mut child = Command::new(executable())
            .arg("shim")
            .arg(directory)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(in_memory(job)?))
            .stderr(Stdio::null())
            .current_dir("/")
            .arg0("pipe")
            .spawn()?;
        // The shim writes the same; whoever comes first, a shim that lives can be told to end.
        fs::write(directory.join("pid"), child.id().to_string())?;
        Self::watch(directory, job.grace, move || {
            // Only so that no zombie is left: the lock has said already that it ended.
            let _ = child.wait();
        })
    }

    /// Takes over a shim that an earlier agent started, whether it still lives or not.
    pub(crate) fn attach(directory: &Path) -> io::Result<Self> {
        let kept: Kept = serde_json::from_slice(&fs::read(directory.join("job.json"))?)?;
        Self::watch(directory, kept.grace, || ())
    }

    fn watch(directory: &Path, grace: Duration, reap: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (sender, ended) = watch::channel(None);
        let lock = File::open(directory.join("lock"))?;
        let exit = directory.join("exit.json");
        thread::Builder::new().name("shim".into()).stack_size(64 << 10).spawn(move || {
            while let Err(error) = lock.lock() {
                debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            }
            reap();
            let exit = fs::read(exit).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            sender.send_replace(Some(exit.unwrap_or(Exit::Lost)));
        })?;
        Ok(Self { directory: directory.to_owned(), grace, ended })
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Exit {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit::Lost),
            Err(_) => Exit::Lost,
        }
    }

    /// Tells the process to end, waits, and kills it after its grace.
    pub(crate) async fn stop(&self) -> Exit {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(self.grace + SHIM_GRACE, self.ended()).await {
            Ok(exit) => exit,
            Err(_) => {
                // The sandbox ends with its shim.
                self.signal(Signal::SIGKILL);
                self.ended().await
            }
        }
    }

    /// Kills the process at once.
    pub(crate) async fn kill(&self) -> Exit {
        // Its shim then sees that nothing is left; one that holds nothing yet is in the way itself.
        match self.monitor().await {
            Some(monitor) => drop(kill(Pid::from_raw(monitor.cast_signed()), Signal::SIGKILL)),
            None => self.signal(Signal::SIGKILL),
        }
        self.ended().await
    }

    /// The control group that the process is in with all that it has started, where it has one.
    pub(crate) async fn group(&self) -> Option<Group> {
        Group::of(self.monitor().await?)
    }

    /// The id of what holds the sandbox of the process, which is all that a shim starts.
    async fn monitor(&self) -> Option<u32> {
        let shim = self.shim()?;
        let look = tokio::task::spawn_blocking(move || family(shim).get(1).copied());
        look.await.ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        if let Some(shim) = self.shim() {
            let _ = kill(Pid::from_raw(shim.cast_signed()), signal);
        }
    }

    /// The id of the shim, as long as that lives.
    fn shim(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.directory.join("pid")).ok()?.trim().parse().ok()?;
        // The lock says that it lives, so the id is still its own.
        self.ended.borrow().is_none().then_some(pid)
    }
}

/// A job as its shim reads it.
fn in_memory(job: &Job) -> io::Result<File> {
    let mut file = File::from(memfd_create("job", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(job)?)?;
    file.rewind()?;
    Ok(file)
}

/// This very program, also where the file that it was started from has been replaced since.
pub(crate) fn executable() -> PathBuf {
    std::env::var_os("PIPE_EXE").map_or_else(|| PathBuf::from("/proc/self/exe"), PathBuf::from)
}
