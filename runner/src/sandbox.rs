//! Native programs in a root of their own: what they may see is a [`Spec`], and nothing else of the machine is there.
//!
//! ```text
//! runner                          pipe sandbox-init (monitor)           pid 1 of the sandbox          the program
//! run/spawn ── start ───────────▶ clone into new namespaces ──────────▶
//!           ── Spec ──────────────────────────────────────────────────▶ mounts, privileges, filter ─▶ execve
//!           ◀── root's descriptor, started, ended ───────────────────── reaps, kills what is left ◀── exit
//!           ── end, or its death ▶ kills pid 1, and with it everything
//!           ◀── gone ───────────── holds the next one
//! ```
//!
//! The runner executes its own binary again as `pipe sandbox-init`, so nothing has to be installed; that process is told over the
//! socket on its standard input when to begin a sandbox. Setting up is done by one process with one thread, the only state in which
//! user namespaces can be entered. As root the mounts are made with root's own rights and then the process leaves them for
//! an unprivileged id; as a user they are made in a user namespace. The program sees the same either way.
//!
//! Unaware of steps, stores and runtimes: directories in, output and a directory out.

mod cgroup;
mod confine;
mod error;
mod found;
mod init;
mod layers;
mod monitor;
mod monitors;
mod namespaces;
mod reap;
mod root;
mod run;
mod scratch;
mod spec;
mod wire;

use std::sync::LazyLock;

pub use cgroup::Group;
pub use error::SandboxError;
pub use found::{Directory, Found, Root};
pub use monitor::init_main;
pub use monitors::Monitors;
pub use run::{Child, Ended, Outcome, Run, Stdio, Stream, run, spawn};
pub(crate) use scratch::UPPER;
pub use scratch::{Scratch, remove_all};
pub use spec::{Held, Limits, Mount, Network, Spec, User, build_owner};

/// Whether a limit of memory is for all processes of a sandbox together, and not for each by itself.
pub fn limits_memory_together() -> bool {
    cgroup::Cgroup::new().is_some_and(|group| group.set_memory(1 << 30).is_ok())
}

/// What a program may use of the machine's memory where nobody says: three quarters, so that what never stops growing ends
/// before the machine does.
pub fn ample_memory() -> u64 {
    static AMPLE: LazyLock<u64> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        total.and_then(|kib| kib.parse::<u64>().ok()).map_or(u64::MAX, |kib| kib * 1024 / 4 * 3)
    });
    *AMPLE
}

/// The hidden subcommand that becomes the inside of a sandbox; `main` hands it to [`init_main`] before anything else.
pub const INIT_COMMAND: &str = "sandbox-init";
