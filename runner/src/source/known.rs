//! Which files were read before, and what they held: one file a source directory, beside the store.
//!
//! A file counts as unchanged when its size, mode, times and inode are, and so do the names in a directory. One that was written so
//! shortly before it was read that a later write could have left the same times is not remembered: it is read again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::StoreError;
use crate::tree::{Entry, Tree};

/// Raised when the shape of what is kept changes. What another version of the runner wrote is unknown: it may have understood the
/// same rules otherwise.
const VERSION: &[u8] = concat!("pipe.source.4 ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

const SECOND: i128 = 1_000_000_000;
/// The coarsest clock of a file system that keeps fractions of a second, with room to spare, in nanoseconds.
const FINE_CLOCK: i128 = SECOND / 10;
/// The same for one that keeps whole seconds, or every other one.
const COARSE_CLOCK: i128 = 2 * SECOND;

/// What tells a file's state from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
    mode: u32,
}

impl Identity {
    pub(super) const fn of(found: &FileStat) -> Self {
        Self {
            size: found.st_size.cast_unsigned(),
            modified: (found.st_mtime, found.st_mtime_nsec),
            changed: (found.st_ctime, found.st_ctime_nsec),
            inode: found.st_ino,
            device: found.st_dev,
            mode: found.st_mode,
        }
    }

    pub(super) const fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Whether a write at `now` (nanoseconds since 1970) or later is sure to give another identity.
    pub(super) fn is_settled(&self, now: i128) -> bool {
        [self.modified, self.changed].into_iter().all(|(seconds, rest)| {
            let clock = if rest == 0 { COARSE_CLOCK } else { FINE_CLOCK };
            i128::from(seconds) * SECOND + i128::from(rest) + clock < now
        })
    }
}

/// A directory as it was.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// From the source directory; empty for itself.
    pub(super) path: Box<str>,
    /// Of its tree.
    pub(super) digest: Digest,
    /// What decided which of its names are kept.
    pub(super) names: Names,
    /// In bytewise order of names.
    pub(super) entries: Vec<(Box<str>, Kept)>,
}

/// What the names that are kept of a directory depend on: where it is all the same, they are too, and those that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    /// By what the directory is held to have the same names; none where a later change could have left the same.
    pub(super) identity: Option<Identity>,
    /// Of the rules.
    pub(super) rules: Digest,
    /// Directories that were looked into and of which nothing is kept; that may be otherwise the next time.
    pub(super) hollow: Vec<Box<str>>,
}

/// What was in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kept {
    /// A file, and whether it was written long enough before it was read.
    File {
        /// By what it is held to be the same.
        identity: Identity,
        /// Whether that can be trusted.
        settled: bool,
        /// Its bytes.
        digest: Digest,
    },
    /// A link and its target.
    Link(Box<str>),
    /// A directory.
    Directory(Digest),
}

impl Directory {
    pub(super) fn new(path: &str, names: Names, entries: Vec<(Box<str>, Kept)>) -> Self {
        let mut directory = Self { path: path.into(), digest: Digest::of(&[]), names, entries };
        directory.digest = Digest::of(&directory.tree().encode());
        directory
    }

    /// The entry of a name, which is likely to be the one of this number.
    pub(super) fn get(&self, likely: usize, name: &str) -> Option<&(Box<str>, Kept)> {
        if let Some(entry) = self.entries.get(likely).filter(|(known, _)| **known == *name) {
            return Some(entry);
        }
        let at = self.entries.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.entries[at])
    }

    /// The directory as a value.
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for (name, kept) in &self.entries {
            let entry = match kept {
                Kept::File { identity, digest, .. } => {
                    Entry::File { digest: *digest, executable: identity.is_executable() }
                }
                Kept::Link(target) => Entry::Symlink { target: target.to_string() },
                Kept::Directory(digest) => Entry::Tree { digest: *digest },
            };
            tree.insert(name, entry).expect("a name that the file system has");
        }
        tree
    }
}

/// What the last snapshot of a source directory left.
#[derive(Default)]
pub(super) struct Known {
    path: PathBuf,
    directories: HashMap<Box<str>, Arc<Directory>>,
}

impl Known {
    /// What is known of `dir`; nothing where that cannot be read, or is damaged.
    pub(super) fn open(store: &Path, dir: &Path) -> Self {
        let name = Digest::of(dir.as_os_str().as_bytes()).hex();
        let path = store.join("sources").join(name);
        let bytes = fs::read(&path).unwrap_or_default();
        let directories = decode(&bytes).unwrap_or_default().into_iter();
        Self { path, directories: directories.map(|found| (found.path.clone(), Arc::new(found))).collect() }
    }

    /// A directory as it was.
    pub(super) fn directory(&self, path: &str) -> Option<&Arc<Directory>> {
        self.directories.get(path)
    }

    /// The file for something else about the same source.
    pub(super) fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    /// The directories that are not so any more.
    pub(super) fn replaced(&self, now: &[Arc<Directory>]) -> Vec<&Arc<Directory>> {
        let now: HashSet<Digest> = now.iter().map(|directory| directory.digest).collect();
        self.directories.values().filter(|known| !now.contains(&known.digest)).collect()
    }

    /// Whether nothing else is known than this.
    pub(super) fn is_all_of(&self, now: &[Arc<Directory>]) -> bool {
        let same = |found: &Arc<Directory>| self.directory(&found.path).is_some_and(|known| Arc::ptr_eq(known, found));
        now.len() == self.directories.len() && now.iter().all(same)
    }

    /// Keeps what is known now for the next time.
    pub(super) fn save(&self, now: &[Arc<Directory>]) -> Result<(), StoreError> {
        replace(&self.path, &encode(now))
    }
}

/// Puts bytes into the place of a file, once they are there as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| StoreError::Io { action: "write", path: path.to_owned(), source })
}

/// What a reader would take for true is hashed: a flipped bit makes all of it unknown.
fn encode(directories: &[Arc<Directory>]) -> Vec<u8> {
    let directories: Vec<&Directory> = directories.iter().map(Arc::as_ref).collect();
    let body = postcard::to_stdvec(&directories).expect("plain data");
    [VERSION, Digest::of(&body).as_bytes(), &body].concat()
}

fn decode(bytes: &[u8]) -> Option<Vec<Directory>> {
    let (digest, body) = bytes.strip_prefix(VERSION)?.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(time: i128) -> Identity {
        let part = |time: i128| i64::try_from(time).expect("a time");
        let time = (part(time / SECOND), part(time % SECOND));
        Identity { size: 1, modified: time, changed: time, inode: 1, device: 1, mode: 0 }
    }

    #[test]
    fn a_file_written_just_before_is_not_settled() {
        let now = 1_000 * SECOND + 7;
        assert!(written_at(now - SECOND).is_settled(now), "a fine clock, long enough ago");
        assert!(!written_at(now - FINE_CLOCK / 2).is_settled(now), "a fine clock, just now");
        assert!(!written_at(999 * SECOND).is_settled(now), "a coarse clock, a second ago");
        assert!(written_at(990 * SECOND).is_settled(now), "a coarse clock, long enough ago");
        assert!(!written_at(now + SECOND).is_settled(now), "in the future");
    }

    #[test]
    fn what_is_damaged_is_not_known() {
        let kept = [("link".into(), Kept::Link("target".into()))].into();
        let names = Names { identity: None, rules: Digest::of(b"rules"), hollow: Vec::new() };
        let directory = Directory::new("", names, kept);
        let bytes = encode(&[Arc::new(directory)]);
        assert_eq!(decode(&bytes).map(|known| known.len()), Some(1));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len}");
            let mut flipped = bytes.clone();
            flipped[len] ^= 1;
            assert_eq!(decode(&flipped), None, "{len}");
        }
    }
}
