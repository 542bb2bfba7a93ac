//! What a slug must prove where it arrives: that its manifest is the one of its id, that the trees are those of the manifest,
//! and that every file which is going to run has the bytes that the trees name. Knows nothing of how a slug was built.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::target::SlugRef;
use crate::digest::Digest;
use crate::slug::{Manifest, SlugError};
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// A slug that was looked through, file by file.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) manifest: Manifest,
    /// Where its trees are laid out, read-only, by their names below `/app`.
    pub(crate) trees: BTreeMap<String, PathBuf>,
}

/// A slug that is not what it says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    /// Something of it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no manifest in it, none that this `pipe` can read, or one of other trees.
    #[error(transparent)]
    Slug(#[from] SlugError),
    /// The manifest is another slug's.
    #[error("the slug is not identical: its manifest has the id {found}, not {wanted}")]
    Id {
        /// The id that was asked for.
        wanted: Digest,
        /// The id of what is there.
        found: Digest,
    },
    /// A file is not the tree's.
    #[error("the slug is not identical: `{path}` {difference}")]
    File {
        /// Where it is laid out.
        path: PathBuf,
        /// What is wrong with it.
        difference: String,
    },
}

impl Arrived {
    /// Lays a slug out and, where `rehash`, hashes all of it again.
    pub(crate) fn open(store: &Store, slug: &SlugRef, rehash: bool) -> Result<Self, ArrivalError> {
        let manifest = read_manifest(store, slug)?;
        let mut trees = BTreeMap::new();
        let mut files = Vec::new();
        for (name, digest) in &manifest.trees {
            // Each on its own: the environment is the same in most slugs, and laid out once.
            let directory = store.lay_out(digest)?;
            if rehash {
                compare(store, digest, &directory, &mut files)?;
            }
            trees.insert(name.clone(), directory);
        }
        check_bytes(&files)?;
        Ok(Self { manifest, trees })
    }
}

fn read_manifest(store: &Store, slug: &SlugRef) -> Result<Manifest, ArrivalError> {
    let (found, manifest) = Manifest::read(store, &slug.tree)?;
    if found == slug.id { Ok(manifest) } else { Err(ArrivalError::Id { wanted: slug.id, found }) }
}

/// Compares names, links and modes below a directory with a tree, and collects the files to hash.
fn compare(
    store: &Store,
    tree: &Digest,
    directory: &Path,
    files: &mut Vec<(PathBuf, Digest)>,
) -> Result<(), ArrivalError> {
    let tree = store.tree(tree)?;
    let there = fs::read_dir(directory).map_err(|error| differs(directory, &error))?.count();
    if there != tree.entries().len() {
        return Err(differs(directory, &"holds something else"));
    }
    for (name, entry) in tree.entries() {
        let path = directory.join(name);
        let meta = fs::symlink_metadata(&path).map_err(|error| differs(&path, &error))?;
        match entry {
            Entry::Tree { digest } if meta.is_dir() => compare(store, digest, &path, files)?,
            Entry::File { digest, executable }
                if meta.is_file() && (meta.permissions().mode() & 0o111 != 0) == *executable =>
            {
                files.push((path, *digest));
            }
            Entry::Symlink { target } if fs::read_link(&path).is_ok_and(|found| found == Path::new(target)) => {}
            _ => return Err(differs(&path, &"is of another kind")),
        }
    }
    Ok(())
}

/// Hashes files on all processors.
fn check_bytes(files: &[(PathBuf, Digest)]) -> Result<(), ArrivalError> {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(None);
    let work = || {
        while let Some((path, digest)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let difference = match hash(path) {
                Ok(found) if found == *digest => continue,
                Ok(_) => differs(path, &"has other bytes"),
                Err(error) => differs(path, &error),
            };
            next.store(files.len(), Ordering::Relaxed);
            if let Ok(mut wrong) = wrong.lock() {
                wrong.get_or_insert(difference);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    wrong.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

fn differs(path: &Path, difference: &dyn std::fmt::Display) -> ArrivalError {
    ArrivalError::File { path: path.to_owned(), difference: difference.to_string() }
}
