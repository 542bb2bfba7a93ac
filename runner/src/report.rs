//! Shows a run to whoever watches it: readers of the event log, one for each kind of watcher.
//!
//! Knows nothing of how a run works; all it learns is in the events.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use runner::event::log::Logs;
use runner::event::{Event, Stamped, StepOutcome, Told};

use ci::Ci;
use json::Json;
use lines::Plain;
use record::Record;
use terminal::Terminal;

mod ci;
mod code_quality;
mod file;
mod json;
mod junit;
mod lines;
mod neutral;
mod otlp;
mod paint;
mod path;
mod record;
mod terminal;
mod trace;

pub(crate) use file::ReportFile;
pub(crate) use lines::{duration, size};
pub(crate) use otlp::{Endpoint, EndpointError, Otlp};
pub(crate) use paint::Paint;

/// How often a display moves, and a log that goes on is written out.
const TICK: Duration = Duration::from_millis(100);

/// In which form a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines as things happen, and below them what runs right now.
    Terminal,
    /// Lines as things happen.
    Plain,
    /// One event a line, as JSON.
    Json,
}

/// What takes events, and the passing of time. One that fails is asked no more, and the run goes on without it.
pub(crate) trait Reader: Send {
    fn event(&mut self, event: &Stamped) -> io::Result<()>;

    /// Some time has passed.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// No event comes any more.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Form {
    /// The form that suits where the output goes.
    pub(crate) fn of_stdout(json: bool) -> Self {
        let moving = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match (json, moving && std::env::var_os("CI").is_none()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

/// What shows events on standard output.
pub(crate) fn shown(form: Form, paint: Paint) -> Box<dyn Reader> {
    let out = io::stdout();
    match form {
        Form::Terminal => Box::new(Terminal::new(out, paint)),
        Form::Plain => Box::new(Plain::new(out, paint, Ci::found())),
        Form::Json => Box::new(Json::new(out)),
    }
}

/// What keeps events for `pipe runs`.
pub(crate) fn kept(logs: Logs) -> Box<dyn Reader> {
    Box::new(Record::new(logs))
}

/// Gives events to what shows them and to other readers until the last of a run, on a thread of its own, which ends with why they
/// could not be shown. How many steps there are and were cached is counted here, since no one else sees all of them, however the
/// run ends.
pub(crate) fn follow(
    shown: Box<dyn Reader>,
    mut readers: Vec<Box<dyn Reader>>,
    events: Told,
) -> JoinHandle<io::Result<()>> {
    let mut shown = Shown { reader: Some(shown), ended: Ok(()) };
    thread::spawn(move || {
        let (mut all, mut known) = (0, 0);
        let mut due = Instant::now() + TICK;
        loop {
            match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(mut stamped) => {
                    match &mut stamped.event {
                        // A run that begins anew tells of its steps again.
                        Event::RunStarted { steps, .. } => (all, known) = (*steps, 0),
                        Event::StepFinished { outcome: StepOutcome::Cached, .. } => known += 1,
                        Event::RunFinished { steps, cached, .. } => (*steps, *cached) = (all, known),
                        _ => {}
                    }
                    shown.give(|reader| reader.event(&stamped));
                    readers.retain_mut(|reader| reader.event(&stamped).is_ok());
                    if matches!(stamped.event, Event::RunFinished { .. }) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if due <= Instant::now() {
                shown.give(|reader| reader.tick());
                readers.retain_mut(|reader| reader.tick().is_ok());
                due = Instant::now() + TICK;
            }
        }
        shown.give(|reader| reader.end());
        readers.retain_mut(|reader| reader.end().is_ok());
        shown.ended
    })
}

/// What shows events, until it fails.
struct Shown {
    reader: Option<Box<dyn Reader>>,
    ended: io::Result<()>,
}

impl Shown {
    /// That whoever reads what is shown has gone (`pipe … | head`) is no failure.
    fn give(&mut self, to: impl FnOnce(&mut dyn Reader) -> io::Result<()>) {
        let Some(reader) = &mut self.reader else { return };
        if let Err(error) = to(&mut **reader) {
            self.reader = None;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.ended = Err(error);
            }
        }
    }
}

/// A past run as it was shown, in lines.
pub(crate) fn retold(events: &[Stamped], paint: Paint) -> Vec<u8> {
    let mut out = Vec::new();
    let mut plain = Plain::retelling(&mut out, paint);
    for stamped in events {
        // Memory can always be written to.
        let _ = plain.event(stamped);
    }
    let _ = plain.end();
    drop(plain);
    out
}
