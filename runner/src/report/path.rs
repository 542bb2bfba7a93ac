//! The critical path of a run: the chain of steps that its time went to, and what each of them could save.
//!
//! A step can save as much as the run would be shorter by if that step took no time: another chain may then be the longest.

use std::collections::{BTreeMap, HashMap};

use runner::event::{Event, StepOutcome};

/// A step on the critical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its name.
    pub(crate) step: String,
    /// How long it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// By how much the run would be shorter without it, in milliseconds.
    pub(crate) saves_ms: u64,
}

/// Gathers what the path is found from.
#[derive(Debug, Default)]
pub(crate) struct CriticalPath {
    needs: BTreeMap<String, Vec<String>>,
    /// The steps that ran, in the order of their ends, so that what a step needs stands before it.
    ran: Vec<(String, u64)>,
}

impl CriticalPath {
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { needs, .. } => self.needs.clone_from(needs),
            Event::StepFinished { step, outcome: StepOutcome::Ran, elapsed_ms, .. } => {
                self.ran.push((step.clone(), *elapsed_ms));
            }
            _ => {}
        }
    }

    /// The path from its first step to its last; nothing where no step ran.
    pub(crate) fn links(&self) -> Vec<Link> {
        let (total, path) = self.longest(None);
        let link = |&at: &usize| {
            let (step, elapsed_ms) = self.ran[at].clone();
            Link { step, elapsed_ms, saves_ms: total - self.longest(Some(at)).0 }
        };
        path.iter().map(link).collect()
    }

    /// The longest chain and its length, with one step for nothing.
    fn longest(&self, free: Option<usize>) -> (u64, Vec<usize>) {
        let mut ends: HashMap<&str, (u64, usize)> = HashMap::new();
        let mut before: Vec<Option<usize>> = Vec::new();
        for (at, (step, elapsed)) in self.ran.iter().enumerate() {
            let needed = self.needs.get(step).into_iter().flatten();
            let latest = needed.filter_map(|need| ends.get(need.as_str()).copied()).max();
            let own = if free == Some(at) { 0 } else { *elapsed };
            ends.insert(step, (latest.map_or(0, |(length, _)| length) + own, at));
            before.push(latest.map(|(_, at)| at));
        }
        let Some(&(total, last)) = ends.values().max() else { return (0, Vec::new()) };
        let mut path: Vec<usize> = std::iter::successors(Some(last), |at| before[*at]).collect();
        path.reverse();
        (total, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_saves_no_more_than_the_next_longest_chain_leaves() {
        let mut path = CriticalPath::default();
        let needs = [("venv", vec!["lock"]), ("static", vec!["venv"]), ("slug", vec!["static", "frontend"])];
        path.event(&Event::RunStarted {
            version: 1,
            pipeline: "p".into(),
            app: "a".into(),
            steps: 5,
            needs: needs.map(|(step, on)| (step.into(), on.into_iter().map(str::to_owned).collect())).into(),
        });
        for (step, elapsed_ms) in [("lock", 1), ("frontend", 90), ("venv", 70), ("static", 30), ("slug", 2)] {
            let (step, outcome) = (step.to_owned(), StepOutcome::Ran);
            path.event(&Event::StepFinished { step, outcome, elapsed_ms, message: None, hint: None });
        }
        let links: Vec<_> = path.links().into_iter().map(|link| (link.step, link.saves_ms)).collect();
        let expected = [("lock", 1), ("venv", 11), ("static", 11), ("slug", 2)];
        assert_eq!(links, expected.map(|(step, saves)| (step.to_owned(), saves)));
        assert_eq!(CriticalPath::default().links(), []);
    }
}
