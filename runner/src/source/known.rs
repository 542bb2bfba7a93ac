//! Which files were read before, and what they held: one file a source directory, beside the store.
//!
//! A file counts as unchanged when its size, mode, times and inode are, and so do the names in a directory. One that was written so
//! shortly before it was read that a later write could have left the same times is not remembered: it is read again.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::frames::{self, Frames};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::tree::{Entry, Tree};

/// Raised when the shape of what is kept changes. What another version of the runner wrote is unknown: it may have understood the
/// same rules otherwise.
const VERSION: &[u8] = concat!("pipe.source.5 ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

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

/// What the last snapshots of a source directory left: a frame with all of it, and one for what each has found otherwise since.
#[derive(Default)]
pub(super) struct Known {
    path: PathBuf,
    directories: HashMap<Box<str>, Arc<Directory>>,
    /// How many bytes may be added before all of it is written anew.
    room: usize,
}

impl Known {
    /// What is known of `dir`; nothing where that cannot be read, or is damaged.
    pub(super) fn open(store: &Path, dir: &Path) -> Self {
        let name = Digest::of(dir.as_os_str().as_bytes()).hex();
        let path = store.join("sources").join(name);
        let frames = Frames::read(&path);
        let mut directories = HashMap::new();
        for found in frames.iter().map_while(|(_, frame)| decode(frame)) {
            directories.extend(found.into_iter().map(|found| (found.path.clone(), Arc::new(found))));
        }
        let is_known = frames.are_whole() && !directories.is_empty();
        let first = frames.iter().next().filter(|_| is_known).map_or(0, |(_, frame)| frames::size(frame));
        // What is read each time is half as long again at most.
        Self { path, directories, room: (first + first / 2).saturating_sub(frames.len()) }
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
        now.len() == self.directories.len() && now.iter().all(|found| self.has(found))
    }

    fn has(&self, found: &Arc<Directory>) -> bool {
        self.directory(&found.path).is_some_and(|known| Arc::ptr_eq(known, found))
    }

    /// Keeps what is known now for the next time.
    pub(super) fn save(&self, now: &[Arc<Directory>]) -> Result<(), StoreError> {
        let are_still_there = now.iter().filter(|found| self.directory(&found.path).is_some()).count();
        if are_still_there == self.directories.len() {
            let changed = encode(now.iter().filter(|found| !self.has(found)));
            if frames::size(&changed) <= self.room {
                return frames::append(&self.path, &[changed]);
            }
        }
        frames::replace(&self.path, &[encode(now.iter())])
    }
}

fn encode<'a>(directories: impl Iterator<Item = &'a Arc<Directory>>) -> Vec<u8> {
    let directories: Vec<&Directory> = directories.map(Arc::as_ref).collect();
    postcard::to_extend(&directories, VERSION.to_vec()).expect("plain data")
}

fn decode(bytes: &[u8]) -> Option<Vec<Directory>> {
    postcard::from_bytes(bytes.strip_prefix(VERSION)?).ok()
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

    /// A directory with one link.
    fn directory(path: &str, target: &str) -> Arc<Directory> {
        let names = Names { identity: None, rules: Digest::of(b"rules"), hollow: Vec::new() };
        Arc::new(Directory::new(path, names, [("link".into(), Kept::Link(target.into()))].into()))
    }

    #[test]
    fn what_has_changed_is_added_and_what_has_gone_is_not_known_any_more() {
        let home = tempfile::tempdir().expect("a directory");
        let open = || Known::open(home.path(), Path::new("/project"));
        let path = open().path;
        let len = || std::fs::metadata(&path).expect("a file").len();
        let mut now: Vec<_> = (0..100).map(|number| directory(&format!("{number}"), "first")).collect();
        open().save(&now).expect("written");
        let whole = len();
        let mut longest = 0;
        for round in 0..100 {
            let known = open();
            assert_eq!(known.directories.len(), now.len());
            for found in &mut now {
                let known = known.directory(&found.path).expect("known");
                assert_eq!(known, found);
                *found = Arc::clone(known);
            }
            assert!(known.is_all_of(&now));
            now[round] = directory(&format!("{round}"), "second");
            let before = len();
            known.save(&now).expect("written");
            assert!(before == whole || round > 0, "{round}");
            longest = longest.max(len());
        }
        assert!(whole < longest && longest <= whole * 3 / 2 + 1000, "{whole} {longest}");
        now.remove(0);
        open().save(&now).expect("written");
        assert_eq!(open().directories.len(), 99);

        // After what is damaged nothing is added, for nobody would read it.
        let mut bytes = std::fs::read(&path).expect("read");
        *bytes.last_mut().expect("a byte") ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(open().directories.is_empty());
        open().save(&now).expect("written");
        assert_eq!(open().directories.len(), 99);
    }
}
