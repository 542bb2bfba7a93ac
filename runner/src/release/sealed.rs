//! Names and values that nobody may read where they are kept: sealed with a key that lies apart from them.
//!
//! A copy of the state of targets, in a backup or by mistake, then holds no secret. Knows nothing of what the values are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of the key.
const KEY: usize = 32;

/// Names and values.
pub(crate) type Values = BTreeMap<String, String>;

/// Seals values, and opens them again.
pub(crate) struct Sealer(LessSafeKey);

/// What was sealed cannot be opened: the key is another one, or a bit has changed.
#[derive(Debug, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub struct SealError;

impl Sealer {
    /// Takes the key from a file that only its owner can read, and makes it where there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY];
        match fs::File::open(path).and_then(|mut file| file.read_exact(&mut key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => key = make(path)?,
            read => read?,
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals values; they can be opened only as being about the same.
    pub(crate) fn seal(&self, about: &str, values: &Values) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError)?;
        let mut bytes = serde_json::to_vec(values).map_err(|_| SealError)?;
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut bytes)
            .map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &bytes].concat())
    }

    /// Opens what [`Sealer::seal`] gave.
    pub(crate) fn unseal(&self, about: &str, sealed: &[u8]) -> Result<Values, SealError> {
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let mut bytes = bytes.to_vec();
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(about), &mut bytes)
            .map_err(|_| SealError)?;
        serde_json::from_slice(opened).map_err(|_| SealError)
    }
}

/// A text that nobody guesses, of 64 letters, digits, `-` and `_`.
pub(crate) fn made_up() -> Result<String, SealError> {
    let mut bytes = [0; 48];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Makes a key; where two do so at once, both get the same one.
fn make(path: &Path) -> io::Result<[u8; KEY]> {
    let mut key = [0; KEY];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new()
        .make_in(directory, |path| fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))?;
    draft.as_file().write_all(&key)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => fs::File::open(directory)?.sync_all()?,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            fs::File::open(path)?.read_exact(&mut key)?;
        }
        Err(error) => return Err(error.error),
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_what_was_sealed_and_only_as_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let values = Values::from([("SECRET_KEY".into(), "hunter2".into())]);
        let sealer = Sealer::open(&dir.path().join("key")).expect("a key");
        let sealed = sealer.seal("config 1", &values).expect("sealed");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));

        let again = Sealer::open(&dir.path().join("key")).expect("the same key");
        assert_eq!(again.unseal("config 1", &sealed).expect("opened"), values);
        assert!(again.unseal("config 2", &sealed).is_err());
        let other = Sealer::open(&dir.path().join("other")).expect("another key");
        assert!(other.unseal("config 1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(again.unseal("config 1", &damaged).is_err());
        }
    }
}
