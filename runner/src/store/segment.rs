//! Append-only files of records: small blobs, and what actions gave. All else of the store is known from them and from the loose
//! files, so that an index can be made anew; knows nothing of the index itself.
//!
//! A segment starts with [`MAGIC`] and a salt of 16 random bytes. A record is [`MARK`], a kind (1 byte), the payload's length
//! (`u32`, little-endian), the payload's digest (32 bytes), a check (the first 8 bytes of blake3 over salt, kind, length and
//! digest), and the payload. The check finds the next record after damaged ones; no file that somebody else wrote can look like
//! a record, since its writer did not know the salt. Each process appends to segments that it alone has locked.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use crate::digest::Digest;

const MAGIC: &[u8; 16] = b"pipe.segment.2\n\n";
const MARK: &[u8; 4] = b"\xffrec";
const SALT: usize = 16;
/// Where the first record begins.
const START: usize = MAGIC.len() + SALT;
/// Bytes before a payload.
pub(super) const HEADER: usize = MARK.len() + 1 + 4 + 32 + 8;
/// Bytes gathered before they are written out.
const BUFFER: usize = 1 << 20;
/// Bytes after which a new segment begins, so that collecting garbage can free some.
const FULL: u64 = 64 << 20;

/// The name of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentId(pub(super) u64);

impl SegmentId {
    /// Where it is, in the directory of segments.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}.segment", self.0))
    }

    /// The segment that a file is, by its name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".segment")?;
        (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok().map(Self))?
    }

    /// All segments of a directory. What is called like one and is no file holds nothing that could be read.
    pub(super) fn list(dir: &Path) -> Result<Vec<Self>, StoreError> {
        let failed = || StoreError::io("list", dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let is_file = entry.file_type().map_err(failed())?.is_file();
            found.extend(Self::of(&entry.path()).filter(|_| is_file));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes of a blob.
    Blob = b'b' as isize,
    /// What an action gave.
    Action = b'a' as isize,
}

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'b' => Some(Self::Blob),
            b'a' => Some(Self::Action),
            _ => None,
        }
    }
}

/// Where a payload begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
}

/// The segments that a process appends to: one at a time.
pub(super) struct SegmentWriter {
    dir: PathBuf,
    current: Option<Current>,
    /// What was written and not flushed; the locks of full segments among it are held until then.
    dirty: Vec<Arc<File>>,
}

struct Current {
    id: SegmentId,
    file: Arc<File>,
    salt: [u8; SALT],
    written: u64,
    /// Up to where its files were given to be flushed.
    taken: u64,
    buffer: Vec<u8>,
}

impl SegmentWriter {
    /// A writer that looks for its first segment when something is to be written.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), current: None, dirty: Vec::new() }
    }

    /// Appends a payload and says where it is.
    pub(super) fn append(&mut self, kind: Kind, digest: &Digest, payload: &[u8]) -> Result<At, StoreError> {
        if self.current.as_ref().is_some_and(|current| current.written > FULL) {
            self.write_out()?;
            self.current = None;
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(Current::open(&self.dir, &mut self.dirty)?),
        };
        let len = u32::try_from(payload.len()).expect("only small payloads come here");
        current.buffer.extend_from_slice(&header(&current.salt, kind, len, digest));
        let offset = current.written + current.buffer.len() as u64;
        current.buffer.extend_from_slice(payload);
        let at = At { segment: current.id, offset };
        if current.buffer.len() >= BUFFER {
            let (file, start, len) = (Arc::clone(&current.file), current.written, current.buffer.len());
            self.write_out()?;
            begin_flush(&file, start, len);
        }
        Ok(at)
    }

    /// Bytes that were appended and are in no file yet.
    pub(super) fn gathered(&self, at: At, len: usize) -> Option<&[u8]> {
        let current = self.current.as_ref().filter(|current| current.id == at.segment)?;
        let start = usize::try_from(at.offset.checked_sub(current.written)?).ok()?;
        current.buffer.get(start..start + len)
    }

    /// Hands what is gathered to the operating system. What failed half is overwritten by the next try.
    pub(super) fn write_out(&mut self) -> Result<(), StoreError> {
        let Some(current) = self.current.as_mut().filter(|current| !current.buffer.is_empty()) else { return Ok(()) };
        let path = current.id.path(&self.dir);
        current.file.write_all_at(&current.buffer, current.written).map_err(StoreError::io("write", &path))?;
        current.written += current.buffer.len() as u64;
        current.buffer.clear();
        if !self.dirty.iter().any(|file| Arc::ptr_eq(file, &current.file)) {
            self.dirty.push(Arc::clone(&current.file));
        }
        Ok(())
    }

    /// Writes everything out and gives the files that are to be flushed.
    pub(super) fn take_dirty(&mut self) -> Result<Vec<Arc<File>>, StoreError> {
        self.write_out()?;
        if let Some(current) = &mut self.current {
            current.taken = current.written;
        }
        Ok(std::mem::take(&mut self.dirty))
    }

    /// Gives back the room of what was appended since.
    pub(super) fn take_back(&mut self) -> Result<(), StoreError> {
        self.dirty.clear();
        let Some(current) = self.current.take() else { return Ok(()) };
        current.file.set_len(current.taken).map_err(StoreError::io("shorten", &current.id.path(&self.dir)))
    }
}

impl Current {
    /// Goes on with a segment that is not full and that nobody else appends to, or makes one.
    fn open(dir: &Path, dirty: &mut Vec<Arc<File>>) -> Result<Self, StoreError> {
        for id in SegmentId::list(dir)? {
            if let Some(current) = Self::adopt(id, &id.path(dir)) {
                return Ok(current);
            }
        }
        loop {
            if let Some(current) = Self::make(dir)? {
                dirty.push(Arc::new(File::open(dir).map_err(StoreError::io("open", dir))?));
                return Ok(current);
            }
        }
    }

    /// Makes a segment; none where it was removed before it was locked.
    fn make(dir: &Path) -> Result<Option<Self>, StoreError> {
        let mut bytes = [0; 8 + SALT];
        let random = Path::new("/dev/urandom");
        File::open(random).and_then(|mut file| file.read_exact(&mut bytes)).map_err(StoreError::io("read", random))?;
        let (id, salt) = bytes.split_first_chunk::<8>().expect("8 bytes were read");
        // Positive as a signed number too, which is all that an index has.
        let id = SegmentId(u64::from_le_bytes(*id) >> 1);
        let salt = <[u8; SALT]>::try_from(salt).expect("16 bytes were read");
        let path = id.path(dir);
        let failed = || StoreError::io("create", &path);
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed())?;
        // Others have it for a moment, to see whether they can go on with it.
        file.lock().map_err(failed())?;
        if file.metadata().map_err(failed())?.nlink() == 0 {
            return Ok(None);
        }
        let head = [MAGIC.as_slice(), &salt].concat();
        file.write_all_at(&head, 0).map_err(failed())?;
        let (written, taken) = (START as u64, START as u64);
        Ok(Some(Self { id, file: Arc::new(file), salt, written, taken, buffer: Vec::new() }))
    }

    fn adopt(id: SegmentId, path: &Path) -> Option<Self> {
        let file = File::options().read(true).write(true).open(path).ok()?;
        file.try_lock().ok()?;
        // Collecting garbage may have removed it before it was locked.
        let metadata = file.metadata().ok().filter(|metadata| metadata.nlink() > 0 && metadata.len() < FULL)?;
        let salt = read_head(&file)?;
        let written = metadata.len();
        Some(Self { id, file: Arc::new(file), salt, written, taken: written, buffer: Vec::new() })
    }
}

/// Has the disk begin with what was just written, so that less is left to wait for when it is flushed. It promises nothing.
fn begin_flush(file: &File, offset: u64, len: usize) {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return };
    #[expect(unsafe_code, reason = "no safe wrapper of sync_file_range is at hand")]
    // SAFETY: takes numbers, and a descriptor that is open during the call.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}

fn read_head(file: &File) -> Option<[u8; SALT]> {
    let mut head = [0; START];
    file.read_exact_at(&mut head, 0).ok()?;
    head.strip_prefix(MAGIC)?.try_into().ok()
}

fn header(salt: &[u8; SALT], kind: Kind, len: u32, digest: &Digest) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(MARK);
    header[4] = kind as u8;
    header[5..9].copy_from_slice(&len.to_le_bytes());
    header[9..41].copy_from_slice(digest.as_bytes());
    let check = blake3::Hasher::new().update(salt).update(&header[4..41]).finalize();
    header[41..].copy_from_slice(&check.as_bytes()[..8]);
    header
}

/// The digest that a header names, which may be damaged.
pub(super) fn named_in(header: &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(header.get(9..41)?.try_into().ok()?))
}

/// A record, as a scan finds it: whole.
pub(super) struct Scanned<'a> {
    pub(super) kind: Kind,
    pub(super) digest: Digest,
    /// Where its payload begins.
    pub(super) offset: u64,
    pub(super) payload: &'a [u8],
}

/// Reads all whole records of a segment, those behind damaged ones too; none of a file that is no segment.
pub(super) fn scan(path: &Path, mut visit: impl FnMut(Scanned<'_>)) -> Result<(), StoreError> {
    let bytes = fs::read(path).map_err(StoreError::io("read", path))?;
    let Some(salt) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<SALT>()) else { return Ok(()) };
    let mut at = START;
    while at < bytes.len() {
        let Some((kind, digest, len)) = read_header(salt, &bytes[at..]) else {
            at = find(&bytes[at + 1..], *MARK).map_or(bytes.len(), |found| at + 1 + found);
            continue;
        };
        let start = at + HEADER;
        let payload = bytes.get(start..start + len).unwrap_or_default();
        // Where it is not whole, it may have been cut short by a kill, and others stand where its end would be.
        at = start;
        if payload.len() == len && Digest::of(payload) == digest {
            visit(Scanned { kind, digest, offset: start as u64, payload });
            at += len;
        }
    }
    Ok(())
}

fn read_header(salt: &[u8; SALT], bytes: &[u8]) -> Option<(Kind, Digest, usize)> {
    let found = bytes.first_chunk::<HEADER>()?;
    let kind = Kind::of(found[4])?;
    let len = u32::from_le_bytes(found[5..9].try_into().ok()?);
    let digest = Digest::from_bytes(found[9..41].try_into().ok()?);
    (header(salt, kind, len, &digest) == *found).then_some((kind, digest, usize::try_from(len).ok()?))
}

fn find(bytes: &[u8], wanted: [u8; 4]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| *window == wanted)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn any_bytes_are_a_segment_or_hold_no_record() {
        let home = tempfile::tempdir().expect("a directory");
        let path = SegmentId(1).path(home.path());
        pipe_fuzz::attack("segment", |bytes| {
            fs::write(&path, bytes).expect("written");
            scan(&path, |found| assert_eq!(Digest::of(found.payload), found.digest)).expect("read");
        });
    }

    #[test]
    fn a_segment_is_made_though_others_look_whether_they_can_go_on_with_it() {
        let home = tempfile::tempdir().expect("a directory");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for id in SegmentId::list(home.path()).expect("a directory") {
                        drop(Current::adopt(id, &id.path(home.path())));
                    }
                }
            });
            for _ in 0..2000 {
                let made = Current::make(home.path());
                is_over.store(made.is_err(), Ordering::Relaxed);
                let made = made.expect("made").expect("nobody removes it");
                fs::remove_file(made.id.path(home.path())).expect("removed");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
