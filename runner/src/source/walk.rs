//! Goes through a source directory, all processors at once, and reads what is not known.

use std::collections::HashMap;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::SourceError;
use super::known::{self, Directory, Identity, Kept, Known};
use super::read::{Fresh, read_unchanged};
use super::rules::{Rules, Said};
use crate::digest::Digest;
use crate::store::join;

/// So many entries of a directory are worth a processor's while.
const WORTH_IT: usize = 64;

/// What a walk has found.
pub(super) struct Taken {
    /// Of the whole tree.
    pub(super) digest: Digest,
    /// In order of their paths.
    pub(super) directories: Vec<Arc<Directory>>,
    pub(super) fresh: HashMap<Digest, Arc<[u8]>>,
    pub(super) files: u64,
    pub(super) read: u64,
}

pub(super) struct Walk<'a> {
    root: &'a Path,
    known: &'a Known,
    /// When it began; whatever was written from then on is not settled.
    started: i128,
    fresh: Fresh,
    files: AtomicU64,
    read: AtomicU64,
    directories: Mutex<Vec<Arc<Directory>>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Path, known: &'a Known) -> Self {
        Self {
            root,
            known,
            started: known::now(),
            fresh: Fresh::default(),
            files: AtomicU64::new(0),
            read: AtomicU64::new(0),
            directories: Mutex::default(),
        }
    }

    pub(super) fn take(self, rules: &Rules<'_>) -> Result<Taken, SourceError> {
        let digest = match self.contents(self.root, "", list(self.root)?, rules)? {
            Some(digest) => digest,
            None => self.keep("", None, Vec::new()),
        };
        let mut directories = self.directories.into_inner().expect(POISONED);
        directories.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(Taken {
            digest,
            directories,
            fresh: self.fresh.into_held(),
            files: self.files.into_inner(),
            read: self.read.into_inner(),
        })
    }

    /// What is kept of a directory below the source directory.
    fn directory(
        &self,
        dir: &Path,
        relative: &str,
        outer: &Rules<'_>,
        said: Said,
    ) -> Result<Option<Digest>, SourceError> {
        let listing = list(dir)?;
        let has = |name: &str| listing.iter().any(|entry| entry.file_name() == name);
        if said == Said::Nothing && has("pyvenv.cfg") {
            return Ok(None);
        }
        let rules = outer.within(dir, has)?;
        self.contents(dir, relative, listing, &rules)
    }

    /// What is kept of a directory's entries; none where all of them are left out.
    fn contents(
        &self,
        dir: &Path,
        relative: &str,
        listing: Vec<DirEntry>,
        rules: &Rules<'_>,
    ) -> Result<Option<Digest>, SourceError> {
        let known = self.known.directory(relative);
        let all = listing.len();
        let look = |entry: DirEntry| self.entry(dir, relative, &entry, known.map(Arc::as_ref), rules).transpose();
        let kept: Result<Vec<_>, SourceError> =
            listing.into_par_iter().with_min_len(WORTH_IT).filter_map(look).collect();
        let mut entries = kept?;
        if entries.is_empty() && all > 0 {
            return Ok(None);
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Some(self.keep(relative, known, entries)))
    }

    fn entry(
        &self,
        dir: &Path,
        relative: &str,
        entry: &DirEntry,
        known: Option<&Directory>,
        rules: &Rules<'_>,
    ) -> Result<Option<(Box<str>, Kept)>, SourceError> {
        let name = entry.file_name();
        let path = dir.join(&name);
        let kind = entry.file_type().map_err(SourceError::io("look at", &path))?;
        let said = rules.say(&path, &name, kind.is_dir());
        if said == Said::LeaveOut {
            return Ok(None);
        }
        let name = name.to_str().ok_or_else(|| SourceError::Name(path.clone()))?;
        let kept = if kind.is_dir() {
            self.directory(&path, &join(relative, name), rules, said)?.map(Kept::Directory)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(SourceError::io("read", &path))?;
            Some(Kept::Link(target.to_str().ok_or_else(|| SourceError::Link(path.clone()))?.into()))
        } else if kind.is_file() {
            self.file(&path, entry, known.and_then(|known| known.get(name)))?
        } else {
            return Err(SourceError::Special { kind: special(kind), path });
        };
        Ok(kept.map(|kept| (name.into(), kept)))
    }

    /// A file's bytes, by what is known of it or else by reading it; none where it has gone.
    fn file(&self, path: &Path, entry: &DirEntry, known: Option<&Kept>) -> Result<Option<Kept>, SourceError> {
        let seen = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SourceError::io("look at", path)(error)),
        };
        if let Some(Kept::File { identity, settled: true, digest }) = known
            && *identity == Identity::of(&seen)
        {
            self.files.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(Kept::File { identity: *identity, settled: true, digest: *digest }));
        }
        let hash = |file: &fs::File, size| self.fresh.hash(path, file, size);
        let Some((identity, digest)) = read_unchanged(path, &seen, hash)? else { return Ok(None) };
        self.files.fetch_add(1, Ordering::Relaxed);
        self.read.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Kept::File { identity, settled: identity.is_settled(self.started), digest }))
    }

    /// Remembers a directory and names it. One that is as it was is named without being put together again.
    fn keep(&self, path: &str, known: Option<&Arc<Directory>>, entries: Vec<(Box<str>, Kept)>) -> Digest {
        let directory = match known {
            Some(known) if known.entries == entries => Arc::clone(known),
            _ => Arc::new(Directory::new(path, entries)),
        };
        let digest = directory.digest;
        self.directories.lock().expect(POISONED).push(directory);
        digest
    }
}

fn list(dir: &Path) -> Result<Vec<DirEntry>, SourceError> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(SourceError::io("list", dir))
}

fn special(kind: FileType) -> &'static str {
    match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a named pipe",
        () => "a device",
    }
}

const POISONED: &str = "no thread panics while it adds a directory";
