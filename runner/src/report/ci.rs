//! What CI services make more of than of plain lines: the output of programs, folded, and annotations.
//!
//! Knows which service it is in by the variable that each sets, and nothing else of the environment.

pub(super) mod github;
mod gitlab;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runner::event::{Event, Stamped, StepOutcome};

use super::neutral::neutral;

/// A service whose log has more than lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ci {
    /// GitHub Actions, and what takes its commands: Gitea, Forgejo.
    GitHub,
    /// GitLab CI.
    GitLab,
}

/// How much of a step's output is kept for its fold, in bytes; of more than that the end.
const KEPT_OUTPUT: usize = 1 << 20;

impl Ci {
    /// The service that this process runs in.
    pub(crate) fn found() -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| value == "true");
        if set("GITHUB_ACTIONS") {
            Some(Self::GitHub)
        } else if set("GITLAB_CI") {
            Some(Self::GitLab)
        } else {
            None
        }
    }
}

/// What is added to the plain lines of a service's log.
pub(super) struct Log {
    ci: Ci,
    annotations: github::Annotations,
    /// What the programs of each running step wrote.
    output: HashMap<String, String>,
}

impl Log {
    pub(super) fn new(ci: Ci) -> Self {
        Self { ci, annotations: github::Annotations::default(), output: HashMap::new() }
    }

    pub(super) fn event(&mut self, stamped: &Stamped, out: &mut impl Write) -> io::Result<()> {
        match &stamped.event {
            Event::StepOutput { step, text } => {
                let kept = self.output.entry(step.clone()).or_default();
                kept.push_str(text);
                if kept.len() > 2 * KEPT_OUTPUT {
                    *kept = kept.split_off(kept.ceil_char_boundary(kept.len() - KEPT_OUTPUT));
                }
            }
            Event::StepFinished { step, outcome: StepOutcome::Ran | StepOutcome::Failed, .. } => {
                if let Some(text) = self.output.remove(step).filter(|text| !text.trim().is_empty()) {
                    // A line of a program must not be taken for a command to the service.
                    let lines = text.trim_end().lines().flat_map(|line| ["  | ", line, "\n"]).collect::<String>();
                    let lines = github::tame(&neutral(&lines, false));
                    let title = format!("output of {step}");
                    match self.ci {
                        Ci::GitHub => github::fold(&title, &lines, out)?,
                        Ci::GitLab => gitlab::fold(step, &title, &lines, stamped.at / 1000, out)?,
                    }
                }
            }
            _ => {}
        }
        match self.ci {
            Ci::GitHub => self.annotations.event(&stamped.event, out),
            // GitLab takes annotations from a file: see `code_quality`.
            Ci::GitLab => Ok(()),
        }
    }
}

/// A file as seen from the root of the repository that a service has checked out, if it is in there.
pub(super) fn from_root(file: &Path) -> Option<PathBuf> {
    let root = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().find_map(std::env::var_os).map(PathBuf::from);
    let root = root.map_or_else(std::env::current_dir, std::fs::canonicalize).ok()?;
    let file = std::fs::canonicalize(file).ok()?;
    file.strip_prefix(root).ok().map(Path::to_owned)
}

/// A file that a test report names: as seen from the source, or from where programs see it.
pub(super) fn of_source(source: &str, file: &str) -> PathBuf {
    let inside = file.strip_prefix("/app/src/").unwrap_or(file);
    Path::new(source).join(inside.trim_start_matches("./"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_report_are_those_of_the_source() {
        for file in ["polls/tests.py", "./polls/tests.py", "/app/src/polls/tests.py"] {
            assert_eq!(of_source("web", file), Path::new("web/polls/tests.py"));
        }
    }

    #[test]
    fn a_program_cannot_speak_to_the_service() {
        let mut log = Log::new(Ci::GitHub);
        let mut out = Vec::new();
        let events = [
            Event::StepOutput { step: "tests".into(), text: "::error::no\nwell".into() },
            Event::StepFinished { step: "tests".into(), outcome: StepOutcome::Ran, elapsed_ms: 1, failure: None },
        ];
        for event in events {
            log.event(&Stamped::now(event), &mut out).expect("memory can be written to");
        }
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "::group::output of tests\n  | ::error::no\n  | well\n::endgroup::\n");
    }
}
