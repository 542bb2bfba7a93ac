//! Directories and files that nobody but their owner may look into: what is kept of runs tells what was built and what it said.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
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

/// Puts a file in its place once it is whole and on the disk: whoever reads it, be it after a power cut, finds the old one or the new
/// one, and never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Puts a file that can be made anew in its place, as `put` does. A directory that is there makes way: it can only be damage.
pub(crate) fn heal<T>(path: &Path, put: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match put() {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            fs::remove_dir_all(path)?;
            put()
        }
        result => result,
    }
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

    #[test]
    fn whoever_has_a_file_open_that_is_replaced_has_the_old_one() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("file");
        fs::write(&path, "old").expect("written");
        let mut old = fs::File::open(&path).expect("it is there");
        replace(&path, b"new").expect("replaced");
        let mut text = String::new();
        io::Read::read_to_string(&mut old, &mut text).expect("read");
        assert_eq!((text.as_str(), fs::read(&path).expect("read").as_slice()), ("old", &b"new"[..]));
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 1, "nothing is left beside it");
        // What cannot be put in its place changes nothing.
        fs::create_dir(home.path().join("taken")).expect("a directory");
        let taken = home.path().join("taken");
        assert!(replace(&taken, b"new").is_err());
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 2);
        fs::write(taken.join("file"), "").expect("a file in it");
        heal(&taken, || replace(&taken, b"new")).expect("it makes way");
        assert_eq!(fs::read(&taken).expect("read"), b"new");
    }
}
