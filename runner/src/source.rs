//! The source directory as an immutable tree: what a run builds, whatever is edited while it runs.
//!
//! Left out are what `.gitignore` and `.pipeignore` name, version control's own directories, and what Python makes beside
//! the source (see `rules`). All else stays, hidden or not: links as links, executable bits, empty directories. A directory
//! that only holds what is left out is left out too, so that a test runner's cache does not change what is built.
//! Files are hashed, and lent to the store rather than copied into it. Knows nothing of pipelines.

mod earlier;
mod frames;
mod index;
mod known;
mod lent;
mod read;
mod rules;
mod submodules;
mod tracked;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::{DEEPEST, threads};

use earlier::Earlier;
use known::Known;
use lent::Source;
use rules::Rules;
pub(crate) use submodules::unfetched;
use tracked::Tracked;
pub use tracked::branch;
pub(crate) use tracked::repository;
use walk::Walk;

/// A directory as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// The tree. The store can read all of it, and keeps what is named by something that it keeps.
    pub digest: Digest,
    /// How many files it has.
    pub files: u64,
    /// How many of them had to be read, because they were not known or have changed.
    pub read: u64,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not a directory.
    #[error("the source `{0}` is not a directory")]
    NotADirectory(PathBuf),
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A name that cannot be in a tree.
    #[error("the name of `{}` is not UTF-8", .0.display())]
    Name(PathBuf),
    /// A link's target that cannot be in a tree.
    #[error("the target of the link `{}` is not UTF-8", .0.display())]
    Link(PathBuf),
    /// Neither a file, nor a link, nor a directory.
    #[error("`{path}` is {kind}")]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// Deeper than a tree can be.
    #[error("`{0}` is more than {DEEPEST} directories deep")]
    TooDeep(PathBuf),
    /// Written to while it was read, twice.
    #[error("`{0}` changed while it was read")]
    Changed(PathBuf),
    /// A line that is no pattern.
    #[error("a pattern in `{path}` cannot be read")]
    Pattern {
        /// The file with the pattern.
        path: PathBuf,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// Git's index, which says what is tracked in spite of `.gitignore`.
    #[error("`{}` is no index of git that can be read", .0.display())]
    Index(PathBuf),
    /// An index with something in it without which it cannot be understood.
    #[error("git's index `{}` has the extension `{extension}`, which is unknown", path.display())]
    IndexExtension {
        /// The index.
        path: PathBuf,
        /// The extension's four letters.
        extension: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SourceError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether it is what the pipeline names that is wrong.
    pub const fn is_the_pipelines(&self) -> bool {
        matches!(self, Self::NotADirectory(_))
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotADirectory(_) => {
                Some("correct `path` in `[source]`; it is relative to the pipeline file".to_owned())
            }
            Self::Io { path, .. } => Some(format!("make `{0}` readable, or name it in `.pipeignore`", path.display())),
            Self::Name(_) | Self::Link(_) => Some("rename it, or name it in `.pipeignore`".to_owned()),
            Self::Special { .. } | Self::TooDeep(_) => Some("remove it, or name it in `.pipeignore`".to_owned()),
            Self::Changed(_) => Some("run again when nothing writes to it, or name it in `.pipeignore`".to_owned()),
            Self::Pattern { .. } => Some("the patterns are those of `.gitignore`".to_owned()),
            Self::Index(_) => Some("see what `git status` says; `git reset` writes it anew".to_owned()),
            Self::IndexExtension { .. } => Some(
                "a setting of git's makes it: take that back (`git config --list --show-origin` has all), and let `git reset` write \
                 the index anew"
                    .to_owned(),
            ),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Takes a snapshot of a directory, without what the patterns of `exclude` name (as in `.gitignore`, relative to `dir`).
///
/// Files that are as they were at the last snapshot, by size, mode, times and inode, are not read again.
pub fn snapshot(dir: &Path, exclude: &[String], store: &Store) -> Result<SourceSnapshot, SourceError> {
    threads().install(|| take(dir, exclude, store))
}

fn take(dir: &Path, exclude: &[String], store: &Store) -> Result<SourceSnapshot, SourceError> {
    let not_a_directory = || SourceError::NotADirectory(dir.to_owned());
    let dir = dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(not_a_directory)?;
    let (tracked, known) = rayon::join(|| Tracked::around(&dir), || Known::open(store.root(), &dir));
    let rules = Rules::new(&dir, exclude, Arc::new(tracked?))?;
    let taken = Walk::new(&dir, &known).take(&rules)?;
    let earlier = Earlier::at(known.beside("earlier"));
    if !known.is_all_of(&taken.directories) {
        let saved = known.save(&taken.directories).and_then(|()| earlier.add(&known.replaced(&taken.directories)));
        // Where nothing may be written, it costs whoever only looks time.
        saved.or_else(|error| if error.is_read_only() { Ok(()) } else { Err(error) })?;
    }
    let snapshot = SourceSnapshot { digest: taken.digest, files: taken.files, read: taken.read };
    store.lend(Arc::new(Source::new(dir, taken.directories, taken.fresh, earlier)));
    Ok(snapshot)
}

#[cfg(test)]
mod tests;
