//! What files of the machine are, by content, without reading them each time: a file that still has the same inode, size and
//! times has the same content.
//!
//! Directories are held to have changed when their own times or those of the directories in them have: a file of a standard
//! library that is edited in place, and nothing beside it, goes unnoticed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::RuntimeError;
use crate::digest::Digest;
use crate::key::{Fields as _, KeyBuilder};
use crate::private;

/// Directories that come and go without changing anything: caches.
const CACHE: &str = "__pycache__";

/// What is known of files and directories.
#[derive(Debug, Default)]
pub(super) struct Identities {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    stamp: String,
    value: String,
}

impl Identities {
    /// Takes up what an earlier run has left in the cache; nothing where that cannot be read.
    pub(super) fn open(home: &Path) -> Self {
        let path = home.join("cache/runtime.json");
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, known, changed: false }
    }

    /// Leaves it for the next run. A cache that cannot be written costs time only.
    pub(super) fn save(&self) {
        let save = || -> io::Result<()> {
            let dir = self.path.parent().unwrap_or(Path::new("/"));
            private::directory(dir)?;
            private::replace(&self.path, &serde_json::to_vec(&self.known)?)
        };
        if self.changed {
            let _ = save();
        }
    }

    /// What `compute` gives, unless it is known for the same `stamp`; not remembered where the stamp is of just now.
    pub(super) fn remember(
        &mut self,
        name: String,
        stamp: Stamp,
        compute: impl FnOnce() -> Result<String, RuntimeError>,
    ) -> Result<String, RuntimeError> {
        if let Some(known) = self.known.get(&name).filter(|known| known.stamp == stamp.text) {
            return Ok(known.value.clone());
        }
        let value = compute()?;
        if stamp.settled {
            self.known.insert(name, Known { stamp: stamp.text, value: value.clone() });
            self.changed = true;
        }
        Ok(value)
    }

    /// The digest of a file's content.
    pub(super) fn file(&mut self, path: &Path) -> Result<Digest, RuntimeError> {
        let stamp = Stamp::of([path]);
        let compute = || Ok(hash_file(path).map_err(RuntimeError::io("read", path))?.to_string());
        let text = self.remember(format!("file {}", path.display()), stamp, compute)?;
        Ok(text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes())))
    }

    /// The digest of a directory's names, links and contents, without directories of the names `except`.
    pub(super) fn directory(&mut self, path: &Path, except: &[&str]) -> Result<Digest, RuntimeError> {
        let entries = fs::read_dir(path).map_err(RuntimeError::io("list", path))?;
        // Links are what they say, wherever they lead.
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut watched: Vec<PathBuf> = directories.map(|entry| entry.path()).collect();
        watched.retain(|path| !ignored(path, except));
        watched.push(path.to_owned());
        watched.sort();
        let compute = || {
            let mut key = KeyBuilder::new("directory of the machine");
            hash_directory(path, path, except, &mut key).map_err(RuntimeError::io("read", path))?;
            Ok(key.finish().to_string())
        };
        let stamp = Stamp::of(watched.iter().map(PathBuf::as_path));
        let text = self.remember(format!("directory {}", path.display()), stamp, compute)?;
        Ok(text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes())))
    }
}

/// By what a file is held to be the same as before.
pub(super) struct Stamp {
    text: String,
    /// Old enough that no later change can have the same times.
    settled: bool,
}

impl Stamp {
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut stamp = Self { text: String::new(), settled: true };
        for path in paths {
            stamp.add(fs::metadata(path).ok().as_ref());
        }
        stamp
    }

    /// What is compared.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn add(&mut self, metadata: Option<&Metadata>) {
        use std::fmt::Write as _;
        let Some(found) = metadata else {
            self.text.push_str("- ");
            return;
        };
        let (mtime, ctime) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        let _ = write!(self.text, "{}:{}:{}:{mtime:?}:{ctime:?} ", found.dev(), found.ino(), found.size());
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0));
        self.settled &= changed.elapsed().is_ok_and(|age| age > Duration::from_secs(2));
    }
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().into())
}

fn ignored(path: &Path, except: &[&str]) -> bool {
    path.file_name().is_some_and(|name| except.iter().chain([&CACHE]).any(|ignored| name == *ignored))
}

fn hash_directory(root: &Path, dir: &Path, except: &[&str], key: &mut KeyBuilder) -> io::Result<()> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !ignored(path, except));
    paths.sort();
    for path in paths {
        let kind = path.symlink_metadata()?.file_type();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if kind.is_dir() {
            hash_directory(root, &path, except, key)?;
        } else if kind.is_symlink() {
            key.add(&name, fs::read_link(&path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            key.add(&name, hash_file(&path)?.as_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_names_and_contents_and_not_its_caches() {
        let dir = tempfile::tempdir().expect("a directory");
        let digest = |dir: &Path| Identities::default().directory(dir, &[]).expect("a digest");
        fs::write(dir.path().join("os.py"), "a").expect("a file");
        let first = digest(dir.path());
        fs::create_dir(dir.path().join("__pycache__")).expect("a directory");
        fs::write(dir.path().join("__pycache__/os.pyc"), "b").expect("a file");
        assert_eq!(digest(dir.path()), first);
        fs::write(dir.path().join("os.py"), "c").expect("a file");
        assert_ne!(digest(dir.path()), first);
    }

    #[test]
    fn what_has_just_changed_is_not_remembered() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("python3.11");
        fs::write(&file, "a").expect("a file");
        let mut identities = Identities::open(home.path());
        let first = identities.file(&file).expect("a digest");
        fs::write(&file, "b").expect("a file");
        assert_ne!(identities.file(&file).expect("a digest"), first);
    }
}
