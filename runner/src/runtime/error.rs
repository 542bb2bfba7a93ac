//! Why there is no such runtime, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::digest::Digest;
use crate::fetch::FetchError;
use crate::lockfile::LockFileError;
use crate::sandbox::SandboxError;
use crate::store::StoreError;

/// A runtime could not be made or found.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No interpreter of the version on `PATH`.
    #[error("no `{name}` on this machine")]
    NoPython {
        /// What was looked for.
        name: String,
    },
    /// Something that was named as an interpreter and is none, or is of another version.
    #[error("`{}` cannot be the Python of this pipeline: {why}", .path.display())]
    Python {
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A tool that is not there.
    #[error("the tool `{name}` is not at `{}`", .path.display())]
    Tool {
        /// Its name in the pipeline.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file of the machine cannot be read.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A runtime that this machine has never had.
    #[error("this machine does not have the runtime {0}")]
    Unknown(Digest),
    /// A program that somebody else has named, and that is none of the system's.
    #[error("`{}` is no program of this machine's system", .0.display())]
    Foreign(PathBuf),
    /// The machine's own runtime is no longer what it was.
    #[error("this machine's runtime has changed since: wanted {wanted}, found {found}")]
    Changed {
        /// What was built on.
        wanted: Digest,
        /// What is there.
        found: Digest,
    },
    /// No package of this name.
    #[error("no Debian package `{name}` in `{suite}`{}", .wanted_by.as_ref().map(|by| format!(", wanted by `{by}`")).unwrap_or_default())]
    NoPackage {
        /// Its name.
        name: String,
        /// Where it was looked for.
        suite: String,
        /// Whose dependency it is.
        wanted_by: Option<String>,
    },
    /// Packages would have to be resolved, and may not be.
    #[error("the Debian packages of this pipeline are not in `{}`", .0.display())]
    NotLocked(PathBuf),
    /// A package or an index that is not what it should be.
    #[error("`{name}` is damaged: {why}")]
    Damaged {
        /// Which one.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The mirror did not answer, or not with what was asked for.
    #[error("cannot get `{url}`")]
    Mirror {
        /// What was asked for.
        url: String,
        /// What the other side or the network said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An archive could not be unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A program of a runtime could not be run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The lock file.
    #[error(transparent)]
    Lock(#[from] LockFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RuntimeError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do about it, where something is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPython { name } => format!(
                "install it (`apt-get install {name}`, or `pyenv install {}`), name one with `[runtime] python = \"…\"`, or \
                 let pipe bring its own with `[runtime] kind = \"packages\"`",
                name.trim_start_matches("python")
            ),
            Self::Python { .. } => "set `[runtime] python` to an interpreter of the version in `[app] python`".to_owned(),
            Self::Tool { name, .. } => format!("install it, or correct `[tools] {name}`"),
            Self::Unknown(_) | Self::Changed { .. } => {
                "build again on this machine with `pipe run`; a runtime of `kind = \"packages\"` stays the same through \
                 updates of the machine"
                    .to_owned()
            }
            Self::NoPackage { .. } => "see https://packages.debian.org for the names of packages".to_owned(),
            Self::Foreign(_) => "have an admin release with that runtime once, or take one of `kind = \"packages\"`".to_owned(),
            Self::NotLocked(_) => "`pipe run` looks for them and writes them down: commit the file then".to_owned(),
            Self::Mirror { .. } => "is the network there? `[runtime] mirror` names another one".to_owned(),
            Self::Store(error) => return error.hint(),
            Self::Fetch(error) => return error.hint(),
            Self::Sandbox(error) => return error.hint(),
            _ => return None,
        })
    }
}
