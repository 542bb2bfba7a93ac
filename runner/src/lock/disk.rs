//! A project's files on a disk, as the shared rules of Python's locks want to read them.

use std::fs;
use std::io;
use std::path::PathBuf;

use python_packaging::files::Files;
use python_packaging::problem::Problem;

use super::LockError;
use crate::digest::Digest;

/// A project on a disk.
pub(super) struct Disk {
    root: PathBuf,
}

/// What stops a resolution: the project, or the machine.
pub(super) enum Stop {
    Problem(Problem),
    Lock(LockError),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<LockError> for Stop {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl Disk {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a path of the project is on this machine.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let whole = self.root.join(path);
        if whole.as_os_str().is_empty() { PathBuf::from(".") } else { whole }
    }

    fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, Stop> {
        let path = self.path(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(error) => Err(super::at("read", &path)(error).into()),
        }
    }
}

impl Files for Disk {
    type Error = Stop;

    fn read(&self, path: &str) -> Result<Option<String>, Stop> {
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        Ok(Some(text.map_err(|_| Problem::new(format!("`{path}` is not UTF-8")).hint("save it as UTF-8"))?))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, Stop> {
        Ok(self.bytes(path)?.map(|bytes| Digest::of(&bytes).to_string()))
    }

    fn exists(&self, path: &str) -> Result<bool, Stop> {
        Ok(self.path(path).is_file())
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, Stop> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}
