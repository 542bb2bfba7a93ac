//! GitHub's workflow commands: folds, and annotations that it shows beside the lines of a change.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>

use std::io::{self, Write};
use std::path::Path;

use runner::event::{Event, Location, Outcome, StepFailure, TestCase, TestOutcome};

use super::{from_root, of_source};

/// How many failed tests are annotated: GitHub shows ten errors of a job's step, and one of them is the step's own.
const ANNOTATED_TESTS: usize = 9;

/// Annotations of what failed.
#[derive(Default)]
pub(super) struct Annotations {
    /// The directory that is built.
    source: String,
}

/// Where an annotation is shown.
struct Place {
    file: String,
    line: usize,
    column: Option<usize>,
}

impl Annotations {
    pub(super) fn event(&mut self, event: &Event, out: &mut impl Write) -> io::Result<()> {
        match event {
            Event::RunStarted { source, .. } => {
                self.source.clone_from(source);
                Ok(())
            }
            Event::Warning { message, hint } => {
                let text = [message.as_str()].into_iter().chain(hint.as_deref()).collect::<Vec<_>>().join("\n");
                write(out, "warning", None, "pipe", &text)
            }
            Event::Error { message, causes, hints, place, .. } => {
                let text: Vec<&str> = std::iter::once(message).chain(causes).chain(hints).map(String::as_str).collect();
                write(out, "error", place.as_ref().and_then(of_pipeline), "pipe", &text.join("\n"))
            }
            Event::StepTests { step, tests } => {
                let bad = tests.iter().filter(|test| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Error));
                for test in bad.take(ANNOTATED_TESTS) {
                    let title = format!("{} ({step})", test.full_name());
                    let message = test.message.as_deref().unwrap_or("failed");
                    write(out, "error", self.of_test(test), &title, message)?;
                }
                Ok(())
            }
            Event::StepFlaky { step, message, place, .. } => {
                let text = format!("it failed before, with the same key:\n{message}");
                write(out, "warning", of_pipeline(place), &format!("step {step} is flaky"), &text)
            }
            Event::StepFinished { step, failure: Some(StepFailure { message, hint, place, .. }), .. } => {
                let text = [message.as_str()].into_iter().chain(hint.as_deref()).collect::<Vec<_>>().join("\n");
                write(out, "error", of_pipeline(place), &format!("step {step} failed"), &text)
            }
            Event::ReleaseFinished { target, release, outcome: Outcome::Failed, url } => {
                let what = if url.is_some() { "serves, but a process of it ended at once" } else { "did not come up" };
                write(out, "error", None, "pipe", &format!("release {release} of {target} {what}"))
            }
            _ => Ok(()),
        }
    }

    fn of_test(&self, test: &TestCase) -> Option<Place> {
        let file = from_root(&of_source(&self.source, test.file.as_ref()?))?;
        Some(Place { file: file.display().to_string(), line: test.line?, column: None })
    }
}

fn of_pipeline(place: &Location) -> Option<Place> {
    let file = from_root(Path::new(&place.file))?;
    Some(Place { file: file.display().to_string(), line: place.line, column: Some(place.column) })
}

/// Text as it may be shown: none of its lines is a command to GitHub, which looks for those behind spaces, and for those of an
/// older kind in all of a line.
pub(crate) fn tame(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let mark = if line.trim_start().starts_with("::") { "| " } else { "" };
        format!("{mark}{}", line.replace("##[", "## ["))
    });
    lines.collect()
}

/// Lines that are folded under a title.
pub(super) fn fold(title: &str, lines: &str, out: &mut impl Write) -> io::Result<()> {
    write!(out, "::group::{}\n{lines}::endgroup::\n", data(title))
}

fn write(out: &mut impl Write, level: &str, place: Option<Place>, title: &str, text: &str) -> io::Result<()> {
    let mut properties = Vec::new();
    if let Some(Place { file, line, column }) = place {
        properties.push(format!("file={}", property(&file)));
        properties.push(format!("line={line}"));
        properties.extend(column.map(|column| format!("col={column}")));
    }
    properties.push(format!("title={}", property(title)));
    writeln!(out, "::{level} {}::{}", properties.join(","), data(text))
}

/// A text after the last colons.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A text of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_what_is_shown_is_a_command() {
        let text = "well\n   ::add-mask::a\n::stop-commands::b\nno ##[error]c\na::b\n";
        assert_eq!(tame(text), "well\n|    ::add-mask::a\n| ::stop-commands::b\nno ## [error]c\na::b\n");
    }

    #[test]
    fn an_annotation_has_its_place_and_keeps_its_lines() {
        let mut out = Vec::new();
        let place = Place { file: "a,b.pipeline".into(), line: 3, column: Some(9) };
        write(&mut out, "error", Some(place), "step: x", "100%\nmore: all").expect("memory can be written to");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "::error file=a%2Cb.pipeline,line=3,col=9,title=step%3A x::100%25%0Amore: all\n"
        );
    }
}
