//! Bytes out of the store's files, by where they are. Knows nothing of promises.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use super::POISONED;
use super::index::{Found, Location};
use super::segment::{At, HEADER, SegmentId, named_in};
use crate::digest::Digest;

pub(super) struct Files {
    blobs: PathBuf,
    segments: PathBuf,
    /// Where segments are that are made now.
    new: PathBuf,
    open: RwLock<HashMap<SegmentId, Arc<File>>>,
}

impl Files {
    pub(super) fn of(root: &Path) -> Self {
        Self::with_new(root, root)
    }

    /// The files of a store that is added to in another place.
    pub(super) fn with_new(root: &Path, new: &Path) -> Self {
        let [segments, new] = [root, new].map(|root| root.join("segments"));
        Self { blobs: root.join("blobs"), segments, new, open: RwLock::default() }
    }

    /// Where a blob is that is a file of its own.
    pub(super) fn loose(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(&hex[..2]).join(&hex[2..])
    }

    /// The file that a blob is in.
    pub(super) fn open(&self, digest: &Digest, location: &Location) -> io::Result<Arc<File>> {
        match location.at {
            Some(At { segment, .. }) => self.segment(segment),
            None => Ok(Arc::new(File::open(self.loose(digest))?)),
        }
    }

    fn segment(&self, id: SegmentId) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.read().expect(POISONED).get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(id.path(&self.segments)).or_else(|_| File::open(id.path(&self.new)))?);
        self.open.write().expect(POISONED).insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// The bytes of a blob, unchecked.
    pub(super) fn read(&self, digest: &Digest, location: &Location) -> io::Result<Vec<u8>> {
        let start = location.at.map_or(0, |at| at.offset);
        read_exact(&*self.open(digest, location)?, start, location.size)
    }

    /// Whether a blob begins like this.
    pub(super) fn starts_with(&self, digest: &Digest, location: &Location, start: &[u8]) -> bool {
        let mut head = vec![0; start.len()];
        let at = location.at.map_or(0, |at| at.offset);
        let is_there = self.open(digest, location).and_then(|file| file.read_exact_at(&mut head, at)).is_ok();
        is_there && location.size >= start.len() as u64 && head == start
    }

    /// The payload of a record of an action, if it still is what was written.
    pub(super) fn read_record(&self, found: &Found) -> Option<Vec<u8>> {
        let file = self.segment(found.at.segment).ok()?;
        let start = found.at.offset.checked_sub(HEADER as u64)?;
        let mut bytes = read_exact(&file, start, found.size.checked_add(HEADER as u64)?).ok()?;
        let payload = bytes.split_off(HEADER);
        (named_in(&bytes) == Some(Digest::of(&payload))).then_some(payload)
    }
}

/// A damaged index may name any place and size, so nothing is reserved for what the file does not have.
pub(super) fn read_exact(file: &File, start: u64, size: u64) -> io::Result<Vec<u8>> {
    let end = start.checked_add(size).ok_or(io::ErrorKind::UnexpectedEof)?;
    if size > MODEST && file.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| io::ErrorKind::UnexpectedEof)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Bytes that are reserved without a look at the file's size.
const MODEST: u64 = 1 << 20;
