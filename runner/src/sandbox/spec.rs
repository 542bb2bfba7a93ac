//! What a sandbox is made of, as plain data. Knows nothing of how the kernel is asked for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A program and everything that it can see.
///
/// Beyond the mounts there is in every root: `/proc` of its own processes, a minimal `/dev`, an empty private `/tmp` with
/// `HOME` at `/tmp/home`, and `/etc` with the one user that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The program and its arguments. A program without a `/` is looked up in the root, on the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where the program starts, in the root.
    pub cwd: String,
    /// What is in the root. Later ones cover earlier ones; missing directories on the way are made.
    pub mounts: Vec<Mount>,
    /// Whether the root itself, where nothing is mounted, may not be written to. Otherwise it is in memory, and private.
    pub read_only: bool,
    /// What the program is told that its machine is called, in at most 64 bytes.
    pub host_name: String,
    /// Whether there is a network.
    pub network: Network,
    /// Who the program is.
    pub user: User,
    /// What the program may use up.
    pub limits: Limits,
}

/// One thing in a root. `at` is an absolute path in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mount {
    /// A file or directory of the machine, with everything that is mounted below it; no devices, no set-user-id programs.
    Bind {
        /// Its path outside; links on the way are followed.
        source: PathBuf,
        /// Where it is seen.
        at: String,
        /// Whether writes reach it.
        writable: bool,
    },
    /// A device of the machine, where it is there too.
    Device {
        /// Its path.
        at: String,
    },
    /// Directories merged under a private writable layer; no write reaches them.
    Overlay {
        /// Outside, the uppermost first.
        lower: Vec<PathBuf>,
        /// Where they are seen.
        at: String,
        /// A directory outside for the writable layer: see [`super::Scratch`]. It is empty, or holds what was written when it
        /// was mounted before. Not on an overlay itself.
        scratch: PathBuf,
    },
    /// What is at another place of the root already, writable as it is there.
    Again {
        /// That place, a directory.
        of: String,
        /// Where it is seen, too.
        at: String,
    },
    /// A tree that is handed over instead of being laid out, since it is small; under a private writable layer, too.
    Held {
        /// Each path of it, a directory before what is in it.
        tree: Vec<(String, Held)>,
        /// When its files were last changed, in seconds since 1970.
        modified: u64,
        /// Where it is seen.
        at: String,
        /// As for an overlay.
        scratch: PathBuf,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where it is seen.
        at: String,
        /// In bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it is.
        at: String,
        /// What it says.
        target: String,
    },
    /// A directory in memory with nothing in it but files that may be read.
    Texts {
        /// Where it is seen.
        at: String,
        /// Each file's text, by its name.
        texts: BTreeMap<String, String>,
    },
    /// A small file, read-only.
    File {
        /// Where it is.
        at: String,
        /// Its bytes.
        content: String,
        /// Whether it may be executed.
        executable: bool,
    },
}

/// What is at a path of a tree that is handed over. Whoever the program is may change it in its layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// A directory.
    Directory,
    /// A link and what it says.
    Symlink(String),
    /// A file.
    File {
        /// What it holds.
        #[serde(with = "in_one_piece")]
        bytes: Bytes,
        /// Whether it may be executed.
        executable: bool,
    },
}

/// Bytes as one piece; each would be a value of its own otherwise.
mod in_one_piece {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
        }
        deserializer.deserialize_bytes(Whole)
    }
}

/// What of a network the program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A loopback of its own and nothing else.
    None,
    /// The machine's.
    Host,
}

/// Who a program is, inside and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user and group id that the program sees.
    pub inside: u32,
    /// The id that the machine sees. None: as root the one of [`build_owner`], else the runner's own. Some other id than the
    /// runner's needs root.
    pub outside: Option<u32>,
}

/// What a program may use up. None is no limit of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: of all processes together where a memory cgroup can be had, else of each one.
    pub memory: Option<u64>,
    /// Processes and threads at one time. A root without its rights, as in a container, has no such limit.
    pub processes: Option<u64>,
    /// Bytes in one file.
    pub file_size: Option<u64>,
    /// Open files of a process.
    pub open_files: u64,
    /// Bytes in `/tmp` and `/dev/shm`, each.
    pub tmp: u64,
}

/// The id, as the machine sees it, of sandboxed programs that root starts: above what distributions, containers and systemd
/// hand out (its ranges end at 1,879,048,191), and below the signed limit.
const BUILD_ID: u32 = 2_000_000_000;

impl Default for User {
    fn default() -> Self {
        Self { inside: 1000, outside: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, processes: Some(4096), file_size: None, open_files: 4096, tmp: 4 << 30 }
    }
}

impl Spec {
    /// A program with an empty root, no network and an empty environment.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: "/".into(),
            mounts: Vec::new(),
            read_only: false,
            host_name: "pipe".into(),
            network: Network::None,
            user: User::default(),
            limits: Limits::default(),
        }
    }
}

/// The user and group id, outside, that files must have to belong to the program of a build: a directory that is to be the
/// lower one of an overlay is only writable there if its owner is this. None: they already have it, for the runner is not root.
pub fn build_owner() -> Option<u32> {
    static OWNER: LazyLock<Option<u32>> = LazyLock::new(|| {
        // A root of a container may have no such id to give, or not the rights: then it is a user like any other.
        let has_id = |line: &str| {
            let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            matches!(numbers[..], [first, _, count] if BUILD_ID.checked_sub(first).is_some_and(|offset| offset < count))
        };
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let may_give = nix::unistd::geteuid().is_root() && has_rights();
        (may_give && map.lines().any(has_id)).then_some(BUILD_ID)
    });
    *OWNER
}

/// Whether this process may mount and give files and processes away.
fn has_rights() -> bool {
    /// `CAP_CHOWN`, `CAP_SETGID`, `CAP_SETUID` and `CAP_SYS_ADMIN`.
    const NEEDED: u64 = 1 | 1 << 6 | 1 << 7 | 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & NEEDED == NEEDED)
}
