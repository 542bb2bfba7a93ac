//! The directories that programs in sandboxes have written into: made before, removed afterwards whatever they did to them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where in it the kernel puts what is written.
pub(crate) const UPPER: &str = "upper";

/// An empty directory for the writable layer of one overlay, removed with its value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one in `parent`, which only the runner's user may enter.
    pub fn new_in(parent: &Path) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix("layer-").tempdir_in(parent)?.keep();
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where what programs wrote into the overlay lies, and nothing that was there before. What they removed is a
    /// character device there.
    pub fn written(&self) -> PathBuf {
        self.path.join(UPPER)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now lies in a directory of scratch, and goes with that.
        let _ = remove_all(&self.path);
    }
}

/// Removes a directory and all in it, directories that nobody may enter too. No link is followed.
pub fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Gives the owner back the right to list and change each directory of a tree that nothing runs in any more.
pub(super) fn open_directories(path: &Path) -> io::Result<()> {
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o700 != 0o700 {
            fs::set_permissions(&path, Permissions::from_mode(mode | 0o700))?;
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_even_when_closed() {
        let parent = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::new_in(parent.path()).expect("a scratch directory");
        let inner = scratch.path().join("upper/closed");
        fs::create_dir_all(inner.join("deep")).expect("directories");
        fs::set_permissions(&inner, Permissions::from_mode(0o000)).expect("a mode");
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).expect("a listing").count(), 0);
    }
}
