//! Paths by their names alone. Knows nothing of what is there.

use std::path::{Component, Path, PathBuf};

/// A path without `.` and `..`, whose links are left as they are.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}
