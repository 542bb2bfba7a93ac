//! Bytes in, bytes out: where a blob goes by its size, and the check that it still is what its name says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::Location;
use super::{Lent, POISONED, Pending, Store, StoreError};
use crate::digest::Digest;

/// The size from which a blob gets a file of its own, in bytes.
const LOOSE: u64 = 128 << 10;
/// Loose files from which flushing the whole file system is cheaper than one by one.
const MANY: usize = 32;

impl Store {
    /// Keeps bytes.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.contains(&digest) {
            return Ok(digest);
        }
        if bytes.len() as u64 >= LOOSE {
            let mut writer = self.writer()?;
            writer.write_all(bytes).map_err(StoreError::io("write", &self.0.root.join("tmp")))?;
            return writer.finish();
        }
        let mut segment = self.0.segment.lock().expect(POISONED);
        let location = segment.append(&digest, bytes)?;
        self.0.pending.lock().expect(POISONED).locations.insert(digest, location);
        Ok(digest)
    }

    /// Keeps the bytes of a file; reads it once.
    pub fn put_file(&self, path: &Path) -> Result<Digest, StoreError> {
        let mut file = File::open(path).map_err(StoreError::io("open", path))?;
        let mut writer = self.writer()?;
        io::copy(&mut file, &mut writer).map_err(StoreError::io("copy", path))?;
        writer.finish()
    }

    /// Takes bytes piece by piece.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter { store: self.clone(), hasher: blake3::Hasher::new(), buffer: Vec::new(), file: None, size: 0 })
    }

    /// Whether the store promises a blob.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.location(digest).is_ok_and(|found| found.is_some())
    }

    /// How many bytes a blob has.
    pub fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let lent = match self.lent(digest) {
            Some(Lent::Bytes(bytes)) => return Ok(bytes.len() as u64),
            Some(Lent::File { size, .. }) => Some(size),
            None => None,
        };
        self.location(digest)?.map(|at| at.size).or(lent).ok_or(StoreError::Missing(*digest))
    }

    /// A whole blob, checked.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_unchecked(digest)?;
        if let Body::Memory(bytes) = &reader.body {
            return Ok(bytes.to_vec());
        }
        reader.whole().ok().filter(|bytes| Digest::of(bytes) == *digest).ok_or_else(|| self.refuse(digest))
    }

    /// A blob to read from, checked before its first byte is given. A small one is read once, here.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let mut reader = self.open_unchecked(digest)?;
        if matches!(reader.body, Body::Memory(_)) {
            return Ok(reader);
        }
        if reader.size < LOOSE {
            let bytes = reader.whole().ok().filter(|bytes| Digest::of(bytes) == *digest);
            return Ok(BlobReader::of(bytes.ok_or_else(|| self.refuse(digest))?.into()));
        }
        let mut hasher = blake3::Hasher::new();
        if io::copy(&mut reader, &mut hasher).is_err() || Digest::from(hasher.finalize()) != *digest {
            return Err(self.refuse(digest));
        }
        reader.position = 0;
        Ok(reader)
    }

    fn open_unchecked(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let lent = match self.lent(digest) {
            Some(Lent::Bytes(bytes)) => return Ok(BlobReader::of(bytes)),
            Some(Lent::File { path, size }) => Some((path, size)),
            None => None,
        };
        let Some(at) = self.location(digest)? else {
            let (path, size) = lent.ok_or(StoreError::Missing(*digest))?;
            // Whatever was put in the file's place meanwhile is not waited for, nor followed.
            let file = plain(&path).map_err(|_| StoreError::Changed(path))?;
            return Ok(BlobReader { body: Body::File { file, start: 0 }, size, position: 0 });
        };
        let path = match &at.segment {
            Some(name) => self.0.root.join("segments").join(name),
            None => self.loose_path(digest),
        };
        if self.0.pending.lock().expect(POISONED).locations.contains_key(digest) {
            self.0.segment.lock().expect(POISONED).write_out()?;
        }
        match File::open(&path) {
            Ok(file) => Ok(BlobReader { body: Body::File { file, start: at.offset }, size: at.size, position: 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.0.index.forget(digest)?;
                Err(StoreError::Missing(*digest))
            }
            Err(error) => Err(StoreError::io("open", &path)(error)),
        }
    }

    /// What becomes of bytes that are not what their name says.
    fn refuse(&self, digest: &Digest) -> StoreError {
        match self.location(digest) {
            Ok(Some(_)) => self.set_aside(digest),
            Ok(None) => match self.lent(digest) {
                Some(Lent::File { path, .. }) => StoreError::Changed(path),
                _ => StoreError::Missing(*digest),
            },
            Err(error) => error,
        }
    }

    /// Takes the promise of damaged bytes back, and keeps them for whoever wants to look.
    fn set_aside(&self, digest: &Digest) -> StoreError {
        // Without the row nobody is served these bytes again; that they are kept is a courtesy.
        if let Err(error) = self.0.index.forget(digest) {
            return error;
        }
        self.0.pending.lock().expect(POISONED).locations.remove(digest);
        let _ = fs::rename(self.loose_path(digest), self.0.root.join("damaged").join(digest.hex()));
        StoreError::Damaged(*digest)
    }

    fn location(&self, digest: &Digest) -> Result<Option<Location>, StoreError> {
        if let Some(at) = self.0.pending.lock().expect(POISONED).locations.get(digest) {
            return Ok(Some(at.clone()));
        }
        self.0.index.location(digest)
    }

    fn loose_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.0.root.join("blobs").join(&hex[..2]).join(&hex[2..])
    }

    /// Brings all that was put onto the disk, then promises it.
    pub fn flush(&self) -> Result<(), StoreError> {
        let Pending { locations, loose } = {
            let mut pending = self.0.pending.lock().expect(POISONED);
            // Locations stay readable for other threads until the index has them.
            Pending { locations: pending.locations.clone(), loose: std::mem::take(&mut pending.loose) }
        };
        if locations.is_empty() {
            return Ok(());
        }
        self.0.segment.lock().expect(POISONED).sync()?;
        if let Err(error) = sync_loose(&self.0.root, &loose) {
            self.0.pending.lock().expect(POISONED).loose.extend(loose);
            return Err(error);
        }
        self.0.index.put_locations(locations.iter())?;
        let mut pending = self.0.pending.lock().expect(POISONED);
        for digest in locations.keys() {
            pending.locations.remove(digest);
        }
        Ok(())
    }
}

fn sync_loose(root: &Path, loose: &[PathBuf]) -> Result<(), StoreError> {
    if loose.len() >= MANY {
        let dir = File::open(root).map_err(StoreError::io("open", root))?;
        return nix::unistd::syncfs(dir).map_err(|errno| StoreError::io("flush", root)(errno.into()));
    }
    for path in loose {
        for path in [path.as_path(), path.parent().unwrap_or(root)] {
            File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("flush", path))?;
        }
    }
    Ok(())
}

fn plain(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Takes a blob's bytes piece by piece; what is not finished leaves nothing behind.
pub struct BlobWriter {
    store: Store,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    file: Option<tempfile::NamedTempFile>,
    size: u64,
}

impl BlobWriter {
    /// Keeps what was written and names it.
    pub fn finish(self) -> Result<Digest, StoreError> {
        let Some(file) = self.file else { return self.store.put(&self.buffer) };
        let digest = Digest::from(self.hasher.finalize());
        if self.store.contains(&digest) {
            return Ok(digest);
        }
        let path = self.store.loose_path(&digest);
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
        let mut pending = self.store.0.pending.lock().expect(POISONED);
        pending.locations.insert(digest, Location { segment: None, offset: 0, size: self.size });
        pending.loose.push(path);
        Ok(digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && (self.buffer.len() + bytes.len()) as u64 >= LOOSE {
            let mut file = tempfile::NamedTempFile::new_in(self.store.0.root.join("tmp"))?;
            file.write_all(&self.buffer)?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.buffer.extend_from_slice(bytes),
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob to read from.
#[derive(Debug)]
pub struct BlobReader {
    body: Body,
    size: u64,
    position: u64,
}

#[derive(Debug)]
enum Body {
    Memory(Arc<[u8]>),
    File { file: File, start: u64 },
}

impl BlobReader {
    fn of(bytes: Arc<[u8]>) -> Self {
        Self { size: bytes.len() as u64, body: Body::Memory(bytes), position: 0 }
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.reserve_exact(usize::try_from(self.size).unwrap_or(0));
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let len = out.len().min(left);
        let read = match &self.body {
            Body::File { file, start } => file.read_at(&mut out[..len], start + self.position)?,
            Body::Memory(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX).min(bytes.len());
                out[..len].copy_from_slice(&bytes[start..start + len]);
                len
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
