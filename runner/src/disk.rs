//! How much room there is on the disk of a path. Knows nothing of what it is for.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// From so much on a file system says rightly that there is room: some keep a little that they count as free and give to nobody.
const AMPLE: u64 = 64 << 20;

/// How many bytes any user may still write, none where there may be no more files; nothing where the file system does not say.
pub(crate) fn room(path: &Path) -> io::Result<Option<u64>> {
    let found = statvfs(path)?;
    let is_out_of_files = found.files() > 0 && found.files_available() == 0;
    let bytes = found.blocks_available().saturating_mul(found.fragment_size());
    Ok((found.blocks() > 0).then_some(if is_out_of_files { 0 } else { bytes }))
}

/// Whether this user can still write so much into a directory, which is tried where it is close. What cannot be found out is for
/// whoever writes.
pub(crate) fn has_room(directory: &Path, bytes: u64) -> bool {
    if !matches!(room(directory), Ok(Some(room)) if room < AMPLE) {
        return true;
    }
    let tried = tempfile::tempfile_in(directory).and_then(|file| take(&file, bytes));
    !tried.is_err_and(|error| is_for_want_of_room(&error))
}

/// Gives a file room on the disk.
pub(crate) fn take(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// Whether a disk, or a user's part of it, is full.
pub(crate) fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
