//! The source directory as an immutable tree: what a run builds, whatever is edited while it runs.
//!
//! Left out are what `.gitignore` and `.pipeignore` name, version control's own directories, and what Python makes beside
//! the source (see `rules`). All else stays, hidden or not: links as links, executable bits, empty directories. A directory
//! that only holds what is left out is left out too, so that a test runner's cache does not change what is built.
//! Knows nothing of pipelines.

mod known;
mod rules;

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::{Entry, Tree};

use known::{Identity, Known};
use rules::Rules;

/// Files from this size on are streamed into the store, in bytes.
const LARGE: u64 = 1 << 20;

/// A directory as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// The tree; all of it is in the store.
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
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SourceError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotADirectory(_) => {
                Some("correct `path` in `[source]`; it is relative to the pipeline file".to_owned())
            }
            Self::Io { path, .. } => Some(format!("make `{0}` readable, or name it in `.pipeignore`", path.display())),
            Self::Name(_) | Self::Link(_) => Some("rename it, or name it in `.pipeignore`".to_owned()),
            Self::Special { .. } => Some("remove it, or name it in `.pipeignore`".to_owned()),
            Self::Changed(_) => Some("run again when nothing writes to it, or name it in `.pipeignore`".to_owned()),
            Self::Pattern { .. } => Some("the patterns are those of `.gitignore`".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Takes a snapshot of a directory, without what the patterns of `exclude` name (as in `.gitignore`, relative to `dir`).
///
/// Files that are as they were at the last snapshot, by size, times and inode, are not read again.
pub fn snapshot(dir: &Path, exclude: &[String], store: &Store) -> Result<SourceSnapshot, SourceError> {
    let not_a_directory = || SourceError::NotADirectory(dir.to_owned());
    let dir = dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(not_a_directory)?;
    let rules = Rules::new(&dir, exclude)?;
    let mut walk = Walk { store, known: Known::open(store.root(), &dir), files: 0, read: 0 };
    let tree = walk.directory(&dir, "", &rules)?.unwrap_or_default();
    let digest = store.put_tree(&tree)?;
    let Walk { known, files, read, .. } = walk;
    known.save()?;
    Ok(SourceSnapshot { digest, files, read })
}

struct Walk<'a> {
    store: &'a Store,
    known: Known,
    files: u64,
    read: u64,
}

impl Walk<'_> {
    /// What is kept of a directory; none where all that it holds is left out.
    fn directory(&mut self, dir: &Path, relative: &str, rules: &Rules<'_>) -> Result<Option<Tree>, SourceError> {
        let mut tree = Tree::default();
        let mut left_out = false;
        for found in fs::read_dir(dir).map_err(SourceError::io("list", dir))? {
            let found = found.map_err(SourceError::io("list", dir))?;
            let path = found.path();
            let metadata = match path.symlink_metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(SourceError::io("look at", &path)(error)),
            };
            if rules.leave_out(&path, metadata.is_dir()) {
                left_out = true;
                continue;
            }
            let name = found.file_name();
            let name = name.to_str().ok_or_else(|| SourceError::Name(path.clone()))?;
            let relative = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            match self.entry(&path, &relative, &metadata, rules)? {
                Some(entry) => tree.insert(name, entry).map_err(|_| SourceError::Name(path))?,
                None => left_out = true,
            }
        }
        Ok((!tree.is_empty() || !left_out).then_some(tree))
    }

    fn entry(
        &mut self,
        path: &Path,
        relative: &str,
        metadata: &Metadata,
        rules: &Rules<'_>,
    ) -> Result<Option<Entry>, SourceError> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            let Some(tree) = self.directory(path, relative, &rules.within(path)?)? else { return Ok(None) };
            Ok(Some(Entry::Tree { digest: self.store.put_tree(&tree)? }))
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(SourceError::io("read", path))?;
            let target = target.to_str().ok_or_else(|| SourceError::Link(path.to_owned()))?.to_owned();
            Ok(Some(Entry::Symlink { target }))
        } else if kind.is_file() {
            self.file(path, relative, metadata)
        } else {
            let kind = match () {
                () if kind.is_socket() => "a socket",
                () if kind.is_fifo() => "a named pipe",
                () => "a device",
            };
            Err(SourceError::Special { path: path.to_owned(), kind })
        }
    }

    fn file(&mut self, path: &Path, relative: &str, metadata: &Metadata) -> Result<Option<Entry>, SourceError> {
        let executable = metadata.mode() & 0o100 != 0;
        let identity = Identity::of(metadata);
        self.files += 1;
        if let Some(digest) = self.known.get(relative, identity).filter(|digest| self.store.contains(digest)) {
            return Ok(Some(Entry::File { digest, executable }));
        }
        let store = self.store;
        let Some((identity, digest)) = read_unchanged(path, |file, size| keep(store, path, file, size))? else {
            self.files -= 1;
            return Ok(None);
        };
        self.read += 1;
        self.known.set(relative, identity, digest);
        Ok(Some(Entry::File { digest, executable }))
    }
}

fn keep(store: &Store, path: &Path, mut file: &File, size: u64) -> Result<Digest, SourceError> {
    if size < LARGE {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(SourceError::io("read", path))?;
        return Ok(store.put(&bytes)?);
    }
    let mut writer = store.writer()?;
    io::copy(&mut file, &mut writer).map_err(SourceError::io("read", path))?;
    Ok(writer.finish()?)
}

/// Reads a file that is the same before and after; one that is not gets a second chance. None where it has gone.
fn read_unchanged<T>(
    path: &Path,
    mut read: impl FnMut(&File, u64) -> Result<T, SourceError>,
) -> Result<Option<(Identity, T)>, SourceError> {
    for _ in 0..2 {
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SourceError::io("open", path)(error)),
        };
        let before = file.metadata().map_err(SourceError::io("look at", path))?;
        let value = read(&file, before.len())?;
        // By its name, so that a file that was put in this one's place is noticed too.
        let after = path.symlink_metadata().map(|metadata| Identity::of(&metadata));
        let before = Identity::of(&before);
        if after.is_ok_and(|after| after == before) {
            return Ok(Some((before, value)));
        }
    }
    Err(SourceError::Changed(path.to_owned()))
}

#[cfg(test)]
mod tests;
