//! Trees as directories, for native programs to see: made of hard links into a pool of files, and disposable.
//!
//! They are the lower layers of sandboxes, which no write reaches. Whoever runs there may be any user, and is to find files
//! that it may change in its own layer: so modes are open, and what keeps others out is that only the owner enters the store.
//! All files were last changed at one and the same time long ago, so that a change shows.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::lease::Gate;
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::tree::Entry;

impl Store {
    /// The directory of a tree, made where it is not yet. Nobody may write into it.
    pub fn lay_out(&self, tree: &Digest) -> Result<PathBuf, StoreError> {
        let pool = self.0.root.join("pool");
        let home = pool.join("trees").join(tree.hex());
        if self.use_layout(tree, &home)? {
            return Ok(home);
        }
        let stage = self.scratch()?;
        let staged = stage.path().join("tree");
        self.lay_out_into(tree, &staged, &pool.join("files"))?;
        match fs::rename(&staged, &home) {
            Ok(()) => Ok(home),
            // Another run was faster; what it made is the same.
            Err(_) if home.is_dir() => Ok(home),
            Err(error) => Err(StoreError::io("create", &home)(error)),
        }
    }

    /// Whether a tree is laid out; whether it is or not, from now on it is not collected as garbage while this process lives.
    fn use_layout(&self, tree: &Digest, home: &Path) -> Result<bool, StoreError> {
        if self.0.lease.uses(tree) {
            return Ok(home.is_dir());
        }
        let gate = Gate::enter(self.root())?;
        // Garbage that is being collected may be this very tree.
        self.0.lease.mark(tree)?;
        drop(gate);
        if !home.is_dir() {
            return Ok(false);
        }
        let mut changed = Vec::new();
        let is_as_laid = self.compare_layout(tree, home, &mut changed)?;
        if !is_as_laid {
            self.set_aside_layout(tree, &changed)?;
        }
        Ok(is_as_laid)
    }

    /// Whether nothing was changed in the directory of a tree since it was laid out; collects the files that were.
    fn compare_layout(&self, tree: &Digest, dir: &Path, changed: &mut Vec<Digest>) -> Result<bool, StoreError> {
        let tree = self.tree(tree)?;
        let there = fs::read_dir(dir).map_err(StoreError::io("list", dir))?.count();
        let mut same = there == tree.entries().len();
        for (name, entry) in tree.entries() {
            let path = dir.join(name);
            let metadata = path.symlink_metadata().ok();
            same &= match (entry, metadata) {
                (Entry::Tree { digest }, Some(metadata)) if metadata.is_dir() => {
                    self.compare_layout(digest, &path, changed)?
                }
                (Entry::Symlink { target }, Some(_)) => {
                    fs::read_link(&path).is_ok_and(|found| found == Path::new(target))
                }
                (Entry::File { digest, .. }, Some(metadata)) if !is_unchanged(&metadata) => {
                    changed.push(*digest);
                    false
                }
                (Entry::File { executable, .. }, Some(metadata)) => {
                    (metadata.permissions().mode() & 0o111 != 0) == *executable
                }
                _ => false,
            };
        }
        Ok(same)
    }

    /// Takes the directory of a tree out of use, and pooled files that have other bytes than their names say, so that both are
    /// made anew. Whoever runs in the directory keeps it.
    pub fn set_aside_layout(&self, tree: &Digest, damaged: &[Digest]) -> Result<(), StoreError> {
        let pool = self.0.root.join("pool");
        for digest in damaged {
            let hex = digest.hex();
            let folder = pool.join("files").join(&hex[..2]);
            for pooled in [folder.join(&hex), folder.join(format!("{hex}.x"))] {
                match fs::remove_file(&pooled) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", &pooled)(error));
                    }
                    _ => {}
                }
            }
        }
        let aside = self.0.root.join("damaged");
        let home = pool.join("trees").join(tree.hex());
        let kept = fs::create_dir_all(&aside)
            .and_then(|()| tempfile::tempdir_in(&aside))
            .map_err(StoreError::io("create", &aside))?;
        fs::rename(&home, kept.keep().join("tree")).map_err(StoreError::io("move", &home))
    }

    fn lay_out_into(&self, tree: &Digest, dir: &Path, files: &Path) -> Result<(), StoreError> {
        fs::create_dir(dir)
            .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o777)))
            .map_err(StoreError::io("create", dir))?;
        for (name, entry) in self.tree(tree)?.entries() {
            let path = dir.join(name);
            match entry {
                Entry::Tree { digest } => self.lay_out_into(digest, &path, files)?,
                Entry::Symlink { target } => symlink(target, &path).map_err(StoreError::io("create", &path))?,
                Entry::File { digest, executable } => self.link_file(digest, *executable, &path, files)?,
            }
        }
        Ok(())
    }

    fn link_file(&self, digest: &Digest, executable: bool, path: &Path, files: &Path) -> Result<(), StoreError> {
        let hex = digest.hex();
        let folder = files.join(&hex[..2]);
        let pooled = folder.join(if executable { format!("{hex}.x") } else { hex });
        match fs::hard_link(&pooled, path) {
            Ok(()) if path.symlink_metadata().is_ok_and(|metadata| is_unchanged(&metadata)) => return Ok(()),
            Ok(()) => {
                for changed in [path, &pooled] {
                    fs::remove_file(changed).map_err(StoreError::io("remove", changed))?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file system allows only so many links to a file, and some allow none.
            Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::Unsupported) => {
                return self.write_file(digest, executable, path);
            }
            Err(error) => return Err(StoreError::io("link", path)(error)),
        }
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        self.write_file(digest, executable, path)?;
        match fs::hard_link(path, &pooled) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::Unsupported) => {
                Err(StoreError::io("link", &pooled)(error))
            }
            _ => Ok(()),
        }
    }

    fn write_file(&self, digest: &Digest, executable: bool, path: &Path) -> Result<(), StoreError> {
        let mut reader = self.open_blob(digest)?;
        let mut file = File::create_new(path).map_err(StoreError::io("create", path))?;
        io::copy(&mut reader, &mut file).map_err(StoreError::io("write", path))?;
        let mode = if executable { 0o777 } else { 0o666 };
        file.set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.set_modified(UNIX_EPOCH + Duration::from_secs(LAID_OUT)))
            .map_err(StoreError::io("write", path))
    }
}

/// When all laid-out files were last changed, in seconds since 1970: the time that programs are told it is.
pub const LAID_OUT: u64 = 315_532_801;

fn is_unchanged(metadata: &Metadata) -> bool {
    metadata.is_file() && (metadata.mtime(), metadata.mtime_nsec()) == (LAID_OUT.cast_signed(), 0)
}
