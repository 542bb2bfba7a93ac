//! A terminal: lines that stay, and below them how far the run is and what runs right now.
//!
//! The cursor is never hidden and no mode is changed, so that there is nothing to restore if the run is killed. What stays is
//! gathered and written with the moving lines in one go, ten times a second at most: a run of thousands of short steps neither
//! flickers nor waits for its terminal.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Instant;

use runner::event::{Event, Stamped, StepOutcome};
use runner::release::Stage;
use terminal_size::{Height, Width, terminal_size};
use unicode_width::UnicodeWidthChar;

use super::lines::{Lines, duration};
use super::neutral::is_control;
use super::{Paint, Reader};

pub(super) struct Terminal<W> {
    out: W,
    paint: Paint,
    lines: Lines,
    /// Text that stays and is not written yet.
    lasting: String,
    running: Vec<Running>,
    /// How many steps there are; none are counted for a run of few.
    steps: usize,
    ended: usize,
    cached: usize,
    failed: usize,
    since: Instant,
    /// How many lines below the lasting ones are on the screen.
    drawn: usize,
    frame: usize,
}

/// What is shown before anything has started.
const PREPARING: &str = "preparing";

/// The width of the column with names.
const NAME_WIDTH: usize = 12;

/// Something that has started and has not ended: a step, or a release of a target.
struct Running {
    name: String,
    since: Instant,
    /// The last that it said.
    doing: String,
}

impl<W: Write> Terminal<W> {
    pub(super) fn new(out: W, paint: Paint) -> Self {
        let mut terminal = Self {
            out,
            paint,
            lines: Lines::new(paint),
            lasting: String::new(),
            running: Vec::new(),
            steps: 0,
            ended: 0,
            cached: 0,
            failed: 0,
            since: Instant::now(),
            drawn: 0,
            frame: 0,
        };
        // Until it is known what runs: plugins may have to be compiled, and requirements to be resolved.
        terminal.start(PREPARING, "");
        terminal
    }

    fn start(&mut self, name: &str, doing: &str) {
        self.running.push(Running { name: name.to_owned(), since: Instant::now(), doing: doing.to_owned() });
    }

    fn says(&mut self, name: &str, doing: &str) {
        let last = doing.lines().rfind(|line| !line.trim().is_empty());
        if let (Some(running), Some(last)) = (self.running.iter_mut().find(|running| running.name == name), last) {
            last.trim().clone_into(&mut running.doing);
        }
    }

    fn leave(&mut self, name: &str) {
        self.running.retain(|running| running.name != name);
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::RunStarted { steps, .. } => {
                self.leave(PREPARING);
                (self.steps, self.ended, self.cached, self.failed) = (*steps, 0, 0, 0);
            }
            Event::StepStarted { step, why, .. } => self.start(step, why),
            Event::StepProgress { step, done, total, unit } => {
                let total = total.map(|total| format!("/{total}")).unwrap_or_default();
                self.says(step, &format!("{done}{total} {unit}"));
            }
            Event::StepLog { step, message, .. } | Event::StepRetried { step, message } => self.says(step, message),
            Event::StepOutput { step, text } => self.says(step, text),
            Event::StepFinished { step, outcome, .. } => {
                self.leave(step);
                self.ended += 1;
                self.cached += usize::from(*outcome == StepOutcome::Cached);
                self.failed += usize::from(*outcome == StepOutcome::Failed);
            }
            Event::ReleaseStarted { target, .. } => {
                self.leave(PREPARING);
                self.start(target, "starting");
            }
            Event::ReleaseStage { target, stage, .. } => self.says(target, at(*stage)),
            Event::ReleaseOutput { target, text } => self.says(target, text),
            Event::ReleaseFinished { target, .. } => self.leave(target),
            Event::RunFinished { .. } => self.running.clear(),
            Event::Warning { .. }
            | Event::Note { .. }
            | Event::Error { .. }
            | Event::ProgramFinished { .. }
            | Event::SlugSent { .. }
            | Event::ReleaseUnchanged { .. }
            | Event::StepTests { .. }
            | Event::StepFlaky { .. } => {}
        }
    }

    /// Whether an event's lines stay: of many steps only those that somebody should look at.
    fn lasts(&self, event: &Event) -> bool {
        !self.lines.many() || !matches!(event, Event::StepFinished { outcome: StepOutcome::Ran, .. })
    }

    /// How far the run is; only where it has so many steps that they have no lines of their own.
    fn status(&self) -> Option<String> {
        if !self.lines.many() || self.running.iter().all(|running| running.name == PREPARING) && self.ended == 0 {
            return None;
        }
        let mut text = format!("[{}/{}]", self.ended, self.steps);
        for (count, word) in [(self.cached, "cached"), (self.failed, "failed")] {
            if count > 0 {
                let _ = write!(text, " {count} {word},");
            }
        }
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = write!(text, " {}", duration(elapsed));
        Some(text)
    }

    /// The lines that move, cut to the screen: a line that wrapped would be drawn over wrongly.
    fn moving(&self, width: usize, height: usize) -> Vec<String> {
        let spinner = self.paint.spinner(self.frame);
        let mut lines: Vec<String> = self.status().into_iter().collect();
        // One line is left for the cursor, and one for what there is no room for.
        let room = height.saturating_sub(lines.len() + 2).max(1);
        lines.extend(self.running.iter().take(room).map(|running| {
            let seconds = running.since.elapsed().as_secs();
            format!("{spinner} {:<NAME_WIDTH$} {seconds:>4}s {}", running.name, running.doing)
        }));
        if self.running.len() > room {
            lines.push(format!("  and {} more", self.running.len() - room));
        }
        lines.iter().map(|line| cut(line, width.saturating_sub(1))).collect()
    }

    /// Writes the lasting text and the moving lines below it, over what was drawn before.
    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = terminal_size().map_or((80, 24), |(Width(w), Height(h))| (w.into(), h.into()));
        let moving = if self.over() { Vec::new() } else { self.moving(width, height) };
        let mut text = String::new();
        if self.drawn > 0 {
            // From the first column, wherever the terminal has shown a `^C`.
            let _ = write!(text, "\r\x1b[{}A", self.drawn);
        }
        for line in self.lasting.lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        for line in &moving {
            let _ = writeln!(text, "{}\x1b[K", self.paint.cyan(line));
        }
        if self.drawn > 0 {
            text.push_str("\x1b[J");
        }
        self.lasting.clear();
        self.drawn = moving.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn over(&self) -> bool {
        self.running.is_empty() && (self.steps == 0 || self.ended >= self.steps)
    }
}

impl<W: Write + Send> Reader for Terminal<W> {
    fn event(&mut self, stamped: &Stamped) -> io::Result<()> {
        self.follow(&stamped.event);
        let lasts = self.lasts(&stamped.event);
        if let Some(text) = self.lines.of(&stamped.event).filter(|_| lasts) {
            let _ = writeln!(self.lasting, "{}", self.paint.shown(&text));
        }
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        self.frame += 1;
        if self.over() && self.drawn == 0 && self.lasting.is_empty() { Ok(()) } else { self.draw() }
    }

    fn end(&mut self) -> io::Result<()> {
        self.running.clear();
        self.steps = 0;
        self.draw()
    }
}

/// What a release does in a stage.
fn at(stage: Stage) -> &'static str {
    match stage {
        Stage::Prepared => "starting",
        Stage::ReleasePhase => "runs its release commands",
        Stage::Starting => "starts, and has not answered yet",
        Stage::Healthy | Stage::Switched | Stage::Drained => "takes over",
        Stage::Canary => "is given to some of the clients",
        Stage::Failed => "is taken back",
    }
}

/// As much of a line as fits into some columns, without what would move the cursor.
fn cut(line: &str, columns: usize) -> String {
    let mut used = 0;
    line.chars()
        .map(|c| if is_control(c) { ' ' } else { c })
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(steps: usize) -> Terminal<Vec<u8>> {
        let mut terminal = Terminal::new(Vec::new(), Paint::PLAIN);
        let started = Event::RunStarted {
            version: 2,
            id: "0".repeat(32),
            pipeline: "p".into(),
            app: "a".into(),
            source: ".".into(),
            steps,
            jobs: 2,
            trace_parent: None,
            needs: std::collections::BTreeMap::new(),
        };
        terminal.event(&Stamped::now(started)).expect("memory can be written to");
        terminal
    }

    fn finish(terminal: &mut Terminal<Vec<u8>>, step: &str, outcome: StepOutcome) {
        let event = Event::StepFinished { step: step.to_owned(), outcome, elapsed_ms: 7, failure: None };
        terminal.event(&Stamped::now(event)).expect("memory can be written to");
    }

    #[test]
    fn lines_are_cut_by_the_columns_that_they_take() {
        assert_eq!(cut("abc\tdef", 5), "abc d");
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("a\x1b[2Jb", 9), "a [2Jb");
    }

    #[test]
    fn thousands_of_steps_do_not_scroll() {
        let mut terminal = terminal(10_000);
        for step in 0..9_000 {
            let outcome = if step % 2 == 0 { StepOutcome::Cached } else { StepOutcome::Ran };
            finish(&mut terminal, &step.to_string(), outcome);
        }
        finish(&mut terminal, "broken", StepOutcome::Failed);
        assert_eq!(terminal.lasting.lines().count(), 2, "{}", terminal.lasting);
        let status = terminal.status().expect("a status");
        assert!(status.starts_with("[9001/10000] 4500 cached, 1 failed, "), "{status}");
    }

    #[test]
    fn the_moving_lines_fit_the_screen() {
        let mut terminal = terminal(100);
        for step in 0..50 {
            terminal.start(&format!("step-{step}"), &"says much ".repeat(20));
        }
        let lines = terminal.moving(40, 10);
        assert_eq!(lines.len(), 9);
        assert!(lines.iter().all(|line| line.chars().count() <= 39), "{lines:?}");
        assert!(lines[0].starts_with("[0/100]") && lines[8].contains("and 43 more"), "{lines:?}");
    }

    #[test]
    fn what_is_drawn_is_drawn_over() {
        let mut terminal = terminal(2);
        terminal.start("lock", "works");
        terminal.tick().expect("memory can be written to");
        finish(&mut terminal, "lock", StepOutcome::Ran);
        terminal.end().expect("memory can be written to");
        let text = String::from_utf8(terminal.out).expect("text");
        assert_eq!(
            text,
            "a p, 2 steps\x1b[K\n⠙ lock            0s works\x1b[K\n\r\x1b[1A  lock         ran in 0.00s\x1b[K\n\x1b[J"
        );
    }
}
