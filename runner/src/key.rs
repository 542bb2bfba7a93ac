//! The name of an action: a blake3 hash over fields, each with its name and length, under the action's kind.
//!
//! One walk over the fields gives the key and its explanation, so that they cannot disagree. Knows nothing of what the
//! fields mean.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Raised when the same fields must not find what earlier runners made of them.
const ENGINE: &[u8] = b"pipe.action.1";

/// The fields of a key by name: what a key is made of, in words. Values are digests of what went in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation(pub Vec<(String, String)>);

/// A key in the making.
#[derive(Debug, Clone)]
pub struct KeyBuilder {
    hasher: blake3::Hasher,
    explanation: Explanation,
}

impl KeyBuilder {
    /// Starts the key of an action of a kind; kinds never share keys.
    pub fn new(kind: &str) -> Self {
        let mut builder = Self { hasher: blake3::Hasher::new(), explanation: Explanation::default() };
        builder.put(ENGINE);
        builder.put(kind.as_bytes());
        builder
    }

    /// Adds a field: its name and its bytes, each after its length as a little-endian `u64`.
    #[must_use]
    pub fn field(mut self, name: &str, value: &[u8]) -> Self {
        self.add(name, value);
        self
    }

    /// Adds a field in place.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.put(name.as_bytes());
        self.put(value);
        let shown = match str::from_utf8(value) {
            Ok(text) if value.len() <= 200 && !text.contains(char::is_control) => text.to_owned(),
            _ => Digest::of(value).to_string(),
        };
        self.explanation.0.push((name.to_owned(), shown));
    }

    /// Adds a list of texts as one field.
    pub fn add_list<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        self.add(name, &bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The key.
    pub fn finish(&self) -> Digest {
        self.hasher.finalize().into()
    }

    /// What the key is made of.
    pub fn explain(&self) -> Explanation {
        self.explanation.clone()
    }
}

impl Explanation {
    /// The names of the fields in which two keys differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let value =
            |of: &Self, name: &str| of.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let mut names: Vec<&String> = self.0.iter().chain(&other.0).map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        names.into_iter().filter(|name| value(self, name) != value(other, name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding is a contract: a change here makes every store forget what it has.
    #[test]
    fn the_encoding_is_pinned() {
        let key = KeyBuilder::new("step").field("plugin", b"abc").field("config", b"{}");
        assert_eq!(key.finish().to_string(), "blake3:26e0fa5e43406132cf97371b45637e94b864a8c90ea822ff933a7e448ff59c3e");
        let mut whole = Vec::new();
        for part in [&b"pipe.action.1"[..], b"step", b"plugin", b"abc", b"config", b"{}"] {
            whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
            whole.extend_from_slice(part);
        }
        assert_eq!(key.finish(), Digest::of(&whole));
    }

    #[test]
    fn where_a_field_ends_is_part_of_the_key() {
        let one = KeyBuilder::new("step").field("a", b"bc");
        let other = KeyBuilder::new("step").field("ab", b"c");
        assert_ne!(one.finish(), other.finish());
        assert_eq!(one.explain().differences(&other.explain()), ["a", "ab"]);
    }
}
