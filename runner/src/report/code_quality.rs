//! What is wrong where, as GitLab's code quality report, which its merge requests show beside the lines of a change.
//!
//! <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>

use std::path::Path;

use runner::digest::Digest;
use runner::event::{Event, Location, Stamped, TestOutcome};
use serde_json::{Value, json};

use super::ci::{from_root, of_source};

/// The report of a run. What has no place in the repository is not in it.
pub(super) fn code_quality(events: &[Stamped]) -> Value {
    let mut source = "";
    let mut issues = Vec::new();
    for Stamped { event, .. } in events {
        match event {
            Event::RunStarted { source: directory, .. } => source = directory,
            Event::Error { message, place: Some(place), .. } => {
                issues.extend(issue("pipeline", "critical", message, place));
            }
            Event::StepFinished { step, failure: Some(failure), .. } => {
                let text = format!("step {step} failed: {}", failure.message);
                issues.extend(issue(&format!("step/{step}"), "critical", &text, &failure.place));
            }
            Event::StepFlaky { step, message, place, .. } => {
                let text = format!("step {step} is flaky: it failed before with the same key: {message}");
                issues.extend(issue(&format!("flaky/{step}"), "minor", &text, place));
            }
            Event::StepTests { tests, .. } => {
                let bad = tests.iter().filter(|test| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Error));
                issues.extend(bad.filter_map(|test| {
                    let file = of_source(source, test.file.as_ref()?).display().to_string();
                    let place = Location { file, line: test.line?, column: 1 };
                    let text = format!("{}: {}", test.full_name(), test.message.as_deref().unwrap_or("failed"));
                    issue(&format!("test/{}", test.full_name()), "major", &text, &place)
                }));
            }
            _ => {}
        }
    }
    Value::Array(issues)
}

fn issue(check: &str, severity: &str, text: &str, place: &Location) -> Option<Value> {
    let path = from_root(Path::new(&place.file))?.display().to_string();
    // The same fault on another line is the same one.
    let fingerprint = Digest::of(format!("{check}\0{path}\0{}", text.lines().next().unwrap_or_default()).as_bytes());
    Some(json!({
        "description": text,
        "check_name": check,
        "fingerprint": fingerprint.to_string().trim_start_matches("blake3:"),
        "severity": severity,
        "location": { "path": path, "lines": { "begin": place.line } },
    }))
}
