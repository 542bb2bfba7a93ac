//! Which files of a repository git tracks, by its index and those of its submodules: such a file is part of the project whatever
//! `.gitignore` says.
//!
//! Reads versions 2 to 4 of the format (gitformat-index); knows nothing of git's objects or configuration. Our own reader,
//! because a list of paths is all that is wanted: the libraries that read an index bring all of git along. A split index
//! (`core.splitIndex`) says of the files that are named in it only.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::SourceError;
use crate::digest::Digest;

/// Before the path of an entry: times, device, inode, mode, owner and size.
const STAT: usize = 40;
/// Where in it the mode is, and that of a submodule.
const MODE: usize = 24;
const REPOSITORY: u32 = 0o160_000;
/// The length of an object's name: SHA-1.
const NAME: usize = 20;
/// Bits of an entry's flags: there are more flags (version 3), and the length of its path as far as it can be told.
const EXTENDED: u16 = 0x4000;
const LENGTH: u16 = 0x0fff;

/// The paths that an index names, in order.
#[derive(Debug)]
pub(super) struct Tracked {
    /// What the paths are relative to.
    root: PathBuf,
    paths: Vec<Box<[u8]>>,
    digest: Digest,
}

impl Tracked {
    /// What the repository around a directory tracks; nothing where there is none.
    pub(super) fn around(dir: &Path) -> Result<Self, SourceError> {
        let Some(root) = repository(dir) else {
            return Ok(Self::new(dir, Vec::new()));
        };
        let mut paths = Vec::new();
        read(root, b"", &mut paths)?;
        // Those of a submodule came after all of what is around it.
        paths.sort_unstable();
        Ok(Self::new(root, paths))
    }

    fn new(root: &Path, paths: Vec<Box<[u8]>>) -> Self {
        // No path has a zero in it.
        let digest = Digest::of(&paths.join(&0));
        Self { root: root.to_owned(), paths, digest }
    }

    /// Of all that is tracked.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a file is tracked, or something in a directory.
    pub(super) fn has(&self, path: &Path, is_dir: bool) -> bool {
        let Ok(relative) = path.strip_prefix(&self.root) else { return false };
        let wanted = relative.as_os_str().as_encoded_bytes();
        if !is_dir {
            return self.paths.binary_search_by(|path| path.as_ref().cmp(wanted)).is_ok();
        }
        let below = |path: &[u8]| path.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&b'/'));
        let first = self.paths.partition_point(|path| order(path, wanted) == Ordering::Less);
        self.paths.get(first).is_some_and(|path| below(path))
    }
}

/// Reads the index of the repository at a root, and those of its submodules; `at` is where it is in the one around it, with a slash.
fn read(root: &Path, at: &[u8], tracked: &mut Vec<Box<[u8]>>) -> Result<(), SourceError> {
    let git = root.join(".git");
    let path = git_directory(&git).map_err(SourceError::io("read", &git))?.join("index");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        // Nothing has been added yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SourceError::io("read", &path)(error)),
    };
    for entry in entries(&bytes).ok_or(SourceError::Index(path))? {
        let below = root.join(OsStr::from_bytes(&entry.path));
        let path = [at, &entry.path].concat();
        // One that was never fetched tracks nothing.
        if entry.is_repository && below.join(".git").exists() {
            read(&below, &[&path, &b"/"[..]].concat(), tracked)?;
        }
        tracked.push(path.into());
    }
    Ok(())
}

/// The root of the repository that a directory is in.
pub(crate) fn repository(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.join(".git").exists())
}

/// The branch that is checked out where a directory is; none where there is no repository, or none of its branches is.
pub fn branch(dir: &Path) -> Option<String> {
    let dir = std::path::absolute(dir).ok()?;
    let head = fs::read_to_string(git_directory(&repository(&dir)?.join(".git")).ok()?.join("HEAD")).ok()?;
    Some(head.trim_end().strip_prefix("ref: refs/heads/")?.to_owned())
}

/// How a path stands to all that is below a directory: before, or not.
fn order(path: &[u8], directory: &[u8]) -> Ordering {
    path.iter().copied().cmp(directory.iter().copied().chain([b'/']))
}

/// The directory that `.git` is, or that it names where the work tree is one of several, or a submodule.
fn git_directory(git: &Path) -> io::Result<PathBuf> {
    if git.is_dir() {
        return Ok(git.to_owned());
    }
    let text = fs::read_to_string(git)?;
    let named = text.trim().strip_prefix("gitdir:").map(str::trim).unwrap_or_default();
    Ok(git.parent().unwrap_or(git).join(named))
}

/// What an index names.
struct Named {
    path: Vec<u8>,
    /// A commit of another repository, in which it is a submodule.
    is_repository: bool,
}

/// What an index names; none where it is not of a version that is known.
fn entries(index: &[u8]) -> Option<Vec<Named>> {
    let mut rest = index.strip_prefix(b"DIRC")?;
    let version = number(&mut rest)?;
    let count = usize::try_from(number(&mut rest)?).ok()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    // Each entry has at least its fixed part: a count that promises more is not believed.
    let mut named: Vec<Named> = Vec::with_capacity(count.min(rest.len() / (STAT + NAME)));
    for _ in 0..count {
        let entry = rest;
        let mode = take(&mut rest, STAT + NAME)?.get(MODE..MODE + 4)?;
        let is_repository = mode == REPOSITORY.to_be_bytes();
        let flags = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        if flags & EXTENDED != 0 {
            take(&mut rest, 2)?;
        }
        let path = if version == 4 {
            let dropped = varint(&mut rest)?;
            let previous = named.last().map(|named| &*named.path).unwrap_or_default();
            let kept = previous.get(..previous.len().checked_sub(dropped)?)?;
            let added = until_nul(&mut rest)?;
            [kept, added].concat()
        } else {
            let path = match usize::from(flags & LENGTH) {
                length if length < usize::from(LENGTH) => take(&mut rest, length)?,
                _ => &rest[..rest.iter().position(|byte| *byte == 0)?],
            };
            if usize::from(flags & LENGTH) == usize::from(LENGTH) {
                take(&mut rest, path.len())?;
            }
            // One to eight zeros, to a multiple of eight bytes.
            let length = entry.len() - rest.len();
            take(&mut rest, 8 - length % 8)?;
            path.to_vec()
        };
        named.push(Named { path, is_repository });
    }
    Some(named)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// A text up to a zero, which is taken too.
fn until_nul<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.iter().position(|byte| *byte == 0)?;
    let text = take(rest, length)?;
    take(rest, 1)?;
    Some(text)
}

/// A number as git's packs write offsets.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value: usize = 0;
    loop {
        let byte = take(rest, 1)?[0];
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value = value.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(dir: &Path, arguments: &[&str]) {
        let done = Command::new("git").arg("-C").arg(dir).args(arguments).output().expect("git");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn an_index_of_each_version_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let long = format!("long/{}", "x".repeat(200));
        let deep = format!("{}/{}", long, "y".repeat(250)).replace("xxxxx", "xxx/x");
        let files = ["a", "a.b", "a/b", "lib-x", "lib/i18n.js", "lib/sub/ü", "new", &long, &deep];
        let files: Vec<&str> = files.into_iter().filter(|file| *file != "a").collect();
        for file in &files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, file).expect("a file");
        }
        git(dir.path(), &["init", "-q"]);
        git(dir.path(), &["add", "."]);
        // A path that is only announced has flags that version 2 has no room for.
        git(dir.path(), &["rm", "-q", "--cached", "new"]);
        git(dir.path(), &["add", "-N", "new"]);
        for version in ["2", "3", "4"] {
            git(dir.path(), &["update-index", "--index-version", version]);
            let tracked = Tracked::around(&dir.path().join("lib")).expect("an index");
            for file in &files {
                assert!(tracked.has(&dir.path().join(file), false), "{version}: {file}");
            }
            for directory in ["a", "lib", "lib/sub", "long"] {
                assert!(tracked.has(&dir.path().join(directory), true), "{version}: {directory}");
                assert!(!tracked.has(&dir.path().join(directory), false), "{version}: {directory}");
            }
            for other in ["li", "lib/s", "lib/i18n.js", "zzz", "lib/sub/ü"] {
                assert!(!tracked.has(&dir.path().join(other), true), "{version}: {other}");
            }
        }
    }

    #[test]
    fn what_a_submodule_tracks_is_tracked_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let [inner, middle, outer] = ["inner", "middle", "outer"].map(|name| dir.path().join(name));
        let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
        for (repository, below) in [(&inner, None), (&middle, Some(&inner)), (&outer, Some(&middle))] {
            fs::create_dir(repository).expect("a directory");
            git(repository, &["init", "--quiet"]);
            fs::write(repository.join("file"), "").expect("written");
            if let Some(below) = below {
                git(repository, &[&add[..], &[below.to_str().expect("a text"), "lib/sub"]].concat());
            }
            git(repository, &["add", "."]);
            git(repository, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a"]);
        }
        git(&outer, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive"]);
        let tracked = Tracked::around(&outer.join("lib")).expect("an index");
        for file in ["file", "lib/sub/file", "lib/sub/lib/sub/file"] {
            assert!(tracked.has(&outer.join(file), false), "{file}");
        }
        assert!(tracked.has(&outer.join("lib/sub/lib"), true) && !tracked.has(&outer.join("lib/sub/other"), false));
    }

    #[test]
    fn where_there_is_no_index_nothing_is_tracked_and_a_damaged_one_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(".git")).expect("a directory");
        assert!(!Tracked::around(dir.path()).expect("nothing").has(&dir.path().join("a"), false));
        fs::write(dir.path().join("a"), "").expect("a file");
        git(dir.path(), &["init", "-q"]);
        git(dir.path(), &["add", "."]);
        let index = dir.path().join(".git/index");
        let whole = fs::read(&index).expect("an index");
        for cut in 0..STAT + NAME + 12 {
            assert!(entries(&whole[..cut]).is_none(), "{cut}");
        }
        fs::write(&index, &whole[..40]).expect("a file");
        assert!(matches!(Tracked::around(dir.path()), Err(SourceError::Index(path)) if path == index));
    }
}
