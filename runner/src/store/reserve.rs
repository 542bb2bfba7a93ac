//! Room on the disk: enough to begin with, and a little that is kept for the moment when there is none, since to collect garbage
//! takes some too. Knows nothing of what the room is for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::disk::{has_room, take};

/// With less room than this nothing is begun: what the index maps into memory needs some, and a program that finds none there is
/// ended by the kernel without a word.
const NEEDED: u64 = 256 << 10;

/// What is kept, and how much more room there has to be for that.
const RESERVE: u64 = 6 << 20;
const BESIDE: u64 = 8 << 20;

/// What of it is for freeing room alone.
const TO_FREE: u64 = 2 << 20;

/// What of the rest a command is given that finds no room: most have little to write, or nothing.
const SLICE: u64 = 1 << 20;

/// Sees to it that there is room to begin: on a full disk out of what is kept, and where that is used up it is refused. Where the disk
/// is far from full some is kept again.
pub(super) fn check(root: &Path) -> Result<(), StoreError> {
    let is_enough = || has_room(root, NEEDED);
    if !is_enough() && (!give(root, SLICE) || !is_enough()) {
        return Err(StoreError::full(root));
    }
    let path = path(root);
    let is_kept = path.metadata().is_ok_and(|kept| kept.len() >= RESERVE);
    if !is_kept && has_room(root, RESERVE + BESIDE) {
        let kept = File::options().create(true).truncate(false).write(true).open(&path);
        // That it cannot be kept harms nobody yet.
        if kept.and_then(|file| take(&file, RESERVE)).is_err() {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Gives up what is kept for the end of what fails: what was done by then is still written down. Whether there was any.
pub(super) fn give_for_end(root: &Path) -> bool {
    give(root, RESERVE)
}

/// Gives up so much of what is kept, but never what is for freeing room; whether there was any.
fn give(root: &Path, bytes: u64) -> bool {
    let given = || {
        let file = File::options().write(true).open(path(root))?;
        let kept = file.metadata()?.len();
        let left = kept.saturating_sub(bytes).max(TO_FREE);
        file.set_len(left.min(kept))?;
        Ok::<_, io::Error>(left < kept)
    };
    given().unwrap_or(false)
}

/// Gives up all that is kept, if there is little room without it.
pub(super) fn spend(root: &Path) {
    if !has_room(root, BESIDE) {
        // Where there is none there is nothing to be had.
        let _ = fs::remove_file(path(root));
    }
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
        assert!(give(root.path(), SLICE) && give_for_end(root.path()) && !give_for_end(root.path()));
        let left = || fs::metadata(path(root.path())).expect("a file").len();
        assert_eq!(left(), TO_FREE);
        check(root.path()).expect("a disk with room");
        assert_eq!(left(), RESERVE, "it is kept again");
    }
}
