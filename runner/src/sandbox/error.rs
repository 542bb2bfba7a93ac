//! Why there is no sandbox, and what to do about it. A program that fails in one is no error.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A sandbox could not be made or was lost.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine refused a part of it.
    #[error("{}: {reason}", .mechanism.doing(.subject))]
    Refused {
        /// Which part.
        mechanism: Mechanism,
        /// The path or name that it was about; may be empty.
        subject: String,
        /// What the kernel said.
        reason: String,
        /// The error's number.
        errno: i32,
    },
    /// The program is not in the root, or cannot be executed.
    #[error("`{program}` cannot be started in the sandbox: {reason}")]
    Program {
        /// As it was asked for.
        program: String,
        /// What the kernel said.
        reason: String,
        /// The error's number.
        errno: i32,
    },
    /// What is to be mounted is not there.
    #[error("cannot show `{}` in a sandbox", .path.display())]
    Source {
        /// Its path outside.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The inner process ended before it had said how it went.
    #[error("the sandbox ended before its program: {0}")]
    Lost(String),
    /// The runner's side failed.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A part of the kernel that a sandbox stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Namespaces, the user's first of all.
    Namespaces,
    /// The maps of user ids.
    IdMap,
    /// Binding and mounting.
    Mount,
    /// Making a mount read-only with all below it.
    ReadOnly,
    /// The file system that merges directories.
    Overlay,
    /// `/proc` of a new pid namespace.
    Proc,
    /// Changing the root.
    PivotRoot,
    /// Giving up privileges.
    Privileges,
    /// The filter of system calls.
    Seccomp,
    /// Resource limits.
    Limits,
    /// Control groups.
    Cgroup,
    /// Anything else on the way.
    Setup,
}

impl Mechanism {
    fn doing(self, subject: &str) -> String {
        let doing = match self {
            Self::Namespaces => "cannot make namespaces for a sandbox",
            Self::IdMap => "cannot map user ids into a sandbox",
            Self::Mount => "cannot mount in a sandbox",
            Self::ReadOnly => "cannot make a mount of a sandbox read-only",
            Self::Overlay => "cannot mount an overlay in a sandbox",
            Self::Proc => "cannot mount /proc in a sandbox",
            Self::PivotRoot => "cannot change the root of a sandbox",
            Self::Privileges => "cannot drop privileges in a sandbox",
            Self::Seccomp => "cannot filter system calls of a sandbox",
            Self::Limits => "cannot set limits of a sandbox",
            Self::Cgroup => "cannot put a sandbox into a control group",
            Self::Setup => "cannot set up a sandbox",
        };
        if subject.is_empty() { doing.to_owned() } else { format!("{doing}: `{subject}`") }
    }
}

/// A failure inside, as it travels to the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) mechanism: Mechanism,
    pub(super) subject: String,
    pub(super) errno: i32,
}

impl Refusal {
    pub(super) fn new(mechanism: Mechanism, subject: impl fmt::Display, errno: Errno) -> Self {
        Self { mechanism, subject: subject.to_string(), errno: errno as i32 }
    }

    pub(super) fn io(mechanism: Mechanism, subject: &Path, error: &io::Error) -> Self {
        Self { mechanism, subject: subject.display().to_string(), errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl From<Refusal> for SandboxError {
    fn from(refusal: Refusal) -> Self {
        let reason = Errno::from_raw(refusal.errno).desc().to_lowercase();
        Self::Refused { mechanism: refusal.mechanism, subject: refusal.subject, reason, errno: refusal.errno }
    }
}

impl SandboxError {
    /// Whether a program was given more than the kernel hands over.
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(self, Self::Program { errno, .. } if *errno == Errno::E2BIG as i32)
    }

    /// What to do about it, where something is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { mechanism, errno, .. } => mechanism.remedy(*errno),
            Self::Program { .. } if self.is_too_long() => Some(
                "a program can be given about 2 MiB of arguments and environment, and 128 KiB in one of them: give it the rest in a file"
                    .to_owned(),
            ),
            Self::Program { program, .. } => Some(format!(
                "a sandbox holds the runtime and the inputs of the step: is `{program}` among them? `[tools]` adds one"
            )),
            _ => None,
        }
    }
}

impl Mechanism {
    fn remedy(self, errno: i32) -> Option<String> {
        let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
        let is = |name: &str, value: &str| setting(name).is_some_and(|text| text.trim() == value);
        let text = match self {
            Self::Namespaces if is("kernel/unprivileged_userns_clone", "0") => {
                "user namespaces are switched off: `sysctl kernel.unprivileged_userns_clone=1`"
            }
            Self::Namespaces if is("user/max_user_namespaces", "0") => {
                "user namespaces are switched off: `sysctl user.max_user_namespaces=10000`"
            }
            Self::Namespaces | Self::IdMap | Self::Mount if is("kernel/apparmor_restrict_unprivileged_userns", "1") => {
                "AppArmor forbids user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            }
            Self::Namespaces if errno == Errno::ENOSPC as i32 => {
                "too many user namespaces are in use: raise `sysctl user.max_user_namespaces`"
            }
            Self::Namespaces | Self::Mount | Self::PivotRoot if errno == Errno::EPERM as i32 => {
                "a container that forbids namespaces cannot hold sandboxes: start it with `--security-opt \
                 seccomp=unconfined --security-opt systempaths=unconfined`, or run pipe outside of it"
            }
            Self::Proc => {
                "a container that masks parts of /proc forbids a new one: start it with `--security-opt \
                 systempaths=unconfined`"
            }
            Self::Overlay | Self::Mount if errno == Errno::ENOSPC as i32 => crate::store::FULL,
            Self::ReadOnly => "Linux 5.12 or newer is needed",
            Self::Overlay => {
                "overlay mounts in user namespaces need Linux 5.12 or newer, and PIPE_HOME on a file system such as ext4, \
                 xfs or btrfs that is not an overlay itself: move it with PIPE_HOME"
            }
            Self::IdMap => "run pipe as root of the machine or as a plain user",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
