//! A run as a Chrome trace, for `chrome://tracing`, Perfetto and speedscope: a bar for each step and release, side by side where
//! they ran so.

use std::collections::HashMap;

use runner::event::{Event, Stamped};
use serde_json::{Value, json};

/// The trace of a run's events, times in microseconds from its start.
pub(super) fn trace(events: &[Stamped]) -> Value {
    let begin = events.first().map_or(0, |first| first.at);
    let mut lanes = Lanes::default();
    let mut started: HashMap<String, (u64, &str)> = HashMap::new();
    let mut bars = Vec::new();
    for Stamped { at, event } in events {
        match event {
            Event::StepStarted { step, why, .. } => {
                started.insert(format!("step {step}"), (*at, why));
            }
            Event::ReleaseStarted { target, slug, .. } => {
                started.insert(format!("release {target}"), (*at, slug));
            }
            Event::StepFinished { step, outcome, elapsed_ms, .. } => {
                // A step that was cached never started: it has only a time.
                let (from, why) =
                    started.remove(&format!("step {step}")).unwrap_or((at.saturating_sub(*elapsed_ms), ""));
                bars.push(bar(step, &json!(outcome), why, (from, *at), begin, &mut lanes));
            }
            Event::ReleaseFinished { target, outcome, .. } => {
                let (from, slug) = started.remove(&format!("release {target}")).unwrap_or((*at, ""));
                bars.push(bar(target, &json!(outcome), slug, (from, *at), begin, &mut lanes));
            }
            _ => {}
        }
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": bars })
}

fn bar(name: &str, outcome: &Value, about: &str, (from, to): (u64, u64), begin: u64, lanes: &mut Lanes) -> Value {
    json!({
        "name": name,
        "cat": outcome,
        "ph": "X",
        "ts": from.saturating_sub(begin) * 1000,
        "dur": to.saturating_sub(from) * 1000,
        "pid": 1,
        "tid": lanes.take(from, to),
        "args": { "about": about },
    })
}

/// Rows of bars, none of which overlap.
#[derive(Default)]
struct Lanes(Vec<Vec<(u64, u64)>>);

impl Lanes {
    /// The first lane with room between two times.
    fn take(&mut self, from: u64, to: u64) -> usize {
        let free = |lane: &Vec<(u64, u64)>| lane.iter().all(|(start, end)| *end <= from || *start >= to);
        let found = self.0.iter().position(free);
        let lane = found.unwrap_or(self.0.len());
        if found.is_none() {
            self.0.push(Vec::new());
        }
        self.0[lane].push((from, to));
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner::event::StepOutcome;

    #[test]
    fn steps_that_ran_side_by_side_are_on_lanes_of_their_own() {
        let event = |at, step: &str, ended: bool| {
            let step = step.to_owned();
            let event = if ended {
                Event::StepFinished { step, outcome: StepOutcome::Ran, elapsed_ms: 0, failure: None }
            } else {
                Event::StepStarted { step, why: "it has not run before".into(), after: None }
            };
            Stamped { at, event }
        };
        let events = [
            event(1000, "a", false),
            event(1001, "b", false),
            event(1005, "a", true),
            event(1005, "c", false),
            event(1007, "b", true),
            event(1009, "c", true),
        ];
        let trace = trace(&events);
        let bars = trace["traceEvents"].as_array().expect("a list");
        let shown: Vec<_> = bars.iter().map(|bar| (&bar["name"], &bar["ts"], &bar["dur"], &bar["tid"])).collect();
        let expected = [("a", 0, 5000, 0), ("b", 1000, 6000, 1), ("c", 5000, 4000, 0)];
        let expected = expected.map(|(name, ts, dur, tid)| (json!(name), json!(ts), json!(dur), json!(tid)));
        assert_eq!(shown, expected.iter().map(|(a, b, c, d)| (a, b, c, d)).collect::<Vec<_>>());
    }
}
