//! What somebody asks for, in words: for whoever is refused it, and for whoever wants to know later. Plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Something that is asked of a machine. Values of config are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// What is to be done: `scale web=2`.
    pub what: String,
    /// The application and the target; none: it is about the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<(String, String)>,
    /// The release that it has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// The slug that is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<Digest>,
}

impl Deed {
    /// Something about a machine.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Something about a target.
    pub(crate) fn of(app: &str, target: &str, what: impl Into<String>) -> Self {
        Self { target: Some((app.to_owned(), target.to_owned())), ..Self::new(what) }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.target {
            Some((app, target)) => write!(f, ", {app}/{target}"),
            None => Ok(()),
        }
    }
}
