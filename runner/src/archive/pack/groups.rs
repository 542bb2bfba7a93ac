//! Which neighbours in a tar are compressed together. It follows from the tree alone, and from what is near: a change in
//! one place moves the cuts around that place and no others. Reads no file.

use std::collections::HashMap;

use super::entries::BLOCK;
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// A file or directory above this weight shares its group with nobody; what is in such a directory is cut further.
const LARGE: u64 = 4 << 20;
/// A group above this weight is closed.
const FULL: u64 = 4 << 20;
/// A group above this weight is closed behind one name in four, by the name's hash: cuts are found again behind a file that
/// was added or has grown.
const ENOUGH: u64 = 1 << 20;
/// Directories above this weight have it kept in the store, to be known without a look at all that is in them.
const REMEMBERED: u64 = 256 << 10;

/// Neighbours, in order.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    /// About how many bytes of tar they are.
    pub(super) weight: u64,
}

/// A part of a group.
#[derive(Debug)]
pub(super) enum Member {
    /// What is at a path, and below it.
    Whole(String, Entry),
    /// The directory at a path, without what is in it: that is in the groups that follow.
    Header(String),
}

/// Cuts a tree into groups.
pub(super) fn of(store: &Store, tree: &Digest) -> Result<Vec<Group>, StoreError> {
    let weights = Weights { store, known: HashMap::new() };
    let mut cutter = Cutter { weights, done: Vec::new(), open: Group::default() };
    cutter.directory("", tree)?;
    Ok(cutter.done)
}

struct Cutter<'a> {
    weights: Weights<'a>,
    done: Vec<Group>,
    open: Group,
}

impl Cutter<'_> {
    fn directory(&mut self, at: &str, tree: &Digest) -> Result<(), StoreError> {
        for (name, entry) in self.weights.store.tree(tree)?.entries() {
            let path = format!("{at}{name}");
            let weight = self.weights.entry(entry)?;
            match entry {
                Entry::Tree { digest } if weight > LARGE => {
                    self.add(Member::Header(path.clone()), BLOCK);
                    self.close();
                    self.directory(&format!("{path}/"), digest)?;
                }
                _ => {
                    if weight > LARGE {
                        self.close();
                    }
                    self.add(Member::Whole(path, entry.clone()), weight);
                    if self.open.weight > FULL || self.open.weight > ENOUGH && ends_groups(name) {
                        self.close();
                    }
                }
            }
        }
        self.close();
        Ok(())
    }

    fn add(&mut self, member: Member, weight: u64) {
        self.open.members.push(member);
        self.open.weight += weight;
    }

    fn close(&mut self) {
        if !self.open.members.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }
}

fn ends_groups(name: &str) -> bool {
    Digest::of(name.as_bytes()).as_bytes()[0].is_multiple_of(4)
}

/// How much a tar grows by an entry and all below it, in bytes; long names aside.
struct Weights<'a> {
    store: &'a Store,
    known: HashMap<Digest, u64>,
}

impl Weights<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<u64, StoreError> {
        let content = match entry {
            Entry::File { digest, .. } => self.store.size(digest)?.next_multiple_of(BLOCK),
            Entry::Symlink { .. } => 0,
            Entry::Tree { digest } => self.tree(digest)?,
        };
        Ok(BLOCK.saturating_add(content))
    }

    fn tree(&mut self, digest: &Digest) -> Result<u64, StoreError> {
        if let Some(weight) = self.known.get(digest) {
            return Ok(*weight);
        }
        let key = KeyBuilder::new("tar weight").field("tree", digest.as_bytes()).finish();
        let kept = self.store.action(&key)?.and_then(|record| Some(u64::from_le_bytes(record.try_into().ok()?)));
        let weight = match kept {
            Some(weight) => weight,
            None => {
                let mut weight = 0_u64;
                for (_, entry) in self.store.tree(digest)?.entries() {
                    weight = weight.saturating_add(self.entry(entry)?);
                }
                if weight > REMEMBERED {
                    self.store.put_action(&key, &weight.to_le_bytes(), &[])?;
                }
                weight
            }
        };
        self.known.insert(*digest, weight);
        Ok(weight)
    }
}
