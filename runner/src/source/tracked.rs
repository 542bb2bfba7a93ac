//! Which files of a repository git tracks, by its index: such a file is part of the project whatever `.gitignore` says.
//!
//! Knows nothing of repositories within it, of git's objects, and of its configuration only how long an object's name is.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::index::{Index, Link};
use crate::digest::Digest;

/// The length of an object's name: SHA-1, and SHA-256 where a repository says so.
const SHA1: usize = 20;
const SHA256: usize = 32;

/// The paths that an index names, in order.
#[derive(Debug)]
pub(super) struct Tracked {
    /// What the paths are relative to.
    root: PathBuf,
    paths: Vec<Vec<u8>>,
    digest: Digest,
}

impl Tracked {
    /// What the repository around a directory tracks; nothing where there is none.
    pub(super) fn around(dir: &Path) -> Result<Self, SourceError> {
        let Some(root) = repository(dir) else {
            return Ok(Self::new(dir, Vec::new()));
        };
        let git = root.join(".git");
        let directory = git_directory(&git).map_err(SourceError::io("read", &git))?;
        let mut paths = named(&directory)?;
        // Those of a split index came after what it shares.
        paths.sort_unstable();
        Ok(Self::new(root, paths))
    }

    fn new(root: &Path, paths: Vec<Vec<u8>>) -> Self {
        // No path has a zero in it.
        let digest = Digest::of(&paths.join(&0));
        Self { root: root.to_owned(), paths, digest }
    }

    /// Of all that is tracked.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a file is tracked, or something in a directory, or the directory as a submodule.
    pub(super) fn has(&self, path: &Path, is_dir: bool) -> bool {
        let Ok(relative) = path.strip_prefix(&self.root) else { return false };
        let wanted = relative.as_os_str().as_encoded_bytes();
        if self.paths.binary_search_by(|path| path.as_slice().cmp(wanted)).is_ok() {
            return true;
        }
        if !is_dir {
            return false;
        }
        let below = |path: &[u8]| path.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&b'/'));
        let first = self.paths.partition_point(|path| order(path, wanted) == Ordering::Less);
        self.paths.get(first).is_some_and(|path| below(path))
    }
}

/// What the index of a git directory names; nothing where none has been written yet.
fn named(directory: &Path) -> Result<Vec<Vec<u8>>, SourceError> {
    let path = directory.join("index");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SourceError::io("read", &path)(error)),
    };
    let length = name_length(directory)?;
    let index = parse(&path, &bytes, length)?;
    let Some(shared) = index.link.as_ref().and_then(Link::file) else { return Ok(index.named) };
    let shared = directory.join(shared);
    let bytes = match fs::read(&shared) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SourceError::Index(shared)),
        read => read.map_err(SourceError::io("read", &shared))?,
    };
    index.over(&parse(&shared, &bytes, length)?.named).ok_or(SourceError::Index(path))
}

fn parse<'a>(path: &Path, bytes: &'a [u8], length: usize) -> Result<Index<'a>, SourceError> {
    let index = Index::parse(bytes, length).ok_or_else(|| SourceError::Index(path.to_owned()))?;
    match index.unknown {
        Some(extension) => Err(SourceError::IndexExtension { path: path.to_owned(), extension }),
        None => Ok(index),
    }
}

/// The length of an object's name in the repository of a git directory: its `config` says what they are.
fn name_length(directory: &Path) -> Result<usize, SourceError> {
    // Work trees of one repository have one configuration.
    let common = fs::read_to_string(directory.join("commondir")).unwrap_or_default();
    let path = directory.join(common.trim_end()).join("config");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SHA1),
        read => read.map_err(SourceError::io("read", &path))?,
    };
    Ok(if is_sha256(&String::from_utf8_lossy(&text)) { SHA256 } else { SHA1 })
}

/// Whether a configuration says `objectformat = sha256` in its section `extensions`.
fn is_sha256(config: &str) -> bool {
    let mut section = String::new();
    config.to_ascii_lowercase().lines().any(|line| {
        let mut line = line.trim();
        if let Some((name, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            name.trim().clone_into(&mut section);
            line = rest;
        }
        let (key, value) = line.split_once('=').unwrap_or_default();
        section == "extensions" && key.trim() == "objectformat" && value.trim().trim_matches('"') == "sha256"
    })
}

/// The root of the repository that a directory is in.
pub(crate) fn repository(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| is_repository(dir))
}

/// Whether a directory is the root of one.
pub(super) fn is_repository(dir: &Path) -> bool {
    dir.join(".git").exists()
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
            for other in ["li", "lib/s", "zzz"] {
                assert!(!tracked.has(&dir.path().join(other), true), "{version}: {other}");
            }
        }
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
        for cut in 0..whole.len() {
            assert!(Index::parse(&whole[..cut], SHA1).is_none(), "{cut}");
        }
        fs::write(&index, &whole[..40]).expect("a file");
        assert!(matches!(Tracked::around(dir.path()), Err(SourceError::Index(path)) if path == index));
    }

    /// Files of a repository that was made so, and with which of them are tracked.
    fn repository_of(dir: &Path, made: &[&str], files: &[String]) {
        git(dir, &[&["init", "-q"], made].concat());
        for file in files {
            fs::write(dir.join(file), file).expect("a file");
        }
        git(dir, &["add", "."]);
    }

    #[test]
    fn a_split_index_is_read_with_what_it_shares() {
        for (made, version) in [(&[][..], "2"), (&[], "4"), (&["--object-format=sha256"], "3")] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = |file: &str| dir.path().join(file);
            let files: Vec<String> = (0..300).map(|number| format!("f{number:03}")).collect();
            repository_of(dir.path(), made, &files);
            git(dir.path(), &["config", "splitIndex.maxPercentChange", "100"]);
            git(dir.path(), &["update-index", "--index-version", version]);
            git(dir.path(), &["update-index", "--split-index"]);
            fs::write(path("f001"), "changed").expect("a file");
            fs::write(path("new"), "new").expect("a file");
            git(dir.path(), &["add", "f001", "new"]);
            let removed = files[70..270].iter().map(|file| &**file);
            let remove = ["rm", "-q", "--cached", "f002"].into_iter().chain(removed);
            git(dir.path(), &remove.collect::<Vec<_>>());

            let index = fs::read(path(".git/index")).expect("an index");
            assert!(index.windows(4).any(|window| window == b"link"), "git has split it");
            let tracked = Tracked::around(dir.path()).expect("an index");
            for (number, file) in files.iter().enumerate() {
                let is_tracked = number != 2 && !(70..270).contains(&number);
                assert_eq!(tracked.has(&path(file), false), is_tracked, "{made:?} {version} {file}");
            }
            assert!(tracked.has(&path("new"), false) && tracked.paths.len() == 100);

            let shared = fs::read_dir(path(".git")).expect("a directory").map(|entry| entry.expect("an entry").path());
            let shared = shared.filter(|path| path.to_string_lossy().contains("sharedindex"));
            shared.for_each(|path| fs::remove_file(path).expect("removed"));
            let error = Tracked::around(dir.path()).expect_err("it is gone");
            assert!(error.to_string().contains(".git/sharedindex."), "{error}");
        }
    }

    #[test]
    fn a_repository_with_longer_names_is_read_and_its_work_trees_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let main = dir.path().join("main");
        fs::create_dir(&main).expect("a directory");
        repository_of(&main, &["--object-format=sha256"], &["a".to_owned(), "b".to_owned()]);
        git(&main, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"]);
        git(&main, &["worktree", "add", "-q", "../other"]);
        for tree in [main, dir.path().join("other")] {
            let tracked = Tracked::around(&tree).expect("an index");
            assert!(tracked.has(&tree.join("a"), false) && tracked.has(&tree.join("b"), false));
        }
        assert!(is_sha256("[core]\n\tx = 1\n[Extensions] objectFormat=\"SHA256\"\n"));
        assert!(!is_sha256("[extensions]\n\tobjectformat = sha1\n[other]\n\tobjectformat = sha256\n"));
    }

    #[test]
    fn an_extension_that_must_be_understood_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        repository_of(dir.path(), &[], &["a".to_owned()]);
        let path = dir.path().join(".git/index");
        let index = fs::read(&path).expect("an index");
        let (before, checksum) = index.split_at(index.len() - SHA1);
        for (extension, is_known) in [(b"NEWS", true), (b"sdir", true), (b"news", false)] {
            let extended = [before, extension, &[0, 0, 0, 2], b"ab", checksum].concat();
            fs::write(&path, extended).expect("a file");
            let read = Tracked::around(dir.path());
            assert_eq!(read.is_ok(), is_known, "{read:?}");
            if let Err(error) = read {
                assert!(error.to_string().ends_with("index` has the extension `news`, which is unknown"), "{error}");
            }
        }
    }
}
