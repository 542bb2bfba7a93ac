//! A run as JUnit's XML: every step is a test case of the run, and the tests that a step ran are a suite of that step's name.

use std::borrow::Cow;
use std::fmt::Write as _;

use runner::agent::log::stamp;
use runner::event::{Event, Fault, Stamped, StepFailure, StepOutcome, TestCase, TestOutcome};

/// The report of a run.
pub(super) fn junit(events: &[Stamped]) -> String {
    let (mut app, mut begin) = ("", 0);
    let mut steps = Suite::default();
    let mut suites = Vec::new();
    for Stamped { at, event } in events {
        match event {
            Event::RunStarted { app: name, .. } => (app, begin) = (name, *at),
            Event::StepFinished { step, outcome, elapsed_ms, failure } => {
                steps.add("steps", step, *elapsed_ms, None, &of_step(*outcome, failure.as_ref()));
            }
            Event::StepTests { step, tests } => {
                let mut suite = Suite { name: step.clone(), ..Suite::default() };
                for test in tests {
                    suite.add(&test.group, &test.name, test.elapsed_ms, test.file.as_deref(), &of_test(test));
                }
                suites.push(suite);
            }
            Event::Error { fault, message, causes, .. } => {
                let text = std::iter::once(message).chain(causes).map(String::as_str).collect::<Vec<_>>().join("\n");
                steps.add("pipe", "run", 0, None, &Result::Error { kind: fault.name(), text: &text });
            }
            _ => {}
        }
    }
    app.clone_into(&mut steps.name);
    suites.insert(0, steps);
    let total = |of: fn(&Suite) -> u64| suites.iter().map(of).sum::<u64>();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(begin);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" {} timestamp=\"{}\">\n",
        escape(app),
        counts(
            total(|suite| suite.tests),
            total(|suite| suite.failures),
            total(|suite| suite.errors),
            total(|suite| suite.skipped),
            total(|suite| suite.elapsed_ms)
        ),
        stamp(time)
    );
    for suite in &suites {
        let counts = counts(suite.tests, suite.failures, suite.errors, suite.skipped, suite.elapsed_ms);
        let _ = writeln!(xml, "<testsuite name=\"{}\" {counts}>\n{}</testsuite>", escape(&suite.name), suite.cases);
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// How a test case ended.
enum Result<'a> {
    Passed,
    Skipped,
    Failure { kind: &'a str, text: &'a str },
    Error { kind: &'a str, text: &'a str },
}

#[derive(Default)]
struct Suite {
    name: String,
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    elapsed_ms: u64,
    /// The test cases, as XML.
    cases: String,
}

impl Suite {
    fn add(&mut self, class: &str, name: &str, elapsed_ms: u64, file: Option<&str>, result: &Result<'_>) {
        self.tests += 1;
        self.elapsed_ms += elapsed_ms;
        let file = file.map(|file| format!(" file=\"{}\"", escape(file))).unwrap_or_default();
        let _ = write!(
            self.cases,
            "<testcase classname=\"{}\" name=\"{}\"{file} time=\"{}\"",
            escape(class),
            escape(name),
            seconds(elapsed_ms)
        );
        let (element, kind, text) = match result {
            Result::Passed => {
                self.cases.push_str("/>\n");
                return;
            }
            Result::Skipped => {
                self.skipped += 1;
                self.cases.push_str("><skipped/></testcase>\n");
                return;
            }
            Result::Failure { kind, text } => ("failure", kind, text),
            Result::Error { kind, text } => ("error", kind, text),
        };
        *(if element == "failure" { &mut self.failures } else { &mut self.errors }) += 1;
        let first = text.lines().next().unwrap_or_default();
        let _ = writeln!(
            self.cases,
            "><{element} type=\"{kind}\" message=\"{}\">{}</{element}></testcase>",
            escape(first),
            escape(text)
        );
    }
}

fn of_step(outcome: StepOutcome, failure: Option<&StepFailure>) -> Result<'_> {
    match (outcome, failure) {
        (StepOutcome::Skipped, _) => Result::Skipped,
        (StepOutcome::Cancelled, _) => Result::Error { kind: Fault::Cancelled.name(), text: "the run was stopped" },
        (_, Some(StepFailure { fault: Fault::Step, message, .. })) => {
            Result::Failure { kind: Fault::Step.name(), text: message }
        }
        (_, Some(StepFailure { fault, message, .. })) => Result::Error { kind: fault.name(), text: message },
        _ => Result::Passed,
    }
}

fn of_test(test: &TestCase) -> Result<'_> {
    let text = test.message.as_deref().unwrap_or_default();
    match test.outcome {
        TestOutcome::Passed => Result::Passed,
        TestOutcome::Skipped => Result::Skipped,
        TestOutcome::Failed => Result::Failure { kind: "test", text },
        TestOutcome::Error => Result::Error { kind: "test", text },
    }
}

fn counts(tests: u64, failures: u64, errors: u64, skipped: u64, elapsed_ms: u64) -> String {
    format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{}\"",
        seconds(elapsed_ms)
    )
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// A text as XML has it; what XML cannot hold at all, as terminals' escapes, is left out.
fn escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| matches!(c, '&' | '<' | '>' | '"' | '\n') || c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    use runner::event::Location;

    #[test]
    fn steps_and_tests_are_cases_and_can_be_read_back() {
        let finished = |step: &str, outcome, failure| Stamped {
            at: 1,
            event: Event::StepFinished { step: step.into(), outcome, elapsed_ms: 1500, failure },
        };
        let failure = StepFailure {
            fault: Fault::Step,
            message: "2 tests failed: 1 < 2 & \"so on\"\n\x1b[31mred".into(),
            hint: None,
            place: Location { file: "p".into(), line: 1, column: 1 },
        };
        let test = |name: &str, outcome, message: Option<&str>| TestCase {
            group: "polls.tests".into(),
            name: name.into(),
            outcome,
            elapsed_ms: 12,
            message: message.map(str::to_owned),
            file: None,
            line: None,
        };
        let tests = vec![test("one", TestOutcome::Passed, None), test("two", TestOutcome::Failed, Some("1 != 2"))];
        let xml = junit(&[
            finished("venv", StepOutcome::Ran, None),
            Stamped { at: 1, event: Event::StepTests { step: "tests".into(), tests: tests.clone() } },
            finished("tests", StepOutcome::Failed, Some(failure)),
            finished("slug", StepOutcome::Skipped, None),
        ]);
        assert!(xml.contains("tests=\"5\" failures=\"2\" errors=\"0\" skipped=\"1\" time=\"4.524\""), "{xml}");
        let read = runner::event::junit::read(xml.as_bytes()).expect("it is JUnit's XML");
        let outcomes: Vec<_> = read.iter().map(|test| (test.name.as_str(), test.outcome)).collect();
        let expected = [
            ("venv", TestOutcome::Passed),
            ("tests", TestOutcome::Failed),
            ("slug", TestOutcome::Skipped),
            ("one", TestOutcome::Passed),
            ("two", TestOutcome::Failed),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(read[1].message.as_deref(), Some("2 tests failed: 1 < 2 & \"so on\"\n[31mred"));
    }
}
