//! What a slug must prove where it arrives: that its manifest is the one of its id, that the trees are those of the manifest,
//! and that every file which is going to run has the bytes that the trees name. Knows nothing of how a slug was built.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// What was wrong with copies that were made anew.
    pub(crate) mended: Vec<String>,
}

impl ArrivalError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Slug(error) => error.hint(),
            Self::Id { .. } | Self::File { .. } => {
                Some("its bytes in the store are damaged, so it cannot be released: change the project or its lock and build another".into())
            }
        }
    }
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
    /// Lays a slug out and, where `rehash`, hashes all of it again. A copy that differs is set aside and made anew, once.
    pub(crate) fn open(store: &Store, slug: &SlugRef, rehash: bool) -> Result<Self, ArrivalError> {
        let manifest = read_manifest(store, slug)?;
        let mut arrived = Self { manifest, trees: BTreeMap::new(), mended: Vec::new() };
        for (name, digest) in &arrived.manifest.trees {
            // Each on its own: the environment is the same in most slugs, and laid out once.
            let mut directory = store.lay_out(digest)?;
            if rehash && let Err(damage) = check(store, digest, &directory)? {
                if !damage.files.is_empty() {
                    // A layout that looks changed was made anew before: this did not, and builds have seen it too.
                    store.doubt()?;
                }
                store.set_aside_layout(digest, &damage.files)?;
                directory = store.lay_out(digest)?;
                check(store, digest, &directory)?.map_err(|damage| damage.first)?;
                arrived.mended.push(damage.first.to_string());
            }
            arrived.trees.insert(name.clone(), directory);
        }
        Ok(arrived)
    }
}

/// What is wrong with a directory.
struct Damage {
    first: ArrivalError,
    /// The files that have other bytes than these.
    files: Vec<Digest>,
}

/// Compares a directory with its tree, to the last byte.
fn check(store: &Store, tree: &Digest, directory: &Path) -> Result<Result<(), Damage>, ArrivalError> {
    let mut files = Vec::new();
    match compare(store, tree, directory, &mut files) {
        Ok(()) => Ok(check_bytes(&files)),
        Err(error @ ArrivalError::File { .. }) => Ok(Err(Damage { first: error, files: Vec::new() })),
        Err(error) => Err(error),
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
fn check_bytes(files: &[(PathBuf, Digest)]) -> Result<(), Damage> {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some((path, digest)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let difference = match hash(path) {
                Ok(found) if found == *digest => continue,
                Ok(_) => differs(path, &"has other bytes"),
                Err(error) => differs(path, &error),
            };
            wrong.lock().unwrap_or_else(PoisonError::into_inner).push((difference, *digest));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (mut errors, files): (Vec<_>, Vec<_>) =
        wrong.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().unzip();
    if errors.is_empty() { Ok(()) } else { Err(Damage { first: errors.swap_remove(0), files }) }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

fn differs(path: &Path, difference: &dyn std::fmt::Display) -> ArrivalError {
    ArrivalError::File { path: path.to_owned(), difference: difference.to_string() }
}
