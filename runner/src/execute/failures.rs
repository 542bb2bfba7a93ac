//! Failures of earlier runs, by the step's key: where the same key passes later, the step is flaky.
//!
//! One line a failure in a file of the home. It is an account, not a promise: what cannot be written or read is forgotten.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::now_ms;
use crate::plugin::{Code, Failure};
use crate::private;

/// How many failures are remembered; the file holds twice as many lines at most.
const KEPT: usize = 500;

/// The longest message that is remembered, in bytes: short enough that lines of two runs do not mix.
const LONGEST_MESSAGE: usize = 512;

/// A failure of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The step's key.
    key: Digest,
    /// When, in milliseconds since 1970 in UTC.
    pub(super) at: u64,
    /// Why.
    pub(super) message: String,
}

/// All failures that are remembered.
#[derive(Debug)]
pub struct Failures {
    path: PathBuf,
    known: Mutex<HashMap<Digest, Remembered>>,
}

impl Failures {
    /// The failures in a home.
    pub fn of(home: &Path) -> Self {
        let path = home.join("runs/failures");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.len() > 2 * KEPT {
            lines.drain(..lines.len() - KEPT);
            // Whoever reads meanwhile may miss some, and loses nothing else.
            let _ = fs::write(&path, lines.join("\n") + "\n");
        }
        let known = lines.into_iter().filter_map(|line| serde_json::from_str::<Remembered>(line).ok());
        let known = known.map(|failure| (failure.key, failure)).collect();
        Self { path, known: Mutex::new(known) }
    }

    /// Whether nothing has failed.
    pub(super) fn is_empty(&self) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The latest failure of a step with this key.
    pub(super) fn get(&self, key: &Digest) -> Option<Remembered> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Remembers a failure, unless it says nothing of the step: limits are no part of the key, and the machine is not either.
    pub(super) fn add(&self, key: Digest, failure: &Failure) {
        if !matches!(failure.code, Code::Failed | Code::Internal | Code::Other(_)) {
            return;
        }
        let message = &failure.message[..failure.message.floor_char_boundary(LONGEST_MESSAGE)];
        let failure = Remembered { key, at: now_ms(), message: message.to_owned() };
        if let Ok(line) = serde_json::to_string(&failure) {
            let file = self.path.parent().map(private::directory).transpose();
            let file = file.and_then(|_| OpenOptions::new().create(true).append(true).open(&self.path));
            let _ = file.and_then(|mut file| file.write_all((line + "\n").as_bytes()));
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_step_itself_are_remembered_and_old_ones_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let key = |number: usize| Digest::of(&number.to_le_bytes());
        let failures = Failures::of(home.path());
        for number in 0..=2 * KEPT {
            failures.add(key(number), &Failure::new(Code::Failed, "é".repeat(LONGEST_MESSAGE)));
        }
        for code in [Code::Unavailable, Code::TimedOut, Code::Cancelled, Code::LimitExceeded] {
            failures.add(key(0), &Failure::new(code, "not the step's"));
        }
        assert_eq!(failures.get(&key(0)).map(|failure| failure.message.len()), Some(LONGEST_MESSAGE));
        let failures = Failures::of(home.path());
        assert!(failures.get(&key(2 * KEPT)).is_some() && failures.get(&key(KEPT)).is_none());
        assert!(Failures::of(tempfile::tempdir().expect("a directory").path()).is_empty());
    }
}
