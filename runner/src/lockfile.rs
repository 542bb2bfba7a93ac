//! `pipe.lock`: what was resolved once and stands ever after, beside the pipeline file and committed with it.
//!
//! A TOML file of arrays of tables, one for each kind of thing (`[[python]]`, `[[packages]]`), each owned by the module that
//! resolves it. This module reads and replaces one such array and keeps the others; it does not know what is in them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the file says about itself.
const HEADER: &str = "# Written by `pipe`: what it resolved for this pipeline. Commit this file.\n\n";

/// A `pipe.lock`, which need not be there yet.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: PathBuf,
}

/// Why a `pipe.lock` could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML, or not of the shape that this version of `pipe` writes.
    #[error("`{path}` is damaged")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LockFile {
    /// The lock file of a pipeline in `directory`.
    pub fn beside(directory: &Path) -> Self {
        Self { path: directory.join("pipe.lock") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of `[[table]]`; none where there is no file.
    pub fn read<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, LockFileError> {
        self.entries(&self.load()?, table)
    }

    /// Replaces the entries of `[[table]]` by what `change` makes of them, while no other run can write. The file is
    /// replaced in one move, and only if it differs.
    pub fn update<T, E>(&self, table: &str, change: impl FnOnce(Vec<T>) -> Result<Vec<T>, E>) -> Result<(), E>
    where
        T: DeserializeOwned + Serialize,
        E: From<LockFileError>,
    {
        let _guard = self.guard()?;
        let mut all = self.load()?;
        let entries = change(self.entries(&all, table)?)?;
        if entries.is_empty() {
            all.remove(table);
        } else {
            let value = toml::Value::try_from(entries).map_err(|error| self.damaged(error))?;
            all.insert(table.to_owned(), value);
        }
        Ok(self.store(&all)?)
    }

    fn entries<T: DeserializeOwned>(&self, all: &toml::Table, table: &str) -> Result<Vec<T>, LockFileError> {
        match all.get(table) {
            Some(value) => value.clone().try_into().map_err(|error| self.damaged(error)),
            None => Ok(Vec::new()),
        }
    }

    fn load(&self) -> Result<toml::Table, LockFileError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.parse().map_err(|error: toml::de::Error| self.damaged(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(toml::Table::new()),
            Err(error) => Err(self.io("read", error)),
        }
    }

    fn store(&self, all: &toml::Table) -> Result<(), LockFileError> {
        let body = toml::to_string_pretty(all).map_err(|error| self.damaged(error))?;
        let text = format!("{HEADER}{body}");
        let unchanged = fs::read_to_string(&self.path).map_or(all.is_empty(), |old| old == text);
        if unchanged {
            return Ok(());
        }
        let write = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(".pipe.lock.").permissions(Permissions::from_mode(0o644));
            let mut file = builder.tempfile_in(self.directory())?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|error| self.io("write", error))
    }

    /// Holds the directory itself, so that no file is left behind in the user's repository.
    fn guard(&self) -> Result<File, LockFileError> {
        let lock = || {
            let directory = File::open(self.directory())?;
            directory.lock()?;
            Ok(directory)
        };
        lock().map_err(|error| self.io("lock", error))
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn io(&self, action: &'static str, source: io::Error) -> LockFileError {
        LockFileError::Io { action, path: self.path.clone(), source }
    }

    fn damaged(&self, source: impl std::error::Error + Send + Sync + 'static) -> LockFileError {
        LockFileError::Damaged { path: self.path.clone(), source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
    struct Pin {
        name: String,
        files: Vec<String>,
    }

    fn pin(name: &str) -> Pin {
        Pin { name: name.into(), files: vec!["a".into()] }
    }

    fn add(file: &LockFile, table: &str, name: &str) {
        file.update(table, |mut pins: Vec<Pin>| {
            pins.push(pin(name));
            Ok::<_, LockFileError>(pins)
        })
        .expect("an update");
    }

    #[test]
    fn one_table_is_replaced_and_the_others_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = LockFile::beside(directory.path());
        assert_eq!(file.read::<Pin>("python").expect("none"), []);
        add(&file, "python", "wheel");
        add(&file, "packages", "libpq5");
        add(&file, "python", "setuptools");
        assert_eq!(file.read::<Pin>("python").expect("two"), [pin("wheel"), pin("setuptools")]);
        assert_eq!(file.read::<Pin>("packages").expect("one"), [pin("libpq5")]);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");
    }

    #[test]
    fn writers_do_not_lose_each_others_entries() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = LockFile::beside(directory.path());
        std::thread::scope(|scope| {
            for n in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, "python", &format!("p{n}")));
            }
        });
        assert_eq!(file.read::<Pin>("python").expect("all").len(), 8);
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = LockFile::beside(directory.path());
        fs::write(file.path(), "[[python").expect("a file");
        let error = file.read::<Pin>("python").expect_err("damaged");
        assert_eq!(error.to_string(), format!("`{}` is damaged", file.path().display()));
        assert!(file.update("python", |pins: Vec<Pin>| Ok::<_, LockFileError>(pins)).is_err());
        assert_eq!(fs::read_to_string(file.path()).expect("a file"), "[[python");
    }

    #[test]
    fn any_text_is_a_lock_or_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = LockFile::beside(dir.path());
        pipe_fuzz::attack("pipe-lock", |bytes| {
            fs::write(lock.path(), bytes).expect("written");
            drop(lock.read::<toml::Table>("python"));
        });
    }
}
