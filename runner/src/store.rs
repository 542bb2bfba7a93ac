//! Everything that is kept: blobs, trees and actions, each by its blake3 digest.
//!
//! Small blobs and what actions gave lie in append-only segments, large blobs in files of their own; an index in `SQLite` says
//! where, and can be made anew from them. A row of the index is a promise, and it holds to the deepest blob: a row is written
//! only after its bytes are on the disk, and after the rows of all that it names. So power may fail at any moment, and a look at
//! one row tells whether all of a tree, or all that an action gave, is there. Bytes are checked whenever they are read; where
//! they are not what was promised, the store is marked, and whoever opens it next reads all of it and takes back every promise
//! that no longer holds. Any number of processes share one store.
//! Knows nothing of what an action is.

mod actions;
mod blobs;
mod builder;
mod check;
mod claim;
mod doubt;
mod error;
mod extent;
mod files;
mod garbage;
mod import;
mod index;
mod lease;
mod limit;
mod log;
mod outside;
mod pool;
mod rebuild;
mod record;
mod reserve;
mod segment;
mod suspect;
mod until;
mod walk;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use crate::digest::Digest;
use crate::private;
use crate::tree::{DEEPEST, Entry, Tree};

pub use blobs::{BlobReader, BlobWriter};
pub use builder::{Conflict, TreeBuilder};
pub use check::{Checked, Stats};
pub use claim::Claim;
pub(crate) use error::FULL;
pub use error::StoreError;
pub use garbage::{Collected, Policy, Roots};
pub use import::Bounds;
pub use lease::leave;
pub use limit::ignore_file_size_signal;
pub use log::Promise;
pub use outside::{Lent, Outside};
pub use pool::LAID_OUT;
pub use until::Until;
pub(crate) use walk::join;
pub use walk::{Found, GlobError, Globs};

use claim::Claims;
use files::Files;
use index::{Counter, Index, Opened};
use lease::{Clearing, Debris, Gate, Lease, Live, Standing};
use log::Log;
use rebuild::{Survey, TakenBack};

/// A handle on a store, for as long as what it is asked for is wanted; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>, Until);

struct Inner {
    root: PathBuf,
    // Dropped in this order: what was put is committed, then the lease ends.
    log: Log,
    index: Arc<Index>,
    files: Arc<Files>,
    claims: Arc<Claims>,
    trees: RwLock<HashMap<Digest, Held>>,
    outside: RwLock<Vec<Arc<dyn Outside>>>,
    /// Trees that this process has laid out, or found as they were.
    laid_out: Mutex<HashSet<Digest>>,
    believed_since: Option<String>,
    lease: Lease,
    _clearing: Clearing,
}

/// A tree in memory.
struct Held {
    tree: Arc<Tree>,
    /// How many directories are one in the other, as far as this process has put them.
    depth: usize,
}

impl Store {
    /// Opens the store of a home directory, and makes it where there is none. Nothing that is promised from now on is collected
    /// as garbage before the handle is dropped.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        Self::open_as(home, Standing::Since)
    }

    /// Opens the store for a process that lives long: it stands on what releases name, and on nothing else.
    pub fn open_for_releases(home: &Path) -> Result<Self, StoreError> {
        // What serves has to come back on a full disk too.
        Self::spend_reserve(home);
        Self::open_as(home, |_| Standing::Releases)
    }

    /// Opens the store for whoever only looks. Where it cannot be written, what is put is gone at the end, and nobody is told that
    /// somebody looks: what is collected as garbage meanwhile is missing.
    pub fn open_to_look(home: &Path) -> Result<Self, StoreError> {
        match Self::open(home) {
            // Where that cannot be read either, it is better to be told of the first failure.
            Err(error) if error.is_read_only() => Self::look(&home.join("store")).map_err(|_| error),
            opened => opened,
        }
    }

    fn look(root: &Path) -> Result<Self, StoreError> {
        let index = Index::open_to_look(&root.join(INDEX))?;
        let lease = Lease::take(&std::env::temp_dir(), Standing::Releases)?;
        let new = lease.dir().to_owned();
        let segments = new.join("segments");
        fs::create_dir(&segments).map_err(StoreError::io("create", &segments))?;
        Self::of(root, &new, index, lease, Debris::default())
    }

    /// Opens the store to free room in it: on a full disk with what is kept for that.
    pub fn open_to_free(home: &Path) -> Result<Self, StoreError> {
        Self::spend_reserve(home);
        Self::open(home)
    }

    /// Gives up what is kept for a full disk, if this one is nearly that: for what has to be written nevertheless.
    pub(crate) fn spend_reserve(home: &Path) {
        reserve::spend(&home.join("store"));
    }

    fn open_as(home: &Path, standing: impl FnOnce(u64) -> Standing) -> Result<Self, StoreError> {
        let root = prepare(home)?;
        reserve::check(&root)?;
        let tmp = root.join("tmp");
        let _gate = Gate::enter(&root)?;
        let (live, debris) = lease::survey(&tmp)?;
        let index = sound_index(&root, &live)?;
        let lease = Lease::take(&tmp, standing(index.counter(Counter::Epoch)?))?;
        Self::of(&root, &root, index, lease, debris)
    }

    /// The store at `root`; what is put goes to `new`.
    fn of(root: &Path, new: &Path, index: Index, lease: Lease, debris: Debris) -> Result<Self, StoreError> {
        let (index, files) = (Arc::new(index), Arc::new(Files::with_new(root, new)));
        let log = Log::new(new, Arc::clone(&index), Arc::clone(&files))?;
        let claims = Arc::new(Claims::open(new)?);
        let believed_since = doubt::read(root)?;
        let inner = Inner {
            root: root.to_owned(),
            log,
            index,
            files,
            claims,
            trees: RwLock::default(),
            outside: RwLock::default(),
            laid_out: Mutex::default(),
            believed_since,
            lease,
            _clearing: debris.clear_aside(),
        };
        Ok(Self(Arc::new(inner), Until::default()))
    }

    /// A handle on the same store whose work ends with an error once it is no longer wanted.
    #[must_use]
    pub fn wanted(&self, until: Until) -> Self {
        Self(Arc::clone(&self.0), until)
    }

    /// Until when what this handle is asked for is wanted.
    pub fn until(&self) -> &Until {
        &self.1
    }

    /// Whether something in the store of a home directory was found damaged since it was last opened. What needs it can be made
    /// anew once the store is opened again.
    pub fn is_damaged(home: &Path) -> bool {
        suspect::is_marked(&home.join("store"))
    }

    /// Keeps a tree, whose children must be kept or lent already.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest, StoreError> {
        let depth = self.depth(tree);
        if depth > DEEPEST {
            return Err(StoreError::TooDeep);
        }
        self.take_in_entries(tree)?;
        let digest = self.put(&tree.encode())?;
        let mut trees = self.0.trees.write().expect(POISONED);
        let held = trees.entry(digest).or_insert_with(|| Held { tree: Arc::new(tree.clone()), depth });
        held.depth = held.depth.max(depth);
        Ok(digest)
    }

    fn depth(&self, tree: &Tree) -> usize {
        let trees = self.0.trees.read().expect(POISONED);
        let of_entry = |entry: &Entry| match entry {
            Entry::Tree { digest } => trees.get(digest).map_or(0, |held| held.depth),
            _ => 0,
        };
        1 + tree.entries().map(|(_, entry)| of_entry(entry)).max().unwrap_or_default()
    }

    /// Gives a tree back.
    pub fn tree(&self, digest: &Digest) -> Result<Arc<Tree>, StoreError> {
        // Whoever goes through a tree comes by here with each directory.
        self.until().look()?;
        if let Some(held) = self.0.trees.read().expect(POISONED).get(digest) {
            return Ok(Arc::clone(&held.tree));
        }
        let bytes = self.get(digest)?;
        let tree = Tree::decode(&bytes).map_err(|source| StoreError::NotATree { digest: *digest, source })?;
        let tree = Arc::new(tree);
        let held = || Held { tree: Arc::clone(&tree), depth: 0 };
        self.0.trees.write().expect(POISONED).entry(*digest).or_insert_with(held);
        Ok(tree)
    }

    /// An empty directory on the store's file system, removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let dir = self.tmp();
        tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(dir)
            .map_err(StoreError::io("create a directory in", dir))
    }

    /// Where this process may keep what it needs for a while; what it leaves there is removed after its end.
    pub fn tmp(&self) -> &Path {
        self.0.lease.dir()
    }

    /// Removes what this process needed for a while, at the end of a run that was stopped: steps that were given up may still hold the
    /// store.
    pub fn clear_up(&self) {
        self.0.lease.clear();
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.0.root
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}

/// The directories of a home's store, made where they are missing.
fn prepare(home: &Path) -> Result<PathBuf, StoreError> {
    let root = home.join("store");
    private::directory(&root).map_err(StoreError::io("create", &root))?;
    for dir in ["blobs", "segments", "pool/files", "pool/trees", "tmp", "damaged"] {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
    }
    Ok(root)
}

/// The index, made anew where it is missing, damaged, or was caught promising what is not there; the gate is held.
fn sound_index(root: &Path, live: &[Live]) -> Result<Index, StoreError> {
    match open_index(root)? {
        Opened::Known(index) if !suspect::is_marked(root) => Ok(index),
        Opened::Known(_) | Opened::Empty(_) => Ok(mend(root, live)?.0),
    }
}

/// Reads everything, and makes the index say what is there and nothing else; the gate is held.
fn mend(root: &Path, live: &[Live]) -> Result<(Index, Survey, TakenBack), StoreError> {
    let mut survey = Survey::of(root)?;
    let files = Files::of(root);
    let (Opened::Known(mut index) | Opened::Empty(mut index)) = open_index(root)?;
    let taken_back = match survey.write(&files, &index, live) {
        Err(error) if error.is_damage() => {
            drop(index);
            let (Opened::Known(fresh) | Opened::Empty(fresh)) = anew(root)?;
            index = fresh;
            survey.write(&files, &index, live)?
        }
        taken_back => taken_back?,
    };
    survey.set_aside(root)?;
    suspect::clear(root);
    Ok((index, survey, taken_back))
}

fn open_index(root: &Path) -> Result<Opened, StoreError> {
    match Index::open(&root.join(INDEX)) {
        Err(error) if error.is_damage() || parts(root).iter().any(|part| is_in_the_way(part)) => anew(root),
        opened => opened,
    }
}

/// The files that the index is.
fn parts(root: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| root.join(format!("{INDEX}{end}")))
}

/// Whether a part of the index cannot be where this is: a directory, or a link, which is followed to the rows and to nothing else.
/// It can only be damage.
fn is_in_the_way(part: &Path) -> bool {
    part.is_dir() || part.is_symlink() && !part.ends_with(INDEX)
}

/// Sets the index aside for an empty one.
fn anew(root: &Path) -> Result<Opened, StoreError> {
    for from in parts(root) {
        let moved = if is_in_the_way(&from) {
            fs::remove_file(&from).or_else(|_| fs::remove_dir_all(&from))
        } else {
            fs::rename(&from, root.join("damaged").join(from.file_name().unwrap_or_default()))
        };
        match moved {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("move", &from)(error));
            }
            _ => {}
        }
    }
    Index::open(&root.join(INDEX))
}

/// The name of the index.
const INDEX: &str = "index.db";

/// Why a lock of this module can be taken for granted.
const POISONED: &str = "no thread panics while it holds a lock of the store";

#[cfg(test)]
mod tests;
