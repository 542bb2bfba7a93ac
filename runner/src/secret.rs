//! Secrets: read when a run begins, seen by programs as files in memory, and by nobody else.
//!
//! A key holds a secret's name and a keyed hash of its text ([`ProjectKey`]), so that a new text is noticed and nobody can try
//! texts against what is kept. [`Masks`] blot a text out wherever something is written, and a [`Search`] finds it in what a
//! program has left. Knows nothing of how programs are shown a file.

mod key;
mod mask;
mod search;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::pipeline::{self, Pipeline, SecretSource};

pub use key::{KeyError, ProjectKey};
pub use mask::{MaskedStream, Masks};
pub use search::{Leak, Search, SearchError};

/// Where programs find the secrets of their step, each a file of its name.
pub const DIRECTORY: &str = "/run/secrets";

/// The shortest text that can be a secret, in bytes: a shorter one is found in much that has nothing to do with it.
const SHORTEST: usize = 8;
/// The longest, in bytes: a secret is a token, a password or a key, and is held in memory.
const LONGEST: usize = 64 << 10;

/// A secret that was read. Never printed.
#[derive(Clone)]
pub struct Secret {
    text: String,
    mac: Digest,
}

/// The secrets of a run by name; cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Secret>>);

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Some cannot be read: where the pipeline declares each, and why.
    #[error("the pipeline's secrets cannot be read")]
    Unreadable(Vec<Diagnostic>),
    /// There is no key to hash them under.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Secret {
    /// The text, as programs see it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What tells its text from another to whoever has the project's key, and says nothing to anyone else.
    pub const fn mac(&self) -> &Digest {
        &self.mac
    }
}

impl Secrets {
    /// Reads those secrets of a pipeline that a step is granted; `home` is where a key of this machine's own is.
    pub fn read(pipeline: &Pipeline, home: &Path) -> Result<Self, SecretError> {
        let granted = |secret: &&pipeline::Secret| {
            pipeline.steps.iter().flat_map(|step| step.grants.secrets()).any(|name| *name == secret.name)
        };
        let wanted: Vec<_> = pipeline.secrets.iter().filter(granted).collect();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let key = ProjectKey::open(home)?;
        let (mut secrets, mut errors) = (BTreeMap::new(), Vec::new());
        for secret in wanted {
            match text_of(pipeline, secret) {
                Ok(text) => {
                    let mac = key.mac(&secret.name, &text);
                    secrets.insert(secret.name.to_string(), Secret { text, mac });
                }
                Err(error) => errors.push(*error),
            }
        }
        if errors.is_empty() { Ok(Self(Arc::new(secrets))) } else { Err(SecretError::Unreadable(errors)) }
    }

    /// The secret of a name.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// Those of some names, in the order of all.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        if names.is_empty() {
            return Self::default();
        }
        let some = self.0.iter().filter(|(name, _)| names.contains(name));
        Self(Arc::new(some.map(|(name, secret)| (name.clone(), secret.clone())).collect()))
    }

    /// Each with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn text_of(pipeline: &Pipeline, secret: &pipeline::Secret) -> Result<String, Box<Diagnostic>> {
    let refuse = |message: String| pipeline.error(secret.from.span(), message);
    let name = &secret.name;
    let (bytes, place) = match &*secret.from {
        SecretSource::Variable(variable) => match std::env::var_os(variable) {
            Some(value) => (value.into_encoded_bytes(), format!("the variable `{variable}`")),
            None => {
                let error = refuse(format!("the secret `{name}` is not there: the variable `{variable}` is not set"));
                return Err(Box::new(error.hint(format!("set `{variable}` in the environment of `pipe`"))));
            }
        },
        SecretSource::File(path) => match fs::read(pipeline.resolve(path)) {
            Ok(bytes) => (bytes, format!("`{}`", path.display())),
            Err(error) => {
                let message = format!("the secret `{name}` is not there: cannot read `{}`: {error}", path.display());
                return Err(Box::new(refuse(message).hint("the path is relative to the pipeline file")));
            }
        },
    };
    let fault = match bytes.trim_ascii().len() {
        short if short < SHORTEST => format!("{place} holds {short} bytes, and a secret has {SHORTEST} at least"),
        _ if bytes.len() > LONGEST => format!("{place} holds more than {} KiB", LONGEST >> 10),
        _ => match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(_) => format!("{place} is not UTF-8"),
        },
    };
    let error = refuse(format!("`{name}` cannot be a secret: {fault}"));
    Err(Box::new(error.hint("what is very short, long or no text cannot be found again where it must not be written")))
}

/// What of a secret's text is looked for: without the space around it, which a program may drop.
fn needle(text: &str) -> &str {
    text.trim_ascii()
}

#[cfg(test)]
mod tests;
