//! What can go wrong with a store, and what to do about it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rusqlite::ErrorCode;

use super::extent::MOST;
use super::walk::LONGEST;
use crate::digest::Digest;
use crate::disk::is_for_want_of_room;
use crate::tree::{DEEPEST, TreeError};

/// What to do where something is damaged.
const AGAIN: &str = "run again: what is damaged was set aside and is built anew";

/// What to do where the disk is full.
pub(crate) const FULL: &str = "free some space (`pipe store gc` removes what nothing needs any more), or set PIPE_HOME to a directory on a larger disk";

/// What can go wrong with a store. Where it is the machine's fault, [`StoreError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("store: cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The index refused.
    #[error("store: the index `{path}` fails")]
    Index {
        /// The index's file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// What was put since an earlier failure is not kept.
    #[error(transparent)]
    Earlier(Arc<Self>),
    /// Something that was promised is not there.
    #[error("store: {0} is missing")]
    Missing(Digest),
    /// Bytes that no longer are what their name says.
    #[error("store: {0} is damaged")]
    Damaged(Digest),
    /// A file that was lent to the store and no longer has the bytes that it had.
    #[error("`{0}` was changed while the run used it")]
    Changed(PathBuf),
    /// Bytes that were taken for a tree.
    #[error("store: {digest} is not a tree")]
    NotATree {
        /// What was read.
        digest: Digest,
        /// What is wrong with it.
        source: TreeError,
    },
    /// A path that cannot be in a tree.
    #[error("`{path}` cannot be in a tree: {why}")]
    Path {
        /// The path, as it was found.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that is mostly nothing, of a size that would fill the disk.
    #[error("`{path}` is larger than what may be written", path = .0.display())]
    Holes(PathBuf),
    /// Nobody wants it any more: the run was stopped.
    #[error("the run was stopped")]
    Stopped,
    /// The time of the step that wanted it is over.
    #[error("took longer than its limit of {0:?}")]
    TooLate(Duration),
    /// A tree that whoever goes through it would not come back from.
    #[error("a tree cannot be more than {DEEPEST} directories deep")]
    TooDeep,
    /// A tree of which few directories are many.
    #[error("a tree cannot come to more than {MOST} files and directories")]
    TooLarge,
    /// Globs that find more than anybody could go through.
    #[error("what the globs mean comes to more than {} MiB of paths", LONGEST >> 20)]
    TooManyPaths,
    /// Two trees hold different things at one path.
    #[error("both sides hold a different `{0}`")]
    Conflict(String),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A directory on a full disk.
    pub(crate) fn full(directory: &Path) -> Self {
        Self::io("write into", directory)(Errno::ENOSPC.into())
    }

    /// The store's own error, where an error of reading or writing comes of one.
    pub(crate) fn inside(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// Whether something in the store is not what it was when it was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Damaged(_) => true,
            Self::Index { source, .. } => match source {
                // Of the tables and of what is in them nothing else could be to blame.
                rusqlite::Error::SqliteFailure(error, _) => matches!(
                    error.code,
                    ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::ConstraintViolation
                        | ErrorCode::TypeMismatch
                        | ErrorCode::Unknown
                ),
                rusqlite::Error::SqlInputError { .. }
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::QueryReturnedNoRows => true,
                _ => false,
            },
            Self::Earlier(error) => error.is_damage(),
            Self::Io { .. }
            | Self::Changed(_)
            | Self::NotATree { .. }
            | Self::Path { .. }
            | Self::Holes(_)
            | Self::Stopped
            | Self::TooLate(_)
            | Self::TooDeep
            | Self::TooLarge
            | Self::TooManyPaths
            | Self::Conflict(_) => false,
        }
    }

    /// The same error where a directory is known by another path.
    #[must_use]
    pub fn seen(self, directory: &Path, at: &Path) -> Self {
        let seen = |path: &Path| path.strip_prefix(directory).map_or_else(|_| path.to_owned(), |below| at.join(below));
        match self {
            Self::Holes(path) => Self::Holes(seen(&path)),
            Self::Path { path, why } => Self::Path { path: seen(Path::new(&path)).display().to_string(), why },
            other => other,
        }
    }

    /// Whether it is the store itself that fails: its disk, or what it holds.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Index { .. } | Self::Missing(_) | Self::Damaged(_) => true,
            Self::Earlier(error) => error.is_storage(),
            Self::Changed(_)
            | Self::NotATree { .. }
            | Self::Path { .. }
            | Self::Holes(_)
            | Self::Stopped
            | Self::TooLate(_)
            | Self::TooDeep
            | Self::TooLarge
            | Self::TooManyPaths
            | Self::Conflict(_) => false,
        }
    }

    /// Whether it may not be written, though it may be that it can be read.
    pub(crate) fn is_read_only(&self) -> bool {
        let is_refusal = |kind| matches!(kind, io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied);
        matches!(self, Self::Io { source, .. } if is_refusal(source.kind()))
    }

    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_for_want_of_room(source),
            // Of the file that it maps it cannot tell why it may not grow.
            Self::Index { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
            }
            Self::Earlier(error) => error.is_full(),
            _ => false,
        }
    }

    /// What to do where a disk refuses a file of pipe's data.
    pub(crate) fn remedy(source: &io::Error, path: &Path) -> Option<String> {
        let path_shown = path.display();
        Some(match source.kind() {
            _ if is_for_want_of_room(source) => FULL.to_owned(),
            io::ErrorKind::PermissionDenied if is_anothers(path) => format!(
                "another user has made `{path_shown}`, or what it is in: let `chown -R USER PIPE_HOME` give it back to whoever runs `pipe`"
            ),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                format!("make `{path_shown}` writable, or set PIPE_HOME to a directory that is")
            }
            io::ErrorKind::FileTooLarge => {
                "raise the limit on the size of files (`ulimit -f`), or set PIPE_HOME to a directory that has none"
                    .to_owned()
            }
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                format!("remove what is in the way of `{path_shown}`")
            }
            _ => return None,
        })
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } => Self::remedy(source, path),
            Self::Index { path, source } => match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Some(FULL.to_owned()),
                // Of the file that it maps it cannot tell why it may not grow.
                Some(ErrorCode::SystemIoFailure) => Some(format!(
                    "see that the disk of `{}` has space and can be written to, or set PIPE_HOME to a directory on another one",
                    path.display()
                )),
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    Some(format!("make `{}` writable, or set PIPE_HOME to a directory that is", path.display()))
                }
                _ if self.is_damage() => Some(AGAIN.to_owned()),
                _ => None,
            },
            Self::Earlier(error) => error.hint(),
            Self::Missing(_) | Self::Damaged(_) | Self::NotATree { .. } => Some(AGAIN.to_owned()),
            Self::Changed(_) => Some("run again: a run builds what was there when it began".to_owned()),
            Self::Holes(_) => Some("raise `limits.output` of the step, or write less".to_owned()),
            Self::TooLate(_) => Some("raise `limits.time` of the step".to_owned()),
            Self::Stopped
            | Self::Path { .. }
            | Self::TooDeep
            | Self::TooLarge
            | Self::TooManyPaths
            | Self::Conflict(_) => None,
        }
    }
}

/// Whether a file, or the nearest directory around it that can be seen, is not this user's.
fn is_anothers(path: &Path) -> bool {
    let seen = path.ancestors().find_map(|path| fs::symlink_metadata(path).ok());
    seen.is_some_and(|seen| seen.uid() != nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_user_has_made_is_to_be_given_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("a file");
        let remedy = |path: &Path| StoreError::remedy(&io::ErrorKind::PermissionDenied.into(), path).expect("a remedy");
        assert!(remedy(&file).starts_with("make `"), "{}", remedy(&file));
        // Whoever runs this is root, or there is a file that is root's.
        let others = match std::os::unix::fs::chown(&file, Some(1), None) {
            Ok(()) => &file,
            Err(_) => Path::new("/etc/passwd"),
        };
        for path in [others, &others.join("below")] {
            assert!(remedy(path).contains("`chown -R USER PIPE_HOME`"), "{}", remedy(path));
        }
    }
}
