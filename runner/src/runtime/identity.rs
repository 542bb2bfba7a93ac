//! What files of the machine are, by content, without reading them each time: a file that still has the same inode, size and
//! times has the same content.
//!
//! So does a directory of which that is so for all below it. An interpreter's own, of thousands of files that only its installer
//! writes, is held to have changed when its times or those of the directories in it have: a file of a standard library that is
//! edited in place, and nothing beside it, goes unnoticed.

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
        let known = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { path, known, changed: false }
    }

    /// Leaves it for the next run. A cache that cannot be written costs time only.
    pub(super) fn save(&self) {
        let save = || -> io::Result<()> {
            let dir = self.path.parent().unwrap_or(Path::new("/"));
            private::directory(dir)?;
            private::replace(&self.path, &encode(&self.known)?)
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

    /// The digest of a directory's names, links, contents and executable bits.
    pub(super) fn directory(&mut self, path: &Path) -> Result<Digest, RuntimeError> {
        let mut stamp = Stamp::of([path]);
        stamp.add_all(path).map_err(RuntimeError::io("list", path))?;
        self.contents(path, &[], stamp)
    }

    /// The same of a directory that only an installer writes, without directories of the names `except`.
    pub(super) fn installed(&mut self, path: &Path, except: &[&str]) -> Result<Digest, RuntimeError> {
        let entries = fs::read_dir(path).map_err(RuntimeError::io("list", path))?;
        // Links are what they say, wherever they lead.
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut watched: Vec<PathBuf> = directories.map(|entry| entry.path()).collect();
        watched.retain(|path| !ignored(path, except));
        watched.push(path.to_owned());
        watched.sort();
        self.contents(path, except, Stamp::of(watched.iter().map(PathBuf::as_path)))
    }

    fn contents(&mut self, path: &Path, except: &[&str], stamp: Stamp) -> Result<Digest, RuntimeError> {
        let compute = || {
            let mut key = KeyBuilder::new("directory of the machine");
            hash_directory(path, path, except, &mut key).map_err(RuntimeError::io("read", path))?;
            Ok(key.finish().to_string())
        };
        let text = self.remember(format!("directory {}", path.display()), stamp, compute)?;
        Ok(text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes())))
    }
}

/// Behind its own digest: what is damaged is unknown.
fn encode(known: &BTreeMap<String, Known>) -> io::Result<Vec<u8>> {
    let known = serde_json::to_vec(known)?;
    Ok([Digest::of(&known).hex().as_bytes(), b"\n", &known].concat())
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<String, Known>> {
    let (digest, known) = bytes.split_at_checked(64)?;
    let known = known.strip_prefix(b"\n")?;
    let is_whole = Digest::of(known).hex().as_bytes() == digest;
    is_whole.then(|| serde_json::from_slice(known).ok()).flatten()
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

    /// All below a directory, whatever it is. A link never says something else: another one in its place changes the times of the
    /// directory that it is in, so it is not looked at.
    fn add_all(&mut self, dir: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        entries.retain(|entry| !ignored(&entry.path(), &[]));
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                continue;
            }
            self.add(entry.metadata().ok().as_ref());
            if kind.is_dir() {
                self.add_all(&entry.path())?;
            }
        }
        // Of thousands of files it would be a long text.
        self.text = Digest::of(self.text.as_bytes()).hex();
        Ok(())
    }

    fn add(&mut self, metadata: Option<&Metadata>) {
        use std::fmt::Write as _;
        let Some(found) = metadata else {
            self.text.push_str("- ");
            return;
        };
        let (mtime, ctime) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        let (dev, ino, size, mode) = (found.dev(), found.ino(), found.size(), found.mode());
        let _ = write!(self.text, "{dev}:{ino}:{size}:{mode:o}:{mtime:?}:{ctime:?} ");
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
        let metadata = path.symlink_metadata()?;
        let kind = metadata.file_type();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if kind.is_dir() {
            hash_directory(root, &path, except, key)?;
        } else if kind.is_symlink() {
            key.add(&name, fs::read_link(&path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            key.add(&name, hash_file(&path)?.as_bytes());
            if metadata.mode() & 0o111 != 0 {
                key.add("executable", name.as_bytes());
            }
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
        let digest = |dir: &Path| Identities::default().directory(dir).expect("a digest");
        fs::write(dir.path().join("os.py"), "a").expect("a file");
        let first = digest(dir.path());
        fs::create_dir(dir.path().join("__pycache__")).expect("a directory");
        fs::write(dir.path().join("__pycache__/os.pyc"), "b").expect("a file");
        assert_eq!(digest(dir.path()), first);
        fs::write(dir.path().join("os.py"), "c").expect("a file");
        assert_ne!(digest(dir.path()), first);
    }

    #[test]
    fn a_directory_that_is_remembered_is_looked_at_to_its_last_file() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("tool");
        let (program, library) = (dir.join("bin/tool"), dir.join("lib/deep/er/x.sh"));
        for file in [&program, &library] {
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, "1").expect("a file");
        }
        let mut identities = Identities::open(home.path());
        let mut digests = Vec::new();
        let mut settled = |identities: &mut Identities| {
            std::thread::sleep(Duration::from_millis(3100));
            let digest = identities.directory(&dir).expect("a digest");
            assert_eq!(identities.directory(&dir).expect("known"), digest);
            digests.push(digest);
        };
        settled(&mut identities);
        fs::write(&library, "2").expect("written in place");
        settled(&mut identities);
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        settled(&mut identities);
        let link = |to: &str| {
            let _ = fs::remove_file(dir.join("bin/link"));
            std::os::unix::fs::symlink(to, dir.join("bin/link")).expect("a link");
        };
        link("tool");
        settled(&mut identities);
        link("loot");
        settled(&mut identities);
        assert!(digests.windows(2).all(|pair| pair[0] != pair[1]), "{digests:?}");
    }

    #[test]
    fn what_is_damaged_is_unknown() {
        let value = || Known { stamp: "stamp".into(), value: "value".into() };
        let bytes = encode(&BTreeMap::from([("a".to_owned(), value())])).expect("plain data");
        assert!(decode(&bytes).is_some_and(|known| known["a"].value == "value"));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped).is_none() && decode(&bytes[..at]).is_none(), "{at}");
        }
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
