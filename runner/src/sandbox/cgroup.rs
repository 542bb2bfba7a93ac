//! A control group for the sandboxes of one monitor, one after the other, which limits the memory of all their processes together.
//! Only root can be sure to get one; without it each process is limited by itself.
//!
//! What an ended sandbox leaves in it are pages of files that the kernel may drop, and does before a limit is reached; and for a
//! moment what it had in file systems in memory, until the kernel has come to take them down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where controllers are; version 1 has a hierarchy for each, version 2 one for all.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// The directory of all our groups.
const OURS: &str = "pipe";

/// A group, removed with its value; nothing may be in it any more then.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    /// The name of its limit, which depends on the version.
    limit: &'static str,
}

impl Cgroup {
    /// Makes a group without a limit, where the machine lets us.
    pub(super) fn new() -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        static SWEPT: Once = Once::new();
        let (parent, limit) = parent().ok()?;
        SWEPT.call_once(|| sweep(&parent));
        let path = parent.join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).ok()?;
        Some(Self { path, limit })
    }

    /// Takes in a process and all that it will start. The kernel takes milliseconds for it.
    pub(super) fn add(&self, process: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), process.to_string())
    }

    /// Lets it hold so many bytes from now on.
    pub(super) fn set_memory(&self, memory: u64) -> io::Result<()> {
        // Memory on a disk is none that a step may use; not every kernel counts it. There is never less of both than of one.
        let both = self.path.join("memory.memsw.limit_in_bytes");
        let _ = fs::write(&both, "-1");
        fs::write(self.path.join(self.limit), memory.to_string())?;
        let _ = fs::write(self.path.join("memory.swap.max"), "0");
        let _ = fs::write(&both, memory.to_string());
        Ok(())
    }

    /// Whether an ended sandbox has left so much that the next one could miss it.
    pub(super) fn is_strained(&self) -> bool {
        const LITTLE: u64 = 16 << 20;
        let text = fs::read_to_string(self.path.join("memory.stat")).unwrap_or_default();
        let in_memory = text.lines().find_map(|line| line.strip_prefix("shmem ")?.trim().parse().ok());
        in_memory.unwrap_or(0) > LITTLE
    }

    /// How many processes in it have been killed for want of memory, ever.
    pub(super) fn killed(&self) -> u64 {
        killed(&self.path)
    }
}

/// The group of a process that another runner has started, to be looked at.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// The one that a process is in, where it is one of ours.
    pub fn of(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let of = |controllers: &str| {
            text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(controllers)?.strip_prefix(':'))
        };
        let (root, group) = of("memory").map(|group| (V1, group)).or_else(|| of("").map(|group| (V2, group)))?;
        let path = Path::new(root).join(OURS).join(group.rsplit_once(&format!("/{OURS}/"))?.1);
        path.is_dir().then_some(Self(path))
    }

    /// How many processes in it have been killed for want of memory, ever.
    pub fn killed(&self) -> u64 {
        killed(&self.0)
    }
}

fn killed(group: &Path) -> u64 {
    let count = |name| {
        let text = fs::read_to_string(group.join(name)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    ["memory.events", "memory.oom_control"].into_iter().find_map(count).unwrap_or(0)
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
    let path = Path::new(root).join(OURS);
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

/// Removes the groups of runners that were killed. One that anything is in stays, by the kernel's own rule.
fn sweep(parent: &Path) {
    // A runner whose processes are not seen from here may be about to use what it has just made.
    const LONG_AGO: Duration = Duration::from_mins(1);
    for group in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = group.file_name();
        let runner = name.to_str().and_then(|name| name.split_once('-')).map(|(runner, _)| runner);
        let is_gone = runner.is_some_and(|runner| !Path::new("/proc").join(runner).exists());
        let made = group.metadata().and_then(|metadata| metadata.modified()).ok();
        if is_gone && made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age > LONG_AGO) {
            let _ = fs::remove_dir(group.path());
        }
    }
}
