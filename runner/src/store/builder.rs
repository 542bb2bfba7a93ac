//! Makes a tree out of other trees, without reading any file: what is not touched stays a digest.

use std::collections::BTreeMap;

use super::walk::{join, names};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::tree::{Entry, Tree};

/// What happens where both sides have something other than a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// It is an error, unless both are the same.
    Refuse,
    /// What was there first stays.
    Keep,
    /// What comes later wins.
    Replace,
}

/// A tree in the making.
#[derive(Debug)]
pub struct TreeBuilder {
    store: Store,
    root: Directory,
}

/// A directory that was opened, since something below it changes.
#[derive(Debug, Default)]
struct Directory(BTreeMap<String, Node>);

#[derive(Debug)]
enum Node {
    Kept(Entry),
    Open(Directory),
}

impl TreeBuilder {
    /// Starts from a tree, or from nothing.
    pub fn new(store: &Store, base: Option<&Digest>) -> Result<Self, StoreError> {
        let root = match base {
            Some(digest) => Directory::open(store, digest)?,
            None => Directory::default(),
        };
        Ok(Self { store: store.clone(), root })
    }

    /// Puts a file or a link, instead of whatever was there. Missing parents are made.
    pub fn put(&mut self, path: &str, entry: Entry) -> Result<(), StoreError> {
        let (name, parents) = split(path)?;
        let parent = self.root.descend(&self.store, &parents, true)?;
        if let Some(parent) = parent {
            parent.0.insert(name.to_owned(), Node::Kept(entry));
        }
        Ok(())
    }

    /// Makes sure that there is a directory.
    pub fn put_directory(&mut self, path: &str) -> Result<(), StoreError> {
        self.root.descend(&self.store, &names(path)?, true).map(drop)
    }

    /// Merges a tree in at a path.
    pub fn put_tree(&mut self, path: &str, tree: &Digest, conflict: Conflict) -> Result<(), StoreError> {
        let names = names(path)?;
        if let Some((name, parents)) = names.split_last()
            && let Some(parent) = self.root.descend(&self.store, parents, true)?
            && !parent.0.contains_key(*name)
        {
            parent.0.insert((*name).to_owned(), Node::Kept(Entry::Tree { digest: *tree }));
            return Ok(());
        }
        let store = self.store.clone();
        match self.root.descend(&store, &names, true)? {
            Some(target) => target.merge(&store, path, &*store.tree(tree)?, conflict),
            None => Ok(()),
        }
    }

    /// What is at a path now; a directory that was opened has no digest yet, and counts as nothing.
    pub fn get(&mut self, path: &str) -> Result<Option<Entry>, StoreError> {
        let (name, parents) = split(path)?;
        let parent = self.root.descend(&self.store, &parents, false)?;
        Ok(parent.and_then(|parent| match parent.0.get(name) {
            Some(Node::Kept(entry)) => Some(entry.clone()),
            _ => None,
        }))
    }

    /// Removes what is at a path, if anything is.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        let (name, parents) = split(path)?;
        if let Some(parent) = self.root.descend(&self.store, &parents, false)? {
            parent.0.remove(name);
        }
        Ok(())
    }

    /// Keeps the tree and names it.
    pub fn finish(self) -> Result<Digest, StoreError> {
        self.root.finish(&self.store)
    }
}

/// As much of a name as is told.
fn beginning(name: &str) -> String {
    let end = name.floor_char_boundary(100);
    if end < name.len() { format!("{}…", &name[..end]) } else { name.to_owned() }
}

/// The last name of a path, and those before it.
fn split(path: &str) -> Result<(&str, Vec<&str>), StoreError> {
    let mut parents = names(path)?;
    match parents.pop() {
        Some(name) => Ok((name, parents)),
        None => Err(StoreError::Path { path: path.to_owned(), why: "it names the tree itself".to_owned() }),
    }
}

impl Directory {
    fn open(store: &Store, digest: &Digest) -> Result<Self, StoreError> {
        let tree = store.tree(digest)?;
        Ok(Self(tree.entries().map(|(name, entry)| (name.to_owned(), Node::Kept(entry.clone()))).collect()))
    }

    /// Goes down a path, opening directories on the way; where there is none, makes it or gives none.
    fn descend(&mut self, store: &Store, path: &[&str], make: bool) -> Result<Option<&mut Self>, StoreError> {
        let mut at = self;
        for name in path {
            let opened = match at.0.get(*name) {
                Some(Node::Open(_)) => None,
                Some(Node::Kept(Entry::Tree { digest })) => Some(Self::open(store, digest)?),
                None if make => Some(Self::default()),
                Some(_) if make => {
                    let why = format!("`{name}` is not a directory");
                    return Err(StoreError::Path { path: path.join("/"), why });
                }
                _ => return Ok(None),
            };
            if let Some(directory) = opened {
                at.0.insert((*name).to_owned(), Node::Open(directory));
            }
            match at.0.get_mut(*name) {
                Some(Node::Open(directory)) => at = directory,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn merge(&mut self, store: &Store, at: &str, other: &Tree, conflict: Conflict) -> Result<(), StoreError> {
        for (name, entry) in other.entries() {
            let same = match self.0.get(name) {
                None => {
                    self.0.insert(name.to_owned(), Node::Kept(entry.clone()));
                    continue;
                }
                Some(Node::Kept(kept)) => kept == entry,
                Some(Node::Open(_)) => false,
            };
            if same {
                continue;
            }
            let path = join(at, name);
            let here_is_directory = matches!(self.0.get(name), Some(Node::Open(_) | Node::Kept(Entry::Tree { .. })));
            match entry {
                Entry::Tree { digest } if here_is_directory => {
                    if let Some(directory) = self.descend(store, &[name], false)? {
                        directory.merge(store, &path, &*store.tree(digest)?, conflict)?;
                    }
                }
                _ => match conflict {
                    Conflict::Refuse => return Err(StoreError::Conflict(path)),
                    Conflict::Keep => {}
                    Conflict::Replace => {
                        self.0.insert(name.to_owned(), Node::Kept(entry.clone()));
                    }
                },
            }
        }
        Ok(())
    }

    fn finish(self, store: &Store) -> Result<Digest, StoreError> {
        let mut tree = Tree::default();
        for (name, node) in self.0 {
            let entry = match node {
                Node::Kept(entry) => entry,
                Node::Open(directory) => Entry::Tree { digest: directory.finish(store)? },
            };
            tree.insert(&name, entry)
                .map_err(|error| StoreError::Path { path: beginning(&name), why: error.to_string() })?;
        }
        store.put_tree(&tree)
    }
}
