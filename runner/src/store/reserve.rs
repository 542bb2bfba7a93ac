//! Room on the disk: enough to begin with, and a little that is kept for the moment when there is none, since to collect garbage
//! takes some too. Knows nothing of what the room is for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::StoreError;

/// With less room than this nothing is begun: what the index maps into memory needs some, and a program that finds none there is
/// ended by the kernel without a word.
const NEEDED: u64 = 256 << 10;

/// What is kept, and how much more room there has to be for that.
const RESERVE: u64 = 1 << 20;
const BESIDE: u64 = 8 << 20;

/// From so much on a file system says rightly that there is room: some keep a little that they count as free and give to nobody.
const AMPLE: u64 = 64 << 20;

/// Refuses to begin where the disk is full, and keeps some room where it is far from that.
pub(super) fn check(root: &Path) -> Result<(), StoreError> {
    if !has_room(root, NEEDED) {
        return Err(StoreError::io("write into", root)(Errno::ENOSPC.into()));
    }
    let path = path(root);
    if !path.exists() && has_room(root, RESERVE + BESIDE) {
        let kept = File::create_new(&path).and_then(|file| take(&file, RESERVE));
        // That it cannot be kept harms nobody yet.
        if kept.is_err() {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Gives up what is kept, if there is no room without it.
pub(super) fn spend(root: &Path) {
    if !has_room(root, NEEDED) {
        // Where there is none there is nothing to be had.
        let _ = fs::remove_file(path(root));
    }
}

/// Whether there is so much room, which is tried where it is close. What cannot be found out is for whoever writes.
fn has_room(root: &Path, bytes: u64) -> bool {
    let said = statvfs(root).map_or(AMPLE, |found| found.blocks_free().saturating_mul(found.fragment_size()));
    if said >= AMPLE {
        return true;
    }
    let tried = tempfile::tempfile_in(root).and_then(|file| take(&file, bytes));
    !tried.is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Gives a file room on the disk.
fn take(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

fn path(root: &Path) -> PathBuf {
    root.join("reserve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_once_and_given_up_only_where_there_is_no_other() {
        let root = tempfile::tempdir().expect("a directory");
        check(root.path()).expect("a disk with room");
        let kept = fs::metadata(path(root.path())).expect("a file");
        assert_eq!(kept.len(), RESERVE);
        spend(root.path());
        assert!(path(root.path()).exists(), "there is room");
    }
}
