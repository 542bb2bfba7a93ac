//! Bytes in, bytes out: where a blob goes by its size, and the check that it still is what its name says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::index::Location;
use super::{Lent, POISONED, Store, StoreError, Until, files, suspect};
use crate::digest::Digest;

/// The size from which a blob gets a file of its own, in bytes: such a file costs the disk two or three flushes, and one in a
/// segment none.
const LOOSE: u64 = 1 << 20;

impl Store {
    /// Keeps bytes.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest) {
            self.put_new(&digest, bytes)?;
        }
        Ok(digest)
    }

    /// Keeps bytes that are not there yet.
    pub(super) fn put_new(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if (bytes.len() as u64) < LOOSE {
            return self.0.log.put_blob(digest, bytes);
        }
        let mut writer = self.writer()?;
        writer
            .write_all(bytes)
            .map_err(|error| StoreError::inside(error).unwrap_or_else(StoreError::io("write", self.tmp())))?;
        writer.finish().map(drop)
    }

    /// Keeps the bytes of a file; reads it once.
    pub fn put_file(&self, path: &Path) -> Result<Digest, StoreError> {
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        self.put_read(file, path)
    }

    /// Keeps what is read from the file at a path.
    pub(crate) fn put_read(&self, mut file: impl io::Read, path: &Path) -> Result<Digest, StoreError> {
        let mut writer = self.writer()?;
        io::copy(&mut file, &mut writer)
            .map_err(|error| StoreError::inside(error).unwrap_or_else(StoreError::io("copy", path)))?;
        writer.finish()
    }

    /// Takes bytes piece by piece.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter { store: self.clone(), buffer: Vec::new(), file: None })
    }

    /// Whether the store promises a blob, and for a tree all that is in it.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.log.location(digest).is_some()
            || self.0.index.location(digest).is_ok_and(|found| found.is_some_and(|(_, promised)| promised))
    }

    /// How many bytes a blob has.
    pub fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        match self.lent(digest) {
            // It is that of the bytes with this digest, whatever is there now.
            Some(lent) => Ok(lent.size()),
            None => self.location(digest)?.map(|at| at.size).ok_or_else(|| self.missing(digest)),
        }
    }

    /// A whole blob, checked.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let lent = self.lent(digest);
        if let Some(bytes) = lent.as_ref().and_then(|lent| still_there(lent, digest)) {
            return Ok(bytes);
        }
        let reader = self.open_unchecked(digest, lent)?;
        let bytes = match reader.bytes {
            Bytes::Lent(bytes) => return Ok(bytes.to_vec()),
            Bytes::Gathered(bytes) => Some(bytes),
            Bytes::InFile { file, start } => files::read_exact(&file, start, reader.size).ok(),
        };
        bytes.filter(|bytes| Digest::of(bytes) == *digest).ok_or_else(|| self.refuse(digest))
    }

    /// A blob to read from, checked before its first byte is given. A small one is read once, here.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let lent = self.lent(digest);
        if let Some(bytes) = lent.as_ref().and_then(|lent| still_there(lent, digest)) {
            return Ok(self.reader(bytes.len() as u64, Bytes::Gathered(bytes)));
        }
        let mut reader = self.open_unchecked(digest, lent)?;
        if reader.size < LOOSE {
            let bytes = match reader.bytes {
                Bytes::Lent(_) => return Ok(reader),
                Bytes::Gathered(bytes) => Some(bytes),
                Bytes::InFile { file, start } => files::read_exact(&file, start, reader.size).ok(),
            };
            let bytes = bytes.filter(|bytes| Digest::of(bytes) == *digest).ok_or_else(|| self.refuse(digest))?;
            return Ok(self.reader(bytes.len() as u64, Bytes::Gathered(bytes)));
        }
        let mut hasher = blake3::Hasher::new();
        let read = io::copy(&mut reader, &mut hasher);
        self.until().look()?;
        if read.is_err() || Digest::from(hasher.finalize()) != *digest {
            return Err(self.refuse(digest));
        }
        reader.position = 0;
        Ok(reader)
    }

    fn open_unchecked(&self, digest: &Digest, lent: Option<Lent>) -> Result<BlobReader, StoreError> {
        let lent = match lent {
            Some(Lent::Bytes(bytes)) => {
                return Ok(self.reader(bytes.len() as u64, Bytes::Lent(bytes)));
            }
            Some(Lent::File { path, size }) => Some((path, size)),
            None => None,
        };
        if let Some(location) = self.0.log.location(digest)
            && let Some(at) = location.at
            && let Some(bytes) = self.0.log.gathered(at, location.size)
        {
            return Ok(self.reader(location.size, Bytes::Gathered(bytes)));
        }
        let mut before = None;
        loop {
            let found = self.location(digest)?.filter(|found| before != Some(*found));
            let Some(location) = found else {
                let Some((path, size)) = lent.filter(|_| before.is_none()) else { return Err(self.missing(digest)) };
                // Whatever was put in the file's place meanwhile is not waited for, nor followed.
                let file = Arc::new(plain(&path).map_err(|_| StoreError::Changed(path))?);
                return Ok(self.reader(size, Bytes::InFile { file, start: 0 }));
            };
            match self.0.files.open(digest, &location) {
                Ok(file) => {
                    let start = location.at.map_or(0, |at| at.offset);
                    return Ok(self.reader(location.size, Bytes::InFile { file, start }));
                }
                // It may have been moved meanwhile: then another look finds it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => before = Some(location),
                Err(error) => return Err(StoreError::io("open a file of", &self.0.root)(error)),
            }
        }
    }

    fn reader(&self, size: u64, bytes: Bytes) -> BlobReader {
        BlobReader { bytes, size, position: 0, until: self.until().clone() }
    }

    /// What becomes of bytes that are not what their name says.
    fn refuse(&self, digest: &Digest) -> StoreError {
        match self.location(digest) {
            Ok(Some(_)) => self.set_aside(digest),
            Ok(None) => match self.lent(digest) {
                Some(Lent::File { path, .. }) => StoreError::Changed(path),
                _ => self.missing(digest),
            },
            Err(error) => error,
        }
    }

    /// Takes the promise of damaged bytes back, and keeps them for whoever wants to look.
    fn set_aside(&self, digest: &Digest) -> StoreError {
        let _ = fs::rename(self.0.files.loose(digest), self.0.root.join("damaged").join(digest.hex()));
        self.missing(digest);
        StoreError::Damaged(*digest)
    }

    /// Takes the promise of a blob back that is not there. All that stands on it is taken back by whoever opens the store next.
    pub(super) fn missing(&self, digest: &Digest) -> StoreError {
        suspect::mark(&self.0.root);
        self.0.log.forget(digest);
        self.0.trees.write().expect(POISONED).remove(digest);
        match self.0.index.write(|rows| rows.remove_blob(digest)) {
            Ok(()) => StoreError::Missing(*digest),
            Err(error) => error,
        }
    }

    /// Where a blob is; what is condemned is still there for those who know of it.
    pub(super) fn location(&self, digest: &Digest) -> Result<Option<Location>, StoreError> {
        if let Some(at) = self.0.log.location(digest) {
            return Ok(Some(at));
        }
        Ok(self.0.index.location(digest)?.map(|(location, _)| location))
    }
}

/// Takes a blob's bytes piece by piece; what is not finished leaves nothing behind.
pub struct BlobWriter {
    store: Store,
    /// What is small enough for a segment; hashed all at once.
    buffer: Vec<u8>,
    file: Option<Loose>,
}

/// A file of its own in the making.
struct Loose {
    file: tempfile::NamedTempFile,
    hasher: blake3::Hasher,
    size: u64,
}

impl BlobWriter {
    /// How many bytes it holds in memory.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Keeps what was written and names it.
    pub fn finish(self) -> Result<Digest, StoreError> {
        let Some(Loose { file, hasher, size }) = self.file else { return self.store.put(&self.buffer) };
        let digest = Digest::from(hasher.finalize());
        if self.store.contains(&digest) {
            return Ok(digest);
        }
        let path = self.store.0.files.loose(&digest);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        }
        let keep = || -> io::Result<()> {
            let mut permissions = file.as_file().metadata()?.permissions();
            permissions.set_readonly(true);
            file.as_file().set_permissions(permissions)?;
            file.persist(&path)?;
            Ok(())
        };
        keep().map_err(StoreError::io("write", &path))?;
        self.store.0.log.put_loose(&digest, size, path)?;
        Ok(digest)
    }
}

impl Write for BlobWriter {
    /// What goes wrong is a [`StoreError`] inside.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.store.until().look().map_err(io::Error::other)?;
        let tmp = self.store.tmp();
        let failed = |error: io::Error| io::Error::new(error.kind(), StoreError::io("write", tmp)(error));
        if self.file.is_none() && (self.buffer.len() + bytes.len()) as u64 >= LOOSE {
            let file = tempfile::NamedTempFile::new_in(tmp).map_err(failed)?;
            let mut loose = Loose { file, hasher: blake3::Hasher::new(), size: 0 };
            loose.add(&self.buffer).map_err(failed)?;
            self.buffer = Vec::new();
            self.file = Some(loose);
        }
        match &mut self.file {
            Some(loose) => loose.add(bytes).map_err(failed)?,
            None => self.buffer.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Loose {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// A blob to read from.
#[derive(Debug)]
pub struct BlobReader {
    bytes: Bytes,
    size: u64,
    position: u64,
    until: Until,
}

#[derive(Debug)]
enum Bytes {
    /// Whoever lent them has hashed them.
    Lent(Arc<[u8]>),
    /// They were in no file yet, or are not to be read twice.
    Gathered(Vec<u8>),
    InFile {
        file: Arc<File>,
        start: u64,
    },
}

impl BlobReader {
    /// How many bytes it holds in memory for itself.
    pub fn held(&self) -> usize {
        if let Bytes::Gathered(bytes) = &self.bytes { bytes.len() } else { 0 }
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }
}

fn copy(bytes: &[u8], from: u64, out: &mut [u8]) -> usize {
    let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let len = out.len().min(rest.len());
    out[..len].copy_from_slice(&rest[..len]);
    len
}

/// The bytes of a small file that is lent, if it still has them: it is read sooner than it is looked up whether the store has
/// them too.
fn still_there(lent: &Lent, digest: &Digest) -> Option<Vec<u8>> {
    let Lent::File { path, size } = lent else { return None };
    if *size >= LOOSE {
        return None;
    }
    let bytes = files::read_exact(&plain(path).ok()?, 0, *size).ok()?;
    (Digest::of(&bytes) == *digest).then_some(bytes)
}

fn plain(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let len = out.len().min(left);
        let read = match &self.bytes {
            Bytes::Lent(bytes) => copy(bytes, self.position, &mut out[..len]),
            Bytes::Gathered(bytes) => copy(bytes, self.position, &mut out[..len]),
            Bytes::InFile { file, start } => {
                self.until.look().map_err(io::Error::other)?;
                file.read_at(&mut out[..len], start.saturating_add(self.position))?
            }
        };
        if read == 0 && len > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
