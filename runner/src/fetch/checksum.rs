//! What bytes must be, in the words of the outside world: `sha256:…`, `sha512:…`, `sha1:…`, and our own `blake3:…`.

use std::fmt;
use std::str::FromStr;

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::FetchError;
use crate::digest::Digest;

/// A hash function that a lock may pin by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// SHA-1, which old npm locks use.
    Sha1,
    /// SHA-256, Python's.
    Sha256,
    /// SHA-512, npm's.
    Sha512,
    /// BLAKE3, the store's.
    Blake3,
}

/// A hash of bytes and the function that made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    function: Function,
    hex: String,
}

impl Function {
    /// The word before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 | Self::Blake3 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl Checksum {
    /// The function that makes it.
    pub fn function(&self) -> Function {
        self.function
    }

    /// The lower-case hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The blob's own name, where that is what was asked for.
    pub(super) fn blake3(&self) -> Option<Digest> {
        if self.function == Function::Blake3 { self.to_string().parse().ok() } else { None }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function.name(), self.hex)
    }
}

impl FromStr for Checksum {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || FetchError::Digest(text.to_owned());
        let (name, hex) = text.split_once(':').ok_or_else(wrong)?;
        let functions = [Function::Sha1, Function::Sha256, Function::Sha512, Function::Blake3];
        let function = functions.into_iter().find(|function| function.name() == name).ok_or_else(wrong)?;
        if hex.len() != function.digits() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        Ok(Self { function, hex: hex.to_ascii_lowercase() })
    }
}

/// Hashes bytes as they pass.
pub(super) enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Box<Sha512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    pub(super) fn new(function: Function) -> Self {
        match function {
            Function::Sha1 => Self::Sha1(Sha1::new()),
            Function::Sha256 => Self::Sha256(Sha256::new()),
            Function::Sha512 => Self::Sha512(Box::default()),
            Function::Blake3 => Self::Blake3(Box::default()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    pub(super) fn finish(self) -> Checksum {
        let (function, hex) = match self {
            Self::Sha1(hasher) => (Function::Sha1, format!("{:x}", hasher.finalize())),
            Self::Sha256(hasher) => (Function::Sha256, format!("{:x}", hasher.finalize())),
            Self::Sha512(hasher) => (Function::Sha512, format!("{:x}", hasher.finalize())),
            Self::Blake3(hasher) => (Function::Blake3, hasher.finalize().to_hex().to_string()),
        };
        Checksum { function, hex }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_hashes_as_the_world_does() {
        let of = |function| {
            let mut hasher = Hasher::new(function);
            hasher.update(b"a");
            hasher.update(b"bc");
            hasher.finish().to_string()
        };
        assert_eq!(of(Function::Sha1), "sha1:a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(of(Function::Sha256), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(of(Function::Sha512).starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert_eq!(of(Function::Blake3), Digest::of(b"abc").to_string());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "md5:00", "sha256:", "sha256:abc", &format!("sha256:{}", "g".repeat(64)), &"0".repeat(64)] {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
    }
}
