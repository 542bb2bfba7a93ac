//! A process and all that descend from it, by what `/proc` says, and whether those that it starts end again and again. Knows
//! nothing of what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// How often the workers of a process are seen to have ended before it is said that they do so again and again.
const AGAIN: u32 = 3;

/// How many of them may have failed, and be left so by their parent, before that.
const FAILED: usize = 2;

/// The place of a process's exit code in [`stat`].
const EXIT_CODE: usize = 49;

/// A process and all that descend from it.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for child in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(parent) = parent(child) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    family
}

/// What `/proc` says of a process behind its name: the state is the first, the parent the second.
pub(super) fn stat(pid: u32) -> Option<Vec<String>> {
    fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A program's name may hold anything, a bracket too.
fn fields(stat: &str) -> Option<Vec<String>> {
    Some(stat.rsplit_once(") ")?.1.trim_end().split(' ').map(str::to_owned).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Whether a process has failed and nobody has taken note of it yet.
fn has_failed(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| {
        stat.first().is_some_and(|state| state == "Z") && stat.get(EXIT_CODE).is_some_and(|code| code != "0")
    })
}

/// What a process was told to run: the program alone.
fn program(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = line.split(|byte| *byte == 0).next().filter(|program| !program.is_empty())?;
    Some(String::from_utf8_lossy(program).into_owned())
}

/// The workers of a server that lives on when they end: processes that run the program that their parent runs. A shell that
/// waits for something starts others.
#[derive(Debug, Default)]
pub(super) struct Workers {
    /// Each with its parent.
    seen: BTreeMap<u32, u32>,
    ended: u32,
    failed: BTreeSet<u32>,
}

impl Workers {
    /// Looks at those below a process; whether they end again and again.
    pub(super) fn look(&mut self, pid: u32) -> bool {
        let programs: BTreeMap<u32, String> =
            family(pid).into_iter().filter_map(|pid| Some((pid, program(pid)?))).collect();
        let workers = programs.iter().filter_map(|(pid, program)| {
            let parent = parent(*pid)?;
            (programs.get(&parent) == Some(program)).then_some((*pid, parent))
        });
        self.found(&programs, workers.collect())
    }

    /// Notes which are alive, and which have ended since.
    fn found(&mut self, alive: &BTreeMap<u32, String>, workers: BTreeMap<u32, u32>) -> bool {
        let has_ended = |(worker, parent): (&u32, &u32)| !alive.contains_key(worker) && alive.contains_key(parent);
        let ended: Vec<u32> = self.seen.iter().filter(|seen| has_ended(*seen)).map(|(worker, _)| *worker).collect();
        self.ended += u32::from(!ended.is_empty());
        // Some servers look after theirs only every few seconds.
        self.failed.extend(ended.into_iter().filter(|worker| has_failed(*worker)));
        self.seen = workers;
        self.ended >= AGAIN || self.failed.len() >= FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_descends_from_the_first_process() {
        assert!(family(1).contains(&std::process::id()));
        assert!(program(std::process::id()).is_some() && stat(u32::MAX).is_none());
    }

    #[test]
    fn a_name_with_brackets_hides_no_field() {
        assert_eq!(fields("1 (a) b) S 0 1").expect("fields"), ["S", "0", "1"]);
    }

    #[test]
    fn workers_that_end_under_a_living_parent_are_noticed_the_third_time() {
        let alive = |pids: &[u32]| pids.iter().map(|pid| (*pid, "python".to_owned())).collect::<BTreeMap<_, _>>();
        let workers = |pids: &[u32]| pids.iter().map(|pid| (*pid, 1)).collect::<BTreeMap<_, _>>();
        let mut seen = Workers::default();
        let looks = [[2, 3], [4, 5], [6, 7], [8, 9]].map(|[a, b]| seen.found(&alive(&[1, a, b]), workers(&[a, b])));
        assert_eq!(looks, [false, false, false, true]);
        let mut calm = Workers::default();
        assert!((0..9).all(|_| !calm.found(&alive(&[1, 2]), workers(&[2]))));
    }

    #[test]
    fn workers_that_failed_are_noticed_before_their_parent_does() {
        let mut children = [1, 0].map(|code| {
            std::process::Command::new("sh").args(["-c", &format!("exit {code}")]).spawn().expect("a shell")
        });
        let ids = children.each_ref().map(std::process::Child::id);
        while !ids.iter().all(|id| stat(*id).is_some_and(|stat| stat[0] == "Z")) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(ids.map(has_failed), [true, false]);
        for child in &mut children {
            child.wait().expect("it has ended");
        }
        assert_eq!(ids.map(has_failed), [false, false]);
    }

    #[test]
    fn a_shell_that_waits_has_no_workers() {
        let mut shell =
            std::process::Command::new("sh").args(["-c", "while :; do sleep 0.02; done"]).spawn().expect("a shell");
        let mut seen = Workers::default();
        for _ in 0..20 {
            assert!(!seen.look(shell.id()));
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        shell.kill().and_then(|()| shell.wait()).expect("it ends");
    }
}
