//! The note that something in the store was found damaged: whoever opens the store next looks through all of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn path(root: &Path) -> PathBuf {
    root.join("suspect")
}

/// Leaves the note.
pub(super) fn mark(root: &Path) {
    // Where nothing can be written, whoever comes next finds the damage again.
    let _ = File::create(path(root));
}

/// Whether there is one.
pub(super) fn is_marked(root: &Path) -> bool {
    path(root).exists()
}

/// Takes it away.
pub(super) fn clear(root: &Path) {
    // A note too many costs another look.
    let _ = fs::remove_file(path(root));
}
