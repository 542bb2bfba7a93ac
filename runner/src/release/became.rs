//! What became of a release whose agent ended in the middle of it, or whose host was lost: the next agent finishes or undoes it, and the
//! history there says which. Knows nothing of how that is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, Place, Release, ReleaseError, Stage, status};
use crate::agent::WEB;
use crate::agent::protocol::Answer;
use crate::event::{Event, Events};

/// How long it may take until an agent is there that has seen to it.
const RETURN: Duration = Duration::from_secs(10);

/// How often the history is looked at meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

/// Waits until it is known what became of a release of which no more is heard, for `error`; and answers as its agent would have.
pub(super) fn became(
    place: &Place,
    (app, target, number): (&str, &str, u64),
    error: ReleaseError,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Answer, ReleaseError> {
    let Failure { message, .. } = Failure::of(&error);
    events.send(Event::Note { message: format!("{message}; what becomes of release {number} is waited for") });
    let began = Instant::now();
    while began.elapsed() < RETURN && !cancel.load(Ordering::Relaxed) {
        // Where the place cannot be asked, it may be in a moment.
        let releases = place.releases(app, target).unwrap_or_default();
        let release = releases.into_iter().find(|release| release.number == number);
        if let Some(Release { stage: Stage::Failed, failure, .. }) = &release {
            let (target, why, source) = (target.to_owned(), failure.clone().unwrap_or_default(), Box::new(error));
            return Err(ReleaseError::Undone { target, number, why, source });
        }
        if let Some(answer) = release.and_then(|release| answer(place, release)) {
            return Ok(answer);
        }
        thread::sleep(AGAIN);
    }
    Err(ReleaseError::Silent { target: target.to_owned(), number, source: Box::new(error) })
}

/// What an agent says of a release that has come; none where that is still to be.
fn answer(place: &Place, release: Release) -> Option<Answer> {
    let Release { number, target, stage, failure, canary, .. } = release;
    if !stage.is_switched() && stage != Stage::Canary {
        return None;
    }
    // The next agent answers once it has taken over.
    let running = status(place).ok()?.into_iter().find(|of| of.app == target.app && of.target == target.name)?;
    let has_web = running.processes.iter().any(|process| process.name == WEB);
    let url = if has_web { running.url } else { String::new() };
    Some(match (stage, canary, failure) {
        (Stage::Canary, Some(portion), _) => Answer::Canary { number, portion, url },
        (_, _, Some(message)) => {
            Answer::NotReleased(Failure { number: Some(number), serves: Some(url), ..Failure::new(message) })
        }
        _ => Answer::Released { number, url },
    })
}
