//! Commands that make a release: their events go where those of a run go.

use runner::event::Events;
use runner::release::{ReleaseError, Released};

use super::{Context, Failure};
use crate::report::{self, Form};

/// Makes a release and shows how it goes.
pub(super) fn reporting(
    json: bool,
    context: &Context,
    work: impl FnOnce(&Events) -> Result<Released, ReleaseError>,
) -> Result<(), Failure> {
    let (events, receiver) = Events::channel();
    let watcher = report::follow(Form::of_stdout(json), context.paint, receiver);
    let result = work(&events);
    drop(events);
    // A watcher that panicked has shown why on standard error.
    let _ = watcher.join();
    Ok(result.map(|_| ())?)
}
