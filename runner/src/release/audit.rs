//! The audit trail of a machine: who had what done there, and what came of it. Plain data; how it is kept is not known here.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::deed::Deed;
use super::people::Who;
use crate::digest::Digest;

/// Something that was asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Its number among all of the machine's, from 1.
    pub number: u64,
    /// When it was over.
    pub at: SystemTime,
    /// Who asked.
    pub who: Who,
    /// For what.
    pub deed: Deed,
    /// What came of it.
    pub ending: Ending,
    /// Vouches for it, and for all before it.
    pub digest: Digest,
}

/// What came of something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was done.
    Done,
    /// Whoever asked may not have it done.
    Refused,
    /// It failed, for this reason.
    Failed(String),
    /// Nobody wanted it any more.
    Cancelled,
}

/// What is known of a target, and of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Oldest first.
    pub entries: Vec<Audited>,
    /// What is not as it was written, of all targets of the machine.
    pub damages: Vec<Damage>,
}

/// Entries that are not as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// These are gone.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// This one does not follow from what is before it.
    Changed {
        /// Its number.
        number: u64,
    },
}

impl Ending {
    /// How something ended that was done at once.
    pub(crate) fn of<T, E: std::error::Error>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Refused => f.write_str("refused"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is gone"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are gone"),
            Self::Changed { number } => write!(f, "entry {number}, or the one before it, is not as it was written"),
        }
    }
}
