//! Bytes in, bytes out: where a blob goes by its size, and the check that it still is what its name says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::index::Location;
use super::{POISONED, Pending, Store, StoreError};
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
        Ok(self.location(digest)?.ok_or(StoreError::Missing(*digest))?.size)
    }

    /// A whole blob, checked.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut reader = self.open_unchecked(digest)?;
        bytes.reserve_exact(usize::try_from(reader.size).unwrap_or(0));
        if reader.read_to_end(&mut bytes).is_err() || Digest::of(&bytes) != *digest {
            return Err(self.set_aside(digest));
        }
        Ok(bytes)
    }

    /// A blob to read from, checked before its first byte is given.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let mut reader = self.open_unchecked(digest)?;
        let mut hasher = blake3::Hasher::new();
        if io::copy(&mut reader, &mut hasher).is_err() || Digest::from(hasher.finalize()) != *digest {
            return Err(self.set_aside(digest));
        }
        reader.position = 0;
        Ok(reader)
    }

    fn open_unchecked(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let at = self.location(digest)?.ok_or(StoreError::Missing(*digest))?;
        let path = match &at.segment {
            Some(name) => self.0.root.join("segments").join(name),
            None => self.loose_path(digest),
        };
        if self.0.pending.lock().expect(POISONED).locations.contains_key(digest) {
            self.0.segment.lock().expect(POISONED).write_out()?;
        }
        match File::open(&path) {
            Ok(file) => Ok(BlobReader { file, start: at.offset, size: at.size, position: 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.0.index.forget(digest)?;
                Err(StoreError::Missing(*digest))
            }
            Err(error) => Err(StoreError::io("open", &path)(error)),
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
    file: File,
    start: u64,
    size: u64,
    position: u64,
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let len = out.len().min(left);
        let read = self.file.read_at(&mut out[..len], self.start + self.position)?;
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
