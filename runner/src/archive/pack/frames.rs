//! Groups of entries as zstd frames: made side by side on all cores, kept by what is in them, written in order.
//!
//! A frame goes to the store as it is compressed, so that of no archive more is in memory than what is at work.

use std::cmp::Reverse;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::groups::{Group, Member};
use super::{ArchiveError, BUFFER, entries, groups, unwritable};
use crate::digest::Digest;
use crate::key::{Fields as _, KeyBuilder};
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// Raised when the same group would give other bytes.
const RULES: &[u8] = b"2";
/// A level that packs an environment about as fast as a disk takes it.
const LEVEL: i32 = 3;
/// Groups up to this weight are compressed as one piece, which takes less time; no group of more than one entry is above it.
const GATHERED: u64 = 16 << 20;
/// The size from which a frame is copied piece by piece, in bytes.
const STREAMED: u64 = 16 << 20;

/// Packs a tree as frames, the last of which ends the tar.
pub(super) fn pack(store: &Store, tree: &Digest, out: &mut impl Write) -> Result<(), ArchiveError> {
    let groups = groups::of(store, tree)?;
    let frames: Vec<_> = groups.iter().map(|group| kept(store, group)).collect::<Result<_, _>>()?;
    let mut missing: Vec<usize> = (0..groups.len()).filter(|index| frames[*index].is_none()).collect();
    // The longest work first, so that at the end no core waits long for another.
    missing.sort_by_key(|index| Reverse(groups[*index].weight));
    let work = Work { store, groups: &groups, missing, next: AtomicUsize::new(0), frames: Frames::new(frames) };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.min(work.missing.len()) {
            scope.spawn(|| work.compress_all());
        }
        let written = (0..groups.len()).try_for_each(|index| work.write(index, out));
        // What is not begun need not be, once nobody will write it.
        work.stop();
        written
    })?;
    let mut end = encoder(out)?;
    end.write_all(&entries::END).map_err(unwritable)?;
    end.finish().map_err(unwritable)?;
    Ok(())
}

/// Compresses a group into the store, and keeps it by what is in it.
fn compress(store: &Store, group: &Group) -> Result<Digest, ArchiveError> {
    let frame = if group.weight <= GATHERED { gathered(store, group)? } else { streamed(store, group)? };
    store.put_action(&key(group), frame.as_bytes(), &[frame])?;
    Ok(frame)
}

fn gathered(store: &Store, group: &Group) -> Result<Digest, ArchiveError> {
    let mut tar = Vec::with_capacity(usize::try_from(group.weight).unwrap_or(0));
    members(store, group, &mut tar)?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(unwritable)?;
    compressor.include_checksum(true).map_err(unwritable)?;
    Ok(store.put(&compressor.compress(&tar).map_err(unwritable)?)?)
}

fn streamed(store: &Store, group: &Group) -> Result<Digest, ArchiveError> {
    let mut tar = BufWriter::with_capacity(BUFFER, encoder(store.writer()?)?);
    members(store, group, &mut tar)?;
    let encoder = tar.into_inner().map_err(|error| unwritable(error.into_error()))?;
    Ok(encoder.finish().map_err(unwritable)?.finish()?)
}

/// Writes what is in a group as tar.
fn members(store: &Store, group: &Group, tar: &mut impl Write) -> Result<(), ArchiveError> {
    for member in &group.members {
        match member {
            Member::Header(path) => entries::header(path, tar)?,
            Member::Whole(path, entry) => entries::entry(store, path, entry, tar)?,
        }
    }
    Ok(())
}

fn encoder<W: Write>(out: W) -> Result<zstd::Encoder<'static, W>, ArchiveError> {
    let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(unwritable)?;
    encoder.include_checksum(true).map_err(unwritable)?;
    Ok(encoder)
}

/// The name of a frame: what is in it, at which paths.
fn key(group: &Group) -> Digest {
    let mut text = Vec::new();
    let mut digests = Vec::new();
    for member in &group.members {
        match member {
            Member::Header(path) => text.extend(["header", path]),
            Member::Whole(path, Entry::Symlink { target }) => text.extend(["link", path, target]),
            Member::Whole(path, Entry::Tree { digest }) => {
                text.extend(["tree", path]);
                digests.extend(digest.as_bytes());
            }
            Member::Whole(path, Entry::File { digest, executable }) => {
                text.extend([if *executable { "executable" } else { "file" }, path]);
                digests.extend(digest.as_bytes());
            }
        }
    }
    let mut key = KeyBuilder::new("tar.zst frame").field("rules", RULES).field("digests", &digests);
    key.add_list("members", text);
    key.finish()
}

fn kept(store: &Store, group: &Group) -> Result<Option<Digest>, StoreError> {
    let record = store.action(&key(group))?;
    Ok(record.and_then(|record| Some(Digest::from_bytes(record.try_into().ok()?))))
}

/// All frames of an archive, as far as they are there.
struct Work<'a> {
    store: &'a Store,
    groups: &'a [Group],
    /// Those to make, by place in the archive, in the order in which they are made.
    missing: Vec<usize>,
    next: AtomicUsize,
    frames: Frames,
}

impl Work<'_> {
    fn compress_all(&self) {
        while let Some(index) = self.missing.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match compress(self.store, &self.groups[*index]) {
                Ok(frame) => self.frames.set(*index, frame),
                Err(failure) => {
                    self.stop();
                    self.frames.fail(failure);
                }
            }
        }
    }

    fn stop(&self) {
        self.next.store(self.missing.len(), Ordering::Relaxed);
    }

    /// Waits for a frame and writes it.
    fn write(&self, index: usize, out: &mut impl Write) -> Result<(), ArchiveError> {
        let frame = self.frames.wait(index)?;
        match copy(self.store, &frame, out) {
            // Kept once, and lost or damaged since: nothing of it was written.
            Err(ArchiveError::Store(StoreError::Missing(_) | StoreError::Damaged(_))) => {
                copy(self.store, &compress(self.store, &self.groups[index])?, out)
            }
            result => result,
        }
    }
}

/// The frames by their place, waited for by one.
struct Frames {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    frames: Vec<Option<Digest>>,
    failure: Option<ArchiveError>,
}

impl Frames {
    fn new(frames: Vec<Option<Digest>>) -> Self {
        Self { state: Mutex::new(State { frames, failure: None }), changed: Condvar::new() }
    }

    fn set(&self, index: usize, frame: Digest) {
        self.state().frames[index] = Some(frame);
        self.changed.notify_one();
    }

    /// Ends all waiting.
    fn fail(&self, failure: ArchiveError) {
        self.state().failure.get_or_insert(failure);
        self.changed.notify_one();
    }

    fn wait(&self, index: usize) -> Result<Digest, ArchiveError> {
        let waiting = |state: &mut State| state.frames[index].is_none() && state.failure.is_none();
        let mut state = self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        match (state.frames[index], state.failure.take()) {
            (_, Some(failure)) => Err(failure),
            (Some(frame), None) => Ok(frame),
            (None, None) => unreachable!("it was waited for one or the other"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(store: &Store, frame: &Digest, out: &mut impl Write) -> Result<(), ArchiveError> {
    if store.size(frame)? < STREAMED {
        out.write_all(&store.get(frame)?).map_err(unwritable)
    } else {
        std::io::copy(&mut store.open_blob(frame)?, out).map(drop).map_err(unwritable)
    }
}
