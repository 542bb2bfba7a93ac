//! Debian packages as a runtime.

use super::{Parts, Resolver, RuntimeError};
use crate::digest::Digest;
use crate::store::Store;

/// What a pipeline asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Packages beyond what Python needs.
    pub system: Vec<String>,
    /// Packages for builds only.
    pub build_system: Vec<String>,
    /// The mirror's address, without a slash at its end.
    pub mirror: String,
    /// The Debian release.
    pub suite: String,
}

pub(super) fn resolve(_: &Wanted, _: Option<&str>, resolver: &Resolver<'_>) -> Result<Parts, RuntimeError> {
    Err(RuntimeError::NotLocked(resolver.lock.path().to_owned()))
}

pub(super) fn of_tree(_: &Store, tree: &Digest, _: &str) -> Result<Parts, RuntimeError> {
    Err(RuntimeError::Unknown(*tree))
}
