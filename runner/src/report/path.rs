//! The critical path of a run: the chain of steps that its time went to, and what each of them could save.
//!
//! A step comes after the steps that it needs, and after the one whose end gave it its place where all were taken. What it could
//! save is by how much the run would have been shorter, had it taken no time: another chain may then be the longest.

use std::collections::{BTreeMap, HashMap};

use runner::event::{Event, StepOutcome};

/// A step on the critical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its place among all that ended.
    pub(super) at: usize,
    /// Its name.
    pub(super) step: String,
    /// How long it took, in milliseconds.
    pub(super) elapsed_ms: u64,
}

/// The longest chain of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Longest {
    /// How long it took, in milliseconds.
    pub(super) total_ms: u64,
    /// Its steps, the first to run first; none where no step ran.
    pub(super) links: Vec<Link>,
}

/// Gathers what the path is found from.
#[derive(Debug, Default)]
pub(super) struct CriticalPath {
    needs: BTreeMap<String, Vec<String>>,
    /// For a step that had to wait for its place the one that gave it.
    after: HashMap<String, String>,
    /// The steps that ran, in the order of their ends, so that what a step comes after stands before it.
    ended: Vec<Ended>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Ended {
    step: String,
    elapsed_ms: u64,
    /// What it comes after.
    before: Vec<usize>,
}

impl CriticalPath {
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { needs, .. } => *self = Self { needs: needs.clone(), ..Self::default() },
            Event::StepStarted { step, after: Some(after), .. } => {
                self.after.insert(step.clone(), after.clone());
            }
            Event::StepFinished { step, outcome: StepOutcome::Ran | StepOutcome::Failed, elapsed_ms, .. } => {
                let needed = self.needs.get(step).into_iter().flatten().chain(self.after.get(step));
                let before = needed.filter_map(|name| self.index.get(name).copied()).collect();
                self.index.insert(step.clone(), self.ended.len());
                self.ended.push(Ended { step: step.clone(), elapsed_ms: *elapsed_ms, before });
            }
            _ => {}
        }
    }

    /// The path from its first step to its last.
    pub(super) fn longest(&self) -> Longest {
        let (total_ms, path) = self.chain(None);
        let link = |at: usize| {
            let Ended { step, elapsed_ms, .. } = &self.ended[at];
            Link { at, step: step.clone(), elapsed_ms: *elapsed_ms }
        };
        Longest { total_ms, links: path.into_iter().map(link).collect() }
    }

    /// By how much the run would have been shorter without a step, in milliseconds.
    pub(super) fn saves_ms(&self, link: &Link) -> u64 {
        self.chain(None).0 - self.chain(Some(link.at)).0
    }

    /// The longest chain and its length, with one step for nothing.
    fn chain(&self, free: Option<usize>) -> (u64, Vec<usize>) {
        let mut ends: Vec<(u64, Option<usize>)> = Vec::with_capacity(self.ended.len());
        for (at, ended) in self.ended.iter().enumerate() {
            let latest = ended.before.iter().copied().max_by_key(|before| ends[*before].0);
            let own = if free == Some(at) { 0 } else { ended.elapsed_ms };
            ends.push((latest.map_or(0, |latest| ends[latest].0) + own, latest));
        }
        let Some(last) = (0..ends.len()).max_by_key(|at| ends[*at].0) else { return (0, Vec::new()) };
        let mut path: Vec<usize> = std::iter::successors(Some(last), |at| ends[*at].1).collect();
        path.reverse();
        (ends[last].0, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(needs: &[(&str, &[&str])], ran: &[(&str, u64, Option<&str>)]) -> (u64, Vec<(String, u64)>) {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut path = CriticalPath::default();
        path.event(&Event::RunStarted {
            version: 2,
            id: "0".repeat(32),
            pipeline: "p".into(),
            app: "a".into(),
            source: ".".into(),
            steps: ran.len(),
            jobs: 2,
            trace_parent: None,
            needs: needs.iter().map(|(step, on)| ((*step).to_owned(), names(on))).collect(),
        });
        for (step, elapsed_ms, after) in ran {
            let (step, after) = ((*step).to_owned(), after.map(str::to_owned));
            path.event(&Event::StepStarted { step: step.clone(), why: String::new(), after });
            let (outcome, elapsed_ms) = (StepOutcome::Ran, *elapsed_ms);
            path.event(&Event::StepFinished { step, outcome, elapsed_ms, failure: None });
        }
        let longest = path.longest();
        let links = longest.links.iter().map(|link| (link.step.clone(), path.saves_ms(link)));
        (longest.total_ms, links.collect())
    }

    fn saves(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(step, saves)| ((*step).to_owned(), *saves)).collect()
    }

    #[test]
    fn a_step_saves_no_more_than_the_next_longest_chain_leaves() {
        let needs: [(&str, &[&str]); 3] =
            [("venv", &["lock"]), ("static", &["venv"]), ("slug", &["static", "frontend"])];
        let ran = [("lock", 1), ("frontend", 90), ("venv", 70), ("static", 30), ("slug", 2)];
        let (total, links) = path(&needs, &ran.map(|(step, ms)| (step, ms, None)));
        assert_eq!((total, links), (103, saves(&[("lock", 1), ("venv", 11), ("static", 11), ("slug", 2)])));
        assert_eq!(path(&[], &[]), (0, Vec::new()));
    }

    #[test]
    fn a_step_that_waited_for_a_place_comes_after_the_one_that_gave_it() {
        let (total, links) = path(&[], &[("a", 10, None), ("b", 20, Some("a")), ("c", 30, Some("b"))]);
        assert_eq!((total, links), (60, saves(&[("a", 10), ("b", 20), ("c", 30)])));
    }
}
