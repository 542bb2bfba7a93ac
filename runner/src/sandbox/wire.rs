//! The words between the runner and its sandboxes, over sockets that also carry descriptors. One socket leads to the monitor; each
//! sandbox has another one, which leads to its pid 1.

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::spec::{Network, Spec};

/// What the runner wants of a monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// To begin a sandbox. Its socket travels along as a descriptor.
    Start(Start),
    /// To end the one that there is. One that has ended meanwhile is meant, too.
    End,
}

/// What a monitor must know of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) network: Network,
    /// The user and group id that the program sees.
    pub(super) inside: u32,
    /// The one that it has outside.
    pub(super) outside: u32,
}

/// What a monitor says once for each start: nothing of the sandbox is left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gone;

/// What the runner asks of pid 1. The program's standard input travels with it as a descriptor, standard output and error with
/// a [`Written`] each behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: Spec,
    /// The user and group id that the program has outside.
    pub(super) outside: u32,
    /// Whether a control group limits the memory of all processes together.
    pub(super) memory_is_limited: bool,
}

/// Where the program writes to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written;

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
