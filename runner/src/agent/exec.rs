//! One more program in the place of a target's processes, for a person: same files, data, environment and user. It is the
//! command's own child and not the agent's, so it ends with the command. Unaware of terminals.

use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::protocol::Failure;
use super::root::Root;
use crate::release::{Deed, Ending, History, HistoryError, Who};
use crate::sandbox::{self, Child, Ended, SandboxError, Stdio};

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The target runs nothing.
    #[error("target `{0}` runs nothing whose place a program could be put in")]
    NothingRuns(String),
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
            Self::NothingRuns(_) => Some("release to it first: `pipe run`".into()),
            Self::Root(failure) => failure.hint.clone(),
            Self::History(error) => error.hint(),
            Self::Directory(_) => None,
            Self::Sandbox(error) => error.hint(),
        }
    }
}

/// A program that runs. Dropped, it ends.
pub struct Session {
    child: Child,
    directory: TempDir,
}

impl Session {
    /// Starts a program where the processes of a target run, and writes down who has it run.
    pub fn start(
        (home, who): (&Path, &Who),
        app: &str,
        target: &str,
        argv: &[String],
        stdio: Stdio,
    ) -> Result<Self, ExecError> {
        let history = History::open(home)?;
        let started = Self::begin(home, &history, (app, target), argv, stdio);
        history.audit(who, &Deed::of(app, target, format!("exec {}", argv.join(" "))), &Ending::of(&started))?;
        started
    }

    fn begin(
        home: &Path,
        history: &History,
        (app, target): (&str, &str),
        argv: &[String],
        stdio: Stdio,
    ) -> Result<Self, ExecError> {
        let release = history.current(app, target)?.ok_or_else(|| ExecError::NothingRuns(target.to_owned()))?;
        let contents = release.contents();
        let config = history.config(app, target, contents.config)?;
        let user = history.given(app, target)?.user.filter(|_| nix::unistd::geteuid().is_root());
        let root = Root::open(home, &release.target, &contents, config, user, false)
            .map_err(|failure| ExecError::Root(Box::new(failure)))?;
        let directory = tempfile::Builder::new().prefix("exec-").tempdir_in(home.join("agent/run"))?;
        let spec = root.spec(directory.path(), None, argv, 0)?;
        Ok(Self { child: sandbox::spawn(&spec, stdio)?, directory })
    }

    /// Waits for the program's end, and gives the code that a shell would.
    pub fn wait(mut self) -> Result<u8, ExecError> {
        let ended = self.child.wait();
        drop(self.child);
        // What is left of its writable layer may not be ours to remove without help.
        let _ = sandbox::remove_all(self.directory.path());
        Ok(match ended? {
            Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Ended::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Ended::OutOfMemory | Ended::TimedOut | Ended::TooMuchOutput | Ended::TooMuchWritten | Ended::Cancelled => {
                137
            }
        })
    }
}
