//! Trees that are small enough to be handed to a sandbox as they are: to lay one out on a disk takes longer than most programs do.

use crate::digest::Digest;
use crate::sandbox::Held;
use crate::store::{Store, StoreError, join};
use crate::tree::Entry;

/// The most bytes in files, and the most names, that are handed over.
const BYTES: u64 = 2 << 20;
const NAMES: usize = 512;

/// All of a tree, a directory before what is in it; none where that is not little.
pub(super) fn tree(store: &Store, tree: &Digest) -> Result<Option<Vec<(String, Held)>>, StoreError> {
    let mut entries = Vec::new();
    if !list(store, tree, "", &mut entries)? {
        return Ok(None);
    }
    let mut left = BYTES;
    for (_, entry) in &entries {
        if let Entry::File { digest, .. } = entry {
            match left.checked_sub(store.size(digest)?) {
                Some(rest) => left = rest,
                None => return Ok(None),
            }
        }
    }
    let held = |(path, entry)| {
        let held = match entry {
            Entry::Tree { .. } => Held::Directory,
            Entry::Symlink { target } => Held::Symlink(target),
            Entry::File { digest, executable } => Held::File { bytes: store.get(&digest)?.into(), executable },
        };
        Ok((path, held))
    };
    entries.into_iter().map(held).collect::<Result<_, _>>().map(Some)
}

/// Whether these are all the names, or there are too many.
fn list(store: &Store, dir: &Digest, at: &str, entries: &mut Vec<(String, Entry)>) -> Result<bool, StoreError> {
    for (name, entry) in store.tree(dir)?.entries() {
        let path = join(at, name);
        entries.push((path.clone(), entry.clone()));
        if entries.len() > NAMES {
            return Ok(false);
        }
        if let Entry::Tree { digest } = entry
            && !list(store, digest, &path, entries)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}
