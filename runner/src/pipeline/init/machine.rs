//! What this machine has that a pipeline can stand on.

use std::path::{Path, PathBuf};

use super::frontend::Node;
use super::python::MINORS;
use crate::runtime::Interpreter;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// The minor versions of its Pythons: that of `python3` first, then the newest first.
    pub(super) pythons: Vec<u64>,
    /// Its `node`.
    pub(super) node: Option<PathBuf>,
    /// Whether it has `msgfmt`, of gettext, where programs see it.
    pub(super) has_msgfmt: bool,
}

impl Machine {
    /// This one. Its Pythons are found as a run finds them.
    pub(super) fn this() -> Self {
        let minor = |found: Interpreter| found.version.strip_prefix("3.")?.split('.').next()?.parse::<u64>().ok();
        let named = MINORS.rev().filter(|minor| Interpreter::of_version(&format!("3.{minor}")).is_ok());
        let mut pythons: Vec<u64> = Interpreter::on_path().ok().and_then(minor).into_iter().collect();
        pythons.extend(named.filter(|minor| !pythons.contains(minor)).collect::<Vec<_>>());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let node = std::env::split_paths(&path).map(|dir| dir.join("node")).find(|path| path.is_file());
        Self { pythons, node, has_msgfmt: Path::new("/usr/bin/msgfmt").is_file() }
    }

    /// Where programs find `node`. They see what is in `/usr`, if they stand on the machine's own.
    pub(super) fn node(&self, is_host: bool) -> Node {
        match &self.node {
            None => Node::Missing,
            Some(path) if is_host && path.starts_with("/usr") && !path.starts_with("/usr/local") => Node::Seen,
            Some(path) => Node::At(path.clone()),
        }
    }
}
