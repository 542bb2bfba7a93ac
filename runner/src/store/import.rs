//! A directory on a disk becomes a tree: links as links, executable bits, empty directories; no times, no owners.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::tree::{Entry, Tree};

/// What is left to somebody else's directory.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How much more its files may seem to have than they have on the disk, which bounds that.
    pub holes: u64,
    /// Whether what they have on the disk counts too: a link led to it, and nothing else has bounded it.
    pub all: bool,
}

impl Bounds {
    /// Counts what a file has that nothing else bounds.
    pub(crate) fn take(&mut self, file: &Metadata, path: &Path) -> Result<(), StoreError> {
        let on_disk = if self.all { 0 } else { file.blocks().saturating_mul(512) };
        let hole = file.len().saturating_sub(on_disk);
        self.holes = self.holes.checked_sub(hole).ok_or_else(|| StoreError::Holes(path.to_owned()))?;
        Ok(())
    }
}

impl Store {
    /// Keeps a directory and all that is in it. Sockets, pipes and devices are refused, but for the one by which an overlay's
    /// layer says that a name is gone: it is passed over. Links are not followed.
    pub fn import(&self, dir: &Path) -> Result<Digest, StoreError> {
        self.import_within(dir, &mut Bounds { holes: u64::MAX, all: false })
    }

    /// The same of a directory that somebody else has written.
    pub fn import_within(&self, dir: &Path, bounds: &mut Bounds) -> Result<Digest, StoreError> {
        let mut tree = Tree::default();
        for found in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
            let found = found.map_err(StoreError::io("list", dir))?;
            let path = found.path();
            let refuse = |why: &str| StoreError::Path { path: path.display().to_string(), why: why.to_owned() };
            let name = found.file_name();
            let name = name.to_str().ok_or_else(|| refuse("its name is not UTF-8"))?;
            if is_whiteout(&found) {
                continue;
            }
            let entry = self.import_entry(&path, bounds)?;
            tree.insert(name, entry).map_err(|error| refuse(&error.to_string()))?;
        }
        self.put_tree(&tree)
    }

    fn import_entry(&self, path: &Path, bounds: &mut Bounds) -> Result<Entry, StoreError> {
        self.until().look()?;
        let metadata = path.symlink_metadata().map_err(StoreError::io("look at", path))?;
        let kind = metadata.file_type();
        let refuse = |why: &str| StoreError::Path { path: path.display().to_string(), why: why.to_owned() };
        if kind.is_dir() {
            make_readable(path, &metadata, 0o500);
            Ok(Entry::Tree { digest: self.import_within(path, bounds)? })
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(StoreError::io("read", path))?;
            let target = target.to_str().ok_or_else(|| refuse("the link's target is not UTF-8"))?.to_owned();
            Ok(Entry::Symlink { target })
        } else if kind.is_file() {
            bounds.take(&metadata, path)?;
            make_readable(path, &metadata, 0o400);
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Ok(Entry::File { digest: self.put_file(path)?, executable })
        } else if kind.is_socket() {
            Err(refuse("it is a socket"))
        } else {
            Err(refuse("it is a pipe or a device"))
        }
    }
}

/// Gives the owner back what whoever wrote this has taken from himself: as root nobody would notice. Where it cannot be given, to
/// read it says why.
fn make_readable(path: &Path, metadata: &Metadata, right: u32) {
    let mode = metadata.permissions().mode();
    if mode & right != right {
        let _ = fs::set_permissions(path, Permissions::from_mode(mode | right));
    }
}

/// Whether an overlay means by this that there is nothing: a character device numbered 0.
fn is_whiteout(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_char_device())
        && entry.metadata().is_ok_and(|metadata| metadata.rdev() == 0)
}
