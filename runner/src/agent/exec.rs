//! One more program in the place of a target's processes, for a person: same files, data, environment and user. It is the
//! command's own child and not the agent's, so it ends with the command: what that is told to end by, the program is told too.
//! Where nothing serves it is put where the newest release was tried, so that what that lacks can be brought. Unaware of how a
//! terminal is shown.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, ttyname};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind};

use super::protocol::Failure;
use super::root::Root;
use super::shim::end;
use crate::release::{Deed, Ending, History, HistoryError, Release, Who};
use crate::sandbox::{self, Child, Ended, Mount, SandboxError, Spec, Stdio};

/// How long a program has to end once it is told to.
const GRACE: Duration = Duration::from_secs(10);

/// What directories of programs are called, and what in them is locked as long as one is used.
const PREFIX: &str = "exec-";
const LOCK: &str = "lock";

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The target has never had a release.
    #[error("target `{0}` has no release in whose place a program could be put")]
    NoRelease(String),
    /// What the target runs cannot be made ready.
    #[error("{}", .0.message)]
    Root(Box<Failure>),
    /// The state of targets.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A directory for what the program writes.
    #[error("cannot make a directory for the program")]
    Directory(#[from] io::Error),
    /// The sandbox, or the program itself.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl ExecError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRelease(_) => Some("release to it first: `pipe run`".into()),
            Self::Root(failure) => failure.hint.clone(),
            Self::History(error) => error.hint(),
            Self::Directory(_) => None,
            Self::Sandbox(error) => error.hint(),
        }
    }
}

/// A program that runs. Dropped, it ends.
pub struct Session {
    program: Program,
    history: History,
    who: Who,
    deed: Deed,
}

struct Program {
    child: Child,
    directory: TempDir,
    _lock: File,
}

impl Session {
    /// Starts a program where the processes of a target run, and writes down who has it run: before it can have done much. Where
    /// none run, `instead` is first given the number of the release in whose place it is put.
    pub fn start(
        (home, who): (&Path, &Who),
        (app, target): (&str, &str),
        argv: &[String],
        stdio: Stdio,
        instead: impl FnOnce(u64),
    ) -> Result<Self, ExecError> {
        let history = History::open(home)?;
        let started = find(&history, app, target).and_then(|release| {
            if !release.current {
                instead(release.number);
            }
            Program::start(home, &history, &release, argv, stdio)
        });
        let what = format!("exec {}", argv.join(" "));
        let begun = if started.is_ok() { format!("begin {what}") } else { what.clone() };
        history.audit(who, &Deed::of(app, target, begun), &Ending::of(&started))?;
        Ok(Self { program: started?, history, who: who.clone(), deed: Deed::of(app, target, what) })
    }

    /// Waits for the program's end, writes down what that was, and gives the code that a shell would.
    pub fn wait(self) -> Result<u8, ExecError> {
        let Self { program, history, who, deed } = self;
        let ended = program.wait();
        let ending = match &ended {
            Ok(code) if *code > 0 => Ending::Failed(format!("it ended with {code}")),
            ended => Ending::of(ended),
        };
        history.audit(&who, &deed, &ending)?;
        ended
    }
}

/// What a target runs, or what was tried last.
fn find(history: &History, app: &str, target: &str) -> Result<Release, ExecError> {
    let release = match history.current(app, target)? {
        None => history.releases(app, target)?.pop(),
        current => current,
    };
    release.ok_or_else(|| ExecError::NoRelease(target.to_owned()))
}

impl Program {
    fn start(
        home: &Path,
        history: &History,
        release: &Release,
        argv: &[String],
        stdio: Stdio,
    ) -> Result<Self, ExecError> {
        let (app, target) = (&release.target.app, &release.target.name);
        let contents = release.contents();
        let config = history.config(app, target, contents.config)?;
        let user = history.given(app, target)?.user.filter(|_| nix::unistd::geteuid().is_root());
        let root = Root::open(home, &release.target, &contents, config, user, false)
            .map_err(|failure| ExecError::Root(Box::new(failure)))?;
        let run = home.join("agent/run");
        remove_left(&run);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(run)?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock()?;
        let mut spec = root.spec(directory.path(), None, argv, 0)?;
        if let Ok(terminal) = ttyname(&stdio.stdin) {
            give_terminal(&mut spec, &terminal);
        }
        // A terminal's end is told by a signal.
        let is_told = std::env::var_os("SSH_CONNECTION").is_none() || stdio.stdout.is_terminal();
        let asker = if is_told { None } else { Some(stdio.stdout.try_clone()?) };
        let told = Told::listen()?;
        let child = sandbox::spawn(&spec, stdio)?;
        let program = Pid::from_raw(child.id().cast_signed());
        thread::spawn(move || told.pass_on(program));
        if let Some(asker) = asker {
            thread::spawn(move || end_with(&asker, program));
        }
        Ok(Self { child, directory, _lock: lock })
    }

    fn wait(mut self) -> Result<u8, ExecError> {
        let ended = self.child.wait();
        drop(self.child);
        // What is left of its writable layer may not be ours to remove without help.
        let _ = sandbox::remove_all(self.directory.path());
        Ok(match ended {
            // Its grace was over.
            Err(SandboxError::Lost(_)) => 137,
            Err(error) => return Err(error.into()),
            Ok(ended) => code(ended),
        })
    }
}

/// Lets a program see the terminal that it is given by its name, and know what kind it is.
fn give_terminal(spec: &mut Spec, terminal: &Path) {
    let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    spec.env.entry("TERM".to_owned()).or_insert(kind);
    for device in [terminal, Path::new("/dev/tty")] {
        spec.mounts.push(Mount::Device { at: device.display().to_string() });
    }
}

/// The code that a shell would give.
fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Ended::OutOfMemory | Ended::TimedOut | Ended::TooMuchOutput | Ended::TooMuchWritten | Ended::Cancelled => 137,
    }
}

/// What this command is told by signals, from now on.
struct Told {
    tokio: Runtime,
    by: [(Signal, unix::Signal); 3],
}

impl Told {
    fn listen() -> io::Result<Self> {
        let tokio = Builder::new_current_thread().enable_all().build()?;
        let by = {
            let _tokio = tokio.enter();
            let told = |signal: Signal, kind| Ok::<_, io::Error>((signal, unix::signal(kind)?));
            [
                told(Signal::SIGINT, SignalKind::interrupt())?,
                told(Signal::SIGTERM, SignalKind::terminate())?,
                told(Signal::SIGHUP, SignalKind::hangup())?,
            ]
        };
        Ok(Self { tokio, by })
    }

    /// Tells a program. Only what a terminal's key means may be ignored.
    fn pass_on(self, program: Pid) {
        let Self { tokio, by: [mut interrupt, mut terminate, mut hang_up] } = self;
        loop {
            let signal = tokio.block_on(async {
                tokio::select! {
                    _ = interrupt.1.recv() => interrupt.0,
                    _ = terminate.1.recv() => terminate.0,
                    _ = hang_up.1.recv() => hang_up.0,
                }
            });
            if signal == Signal::SIGINT {
                let _ = kill(program, signal);
            } else {
                end(program, signal, GRACE);
            }
        }
    }
}

/// Ends a program whose output nobody reads any more, since the connection that it goes over is gone.
fn end_with(asker: &OwnedFd, program: Pid) {
    loop {
        let mut gone = [PollFd::new(asker.as_fd(), PollFlags::empty())];
        match poll(&mut gone, PollTimeout::NONE) {
            Ok(_) => return end(program, Signal::SIGHUP, GRACE),
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Removes what commands have left that were killed.
fn remove_left(run: &Path) {
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_one && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = sandbox::remove_all(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
