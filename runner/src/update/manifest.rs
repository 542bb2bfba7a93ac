//! What a release of `pipe` consists of, in a file that is signed: a line with the signature, and below it the JSON that is signed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;

/// How the first line begins.
const SIGNED: &str = "ed25519 ";

/// What stands before the 32 bytes of a public key of ed25519, as OpenSSL writes it (RFC 8410).
const BEFORE_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a release consists of.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "pipe")]
    pub(super) version: Version,
    /// By the kind of machine: `linux-x86_64`.
    pub(super) platforms: BTreeMap<String, Packed>,
}

/// A program, packed with gzip.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Packed {
    /// Its path below the release address.
    pub(super) file: String,
    /// What its bytes are, in hex digits: what every machine can tell that `pipe` is installed on.
    pub(super) sha256: String,
}

/// A version: three numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(u64, u64, u64);

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version, such as `1.2.3`")]
pub struct VersionError(String);

/// A public key of ed25519.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// A text that is no such key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is the other half.
    #[error("it is a private key")]
    Private,
    /// It is none, or one of another kind.
    #[error("it is not a public key of ed25519")]
    Malformed,
}

/// A release is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is none where one should be.
    #[error("it is not signed")]
    Missing,
    /// It is another's, or of something else.
    #[error("its signature is not one of the key that is known")]
    Other,
    /// What was signed is not understood.
    #[error("this `pipe` does not understand it")]
    Malformed(#[from] serde_json::Error),
}

impl Manifest {
    /// What a file says, if it is signed with a key.
    pub(super) fn believed(signed: &[u8], key: &Key) -> Result<Self, SignatureError> {
        let end = signed.iter().position(|byte| *byte == b'\n').ok_or(SignatureError::Missing)?;
        let (line, text) = (&signed[..end], &signed[end + 1..]);
        let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(SIGNED));
        let signature = line.and_then(|line| STANDARD.decode(line.trim()).ok()).ok_or(SignatureError::Missing)?;
        UnparsedPublicKey::new(&ED25519, key.0).verify(text, &signature).map_err(|_| SignatureError::Other)?;
        Ok(serde_json::from_slice(text)?)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads the file of a public key, or what is in it alone.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let encoded: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Malformed)?;
        let key = bytes.strip_prefix(&BEFORE_KEY).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or(KeyError::Malformed)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('.').map(|number| {
            let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|_| is_number)
        });
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => Ok(Self(major, minor, patch)),
            _ => Err(VersionError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    const TEXT: &str = r#"{"pipe":"1.2.3","platforms":{"linux-x86_64":{"file":"1.2.3/pipe-linux-x86_64.gz",
        "sha256":"00"}}}"#;

    fn pair(seed: u8) -> (Ed25519KeyPair, Key) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key");
        let public = [&BEFORE_KEY[..], pair.public_key().as_ref()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(public));
        (pair, pem.parse().expect("a key"))
    }

    fn signed(pair: &Ed25519KeyPair, text: &str) -> Vec<u8> {
        format!("{SIGNED}{}\n{text}", STANDARD.encode(pair.sign(text.as_bytes()))).into_bytes()
    }

    #[test]
    fn only_what_is_signed_with_the_key_is_believed() {
        let ((pair, key), (_, other)) = (pair(1), self::pair(2));
        let file = signed(&pair, TEXT);
        let manifest = Manifest::believed(&file, &key).expect("a manifest");
        assert_eq!(manifest.version.to_string(), "1.2.3");
        assert_eq!(manifest.platforms["linux-x86_64"].file, "1.2.3/pipe-linux-x86_64.gz");
        assert!(matches!(Manifest::believed(&file, &other), Err(SignatureError::Other)));
        for at in file.len() - TEXT.len()..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(matches!(Manifest::believed(&changed, &key), Err(SignatureError::Other)), "byte {at}");
        }
        for unsigned in [TEXT.as_bytes(), b"", b"ed25519 ?\n{}", format!("\n{TEXT}").as_bytes()] {
            assert!(matches!(Manifest::believed(unsigned, &key), Err(SignatureError::Missing)));
        }
        assert!(matches!(Manifest::believed(&signed(&pair, "{}"), &key), Err(SignatureError::Malformed(_))));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>();
        let known = |text: &str| version(text).expect("a version");
        assert!(known("0.10.0") > known("0.9.9") && known("1.0.0") > known("0.99.0"));
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.+3", "v1.2.3", "1..2"] {
            assert!(version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_of_another_kind_is_none() {
        assert_eq!("-----BEGIN PRIVATE KEY-----".parse::<Key>(), Err(KeyError::Private));
        for text in ["", "AAAA", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA\n-----END PUBLIC KEY-----"] {
            assert_eq!(text.parse::<Key>(), Err(KeyError::Malformed), "{text}");
        }
    }
}
