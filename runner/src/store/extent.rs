//! How much a tree comes to where somebody goes through all of it: a directory may be the same in many places, and a few of them, each
//! twice in the one above, are more than any disk holds.

use std::collections::HashMap;

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::tree::Entry;

/// The most files and directories of a tree that is gone through.
pub(super) const MOST: u64 = 4_000_000;

impl Store {
    /// Refuses a tree that comes to more than anybody could mean. Each directory of it is looked at once.
    pub(crate) fn check_extent(&self, tree: &Digest) -> Result<(), StoreError> {
        if self.extent(tree, &mut HashMap::new())? > MOST { Err(StoreError::TooLarge) } else { Ok(()) }
    }

    fn extent(&self, tree: &Digest, known: &mut HashMap<Digest, u64>) -> Result<u64, StoreError> {
        if let Some(extent) = known.get(tree) {
            return Ok(*extent);
        }
        let mut extent = 0_u64;
        for (_, entry) in self.tree(tree)?.entries() {
            let below = if let Entry::Tree { digest } = entry { self.extent(digest, known)? } else { 0 };
            extent = extent.saturating_add(below).saturating_add(1);
        }
        known.insert(*tree, extent);
        Ok(extent)
    }
}
