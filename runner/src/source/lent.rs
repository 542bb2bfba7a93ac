//! A snapshot as something that the store can read from: directories by what was seen of them, files where they are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::earlier::Earlier;
use super::known::{Directory, Kept};
use crate::digest::Digest;
use crate::store::{Lent, Outside};

/// All that a snapshot holds.
pub(super) struct Source {
    pub(super) root: PathBuf,
    pub(super) directories: Vec<Arc<Directory>>,
    /// The bytes of files that were read for this snapshot, as far as they were few: what is new is what steps read.
    pub(super) fresh: HashMap<Digest, Arc<[u8]>>,
    earlier: Earlier,
    places: OnceLock<HashMap<Digest, Place>>,
}

/// Where a digest was seen.
#[derive(Clone, Copy)]
enum Place {
    Directory(usize),
    File { directory: usize, entry: usize },
}

impl Source {
    pub(super) fn new(
        root: PathBuf,
        directories: Vec<Arc<Directory>>,
        fresh: HashMap<Digest, Arc<[u8]>>,
        earlier: Earlier,
    ) -> Self {
        Self { root, directories, fresh, earlier, places: OnceLock::new() }
    }

    /// Made when it is first asked for: where nothing has changed, nobody asks.
    fn places(&self) -> &HashMap<Digest, Place> {
        self.places.get_or_init(|| {
            let entries: usize = self.directories.iter().map(|found| found.entries.len()).sum();
            let mut places = HashMap::with_capacity(self.directories.len() + entries);
            for (directory, found) in self.directories.iter().enumerate() {
                places.insert(found.digest, Place::Directory(directory));
                for (entry, (_, kept)) in found.entries.iter().enumerate() {
                    if let Kept::File { digest, .. } = kept {
                        places.insert(*digest, Place::File { directory, entry });
                    }
                }
            }
            places
        })
    }
}

impl Outside for Source {
    fn find(&self, digest: &Digest) -> Option<Lent> {
        if let Some(bytes) = self.fresh.get(digest) {
            return Some(Lent::Bytes(Arc::clone(bytes)));
        }
        match *self.places().get(digest)? {
            Place::Directory(directory) => Some(Lent::Bytes(self.directories[directory].tree().encode().into())),
            Place::File { directory, entry } => {
                let directory = &self.directories[directory];
                let (name, kept) = &directory.entries[entry];
                let Kept::File { identity, .. } = kept else { return None };
                let path = self.root.join(&*directory.path).join(&**name);
                Some(Lent::File { path, size: identity.size })
            }
        }
    }

    fn recall(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.earlier.find(digest)
    }
}
