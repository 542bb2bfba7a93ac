//! Everything that is kept: blobs, trees and actions, each by its blake3 digest.
//!
//! Small blobs lie in append-only segments, large ones in files of their own; an index in `SQLite` says where. A row of the index
//! is a promise: it is written only after the bytes are on the disk, and an action's row after those of all that it names, so
//! that power may fail at any moment. Any number of processes share one store: each appends to a segment of its own.
//! Knows nothing of what an action is.

mod blobs;
mod builder;
mod import;
mod index;
mod outside;
mod pool;
mod segment;
mod walk;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use crate::digest::Digest;
use crate::tree::{Tree, TreeError};

pub use blobs::{BlobReader, BlobWriter};
pub use builder::{Conflict, TreeBuilder};
pub use outside::{Lent, Outside};
pub(crate) use walk::join;
pub use walk::{Found, Globs};

use index::Index;
use segment::SegmentWriter;

/// A handle on a store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    index: Index,
    segment: Mutex<SegmentWriter>,
    pending: Mutex<Pending>,
    trees: RwLock<HashMap<Digest, Arc<Tree>>>,
    outside: RwLock<Vec<Arc<dyn Outside>>>,
}

/// What was written and is not yet promised.
#[derive(Default)]
struct Pending {
    locations: HashMap<Digest, index::Location>,
    loose: Vec<PathBuf>,
}

/// What can go wrong with a store. Where it is the machine's fault, [`StoreError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("store: cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The index refused.
    #[error("store: the index `{path}` fails")]
    Index {
        /// The index's file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Something that was promised is not there.
    #[error("store: {0} is missing")]
    Missing(Digest),
    /// Bytes that no longer are what their name says.
    #[error("store: {0} is damaged")]
    Damaged(Digest),
    /// A file that was lent to the store and no longer has the bytes that it had.
    #[error("`{0}` was changed while the run used it")]
    Changed(PathBuf),
    /// Bytes that were taken for a tree.
    #[error("store: {digest} is not a tree")]
    NotATree {
        /// What was read.
        digest: Digest,
        /// What is wrong with it.
        source: TreeError,
    },
    /// A path that cannot be in a tree.
    #[error("`{path}` cannot be in a tree: {why}")]
    Path {
        /// The path, as it was found.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two trees hold different things at one path.
    #[error("both sides hold a different `{0}`")]
    Conflict(String),
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } => Some(match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or set PIPE_HOME to a directory on a larger disk".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    format!("make `{}` writable, or set PIPE_HOME to a directory that is", path.display())
                }
                _ => return None,
            }),
            Self::Index { path, source } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => {
                    Some("free some space, or set PIPE_HOME to a directory on a larger disk".to_owned())
                }
                Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => {
                    Some(format!("make `{}` writable, or set PIPE_HOME to a directory that is", path.display()))
                }
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    Some(format!("remove `{}`: it only says where cached results are", path.display()))
                }
                _ => None,
            },
            Self::Missing(_) | Self::Damaged(_) | Self::NotATree { .. } => {
                Some("run again: what is damaged was set aside and is built anew".to_owned())
            }
            Self::Changed(_) => Some("run again: a run builds what was there when it began".to_owned()),
            Self::Path { .. } | Self::Conflict(_) => None,
        }
    }
}

impl Store {
    /// Opens the store of a home directory, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        let root = home.join("store");
        let private = |dir: &Path| {
            std::fs::DirBuilder::new().recursive(true).create(dir)?;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        };
        private(&root).map_err(StoreError::io("create", &root))?;
        for dir in ["blobs", "segments", "pool/files", "pool/trees", "tmp", "damaged"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        }
        let index = Index::open(&root.join("index.db"))?;
        let segment = Mutex::new(SegmentWriter::new(&root.join("segments")));
        Ok(Self(Arc::new(Inner {
            root,
            index,
            segment,
            pending: Mutex::default(),
            trees: RwLock::default(),
            outside: RwLock::default(),
        })))
    }

    /// Keeps a tree, whose children must be kept or lent already.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest, StoreError> {
        self.take_in_entries(tree)?;
        let digest = self.put(&tree.encode())?;
        self.0.trees.write().expect(POISONED).entry(digest).or_insert_with(|| Arc::new(tree.clone()));
        Ok(digest)
    }

    /// Gives a tree back.
    pub fn tree(&self, digest: &Digest) -> Result<Arc<Tree>, StoreError> {
        if let Some(tree) = self.0.trees.read().expect(POISONED).get(digest) {
            return Ok(Arc::clone(tree));
        }
        let bytes = self.get(digest)?;
        let tree = Tree::decode(&bytes).map_err(|source| StoreError::NotATree { digest: *digest, source })?;
        let tree = Arc::new(tree);
        self.0.trees.write().expect(POISONED).insert(*digest, Arc::clone(&tree));
        Ok(tree)
    }

    /// The record of an action, if everything that it names is there.
    pub fn action(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((record, refs)) = self.0.index.action(key)? else { return Ok(None) };
        Ok(refs.iter().all(|digest| self.contains(digest)).then_some(record))
    }

    /// Records an action, after everything that it names is on the disk.
    pub fn put_action(&self, key: &Digest, record: &[u8], refs: &[Digest]) -> Result<(), StoreError> {
        self.put_action_of(None, key, record, refs)
    }

    /// Records an action of a family: those that differ in what they were given only.
    pub fn put_action_of(
        &self,
        family: Option<&Digest>,
        key: &Digest,
        record: &[u8],
        refs: &[Digest],
    ) -> Result<(), StoreError> {
        for digest in refs {
            self.take_in(digest)?;
        }
        self.flush()?;
        self.0.index.put_action(family, key, record, refs)
    }

    /// The records of a family's latest actions, newest first, of which everything that they name is there.
    pub fn family(&self, family: &Digest, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = self.0.index.family(family, limit)?;
        Ok(rows
            .into_iter()
            .filter(|(_, refs)| refs.iter().all(|digest| self.contains(digest)))
            .map(|(record, _)| record)
            .collect())
    }

    /// An empty directory on the store's file system, removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let dir = self.0.root.join("tmp");
        tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(&dir)
            .map_err(StoreError::io("create a directory in", &dir))
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

/// Why a lock of this module can be taken for granted.
const POISONED: &str = "no thread panics while it holds a lock of the store";

#[cfg(test)]
mod tests;
