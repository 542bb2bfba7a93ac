//! Bytes that lie outside of the store, and are taken in only where something that is kept names them: the files of a source
//! directory, most of which no output ever holds.
//!
//! The store never promises them. They can be read like all others, checked like all others, and a tree or an action that is
//! kept takes in what it names first.

use std::path::PathBuf;
use std::sync::Arc;

use super::{POISONED, Store, StoreError};
use crate::digest::Digest;
use crate::tree::{Entry, Tree};

/// Something that knows where bytes are.
pub trait Outside: Send + Sync {
    /// The bytes of this digest, if it has them.
    fn find(&self, digest: &Digest) -> Option<Lent>;

    /// The encoding of a directory that it had once; what that names may be nowhere any more.
    fn recall(&self, _digest: &Digest) -> Option<Arc<[u8]>> {
        None
    }
}

/// Bytes of somebody else.
#[derive(Debug, Clone)]
pub enum Lent {
    /// The bytes themselves; they were hashed by who lends them.
    Bytes(Arc<[u8]>),
    /// A file that had them when it was last looked at.
    File {
        /// Where it is.
        path: PathBuf,
        /// How many bytes it had.
        size: u64,
    },
}

impl Lent {
    /// How many bytes there are.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

impl Store {
    /// Lets everything that reads from this store find what `outside` has, until the store is closed.
    pub fn lend(&self, outside: Arc<dyn Outside>) {
        self.0.outside.write().expect(POISONED).push(outside);
    }

    /// Leaves all that was lent where it is at the end of a process, rather than to take it apart.
    pub fn leave_lent(&self) {
        std::mem::forget(std::mem::take(&mut *self.0.outside.write().expect(POISONED)));
    }

    /// Where bytes are that the store itself does not have.
    pub(super) fn lent(&self, digest: &Digest) -> Option<Lent> {
        self.0.outside.read().expect(POISONED).iter().rev().find_map(|outside| outside.find(digest))
    }

    /// A directory that is there or once was, to tell by what differs from it: nothing that a step or an output may be given.
    pub fn recall(&self, digest: &Digest) -> Option<Arc<Tree>> {
        // What was never kept is not missing: it is looked for only where it was promised or is lent.
        if (self.contains(digest) || self.lent(digest).is_some())
            && let Ok(tree) = self.tree(digest)
        {
            return Some(tree);
        }
        let outside = self.0.outside.read().expect(POISONED);
        let encoded = outside.iter().rev().find_map(|outside| outside.recall(digest))?;
        Tree::decode(&encoded).ok().map(Arc::new)
    }

    /// Keeps what this digest names, and all below it, as far as it is lent and not kept yet.
    pub fn take_in(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.0.outside.read().expect(POISONED).is_empty() || self.contains(digest) {
            return Ok(());
        }
        match self.lent(digest) {
            None => Ok(()),
            Some(Lent::File { path, .. }) => {
                let kept = self.put_file(&path)?;
                if kept == *digest { Ok(()) } else { Err(StoreError::Changed(path)) }
            }
            Some(Lent::Bytes(bytes)) => {
                if let Ok(tree) = Tree::decode(&bytes) {
                    self.take_in_entries(&tree)?;
                }
                self.put_new(digest, &bytes)
            }
        }
    }

    /// Keeps what a tree names, so that a tree in the store is whole.
    pub(super) fn take_in_entries(&self, tree: &Tree) -> Result<(), StoreError> {
        if self.0.outside.read().expect(POISONED).is_empty() {
            return Ok(());
        }
        for (_, entry) in tree.entries() {
            if let Entry::File { digest, .. } | Entry::Tree { digest } = entry
                && self.lent(digest).is_some()
            {
                self.take_in(digest)?;
            }
        }
        Ok(())
    }
}
