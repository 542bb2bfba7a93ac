//! What happens, a line at a time, for logs and for people.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use runner::event::{Event, Level, Location, Outcome, Stamped, StepFailure, StepOutcome, TestCase, TestOutcome};

use super::ci::{self, Ci};
use super::neutral::last_written;
use super::path::{CriticalPath, Link};
use super::{Paint, Reader};

/// Steps on the critical path that took less are not named, in milliseconds.
const WORTH_A_WORD_MS: u64 = 100;

/// How many steps of the critical path are named, the longest ones.
const NAMED_LINKS: usize = 8;

/// How much of a program's output is kept, to be shown if its step fails.
const TAIL_LINES: usize = 60;

/// The width of the column with names of steps and targets; longer names push the rest of their line.
const NAME_WIDTH: usize = 12;

/// In a pipeline with more steps, those that were cached are only counted.
const FEW: usize = 40;

/// How many tests that did not pass are named; the report has all.
const NAMED_TESTS: usize = 20;

/// The events that are worth a line, as lines.
pub(super) struct Plain<W: Write> {
    out: BufWriter<W>,
    lines: Lines,
    ci: Option<ci::Log>,
    /// Whether errors are part of the text; while a run goes on, they go to standard error.
    retells: bool,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W, paint: Paint, ci: Option<Ci>) -> Self {
        Self { out: BufWriter::new(out), lines: Lines::new(paint), ci: ci.map(ci::Log::new), retells: false }
    }

    /// For a run that is over.
    pub(super) fn retelling(out: W, paint: Paint) -> Self {
        Self { retells: true, ..Self::new(out, paint, None) }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", self.lines.paint.shown(text))
    }
}

impl<W: Write + Send> Reader for Plain<W> {
    fn event(&mut self, stamped: &Stamped) -> io::Result<()> {
        if let Event::StepStarted { step, why, .. } = &stamped.event {
            self.line(&self.lines.about(step, &format!("runs: {why}")))?;
        }
        if let Some(text) = self.lines.of(&stamped.event) {
            self.line(&text)?;
        }
        if let Event::Error { message, causes, hints, place, .. } = &stamped.event
            && self.retells
        {
            self.line(&self.lines.error(message, causes, hints, place.as_ref()))?;
        }
        if let Some(ci) = &mut self.ci {
            ci.event(stamped, &mut self.out)?;
        }
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Turns events into text that stays.
pub(super) struct Lines {
    paint: Paint,
    /// The last lines of the programs of each running step.
    output: HashMap<String, Vec<String>>,
    path: CriticalPath,
    /// How many steps there are.
    steps: usize,
    failed: usize,
    skipped: usize,
    flaky: BTreeSet<String>,
}

impl Lines {
    pub(super) fn new(paint: Paint) -> Self {
        Self {
            paint,
            output: HashMap::new(),
            path: CriticalPath::default(),
            steps: 0,
            failed: 0,
            skipped: 0,
            flaky: BTreeSet::new(),
        }
    }

    /// Whether there are so many steps that only some get a line.
    pub(super) fn many(&self) -> bool {
        self.steps > FEW
    }

    /// What is left to read of an event; none for those that only matter while they last.
    pub(super) fn of(&mut self, event: &Event) -> Option<String> {
        let paint = self.paint;
        self.path.event(event);
        match event {
            Event::RunStarted { pipeline, app, steps, .. } => {
                (self.steps, self.failed, self.skipped) = (*steps, 0, 0);
                Some(format!("{} {}", paint.bold(app), paint.dim(&format!("{pipeline}, {}", counted(*steps, "step")))))
            }
            Event::Warning { message, hint } => {
                Some(format!("{} {message}{}", paint.yellow("warning:"), self.hint("  ", hint.as_deref())))
            }
            Event::Note { message } => Some(format!("{} {message}", paint.cyan("note:"))),
            Event::StepLog { step, level, message } if *level >= Level::Info => {
                let message = match level {
                    Level::Warn => format!("{} {message}", paint.yellow("warning:")),
                    Level::Error => format!("{} {message}", paint.red("error:")),
                    Level::Info | Level::Debug | Level::Trace => paint.dim(message),
                };
                Some(self.about(step, &message))
            }
            Event::StepOutput { step, text } => {
                let tail = self.output.entry(step.clone()).or_default();
                tail.extend(text.lines().map(|line| last_written(line).to_owned()));
                tail.drain(..tail.len().saturating_sub(TAIL_LINES));
                None
            }
            Event::StepRetried { step, message } => {
                Some(self.about(step, &format!("{} {message}; trying again", paint.yellow("warning:"))))
            }
            Event::StepTests { step, tests } => Some(self.about(step, &self.tests(tests))),
            Event::StepFlaky { step, message, .. } => {
                self.flaky.insert(step.clone());
                let (word, said) = (paint.yellow("flaky:"), in_short(message));
                Some(self.about(step, &format!("{word} it passes now, and with the same key failed before: {said}")))
            }
            Event::StepFinished { step, outcome, elapsed_ms, failure } => {
                let only_counted = matches!(outcome, StepOutcome::Cached | StepOutcome::Skipped);
                let worth_it = !self.many() || !only_counted;
                let ended = worth_it.then(|| self.ended(step, *outcome, *elapsed_ms, failure.as_ref()));
                self.output.remove(step);
                self.failed += usize::from(*outcome == StepOutcome::Failed);
                self.skipped += usize::from(*outcome == StepOutcome::Skipped);
                ended
            }
            Event::SlugSent { target, server, bytes, elapsed_ms, .. } => {
                let text = format!("sent {} to {server} in {}", size(*bytes), duration(*elapsed_ms));
                Some(self.about(target, &text))
            }
            Event::ReleaseStarted { target, release, slug } => {
                Some(self.about(target, &format!("release {release} of {slug}")))
            }
            Event::ReleaseOutput { target, text } => {
                let lines: Vec<String> = text
                    .lines()
                    .map(|line| self.about(target, &paint.dim(&format!("| {}", last_written(line)))))
                    .collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            Event::ReleaseFinished { target, release, outcome, url } => {
                let text = match (outcome, url) {
                    (Outcome::Succeeded, Some(url)) => paint.green(&format!("release {release} answers at {url}")),
                    (Outcome::Succeeded, None) => paint.green(&format!("release {release} runs")),
                    (Outcome::Failed, Some(url)) => {
                        paint.red(&format!("release {release} answers at {url}, but a process of it ended at once"))
                    }
                    (Outcome::Failed, None) => paint.red(&format!("release {release} failed")),
                    (Outcome::Cancelled, _) => paint.yellow(&format!("release {release} was cancelled")),
                };
                Some(self.about(target, &text))
            }
            Event::ReleaseUnchanged { target, release, url } => {
                let text = match url.as_str() {
                    "" => format!(
                        "release {release} is this already, and no process answers: `pipe scale {target} web=1`"
                    ),
                    url => format!("release {release} is this already, at {url}"),
                };
                Some(self.about(target, &paint.dim(&text)))
            }
            // A run that ends with no steps never began: what is printed as the error says all.
            Event::RunFinished { steps: 0, .. }
            | Event::Error { .. }
            | Event::StepStarted { .. }
            | Event::ProgramFinished { .. }
            | Event::ReleaseStage { .. }
            | Event::StepProgress { .. }
            | Event::StepLog { .. } => None,
            Event::RunFinished { outcome, steps, cached, slug, elapsed_ms, url } => {
                Some(self.finished(*outcome, *steps, *cached, *elapsed_ms, slug.as_deref(), url.as_deref()))
            }
        }
    }

    /// `text` behind the name of what it is about; later lines of it are moved in as far.
    pub(super) fn about(&self, name: &str, text: &str) -> String {
        let indented = text.replace('\n', &format!("\n{}", " ".repeat(NAME_WIDTH + 3)));
        format!("  {} {indented}", self.paint.bold(&format!("{name:<NAME_WIDTH$}")))
    }

    fn ended(&self, step: &str, outcome: StepOutcome, elapsed_ms: u64, failure: Option<&StepFailure>) -> String {
        let paint = self.paint;
        let after = duration(elapsed_ms);
        let message = failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let text = match outcome {
            StepOutcome::Ran => paint.green(&format!("ran in {after}")),
            StepOutcome::Cached => paint.dim("cached"),
            StepOutcome::Failed => format!("{}{message}", paint.red(&format!("failed after {after}"))),
            StepOutcome::Skipped => paint.yellow("skipped"),
            StepOutcome::Cancelled => paint.yellow(&format!("cancelled after {after}")),
        };
        let hint = self.hint("", failure.and_then(|failure| failure.hint.as_deref()));
        let output = self.output.get(step).filter(|_| outcome == StepOutcome::Failed);
        // A step that failed because of a program quotes what that one said: once is enough, and what others said beside it
        // would hide the cause.
        let is_quoted = |last: &String| message.contains('\n') || message.contains(last.as_str());
        let new =
            output.filter(|lines| lines.iter().rfind(|line| !line.is_empty()).is_some_and(|last| !is_quoted(last)));
        let tail: Vec<String> =
            new.into_iter().flatten().map(|line| format!("\n{}", paint.dim(&format!("| {line}")))).collect();
        self.about(step, &format!("{text}{}{hint}", tail.concat()))
    }

    /// How the tests of a step went, and which did not pass.
    fn tests(&self, tests: &[TestCase]) -> String {
        let paint = self.paint;
        let count = |outcome| tests.iter().filter(|test| test.outcome == outcome).count();
        let bad = count(TestOutcome::Failed) + count(TestOutcome::Error);
        let mut text = format!("{}, {bad} failed", counted(tests.len(), "test"));
        if count(TestOutcome::Skipped) > 0 {
            let _ = write!(text, ", {} skipped", count(TestOutcome::Skipped));
        }
        text = if bad == 0 { paint.dim(&text) } else { paint.red(&text) };
        let not_passed = |test: &&TestCase| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Error);
        for test in tests.iter().filter(not_passed).take(NAMED_TESTS) {
            let message = test.message.as_deref().and_then(|message| message.lines().next()).unwrap_or_default();
            let _ = write!(text, "\n{} {message}", paint.bold(&test.full_name()));
        }
        if bad > NAMED_TESTS {
            let _ = write!(text, "\nand {} more", bad - NAMED_TESTS);
        }
        text
    }

    /// What is printed of an error, as standard error had it.
    fn error(&self, message: &str, causes: &[String], hints: &[String], place: Option<&Location>) -> String {
        let paint = self.paint;
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        let mut text = format!("{} {place}{message}", paint.red("error:"));
        for cause in causes {
            let _ = write!(text, "\n  {} {cause}", paint.dim("because:"));
        }
        for hint in hints {
            let _ = write!(text, "\n  {} {}", paint.cyan("hint:"), hint.replace('\n', "\n        "));
        }
        text
    }

    fn finished(
        &self,
        outcome: Outcome,
        steps: usize,
        cached: usize,
        elapsed_ms: u64,
        slug: Option<&str>,
        url: Option<&str>,
    ) -> String {
        let paint = self.paint;
        let after = duration(elapsed_ms);
        let all = counted(steps, "step");
        let mut text = match outcome {
            Outcome::Succeeded if steps == cached => {
                format!("{} in {after}: no step ran, {all} cached", paint.green("done"))
            }
            Outcome::Succeeded => format!("{} in {after}: {all}, {cached} cached", paint.green("done")),
            Outcome::Failed if self.failed > 0 => {
                let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
                format!(
                    "{} after {after}: {all}, {cached} cached, {} failed{skipped}",
                    paint.red("failed"),
                    self.failed
                )
            }
            Outcome::Failed => format!("{} after {after}", paint.red("failed")),
            Outcome::Cancelled => format!("{} after {after}", paint.yellow("cancelled")),
        };
        if let Some(path) = self.critical_path() {
            let _ = write!(text, "\n{}", paint.dim(&path));
        }
        if !self.flaky.is_empty() {
            let names: Vec<&str> = self.flaky.iter().map(String::as_str).collect();
            let _ = write!(text, "\n{} {}", paint.yellow("flaky"), names.join(", "));
        }
        if let Some(slug) = slug {
            let _ = write!(text, "\nslug {slug}");
        }
        if let Some(url) = url {
            let _ = write!(text, "\n{}", paint.bold(url));
        }
        text
    }

    /// Where the time went, if some did and not all to one step.
    fn critical_path(&self) -> Option<String> {
        let path = self.path.longest();
        let mut worth: Vec<&Link> = path.links.iter().filter(|link| link.elapsed_ms >= WORTH_A_WORD_MS).collect();
        if worth.len() < 2 {
            return None;
        }
        let few = worth.len().saturating_sub(NAMED_LINKS);
        worth.sort_by_key(|link| std::cmp::Reverse(link.elapsed_ms));
        worth.truncate(NAMED_LINKS);
        worth.sort_by_key(|link| link.at);
        let named: Vec<String> = worth
            .into_iter()
            .map(|link| {
                let saves = match self.path.saves_ms(link) {
                    less if less < link.elapsed_ms => format!(" (saves {})", duration(less)),
                    _ => String::new(),
                };
                format!("{} {}{saves}", link.step, duration(link.elapsed_ms))
            })
            .collect();
        let named = named.join(&format!(" {} ", self.paint.arrow()));
        let rest = if few > 0 { format!(", and {}", counted(few, "shorter step")) } else { String::new() };
        Some(format!("critical path {}: {named}{rest}", duration(path.total_ms)))
    }

    fn hint(&self, indent: &str, hint: Option<&str>) -> String {
        hint.map(|hint| format!("\n{indent}{} {hint}", self.paint.cyan("hint:"))).unwrap_or_default()
    }
}

/// A number of bytes as people say it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// A duration as people say it.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{:02}s", ms / 1000, ms % 1000 / 10),
        10_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// The first line of a message, without what announces the lines that follow (`…; it wrote last:`).
fn in_short(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    match first.strip_suffix(':') {
        Some(announced) => announced.rsplit_once("; ").map_or(announced, |(said, _)| said),
        None => first,
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner::event::Fault;

    fn shown(events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, Paint::PLAIN, None);
        for event in events {
            plain.event(&Stamped::now(event.clone())).expect("memory can be written to");
        }
        plain.end().expect("memory can be written to");
        drop(plain);
        String::from_utf8(out).expect("lines are text")
    }

    fn ended(step: &str, outcome: StepOutcome, message: Option<&str>) -> Event {
        let failure = message.map(|message| StepFailure {
            fault: Fault::Step,
            message: message.to_owned(),
            hint: Some("mend it".to_owned()),
            place: place(),
        });
        Event::StepFinished { step: step.into(), outcome, elapsed_ms: 1234, failure }
    }

    fn place() -> Location {
        Location { file: "p".to_owned(), line: 1, column: 1 }
    }

    fn started(steps: usize) -> Event {
        Event::RunStarted {
            version: 2,
            id: "0".repeat(32),
            pipeline: "release.pipeline".into(),
            app: "polls".into(),
            source: ".".into(),
            steps,
            jobs: 2,
            trace_parent: None,
            needs: std::collections::BTreeMap::new(),
        }
    }

    fn finished(steps: usize, cached: usize, outcome: Outcome) -> Event {
        Event::RunFinished { outcome, steps, cached, slug: None, elapsed_ms: 65_000, url: None }
    }

    #[test]
    fn a_failed_step_is_shown_with_the_output_that_its_message_does_not_quote() {
        let output = |text: &str| Event::StepOutput { step: "static".into(), text: text.into() };
        let failed = |message| ended("static", StepOutcome::Failed, Some(message));
        assert_eq!(
            shown(&[output("one\ntwo\n"), failed("it broke")]),
            "  static       failed after 1.23s: it broke\n               | one\n               | two\n               \
             hint: mend it\n"
        );
        assert_eq!(
            shown(&[output("two\n"), failed("it broke:\ntwo")]),
            "  static       failed after 1.23s: it broke:\n               two\n               hint: mend it\n"
        );
        // Another program of the step was the last to write.
        assert_eq!(
            shown(&[output("two\nthree\n"), failed("it broke:\ntwo")]),
            "  static       failed after 1.23s: it broke:\n               two\n               hint: mend it\n"
        );
    }

    #[test]
    fn a_run_that_runs_nothing_says_so() {
        assert_eq!(
            shown(&[ended("lock", StepOutcome::Cached, None), finished(1, 1, Outcome::Succeeded)]),
            "  lock         cached\ndone in 1m 05s: no step ran, 1 step cached\n"
        );
    }

    #[test]
    fn of_many_steps_the_cached_ones_are_only_counted() {
        let cached = ended("lock", StepOutcome::Cached, None);
        let many = shown(&[started(FEW + 1), cached.clone(), ended("a", StepOutcome::Ran, None)]);
        assert_eq!(many, "polls release.pipeline, 41 steps\n  a            ran in 1.23s\n");
        assert!(shown(&[started(FEW), cached]).contains("lock         cached"));
    }

    #[test]
    fn a_failed_run_says_how_many_steps_failed_and_which_are_flaky() {
        let flaky = Event::StepFlaky { step: "a".into(), failed_at: 1, message: "broken\npipe".into(), place: place() };
        let events =
            [started(3), flaky, ended("b", StepOutcome::Failed, Some("no")), ended("c", StepOutcome::Skipped, None)];
        let text = shown(&[&events[..], &[finished(3, 0, Outcome::Failed)]].concat());
        assert!(
            text.contains("a            flaky: it passes now, and with the same key failed before: broken\n"),
            "{text}"
        );
        assert!(text.ends_with("failed after 1m 05s: 3 steps, 0 cached, 1 failed, 1 skipped\nflaky a\n"), "{text}");
        let of_program = "`sh` ended with exit code 1; it wrote last:\nno such table";
        assert_eq!(in_short(of_program), "`sh` ended with exit code 1");
        assert_eq!([in_short("expected this:\nthat"), in_short("")], ["expected this", ""]);
    }

    #[test]
    fn tests_that_did_not_pass_are_named() {
        let test = |name: &str, outcome| TestCase {
            group: "polls.tests".into(),
            name: name.into(),
            outcome,
            elapsed_ms: 1,
            message: Some("1 != 2\nat line 3".into()),
            file: None,
            line: None,
        };
        let tests = vec![test("one", TestOutcome::Passed), test("two", TestOutcome::Failed)];
        assert_eq!(
            shown(&[Event::StepTests { step: "tests".into(), tests }]),
            "  tests        2 tests, 1 failed\n               polls.tests.two 1 != 2\n"
        );
    }

    #[test]
    fn a_run_that_never_began_leaves_the_word_to_its_error() {
        assert_eq!(shown(&[finished(0, 0, Outcome::Failed)]), "");
    }
}
