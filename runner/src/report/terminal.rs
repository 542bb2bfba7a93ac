//! A terminal: lines that stay, and below them a line for each step that runs right now.
//!
//! The cursor is never hidden and no mode is changed, so that there is nothing to restore if the run is killed.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Instant;

use runner::event::Event;
use runner::release::Stage;
use terminal_size::{Height, Width, terminal_size};

use super::lines::Lines;
use super::{Paint, Reader};

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

pub(super) struct Terminal<W> {
    out: W,
    paint: Paint,
    lines: Lines,
    running: Vec<Running>,
    /// How many lines below the lasting ones are on the screen.
    drawn: usize,
    frame: usize,
}

/// What is shown before anything has started.
const PREPARING: &str = "preparing";

/// Something that has started and has not ended: a step, or a release of a target.
struct Running {
    name: String,
    since: Instant,
    /// The last that it said.
    doing: String,
}

impl<W: Write> Terminal<W> {
    pub(super) fn new(out: W, paint: Paint) -> Self {
        let mut terminal = Self { out, paint, lines: Lines::new(paint), running: Vec::new(), drawn: 0, frame: 0 };
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

    fn end(&mut self, name: &str) {
        self.running.retain(|running| running.name != name);
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => self.end(PREPARING),
            Event::StepStarted { step, why } => self.start(step, why),
            Event::StepProgress { step, done, total, unit } => {
                let total = total.map(|total| format!("/{total}")).unwrap_or_default();
                self.says(step, &format!("{done}{total} {unit}"));
            }
            Event::StepLog { step, message, .. } => self.says(step, message),
            Event::StepOutput { step, text } => self.says(step, text),
            Event::StepFinished { step, .. } => self.end(step),
            Event::ReleaseStarted { target, .. } => {
                self.end(PREPARING);
                self.start(target, "starting");
            }
            Event::ReleaseStage { target, stage, .. } => self.says(target, at(*stage)),
            Event::ReleaseOutput { target, text } => self.says(target, text),
            Event::ReleaseFinished { target, .. } => self.end(target),
            Event::RunFinished { .. } => self.running.clear(),
            Event::Warning { .. } | Event::Note { .. } => {}
        }
    }

    /// Writes lasting text and the moving lines below it, in one go.
    fn draw(&mut self, lasting: Option<&str>) -> io::Result<()> {
        let (width, height) = terminal_size().map_or((80, 24), |(Width(w), Height(h))| (w.into(), h.into()));
        let mut text = String::new();
        if self.drawn > 0 {
            // From the first column, wherever the terminal has shown a `^C`.
            let _ = write!(text, "\r\x1b[{}A\x1b[J", self.drawn);
        }
        if let Some(lasting) = lasting {
            let _ = writeln!(text, "{lasting}");
        }
        let spinner = SPINNER[self.frame % SPINNER.len()];
        self.drawn = self.running.len().min(usize::max(height, 2) - 1);
        for running in &self.running[..self.drawn] {
            let elapsed = running.since.elapsed().as_secs();
            let _ = writeln!(text, "{}", self.paint.cyan(&moving(spinner, running, elapsed, width)));
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Reader for Terminal<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.follow(event);
        let lasting = self.lines.of(event);
        // Programs may write thousands of lines; the next tick shows the last of them.
        if lasting.is_some() || matches!(event, Event::StepStarted { .. } | Event::RunFinished { .. }) {
            self.draw(lasting.as_deref())
        } else {
            Ok(())
        }
    }

    fn tick(&mut self) -> io::Result<()> {
        if self.running.is_empty() {
            return Ok(());
        }
        self.frame += 1;
        self.draw(None)
    }

    fn end(&mut self) -> io::Result<()> {
        self.running.clear();
        self.draw(None)
    }
}

/// What a release does in a stage.
fn at(stage: Stage) -> &'static str {
    match stage {
        Stage::Prepared => "starting",
        Stage::ReleasePhase => "runs its release commands",
        Stage::Starting => "starts, and has not answered yet",
        Stage::Healthy | Stage::Switched | Stage::Drained => "takes over",
        Stage::Failed => "is taken back",
    }
}

/// One line of what runs, cut to the terminal's width: a line that wrapped would be drawn over wrongly.
fn moving(spinner: char, running: &Running, seconds: u64, width: usize) -> String {
    let line = format!("{spinner} {:<12} {seconds:>4}s {}", running.name, running.doing);
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(width.saturating_sub(1)).collect()
}
