//! How many of each process run: a part of every release. Knows nothing of which processes a slug has.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Processes that would do everything twice if there were two of them.
const ONE_ONLY: [&str; 4] = ["beat", "clock", "cron", "scheduler"];

/// The most of one process on one machine: far above what is of use, below what its ports and memory would bear.
const MOST: u32 = 100;

/// How many of each process run; one of those that it does not name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Formation(BTreeMap<String, u32>);

/// A wish for a formation: `web=4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Of which process.
    pub process: String,
    /// How many.
    pub count: u32,
}

/// A text that is no wish, or one that nobody can fulfil.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Not of the form.
    #[error("`{0}` is not of the form `PROCESS=COUNT`, such as `web=4`")]
    Form(String),
    /// Two would do everything twice.
    #[error("there can be only one `{0}`: two would do everything twice")]
    OneOnly(String),
    /// Too many.
    #[error("{count} is more of `{process}` than the {MOST} that one machine can have")]
    TooMany {
        /// The process.
        process: String,
        /// How many were asked for.
        count: u32,
    },
}

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || CountError::Form(text.to_owned());
        let (process, count) = text.split_once('=').ok_or_else(form)?;
        let (process, count) = (process.to_owned(), count.parse().map_err(|_| form())?);
        match count {
            _ if process.is_empty() => Err(form()),
            2.. if ONE_ONLY.contains(&process.as_str()) => Err(CountError::OneOnly(process)),
            _ if count > MOST => Err(CountError::TooMany { process, count }),
            _ => Ok(Self { process, count }),
        }
    }
}

impl Formation {
    /// How many of a process.
    pub fn count(&self, process: &str) -> u32 {
        self.0.get(process).copied().unwrap_or(1)
    }

    /// The same with other counts for some processes.
    #[must_use]
    pub fn with(&self, counts: impl IntoIterator<Item = Count>) -> Self {
        let mut formation = self.clone();
        formation.0.extend(counts.into_iter().map(|Count { process, count }| (process, count)));
        formation
    }

    /// The same with the counts of another one for the processes that it names.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut formation = self.clone();
        formation.0.extend(other.0.clone());
        formation
    }

    /// The processes that it names, with how many there are of each.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(process, count)| (process.as_str(), *count))
    }
}

impl fmt::Display for Formation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (process, count)) in self.counts().enumerate() {
            write!(f, "{}{process}={count}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_runs_once() {
        let formation =
            Formation::default().with(["web=4".parse().expect("a count"), "mail=0".parse().expect("a count")]);
        assert_eq!((formation.count("web"), formation.count("mail"), formation.count("worker")), (4, 0, 1));
        assert_eq!(formation.to_string(), "mail=0 web=4");
    }

    #[test]
    fn wishes_that_nobody_can_fulfil_are_refused() {
        for text in ["web", "web=", "=1", "web=-1", "web=two"] {
            assert_eq!(text.parse::<Count>(), Err(CountError::Form(text.into())));
        }
        assert_eq!("beat=2".parse::<Count>(), Err(CountError::OneOnly("beat".into())));
        assert!("beat=0".parse::<Count>().is_ok());
        assert!(matches!("web=101".parse::<Count>(), Err(CountError::TooMany { count: 101, .. })));
    }
}
