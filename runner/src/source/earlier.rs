//! Directories of a source as its last snapshots had them, so that what has changed since can be told by name. One file a source,
//! beside what is known of it; what it lacks is told of in fewer words.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::known::{Directory, replace};
use crate::digest::Digest;
use crate::store::StoreError;

/// How many bytes of encoded directories are kept; those that went first go.
const MOST: usize = 1 << 20;

/// What is kept of one source.
pub(super) struct Earlier {
    path: PathBuf,
    trees: OnceLock<HashMap<Digest, Arc<[u8]>>>,
}

impl Earlier {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, trees: OnceLock::new() }
    }

    /// The encoding of a directory that is no longer so.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let trees = self.trees.get_or_init(|| {
            self.read().into_iter().map(|encoded| (Digest::of(&encoded), Arc::from(encoded))).collect()
        });
        trees.get(digest).cloned()
    }

    /// Keeps directories that are no longer so.
    pub(super) fn add(&self, replaced: &[&Arc<Directory>]) -> Result<(), StoreError> {
        if replaced.is_empty() {
            return Ok(());
        }
        let mut trees: Vec<Vec<u8>> = replaced.iter().map(|directory| directory.tree().encode()).collect();
        for tree in self.read() {
            if !trees.contains(&tree) {
                trees.push(tree);
            }
        }
        let mut room = MOST;
        trees.retain(|tree| {
            let fits = tree.len() <= room;
            room = if fits { room - tree.len() } else { 0 };
            fits
        });
        replace(&self.path, &postcard::to_stdvec(&trees).expect("plain data"))
    }

    fn read(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        postcard::from_bytes(&bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::{Kept, Names};
    use super::*;

    /// A directory with one link whose target has so many bytes.
    fn directory(len: usize, letter: &str) -> Arc<Directory> {
        let names = Names { identity: None, rules: Digest::of(b"rules"), hollow: Vec::new() };
        Arc::new(Directory::new("", names, [("link".into(), Kept::Link(letter.repeat(len).into()))].into()))
    }

    #[test]
    fn what_was_replaced_last_is_kept_as_far_as_there_is_room() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("source.earlier");
        let replaced: Vec<_> = ["a", "b", "c", "d"].map(|letter| directory(MOST * 2 / 5, letter)).into();
        for directory in &replaced {
            Earlier::at(path.clone()).add(&[directory]).expect("kept");
        }
        Earlier::at(path.clone()).add(&[&replaced[3]]).expect("kept once");
        let earlier = Earlier::at(path.clone());
        let found = replaced.iter().map(|directory| earlier.find(&directory.digest));
        let expected = [false, false, true, true];
        assert_eq!(found.map(|encoded| encoded.is_some()).collect::<Vec<_>>(), expected);
        let encoded = earlier.find(&replaced[3].digest).expect("the last");
        assert_eq!(*encoded, *replaced[3].tree().encode());

        fs::write(&path, b"\xff damaged").expect("written");
        let damaged = Earlier::at(path);
        assert_eq!(damaged.find(&replaced[3].digest), None);
        damaged.add(&[&replaced[0]]).expect("begun anew");
    }
}
