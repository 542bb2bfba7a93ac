//! What was put and is not promised yet, and how it becomes so: bytes to the disk, then rows, many at a time.
//!
//! Whoever puts does not wait. A thread of the store's own commits shortly after an action was put, and takes along all that
//! was put since; [`Log::commit`] does so at once. In whatever order threads put, a row never comes before the rows of what it
//! names. After a failure nothing more is taken: what the disk holds then is not known.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::claim::Byte;
use super::files::Files;
use super::index::{Counter, Found, Index, Location, Rows};
use super::record::Record;
use super::segment::{At, Kind, SegmentWriter};
use super::{POISONED, StoreError, reserve};
use crate::digest::Digest;
use crate::tree::Tree;

/// How long the thread waits for more after an action was put: this long at least, and on a slow or busy disk so many times what
/// the last commit took, so that a run does not spend its time with flushes.
const GATHER: Duration = Duration::from_millis(20);
const TIMES: u32 = 4;
const LONGEST: Duration = Duration::from_millis(50);
/// Loose files from which flushing the whole file system is cheaper than one by one.
const MANY: usize = 32;

pub(super) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    root: PathBuf,
    index: Arc<Index>,
    files: Arc<Files>,
    state: Mutex<State>,
    changed: Condvar,
    /// A commit came to its end.
    committed: Condvar,
    /// Held by whoever commits; the count of rebuilds that it last saw.
    committing: Mutex<u64>,
}

/// That some actions will be on the disk, which comes true soon after the last of them was put.
pub struct Promise {
    shared: Arc<Shared>,
    put: u64,
}

struct State {
    segments: SegmentWriter,
    blobs: HashMap<Digest, Location>,
    actions: HashMap<Digest, Action>,
    batch: Batch,
    /// How many actions were put, and how many of them the last commit took along.
    put: u64,
    promised: u64,
    /// Whether an action waits.
    wanted: bool,
    closing: bool,
    failed: Option<Arc<StoreError>>,
}

/// What the next commit takes along, in the order in which it was put.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    loose: Vec<PathBuf>,
    claims: Vec<Byte>,
}

enum Row {
    Blob(Digest, Location),
    Action(Action),
    Used(Digest, u64),
}

/// An action that was put.
#[derive(Clone, Copy)]
pub(super) struct Action {
    pub(super) family: Option<Digest>,
    pub(super) found: Found,
}

impl Log {
    pub(super) fn new(root: &Path, index: Arc<Index>, files: Arc<Files>) -> Result<Self, StoreError> {
        let committing = Mutex::new(index.counter(Counter::Rebuilt)?);
        let state = State {
            segments: SegmentWriter::new(&root.join("segments")),
            blobs: HashMap::new(),
            actions: HashMap::new(),
            batch: Batch::default(),
            put: 0,
            promised: 0,
            wanted: false,
            closing: false,
            failed: None,
        };
        let shared = Shared {
            root: root.to_owned(),
            index,
            files,
            state: Mutex::new(state),
            changed: Condvar::new(),
            committed: Condvar::new(),
            committing,
        };
        Ok(Self { shared: Arc::new(shared), thread: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect(POISONED)
    }

    /// Keeps a small blob.
    pub(super) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state();
        state.refuse_after_failure()?;
        if state.blobs.contains_key(digest) {
            return Ok(());
        }
        let at = state.segments.append(Kind::Blob, digest, bytes)?;
        state.put_blob(*digest, Location { at: Some(at), size: bytes.len() as u64 });
        Ok(())
    }

    /// Keeps a blob that is a file of its own.
    pub(super) fn put_loose(&self, digest: &Digest, size: u64, path: PathBuf) -> Result<(), StoreError> {
        let mut state = self.state();
        state.refuse_after_failure()?;
        state.batch.loose.push(path);
        state.put_blob(*digest, Location { at: None, size });
        Ok(())
    }

    /// Keeps what an action gave; soon it is promised.
    pub(super) fn put_action(&self, record: &Record<'_>, used: u64) -> Result<(), StoreError> {
        let payload = record.encode();
        let mut state = self.state();
        state.refuse_after_failure()?;
        let at = state.segments.append(Kind::Action, &Digest::of(&payload), &payload)?;
        let found = Found { key: record.key, at, size: payload.len() as u64, used };
        let action = Action { family: record.family, found };
        state.actions.insert(record.key, action);
        state.batch.rows.push(Row::Action(action));
        state.put += 1;
        state.wanted = true;
        drop(state);
        self.wake()
    }

    /// Remembers that an action was of use, when something is committed anyway.
    pub(super) fn touch(&self, key: &Digest, used: u64) {
        self.state().batch.rows.push(Row::Used(*key, used));
    }

    /// Gives a claim back once what was done under it is promised.
    pub(super) fn give_back(&self, claim: Byte) {
        let mut state = self.state();
        // What is being committed now is not promised yet either.
        if state.wanted || !state.actions.is_empty() {
            state.batch.claims.push(claim);
            state.wanted = true;
            self.shared.changed.notify_one();
        }
    }

    /// Where a blob is that is not promised yet.
    pub(super) fn location(&self, digest: &Digest) -> Option<Location> {
        self.state().blobs.get(digest).copied()
    }

    /// The bytes of a payload that is in no file yet.
    pub(super) fn gathered(&self, at: At, size: u64) -> Option<Vec<u8>> {
        Some(self.state().segments.gathered(at, usize::try_from(size).ok()?)?.to_vec())
    }

    /// An action that is not promised yet.
    pub(super) fn action(&self, key: &Digest) -> Option<Found> {
        self.state().actions.get(key).map(|action| action.found)
    }

    /// The actions of a family that are not promised yet.
    pub(super) fn family(&self, family: &Digest) -> Vec<Found> {
        let state = self.state();
        state
            .actions
            .values()
            .filter(|action| action.family.as_ref() == Some(family))
            .map(|action| action.found)
            .collect()
    }

    /// Takes back a blob that is damaged.
    pub(super) fn forget(&self, digest: &Digest) {
        self.state().blobs.remove(digest);
    }

    /// The promise of all actions that were put.
    pub(super) fn promise_of_all(&self) -> Promise {
        Promise { shared: Arc::clone(&self.shared), put: self.state().put }
    }

    /// Brings all that was put onto the disk, and promises it.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.shared.commit()
    }

    fn wake(&self) -> Result<(), StoreError> {
        let mut thread = self.thread.lock().expect(POISONED);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name("store".to_owned()).spawn(move || shared.run());
            *thread = Some(spawned.map_err(StoreError::io("start a thread for", &self.shared.root))?);
        }
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Promise {
    /// Waits until it is kept; or until the store has failed, which whoever puts or flushes next is told.
    pub fn wait(self) {
        let is_open = |state: &mut State| state.promised < self.put && state.failed.is_none();
        drop(self.shared.committed.wait_while(self.shared.state.lock().expect(POISONED), is_open));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let thread = self.thread.lock().expect(POISONED).take();
        self.state().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = thread {
            // It ends by itself: nothing in it panics.
            let _ = thread.join();
        }
    }
}

impl State {
    fn refuse_after_failure(&self) -> Result<(), StoreError> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(StoreError::Earlier(Arc::clone(error))))
    }

    fn put_blob(&mut self, digest: Digest, location: Location) {
        self.blobs.insert(digest, location);
        self.batch.rows.push(Row::Blob(digest, location));
    }
}

impl Shared {
    /// The thread: commits a little after each action, together with all that came meanwhile.
    fn run(&self) {
        let mut gather = GATHER;
        loop {
            let idle = |state: &mut State| !state.wanted && !state.closing;
            let state = self.changed.wait_while(self.state.lock().expect(POISONED), idle).expect(POISONED);
            let (state, _) = self.changed.wait_timeout_while(state, gather, |state| !state.closing).expect(POISONED);
            let (wanted, closing) = (state.wanted, state.closing);
            drop(state);
            let started = Instant::now();
            // Whoever puts or flushes next is told of a failure.
            if wanted && self.commit().is_err() || closing {
                return;
            }
            gather = (started.elapsed() * TIMES).clamp(GATHER, LONGEST);
        }
    }

    fn commit(&self) -> Result<(), StoreError> {
        let mut rebuilt = self.committing.lock().expect(POISONED);
        let mut state = self.state.lock().expect(POISONED);
        state.refuse_after_failure()?;
        state.wanted = false;
        let batch = std::mem::take(&mut state.batch);
        let put = state.put;
        let result = if batch.rows.is_empty() {
            Ok(())
        } else {
            drop(state);
            let mut files = Vec::new();
            let result = match self.bring(&batch, &mut files, &mut rebuilt) {
                // What was done already is not lost with it; what comes after it is.
                Err(error) if error.is_full() && reserve::give_for_end(&self.root) => {
                    self.bring(&batch, &mut files, &mut rebuilt).and(Err(error))
                }
                result => result,
            };
            state = self.state.lock().expect(POISONED);
            state.settle(&batch.rows);
            result
        };
        // Only now may whoever waits for the same look whether it is there.
        drop(batch);
        let result = result.map_err(|error| {
            let error = Arc::new(error);
            state.failed = Some(Arc::clone(&error));
            StoreError::Earlier(error)
        });
        state.promised = put;
        self.committed.notify_all();
        result
    }

    /// Writes out what was gathered, and promises it; `files` are those that are to be flushed for that.
    fn bring(&self, batch: &Batch, files: &mut Vec<Arc<File>>, rebuilt: &mut u64) -> Result<(), StoreError> {
        files.extend(self.state.lock().expect(POISONED).segments.take_dirty()?);
        self.promise(batch, files, rebuilt)
    }

    fn promise(&self, batch: &Batch, files: &[Arc<File>], rebuilt: &mut u64) -> Result<(), StoreError> {
        for file in files {
            file.sync_data().map_err(StoreError::io("flush a file of", &self.root))?;
        }
        sync_loose(&self.root, &batch.loose)?;
        self.index.write(|rows| {
            let now = rows.counter(Counter::Rebuilt)?;
            let doubtful = now != *rebuilt;
            for row in &batch.rows {
                match row {
                    Row::Blob(digest, location) if !doubtful || self.is_whole(rows, digest, location)? => {
                        rows.put_blob(digest, location)?;
                    }
                    Row::Action(Action { family, found }) if !doubtful || self.is_founded(rows, found)? => {
                        rows.put_action(family.as_ref(), found)?;
                    }
                    Row::Blob(..) | Row::Action(_) => {}
                    Row::Used(key, used) => rows.use_action(key, *used)?,
                }
            }
            *rebuilt = now;
            Ok(())
        })
    }

    /// Whether all that a tree names is promised, now that promises may have been taken back since it was made.
    fn is_whole(&self, rows: &Rows<'_>, digest: &Digest, location: &Location) -> Result<bool, StoreError> {
        let Ok(bytes) = self.files.read(digest, location) else { return Ok(false) };
        let Ok(tree) = Tree::decode(&bytes) else { return Ok(true) };
        all(tree.digests(), |child| rows.has(child))
    }

    /// The same for what an action gave.
    fn is_founded(&self, rows: &Rows<'_>, found: &Found) -> Result<bool, StoreError> {
        let Some(payload) = self.files.read_record(found) else { return Ok(false) };
        let Some(record) = Record::decode(&payload) else { return Ok(false) };
        all(record.refs.iter(), |digest| rows.has(digest))
    }
}

fn all<'a>(
    mut digests: impl Iterator<Item = &'a Digest>,
    has: impl Fn(&Digest) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    digests.try_fold(true, |all, digest| Ok(all && has(digest)?))
}

impl State {
    /// Forgets what the index knows now, unless it was put again meanwhile.
    fn settle(&mut self, rows: &[Row]) {
        for row in rows {
            match row {
                Row::Blob(digest, location) if self.blobs.get(digest) == Some(location) => {
                    self.blobs.remove(digest);
                }
                Row::Action(Action { found, .. })
                    if self.actions.get(&found.key).is_some_and(|action| action.found == *found) =>
                {
                    self.actions.remove(&found.key);
                }
                _ => {}
            }
        }
    }
}

fn sync_loose(root: &Path, loose: &[PathBuf]) -> Result<(), StoreError> {
    if loose.len() >= MANY {
        let dir = File::open(root).map_err(StoreError::io("open", root))?;
        return nix::unistd::syncfs(dir).map_err(|errno| StoreError::io("flush", root)(errno.into()));
    }
    // The files, their names, and the names of their directories, each once.
    for level in 0..3 {
        let paths: BTreeSet<&Path> = loose.iter().filter_map(|path| path.ancestors().nth(level)).collect();
        for path in paths {
            File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("flush", path))?;
        }
    }
    Ok(())
}
