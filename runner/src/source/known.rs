//! Which files were read before, and what they held: one file a source directory, beside the store.
//!
//! A file counts as unchanged when its size, times and inode are. One that was written so shortly before it was read that a
//! later write could have left the same times is not remembered: it is read again.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::SourceError;
use crate::digest::Digest;

const SECOND: i128 = 1_000_000_000;
/// The coarsest clock of a file system that keeps fractions of a second, with room to spare, in nanoseconds.
const FINE_CLOCK: i128 = SECOND / 10;
/// The same for one that keeps whole seconds, or every other one.
const COARSE_CLOCK: i128 = 2 * SECOND;

/// What tells a file's state from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    size: u64,
    modified: i128,
    changed: i128,
    inode: u64,
    device: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * SECOND + i128::from(rest);
        Self {
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether a write at `now` or later is sure to give another identity.
    fn is_settled(&self, now: i128) -> bool {
        [self.modified, self.changed].iter().all(|time| {
            let clock = if time % SECOND == 0 { COARSE_CLOCK } else { FINE_CLOCK };
            time + clock < now
        })
    }
}

/// The files of one source directory that were read before.
pub(super) struct Known {
    path: PathBuf,
    /// When this snapshot began; whatever was written from then on is not settled.
    started: i128,
    before: BTreeMap<String, (Identity, Digest)>,
    after: BTreeMap<String, (Identity, Digest)>,
    changed: bool,
}

impl Known {
    /// What is known of `dir`; nothing where that cannot be read.
    pub(super) fn open(store: &Path, dir: &Path) -> Self {
        let name = Digest::of(dir.as_os_str().as_bytes()).hex();
        let path = store.join("sources").join(format!("{name}.json"));
        let before = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = i128::try_from(started.as_nanos()).unwrap_or_default();
        Self { path, started, before, after: BTreeMap::new(), changed: false }
    }

    /// The digest of a file that is still as it was.
    pub(super) fn get(&mut self, path: &str, identity: Identity) -> Option<Digest> {
        let (_, digest) = *self.before.get(path).filter(|(before, _)| *before == identity)?;
        self.after.insert(path.to_owned(), (identity, digest));
        Some(digest)
    }

    /// Remembers a file that was read.
    pub(super) fn set(&mut self, path: &str, identity: Identity, digest: Digest) {
        self.changed = true;
        if identity.is_settled(self.started) {
            self.after.insert(path.to_owned(), (identity, digest));
        } else {
            self.after.remove(path);
        }
    }

    /// Keeps what is known for the next time.
    pub(super) fn save(self) -> Result<(), SourceError> {
        if !self.changed && self.after.len() == self.before.len() {
            return Ok(());
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let write = || {
            fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&serde_json::to_vec(&self.after)?)?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(SourceError::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(modified: i128) -> Identity {
        Identity { size: 1, modified, changed: modified, inode: 1, device: 1 }
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
}
