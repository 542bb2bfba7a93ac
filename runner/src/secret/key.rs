//! The key that texts are hashed under. One that a team shares is named by the environment: then its machines find each other's
//! results. Otherwise each machine has one of its own, and what hangs on a secret is of use to its own store only.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The variable with a key that is shared.
const VARIABLE: &str = "PIPE_SECRETS_KEY";
/// The fewest bytes of a key that is shared.
const SHORTEST: usize = 32;
/// The file with a machine's own key, in its home: beside the store and never in it.
const FILE: &str = "secrets.key";
/// What keys are derived for, and for nothing else.
const CONTEXT: &str = "pipe 2026-11 hashes of secrets in keys of actions";

/// A key of a project, or of a machine.
#[derive(Clone)]
pub struct ProjectKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The one that is shared is too short to be one.
    #[error("`{VARIABLE}` holds {0} bytes, and a key has {SHORTEST} at least")]
    Short(usize),
    /// The machine's own cannot be read, or made.
    #[error("cannot {action} the key `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl KeyError {
    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Short(_) => format!("make one with `openssl rand -hex 32`, or leave `{VARIABLE}` unset"),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                "remove it: another one is made, and steps with secrets run once more".to_owned()
            }
            Self::Io { path, .. } => {
                format!("make `{}` writable, or set PIPE_HOME to a directory that is", path.display())
            }
        })
    }
}

impl ProjectKey {
    /// The key that is shared, or else this machine's own, which is made where there is none.
    pub fn open(home: &Path) -> Result<Self, KeyError> {
        match std::env::var_os(VARIABLE).filter(|key| !key.is_empty()) {
            Some(key) if key.len() < SHORTEST => Err(KeyError::Short(key.len())),
            Some(key) => Ok(Self::of(key.as_encoded_bytes())),
            None => Self::of_machine(&home.join(FILE)),
        }
    }

    fn of_machine(path: &Path) -> Result<Self, KeyError> {
        let failed = |action| move |source| KeyError::Io { action, path: path.to_owned(), source };
        match fs::read(path) {
            Ok(bytes) if bytes.len() >= SHORTEST => return Ok(Self::of(&bytes)),
            Ok(_) => return Err(failed("use")(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error)),
        }
        make(path).map_err(failed("make"))?;
        // Another run may have been faster; then its key is everybody's.
        Ok(Self::of(&fs::read(path).map_err(failed("read"))?))
    }

    fn of(material: &[u8]) -> Self {
        Self(blake3::derive_key(CONTEXT, material))
    }

    /// The keyed hash of a secret.
    pub(super) fn mac(&self, name: &str, text: &str) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().into()
    }
}

fn make(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(dir)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_key_is_made_once_and_is_its_users_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("new").join(FILE);
        let mac = || ProjectKey::of_machine(&path).expect("a key").mac("token", "12345678");
        let first = mac();
        assert_eq!(mac(), first);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let other = ProjectKey::of_machine(&home.path().join(FILE)).expect("a key");
        assert_ne!(other.mac("token", "12345678"), first, "no two machines have the same");
        assert_ne!(ProjectKey::of(b"k").mac("ab", "c"), ProjectKey::of(b"k").mac("a", "bc"));
    }

    #[test]
    fn a_damaged_key_is_refused_with_a_remedy() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(FILE);
        fs::write(&path, "short").expect("written");
        let error = ProjectKey::of_machine(&path).map(drop).expect_err("it is too short");
        assert!(error.hint().is_some_and(|hint| hint.starts_with("remove it")), "{error}");
    }
}
