//! Commands that show how they go: their events are read until a last one, also where Ctrl-C ends them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use runner::event::log::Logs;
use runner::event::{Event, Events, Outcome};
use runner::release::{ReleaseError, Released};

use super::failure::Kind;
use super::interrupt::{Interrupt, Last};
use super::{Context, Failure};
use crate::report::{self, Form, Paint, Reader};

/// How long the last line may take where the process ends at once: whoever reads it may have stopped reading.
const LAST_LINE: Duration = Duration::from_millis(300);

/// What a command shows of itself.
#[derive(Clone)]
pub(super) struct Reporting {
    pub(super) events: Events,
    watcher: Arc<Mutex<Option<JoinHandle<io::Result<()>>>>>,
    started: Instant,
    paint: Paint,
}

/// What a command has come to so far.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) slug: Option<String>,
    pub(super) url: Option<String>,
}

impl Reporting {
    /// Shows all further events on standard output, and gives them to `more`.
    pub(super) fn begin(json: bool, context: &Context, more: Vec<Box<dyn Reader>>) -> Self {
        let (events, receiver) = Events::channel();
        let shown = report::shown(Form::of_stdout(json), context.paint);
        // Without a home there is no run either: opening the project says so.
        let kept = context.home().ok().map(|home| report::kept(Logs::of(&home)));
        let watcher = report::follow(shown, kept.into_iter().chain(more).collect(), receiver);
        let watcher = Arc::new(Mutex::new(Some(watcher)));
        Self { events, watcher, started: Instant::now(), paint: context.paint }
    }

    /// Shows how it ended, as the last event. What went well and could not be shown is a failure after all.
    pub(super) fn finish<T>(&self, progress: Progress, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &result {
            failure.tell(&self.events);
        }
        self.last(progress, outcome(&result));
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let was_shown = watcher.map_or(Ok(()), all_shown);
        result.and_then(|value| was_shown.map(|()| value))
    }

    fn last(&self, progress: Progress, outcome: Outcome) {
        self.events.send(Event::RunFinished {
            outcome,
            // Counted by the watcher, which sees all steps.
            steps: 0,
            cached: 0,
            slug: progress.slug,
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            url: progress.url,
        });
    }
}

impl Last for Reporting {
    fn waiting(&self) {
        self.events.send(Event::Note { message: "stopping; another Ctrl-C does not wait for that".to_owned() });
    }

    fn now(self) {
        self.last(Progress::default(), Outcome::Cancelled);
        let began = Instant::now();
        while began.elapsed() < LAST_LINE
            && self
                .watcher
                .try_lock()
                .is_ok_and(|watcher| watcher.as_ref().is_some_and(|watcher| !watcher.is_finished()))
        {
            thread::sleep(Duration::from_millis(5));
        }
        eprint!("{}", Failure::new(Kind::Cancelled, "stopped").render(self.paint));
    }
}

/// Waits for what shows events, and says whether it could.
pub(super) fn all_shown(watcher: JoinHandle<io::Result<()>>) -> Result<(), Failure> {
    // A watcher that panicked has shown why on standard error.
    watcher.join().unwrap_or(Ok(())).map_err(|error| Failure::unwritten(&error))
}

/// How a result is told as the last event.
fn outcome<T>(result: &Result<T, Failure>) -> Outcome {
    match result {
        Ok(_) => Outcome::Succeeded,
        Err(failure) if failure.kind() == Kind::Cancelled => Outcome::Cancelled,
        Err(_) => Outcome::Failed,
    }
}

/// Makes a release, if there is one to be made, and shows how it goes.
pub(super) fn reporting(
    json: bool,
    context: &Context,
    work: impl FnOnce(&Events, &Interrupt) -> Result<Option<Released>, ReleaseError>,
) -> Result<Option<Released>, Failure> {
    let reporting = Reporting::begin(json, context, Vec::new());
    let interrupt = Interrupt::watch(reporting.clone())?;
    interrupt.stop_in_order();
    let result = work(&reporting.events, &interrupt).map_err(Failure::from);
    let url = result
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|released| released.url.clone())
        .filter(|url| !url.is_empty());
    reporting.finish(Progress { url, ..Progress::default() }, result)
}
