//! The words between the runner and the inside of a sandbox, over a socket that also carries descriptors. The first message is
//! the runner's, all others come from inside.

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::spec::Spec;

/// What the runner asks for. The program's standard input travels with it as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: Spec,
    /// The user and group id that the program has outside.
    pub(super) outside: u32,
    /// Control groups to join, by the path of their `cgroup.procs`.
    pub(super) cgroups: Vec<std::path::PathBuf>,
}

/// What the inside says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The root is there, its descriptor travels along, and the program is about to start.
    Ready,
    /// Something could not be set up.
    Refused(Refusal),
    /// The program could not be executed.
    NotStarted { errno: i32 },
    /// The program has ended, and nothing that it started is left.
    Ended { code: Option<i32>, signal: Option<i32> },
}
