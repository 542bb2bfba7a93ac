//! The word that `pipe` leaves in a `pylock.toml` that it wrote: from what, for what, so that a stale one is noticed.
//!
//! ```toml
//! [tool.pipe]
//! from = "requirements.txt"
//! python = "3.11"
//! platform = "linux-x86_64-gnu"
//! sources = [{ path = "requirements.txt", blake3 = "…" }]
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::name::normalise;

/// `[tool.pipe]` of a `pylock.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The file that was resolved, relative to the top of the project, as all paths are.
    pub from: String,
    /// What it was resolved for.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Every file that had a say.
    pub sources: Vec<Source>,
}

/// What an environment is wanted for, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The language's version.
    pub python: String,
    /// The platform.
    pub platform: String,
    /// Dependency groups, normalised and sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Extras, normalised and sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<String>,
}

/// A file, by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where it is.
    pub path: String,
    /// The hash of its bytes, 64 hex digits.
    pub blake3: String,
}

impl Wanted {
    /// What is wanted, in canonical order.
    pub fn new(python: &str, platform: &str, groups: &[String], extras: &[String]) -> Self {
        let sorted = |names: &[String]| {
            let names: BTreeSet<String> = names.iter().map(|name| normalise(name)).collect();
            names.into_iter().collect()
        };
        Self {
            python: python.to_owned(),
            platform: platform.to_owned(),
            groups: sorted(groups),
            extras: sorted(extras),
        }
    }
}

impl Record {
    /// The record in the text of a `pylock.toml`; none where `pipe` did not write it.
    pub fn of(pylock: &str) -> Option<Self> {
        let mut table: toml::Table = pylock.parse().ok()?;
        let toml::Value::Table(mut tools) = table.remove("tool")? else { return None };
        tools.remove("pipe")?.try_into().ok()
    }

    /// Why the lock no longer fits; none where it does.
    pub fn stale<F: Files>(&self, files: &F, wanted: &Wanted) -> Result<Option<String>, F::Error> {
        if self.wanted != *wanted {
            let settings = [
                ("Python", &self.wanted.python, &wanted.python),
                ("platform", &self.wanted.platform, &wanted.platform),
            ];
            let changed = settings.iter().find(|(_, old, new)| old != new);
            return Ok(Some(changed.map_or_else(
                || "it was made with other groups or extras".to_owned(),
                |(what, old, new)| format!("it was made for {what} `{old}`, and `{new}` is wanted"),
            )));
        }
        for Source { path, blake3 } in &self.sources {
            let now = files.digest(path)?;
            if now.as_deref().and_then(|digest| digest.strip_prefix("blake3:")) != Some(blake3) {
                let what = if now.is_some() { "has changed" } else { "is gone" };
                return Ok(Some(format!("`{path}` {what} since")));
            }
        }
        Ok(None)
    }
}
