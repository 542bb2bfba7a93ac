//! What processes take of the machine, by what `/proc` says. Knows nothing of what they are.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use super::family::{family, stat};

/// Before the program come its shim, and in its sandbox a monitor and the first process.
const OURS: usize = 3;

/// What a process has taken, with all that descend from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Of processors, since it was started.
    pub(super) cpu: Duration,
    /// Of memory, at the moment, in bytes; what several of its processes share is counted with each.
    pub(super) memory: u64,
}

/// What the program takes that a shim holds; none where it cannot be seen.
pub(super) fn of_program(shim: u32) -> Option<Usage> {
    let family = family(shim);
    let all: Vec<Usage> = family.get(OURS..)?.iter().filter_map(|pid| of(*pid)).collect();
    let cpu = all.iter().map(|usage| usage.cpu).sum();
    (!all.is_empty()).then(|| Usage { cpu, memory: all.iter().map(|usage| usage.memory).sum() })
}

fn of(pid: u32) -> Option<Usage> {
    let ticks = ticks(&stat(pid)?)?;
    let cpu = Duration::from_millis(ticks * 1000 / unit(SysconfVar::CLK_TCK)?);
    Some(Usage { cpu, memory: memory(pid)?.0 })
}

/// The bytes of memory that a process has, and how many of them are not its own alone.
pub(super) fn memory(pid: u32) -> Option<(u64, u64)> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = statm.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let page = unit(SysconfVar::PAGE_SIZE)?;
    Some((pages.next()? * page, pages.next()? * page))
}

fn unit(variable: SysconfVar) -> Option<u64> {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok())
}

/// Its own time as a user and in the kernel, and that of its children that have ended.
fn ticks(stat: &[String]) -> Option<u64> {
    stat.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_time() {
        let usage = of(std::process::id()).expect("it is there");
        assert!(usage.memory > 1 << 20, "{usage:?}");
        assert_eq!(of(u32::MAX), None);
        let stat: Vec<String> = "S 0 1 1 0 -1 4194560 1 2 3 4 10 20 30 40 20 0".split(' ').map(str::to_owned).collect();
        assert_eq!(ticks(&stat), Some(100));
    }
}
