//! Shows a run to whoever watches it: readers of the event log, one for each kind of watcher.
//!
//! Knows nothing of how a run works; all it learns is in the events.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use runner::event::log::{Logs, Stamped};
use runner::event::{Event, StepOutcome};

use json::Json;
use lines::Plain;
use record::Record;
use terminal::Terminal;

mod json;
mod lines;
mod paint;
mod path;
mod record;
mod terminal;
mod trace;

pub(crate) use lines::duration;
pub(crate) use paint::Paint;
pub(crate) use trace::trace;

/// How often a live display moves.
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

/// What a form is made of: it takes events, and the passing of time.
trait Reader {
    fn event(&mut self, event: &Event) -> io::Result<()>;

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

/// Shows events on standard output until the last of a run, on a thread of its own, and keeps them in a log, where there is one.
/// How many steps were cached is counted here.
///
/// Where the output is closed early, or the log cannot be written, the run goes on unseen.
pub(crate) fn follow(form: Form, paint: Paint, events: Receiver<Event>, logs: Option<Logs>) -> JoinHandle<()> {
    thread::spawn(move || {
        let out = io::stdout();
        let mut readers: Vec<Box<dyn Reader>> = vec![match form {
            Form::Terminal => Box::new(Terminal::new(out, paint)),
            Form::Plain => Box::new(Plain::new(out, paint)),
            Form::Json => Box::new(Json::new(out)),
        }];
        readers.extend(logs.map(|logs| Box::new(Record::new(logs)) as Box<dyn Reader>));
        let mut known = HashSet::new();
        loop {
            match events.recv_timeout(TICK) {
                Ok(mut event) => {
                    if let Event::StepFinished { step, outcome, .. } = &event {
                        // A run that begins anew tells of its steps again.
                        if *outcome == StepOutcome::Cached {
                            known.insert(step.clone())
                        } else {
                            known.remove(step)
                        };
                    }
                    if let Event::RunFinished { cached, .. } = &mut event {
                        *cached = known.len();
                    }
                    readers.retain_mut(|reader| reader.event(&event).is_ok());
                    if matches!(event, Event::RunFinished { .. }) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => readers.retain_mut(|reader| reader.tick().is_ok()),
                Err(RecvTimeoutError::Disconnected) => {
                    readers.retain_mut(|reader| reader.end().is_ok());
                    break;
                }
            }
        }
    })
}

/// A past run as it was shown, in lines.
pub(crate) fn retold(events: &[Stamped], paint: Paint) -> Vec<u8> {
    let mut out = Vec::new();
    let mut plain = Plain::new(&mut out, paint);
    for stamped in events {
        // Memory can always be written to.
        let _ = plain.event(&stamped.event);
    }
    out
}
