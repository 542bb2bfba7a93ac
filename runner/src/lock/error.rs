//! Why something could not be resolved, and whose fault that is.

use std::io;
use std::path::{Path, PathBuf};

use python_packaging::problem::Problem;

use crate::archive::ArchiveError;
use crate::fetch::FetchError;
use crate::lockfile::LockFileError;
use crate::plugin::{Code, Failure};
use crate::store::StoreError;

/// Why something could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The project does not say what it needs, or says it wrongly.
    #[error("step `{step}`: {problem}")]
    Project {
        /// The step that reads the lock.
        step: String,
        /// What is wrong.
        problem: Problem,
    },
    /// There is something to resolve, and that may not be done: `--locked`, or `pipe verify`.
    #[error("{}", locked(path, pylock, stale.as_deref()))]
    Locked {
        /// What must be resolved.
        path: String,
        /// Where the result belongs.
        pylock: String,
        /// Why the one that is there does not do.
        stale: Option<String>,
    },
    /// The same where `pipe.lock` has no answer.
    #[error("`pipe.lock` has no versions for `{0}`, and none may be looked for here")]
    Unpinned(String),
    /// uv found no versions.
    #[error("cannot resolve `{what}`:\n{}", output.strip_prefix("error: ").unwrap_or(output))]
    Unresolvable {
        /// The file or the requirements.
        what: String,
        /// What uv said.
        output: String,
        /// Whether it was the network.
        offline: bool,
    },
    /// uv is not there, or is too old, or cannot be run.
    #[error("cannot run uv at `{path}`")]
    Uv {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What uv wrote cannot be understood.
    #[error("uv's answer cannot be read")]
    Answer(#[source] toml::de::Error),
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// uv cannot be fetched.
    #[error("cannot fetch uv, which resolves requirements")]
    Fetch(#[from] FetchError),
    /// uv cannot be unpacked.
    #[error("cannot unpack uv")]
    Archive(#[from] ArchiveError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `pipe.lock` cannot be read or written.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
}

/// What uv says of a file that it cannot read.
const UNREADABLE: [&str; 2] = ["Error parsing", "Couldn't parse requirement"];

/// What uv says where it has no Python to run.
const NO_PYTHON: &str = "No interpreter found";

impl LockError {
    /// Whether the machine or the network is at fault, and not the project.
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Project { .. } | Self::Locked { .. } | Self::Unpinned(_) => false,
            Self::Unresolvable { offline, output, .. } => *offline || output.contains(NO_PYTHON),
            _ => true,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Project { problem, .. } => problem.hint.clone(),
            Self::Locked { pylock, .. } => Some(format!("run `pipe lock`, and commit `{pylock}`")),
            Self::Unpinned(_) => {
                Some("`pipe run` looks for them and writes them down: commit `pipe.lock` then".to_owned())
            }
            Self::Unresolvable { offline: true, .. } => {
                Some("check the network, and `[index]` of the pipeline".to_owned())
            }
            Self::Unresolvable { output, .. } if output.contains(NO_PYTHON) => Some(
                "resolving takes a Python of this machine, of any version: `apt-get install python3`; what is locked takes none"
                    .to_owned(),
            ),
            Self::Unresolvable { output, .. } if output.contains("the requested Python version") => {
                Some("set `[app] python` to a version that all of them run on, or change the requirements".to_owned())
            }
            Self::Unresolvable { output, .. } if output.contains("Failed to build `") => Some(
                "what a package requires is known by building it, which failed: take a version of it that has a wheel"
                    .to_owned(),
            ),
            Self::Unresolvable { output, .. } if UNREADABLE.iter().any(|sign| output.contains(sign)) => Some(
                "correct the line that it names; an option for all packages stands on a line of its own".to_owned(),
            ),
            Self::Unresolvable { .. } => Some("change the requirements so that they can be met together".to_owned()),
            Self::Uv { .. } => Some("unset `PIPE_UV`, or let it name a uv that runs here".to_owned()),
            Self::Answer(_) => Some("let `PIPE_UV` name an older or a newer uv".to_owned()),
            Self::Fetch(error) => error.hint().or_else(|| Some("install uv, or let `PIPE_UV` name one".to_owned())),
            Self::Store(error) => error.hint(),
            Self::Io { .. } | Self::Archive(_) | Self::LockFile(_) => None,
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = if error.is_environment() { Code::Unavailable } else { Code::Failed };
        let hint = error.hint();
        Self { hint, ..Self::of(code, &error) }
    }
}

/// Names what was done to which file when the system refused.
pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { action, path, source }
}

fn locked(path: &str, pylock: &str, stale: Option<&str>) -> String {
    match stale {
        Some(why) => format!("`{pylock}` is stale: {why}; and `{path}` may not be resolved again here"),
        None => format!("`{path}` must be resolved into `{pylock}`, which may not be done here"),
    }
}
