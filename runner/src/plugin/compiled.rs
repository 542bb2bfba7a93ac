//! The files of compiled plugins, looked through: each is the digest of the machine code, and the code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;

/// How old a file must be that nobody has finished writing, to be taken for one that nobody will.
const ABANDONED: Duration = Duration::from_hours(24);

fn list(home: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(home.join("components")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Whether somebody may still be writing it, under a name that it will not keep.
fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Nothing, of a file that has gone meanwhile.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Removes what is there: a file, or a directory that only damage can have put there.
fn remove(path: &Path) -> io::Result<Option<()>> {
    there(if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) })
}

/// Removes compiled plugins of a home directory that are damaged; gives how many those were.
pub fn check_compiled(home: &Path) -> io::Result<usize> {
    let mut damaged = 0;
    for path in list(home)?.into_iter().filter(|path| !is_unfinished(path)) {
        let is_whole = !path.is_dir() && {
            let Some(bytes) = there(fs::read(&path))? else { continue };
            bytes.split_at_checked(32).is_some_and(|(digest, code)| Digest::of(code).as_bytes() == digest)
        };
        if !is_whole {
            damaged += 1;
            remove(&path)?;
        }
    }
    Ok(damaged)
}

/// Removes compiled plugins that were not read for so long; gives the bytes that this frees. Whoever loads one has read it whole.
pub fn collect_compiled(home: &Path, unused_for: Duration) -> io::Result<u64> {
    let mut freed = 0;
    for path in list(home)? {
        let Some(metadata) = there(fs::metadata(&path))? else { continue };
        let used = metadata.accessed()?.max(metadata.modified()?);
        let limit = if is_unfinished(&path) { unused_for.max(ABANDONED) } else { unused_for };
        if SystemTime::now().duration_since(used).is_ok_and(|age| age >= limit) && remove(&path)?.is_some() {
            freed += metadata.len();
        }
    }
    Ok(freed)
}
