//! The name of an action: a blake3 hash over fields, each with its name and length, under the action's kind.
//!
//! What an action is made of walks its fields into whatever takes [`Fields`]: a [`KeyBuilder`] makes the key of them, an
//! [`Explanation`] keeps them in words. So the two cannot disagree. Knows nothing of what the fields mean.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// Raised when the same fields must not find what earlier runners made of them.
const ENGINE: &[u8] = b"pipe.action.1";
/// The longest value that an explanation keeps as it is, in bytes; of a longer one it keeps the digest.
const SHOWN: usize = 200;

/// The field of [`Fields::add_believed_since`].
pub(crate) const BELIEVED_SINCE: &str = "believed since";

/// Takes the fields of a key, one by one.
pub trait Fields {
    /// Takes a field's name and bytes.
    fn add(&mut self, name: &str, value: &[u8]);

    /// Takes a digest as one field.
    fn add_digest(&mut self, name: &str, digest: &Digest) {
        self.add(name, digest.as_bytes());
    }

    /// Takes a list of texts as one field.
    fn add_list<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        self.add(name, &bytes);
    }

    /// Takes since when what programs gave is believed; nothing where no damage was ever found in what they see.
    fn add_believed_since(&mut self, since: Option<&str>) {
        if let Some(since) = since {
            self.add(BELIEVED_SINCE, since.as_bytes());
        }
    }

    /// Takes JSON: a field for each value that is no object, by the names that lead to it. An object is told by its fields.
    fn add_json(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(object) if !object.is_empty() => {
                for (key, value) in object {
                    let plain = !key.is_empty() && !key.contains(['.', '"']);
                    let key = if plain { key.clone() } else { format!("{key:?}") };
                    self.add_json(&format!("{name}.{key}"), value);
                }
            }
            value => self.add(name, value.to_string().as_bytes()),
        }
    }
}

/// The fields of a key by name: what a key is made of, in words. Long values are told by their digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation(pub Vec<(String, String)>);

/// A key in the making: its fields, hashed all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBuilder {
    fields: Vec<u8>,
}

impl KeyBuilder {
    /// Starts the key of an action of a kind; kinds never share keys.
    pub fn new(kind: &str) -> Self {
        let mut builder = Self { fields: Vec::new() };
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

    fn put(&mut self, bytes: &[u8]) {
        self.fields.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.fields.extend_from_slice(bytes);
    }

    /// The key.
    pub fn finish(&self) -> Digest {
        Digest::of(&self.fields)
    }
}

impl Fields for KeyBuilder {
    fn add(&mut self, name: &str, value: &[u8]) {
        self.put(name.as_bytes());
        self.put(value);
    }
}

/// Both are told the same.
impl Fields for (KeyBuilder, Explanation) {
    fn add(&mut self, name: &str, value: &[u8]) {
        self.0.add(name, value);
        self.1.add(name, value);
    }

    fn add_digest(&mut self, name: &str, digest: &Digest) {
        self.0.add_digest(name, digest);
        self.1.add_digest(name, digest);
    }
}

impl Fields for Explanation {
    fn add(&mut self, name: &str, value: &[u8]) {
        let shown = match str::from_utf8(value) {
            Ok(text) if value.len() <= SHOWN && !text.contains(char::is_control) => text.to_owned(),
            _ => Digest::of(value).to_string(),
        };
        self.0.push((name.to_owned(), shown));
    }

    fn add_digest(&mut self, name: &str, digest: &Digest) {
        self.0.push((name.to_owned(), digest.to_string()));
    }

    fn add_list<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        let quoted: Vec<String> = values.into_iter().map(|value| format!("{value:?}")).collect();
        self.add(name, format!("[{}]", quoted.join(", ")).as_bytes());
    }
}

impl Explanation {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of the fields in which two keys differ, in the order of this one; then those that only the other has.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let changed = self.0.iter().filter(|(name, value)| other.get(name) != Some(value));
        let gone = other.0.iter().filter(|(name, _)| self.get(name).is_none());
        changed.chain(gone).map(|(name, _)| name.as_str()).collect()
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
    }

    #[test]
    fn fields_of_json_are_told_apart_and_named() {
        let key = |value: &Value| {
            let mut key = KeyBuilder::new("step");
            key.add_json("config", value);
            key.finish()
        };
        let explain = |value: &Value| {
            let mut explanation = Explanation::default();
            explanation.add_json("config", value);
            explanation
        };
        let values = [
            serde_json::json!({}),
            serde_json::json!({ "a": {} }),
            serde_json::json!({ "a": { "b": 1 } }),
            serde_json::json!({ "a.b": 1 }),
            serde_json::json!({ "a": { "b": "1" } }),
            serde_json::json!({ "a": [{ "b": 1 }] }),
            serde_json::json!({ "a": { "": { "b": 1 } } }),
        ];
        for (index, one) in values.iter().enumerate() {
            for other in &values[..index] {
                assert_ne!(key(one), key(other), "{one} {other}");
                assert_ne!(explain(one), explain(other), "{one} {other}");
            }
        }
        let (before, after) = (explain(&values[2]), explain(&values[3]));
        assert_eq!(after.differences(&before), ["config.\"a.b\"", "config.a.b"]);
        assert_eq!(before.get("config.a.b"), Some("1"));
    }
}
