//! The files of compiled plugins, looked through: each is the digest of the machine code, and the code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;

fn list(home: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(home.join("components")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Removes compiled plugins of a home directory that are damaged; gives how many those were.
pub fn check_compiled(home: &Path) -> io::Result<usize> {
    let mut damaged = 0;
    for path in list(home)? {
        let bytes = fs::read(&path)?;
        let is_whole = bytes.split_at_checked(32).is_some_and(|(digest, code)| Digest::of(code).as_bytes() == digest);
        if !is_whole {
            damaged += 1;
            fs::remove_file(&path)?;
        }
    }
    Ok(damaged)
}

/// Removes compiled plugins that were not read for so long; gives the bytes that this frees.
pub fn collect_compiled(home: &Path, unused_for: Duration) -> io::Result<u64> {
    let mut freed = 0;
    for path in list(home)? {
        let metadata = fs::metadata(&path)?;
        let used = metadata.accessed()?.max(metadata.modified()?);
        if SystemTime::now().duration_since(used).is_ok_and(|age| age >= unused_for) {
            fs::remove_file(&path)?;
            freed += metadata.len();
        }
    }
    Ok(freed)
}
