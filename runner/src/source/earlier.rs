//! Directories of a source as its last snapshots had them, so that what has changed since can be told by name. One file a source,
//! beside what is known of it; what it lacks is told of in fewer words.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::frames::{self, Frames};
use super::known::Directory;
use crate::digest::Digest;
use crate::store::StoreError;

/// How many bytes of encoded directories are kept; those that went first go, half of them at once.
const MOST: usize = 1 << 18;

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
        let read = || Frames::read(&self.path).iter().map(|(digest, tree)| (digest, tree.into())).collect();
        self.trees.get_or_init(read).get(digest).cloned()
    }

    /// Keeps directories that are no longer so.
    pub(super) fn add(&self, replaced: &[&Arc<Directory>]) -> Result<(), StoreError> {
        let frames = Frames::read(&self.path);
        let kept: HashSet<Digest> = frames.iter().map(|(digest, _)| digest).collect();
        let replaced = replaced.iter().filter(|directory| !kept.contains(&directory.digest));
        let new: Vec<Vec<u8>> = replaced.map(|directory| directory.tree().encode()).collect();
        if new.is_empty() {
            return Ok(());
        }
        if frames.are_whole() && frames.len() + bytes(&new) <= MOST {
            return frames::append(&self.path, &new);
        }
        let trees: Vec<&[u8]> = frames.iter().map(|(_, tree)| tree).chain(new.iter().map(Vec::as_slice)).collect();
        let mut room = MOST / 2;
        let fits = |tree: &&&[u8]| {
            let left = room.checked_sub(frames::size(tree));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let latest = trees.iter().rev().take_while(fits).count().max(1);
        frames::replace(&self.path, &trees[trees.len() - latest..])
    }
}

fn bytes(trees: &[Vec<u8>]) -> usize {
    trees.iter().map(|tree| frames::size(tree)).sum()
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

        std::fs::write(&path, b"\xff damaged").expect("written");
        let damaged = Earlier::at(path);
        assert_eq!(damaged.find(&replaced[3].digest), None);
        damaged.add(&[&replaced[0]]).expect("begun anew");
    }
}
