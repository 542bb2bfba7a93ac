//! Pid 1 of a sandbox while its program runs: passes signals on, collects the dead, and sees the program to its end.
//!
//! A process that neither catches nor ignores a signal to end is gone at once, and what it has started would be killed with
//! the sandbox: a shell does so to the server behind its `cd web && …`. Such processes are told too, and waited for.

use std::fs;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::wire::Report;

/// A process as `/proc` has it.
struct Entry {
    pid: Pid,
    parent: i32,
    /// The signals that it catches or ignores, one bit each.
    handled: u64,
}

/// Collects the dead until the program is among them, and all that was told to end because of it; then kills the rest.
pub(super) fn reap(program: Pid) -> Report {
    let signals = SigSet::all();
    let mut told = Vec::new();
    let mut ended = None;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => ended = collect_dead(program).or(ended),
            Ok(signal) => told.extend(pass_on(program, signal)),
            Err(_) => {}
        }
        told.retain(|pid| kill(*pid, None).is_ok());
        if told.is_empty()
            && let Some(report) = ended.take()
        {
            // Everything else in this pid namespace; there is always somebody to wait for until there is nobody.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            while waitpid(None, None).is_ok() {}
            return report;
        }
    }
}

fn collect_dead(program: Pid) -> Option<Report> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                ended = Some(Report::Ended { code: Some(code), signal: None });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                ended = Some(Report::Ended { code: None, signal: Some(signal as i32) });
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Gives a signal to the program and, where that is simply its end, to what it has started; says whom else.
fn pass_on(program: Pid, signal: Signal) -> Vec<Pid> {
    let entries = entries();
    let mut left_alone = Vec::new();
    let mut ending = vec![program];
    while let Some(pid) = ending.pop() {
        let handles = entries.iter().any(|entry| entry.pid == pid && entry.handled & bit(signal) != 0);
        if !handles && is_an_end(signal) {
            let started = entries.iter().filter(|entry| entry.parent == pid.as_raw()).map(|entry| entry.pid);
            ending.extend(started.clone());
            left_alone.extend(started);
        }
    }
    // A shell first: with its command gone it would begin the next one.
    for pid in [program].iter().chain(&left_alone) {
        let _ = kill(*pid, signal);
    }
    left_alone
}

fn is_an_end(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT)
}

/// All processes of the sandbox.
fn entries() -> Vec<Entry> {
    let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| parse(Pid::from_raw(pid), &fs::read_to_string(format!("/proc/{pid}/status")).ok()?))
        .collect()
}

fn parse(pid: Pid, status: &str) -> Option<Entry> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mask = |name| u64::from_str_radix(field(name)?, 16).ok();
    Some(Entry { pid, parent: field("PPid:")?.parse().ok()?, handled: mask("SigCgt:")? | mask("SigIgn:")? })
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}
