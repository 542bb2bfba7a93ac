//! Trees as directories, for native programs to see: read-only, made of hard links into a pool of files, and disposable.
//!
//! Read-only by how they are mounted, and not by their modes: under the writable layer of a sandbox they are what its
//! program owns and may change. The store's own directory is the runner's alone, so nobody else comes near them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::tree::Entry;

impl Store {
    /// The directory of a tree, made where it is not yet. Nobody may write into it.
    pub fn lay_out(&self, tree: &Digest) -> Result<PathBuf, StoreError> {
        let pool = self.0.root.join("pool");
        let home = pool.join("trees").join(tree.hex());
        if home.is_dir() {
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

    fn lay_out_into(&self, tree: &Digest, dir: &Path, files: &Path) -> Result<(), StoreError> {
        fs::create_dir(dir).map_err(StoreError::io("create", dir))?;
        fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(StoreError::io("create", dir))?;
        give_to_programs(dir)?;
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
            Ok(()) => return Ok(()),
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
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode)).map_err(StoreError::io("write", path))?;
        give_to_programs(path)
    }
}

fn give_to_programs(path: &Path) -> Result<(), StoreError> {
    match crate::sandbox::build_owner() {
        Some(id) => chown(path, Some(id), Some(id)).map_err(StoreError::io("change the owner of", path)),
        None => Ok(()),
    }
}
