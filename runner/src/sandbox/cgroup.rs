//! A control group for one sandbox, which limits the memory of all its processes together. Only root can be sure to get one;
//! without it each process is limited by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where controllers are; version 1 has a hierarchy for each, version 2 one for all.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A group, removed with its value; nothing may be in it any more then.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group that holds `memory` bytes, where the machine lets us.
    pub(super) fn with_memory(memory: u64) -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (parent, limit) = parent().ok()?;
        let path = parent.join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).ok()?;
        let group = Self { path };
        fs::write(group.path.join(limit), memory.to_string()).ok()?;
        // Memory on a disk is none that a step may use; not every kernel counts it.
        let _ = fs::write(group.path.join("memory.swap.max"), "0");
        let _ = fs::write(group.path.join("memory.memsw.limit_in_bytes"), memory.to_string());
        Some(group)
    }

    /// The file that processes join by.
    pub(super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether a process in it has been killed for want of memory.
    pub(super) fn ran_out(&self) -> bool {
        ["memory.events", "memory.oom_control"].iter().any(|name| {
            let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
            text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// The directory of all our groups, and the name of a group's limit.
fn parent() -> io::Result<(PathBuf, &'static str)> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (root, limit) = match fs::read_to_string(Path::new(V2).join("cgroup.controllers")) {
        Ok(controllers) if controllers.split_whitespace().any(|name| name == "memory") => (V2, "memory.max"),
        _ => (V1, "memory.limit_in_bytes"),
    };
    let path = Path::new(root).join("pipe");
    if !path.is_dir() {
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if root == V2 {
        fs::write(path.join("cgroup.subtree_control"), "+memory")?;
    }
    Ok((path, limit))
}
