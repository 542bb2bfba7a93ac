//! The files of compiled plugins, read, written and looked through. Each is a digest, and what it holds: the digest is that of its
//! name too, so that none is taken for another.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::private;

/// How old a file must be that nobody has finished writing, to be taken for one that nobody will.
const ABANDONED: Duration = Duration::from_hours(24);

/// The end of their names; files without it, which an earlier version wrote, are read by nobody.
const NAMED: &str = "named";

/// The file of a name.
pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{NAMED}"))
}

/// What a file holds, if it is whole and has the name that it was written under.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    if !is_whole(path, &bytes) {
        return None;
    }
    bytes.drain(..32);
    Some(bytes)
}

/// Writes a file. On a disk that is only read nothing is kept, and made anew each time.
pub(super) fn save(path: &Path, held: &[u8]) -> io::Result<()> {
    let bytes = [digest(path, held).as_bytes(), held].concat();
    match private::heal(path, || private::replace(path, &bytes)) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        saved => saved,
    }
}

fn is_whole(path: &Path, bytes: &[u8]) -> bool {
    bytes.split_at_checked(32).is_some_and(|(found, held)| digest(path, held).as_bytes() == found)
}

fn digest(path: &Path, held: &[u8]) -> Digest {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // No name of the cache has a zero byte in it.
    blake3::Hasher::new().update(name).update(&[0]).update(held).finalize().into()
}

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

/// Removes compiled plugins of a home directory that are damaged, or another's; gives how many those were.
pub fn check_compiled(home: &Path) -> io::Result<usize> {
    let mut damaged = 0;
    for path in list(home)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == NAMED)) {
        let is_sound = !path.is_dir() && {
            let Some(bytes) = there(fs::read(&path))? else { continue };
            is_whole(&path, &bytes)
        };
        if !is_sound {
            damaged += 1;
            match remove(&path) {
                // Nobody loads what is damaged, so it may stay.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
                removed => drop(removed?),
            }
        }
    }
    Ok(damaged)
}

/// Removes compiled plugins that were not read for so long, and of the others those that were not for longest and do not fit into
/// so many bytes; gives the bytes that this frees, and those that stay. Whoever loads one has read it whole.
pub fn collect_compiled(home: &Path, unused_for: Duration, room: u64) -> io::Result<(u64, u64)> {
    let mut all = Vec::new();
    for path in list(home)? {
        let Some(metadata) = there(fs::metadata(&path))? else { continue };
        all.push((metadata.accessed()?.max(metadata.modified()?), metadata.len(), path));
    }
    all.sort_by_key(|(used, ..)| Reverse(*used));
    let (mut freed, mut kept) = (0, 0);
    for (used, size, path) in all {
        let is_unfinished = is_unfinished(&path);
        let limit = if is_unfinished { unused_for.max(ABANDONED) } else { unused_for };
        let is_old = SystemTime::now().duration_since(used).is_ok_and(|age| age >= limit);
        if !is_old && (is_unfinished || kept + size <= room) {
            kept += size;
        } else if remove(&path)?.is_some() {
            freed += size;
        }
    }
    Ok((freed, kept))
}
