//! Directories that nobody but their owner may look into: what is kept of runs tells what was built and what it said.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// What the owner may do, and nobody else.
const OWNERS: u32 = 0o700;

/// Makes a directory and those above it that are missing; takes back what others may do in one that is there.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWNERS).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode | OWNERS == OWNERS { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(OWNERS)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_and_what_was_open_is_the_owners_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| fs::metadata(path).expect("a directory").permissions().mode() & 0o777;
        let path = home.path().join("a/b");
        directory(&path).expect("made");
        assert_eq!([mode(&path), mode(&home.path().join("a"))], [0o700, 0o700]);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("opened");
        directory(&path).expect("closed");
        assert_eq!(mode(&path), 0o700);
    }
}
