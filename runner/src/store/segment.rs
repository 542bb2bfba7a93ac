//! Append-only files of small blobs. One writer a process; knows nothing of the index.
//!
//! A segment starts with [`MAGIC`]; each record is a digest (32 bytes), a length (`u32`, little-endian) and that many bytes, so
//! that the index can be made anew by reading the segments.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::index::Location;
use crate::digest::Digest;

const MAGIC: &[u8] = b"pipe.segment.1\n\n";
/// Bytes gathered before they are written out.
const BUFFER: usize = 1 << 20;
/// Bytes after which a new segment begins, so that collecting garbage can free some.
const FULL: u64 = 256 << 20;

pub(super) struct SegmentWriter {
    dir: PathBuf,
    current: Option<Current>,
}

struct Current {
    name: String,
    file: File,
    written: u64,
    buffer: Vec<u8>,
}

impl SegmentWriter {
    /// A writer that makes its first file when something is to be written.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), current: None }
    }

    /// Appends a blob and says where it is.
    pub(super) fn append(&mut self, digest: &Digest, bytes: &[u8]) -> Result<Location, StoreError> {
        if self.current.as_ref().is_some_and(|current| current.written > FULL) {
            self.sync()?;
            self.current = None;
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(Current::create(&self.dir)?),
        };
        let len = u32::try_from(bytes.len()).expect("only small blobs come here");
        current.buffer.extend_from_slice(digest.as_bytes());
        current.buffer.extend_from_slice(&len.to_le_bytes());
        let offset = current.written + current.buffer.len() as u64;
        current.buffer.extend_from_slice(bytes);
        let location = Location { segment: Some(current.name.clone()), offset, size: u64::from(len) };
        if current.buffer.len() >= BUFFER {
            self.write_out()?;
        }
        Ok(location)
    }

    /// Hands what is gathered to the operating system, so that it can be read back.
    pub(super) fn write_out(&mut self) -> Result<(), StoreError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if let Err(source) = current.file.write_all(&current.buffer) {
            let path = self.dir.join(&current.name);
            return Err(StoreError::Io { action: "write", path, source });
        }
        current.written += current.buffer.len() as u64;
        current.buffer.clear();
        Ok(())
    }

    /// Brings everything onto the disk.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.write_out()?;
        let Some(current) = &self.current else { return Ok(()) };
        current.file.sync_data().map_err(StoreError::io("flush", &self.dir.join(&current.name)))
    }
}

impl Current {
    fn create(dir: &Path) -> Result<Self, StoreError> {
        let (mut file, path) = tempfile::Builder::new()
            .prefix("")
            .suffix(".segment")
            .rand_bytes(16)
            .make_in(dir, |path| OpenOptions::new().append(true).create_new(true).open(path))
            .and_then(|file| file.keep().map_err(Into::into))
            .map_err(StoreError::io("create a segment in", dir))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        file.write_all(MAGIC).and_then(|()| File::open(dir)?.sync_all()).map_err(StoreError::io("write", &path))?;
        Ok(Self { name, file, written: MAGIC.len() as u64, buffer: Vec::new() })
    }
}
