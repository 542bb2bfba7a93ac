//! What happens, a line at a time, for logs and for people.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use runner::event::{Event, Level, Outcome, StepOutcome};

use super::path::CriticalPath;
use super::{Paint, Reader};

/// Steps on the critical path that took less are not named, in milliseconds.
const WORTH_A_WORD_MS: u64 = 100;

/// How much of a program's output is kept, to be shown if its step fails.
const TAIL_LINES: usize = 60;

/// The width of the column with names of steps and targets; longer names push the rest of their line.
const NAME_WIDTH: usize = 12;

/// The events that are worth a line, as lines.
pub(super) struct Plain<W> {
    out: W,
    lines: Lines,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W, paint: Paint) -> Self {
        Self { out, lines: Lines::new(paint) }
    }
}

impl<W: Write> Reader for Plain<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::StepStarted { step, why } = event {
            writeln!(self.out, "{}", self.lines.about(step, &format!("runs: {why}")))?;
        }
        if let Some(text) = self.lines.of(event) {
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }
}

/// Turns events into text that stays.
pub(super) struct Lines {
    paint: Paint,
    /// The last lines of the programs of each running step.
    output: HashMap<String, Vec<String>>,
    path: CriticalPath,
}

impl Lines {
    pub(super) fn new(paint: Paint) -> Self {
        Self { paint, output: HashMap::new(), path: CriticalPath::default() }
    }

    /// What is left to read of an event; none for those that only matter while they last.
    pub(super) fn of(&mut self, event: &Event) -> Option<String> {
        let paint = self.paint;
        self.path.event(event);
        match event {
            Event::RunStarted { pipeline, app, steps, .. } => {
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
                tail.extend(text.lines().map(str::to_owned));
                tail.drain(..tail.len().saturating_sub(TAIL_LINES));
                None
            }
            Event::StepFinished { step, outcome, elapsed_ms, message, hint } => {
                let ended = self.ended(step, *outcome, *elapsed_ms, message.as_deref(), hint.as_deref());
                self.output.remove(step);
                Some(ended)
            }
            Event::ReleaseStarted { target, release, slug } => {
                Some(self.about(target, &format!("release {release} of {slug}")))
            }
            Event::ReleaseOutput { target, text } => {
                let lines: Vec<String> =
                    text.lines().map(|line| self.about(target, &paint.dim(&format!("| {line}")))).collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            Event::ReleaseFinished { target, release, outcome, url } => {
                let text = match (outcome, url) {
                    (Outcome::Succeeded, Some(url)) => paint.green(&format!("release {release} answers at {url}")),
                    (Outcome::Succeeded, None) => paint.green(&format!("release {release} runs")),
                    (Outcome::Failed, _) => paint.red(&format!("release {release} failed")),
                    (Outcome::Cancelled, _) => paint.yellow(&format!("release {release} was cancelled")),
                };
                Some(self.about(target, &text))
            }
            // A run that ends with no steps never began: what is printed as the error says all.
            Event::RunFinished { steps: 0, .. }
            | Event::StepStarted { .. }
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

    fn ended(
        &self,
        step: &str,
        outcome: StepOutcome,
        elapsed_ms: u64,
        message: Option<&str>,
        hint: Option<&str>,
    ) -> String {
        let paint = self.paint;
        let after = duration(elapsed_ms);
        let message = message.map(|message| format!(": {message}")).unwrap_or_default();
        let text = match outcome {
            StepOutcome::Ran => paint.green(&format!("ran in {after}")),
            StepOutcome::Cached => paint.dim("cached"),
            StepOutcome::Failed => format!("{}{message}", paint.red(&format!("failed after {after}"))),
            StepOutcome::Skipped => format!("{}{message}", paint.yellow("skipped")),
            StepOutcome::Cancelled => paint.yellow(&format!("cancelled after {after}")),
        };
        let hint = self.hint("", hint);
        let output = self.output.get(step).filter(|_| outcome == StepOutcome::Failed);
        // A step that failed because of a program often quotes what it said: once is enough.
        let new = output.filter(|lines| {
            lines.iter().rfind(|line| !line.is_empty()).is_some_and(|last| !message.contains(last.as_str()))
        });
        let tail: Vec<String> =
            new.into_iter().flatten().map(|line| format!("\n{}", paint.dim(&format!("| {line}")))).collect();
        self.about(step, &format!("{text}{}{hint}", tail.concat()))
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
            Outcome::Failed => format!("{} after {after}", paint.red("failed")),
            Outcome::Cancelled => format!("{} after {after}", paint.yellow("cancelled")),
        };
        if let Some(path) = self.critical_path() {
            let _ = write!(text, "\n{}", paint.dim(&path));
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
        let links = self.path.links();
        let total: u64 = links.iter().map(|link| link.elapsed_ms).sum();
        let shown: Vec<String> = links
            .iter()
            .filter(|link| link.elapsed_ms >= WORTH_A_WORD_MS)
            .map(|link| {
                let saves = match link.saves_ms {
                    less if less < link.elapsed_ms => format!(" (saves {})", duration(less)),
                    _ => String::new(),
                };
                format!("{} {}{saves}", link.step, duration(link.elapsed_ms))
            })
            .collect();
        (shown.len() > 1).then(|| format!("critical path {}: {}", duration(total), shown.join(" → ")))
    }

    fn hint(&self, indent: &str, hint: Option<&str>) -> String {
        hint.map(|hint| format!("\n{indent}{} {hint}", self.paint.cyan("hint:"))).unwrap_or_default()
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

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, Paint::PLAIN);
        for event in events {
            plain.event(event).expect("memory can be written to");
        }
        String::from_utf8(out).expect("lines are text")
    }

    fn ended(step: &str, outcome: StepOutcome, message: Option<&str>) -> Event {
        Event::StepFinished {
            step: step.into(),
            outcome,
            elapsed_ms: 1234,
            message: message.map(str::to_owned),
            hint: message.map(|_| "mend it".to_owned()),
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
    }

    #[test]
    fn a_run_that_runs_nothing_says_so() {
        assert_eq!(
            shown(&[ended("lock", StepOutcome::Cached, None), finished(1, 1, Outcome::Succeeded)]),
            "  lock         cached\ndone in 1m 05s: no step ran, 1 step cached\n"
        );
    }

    #[test]
    fn a_run_that_never_began_leaves_the_word_to_its_error() {
        assert_eq!(shown(&[finished(0, 0, Outcome::Failed)]), "");
    }
}
