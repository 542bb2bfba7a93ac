//! Targets with an end: removed with all that they have kept, once that has come. Knows nothing of when it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::log;
use super::{Agent, remove};
use crate::release::{Deed, Ending, Release, Who};

/// How often it is looked, at most.
const LOOK: Duration = Duration::from_secs(10);

/// Removes what is over, for ever.
pub(super) async fn keep(agent: Arc<Agent>) {
    loop {
        let next = round(&agent).await;
        tokio::time::sleep(next.min(LOOK)).await;
    }
}

/// Removes what is over now; gives how long it is until the next is.
async fn round(agent: &Arc<Agent>) -> Duration {
    let releases = agent.history.all_last().unwrap_or_else(|error| {
        log::note(&error);
        Vec::new()
    });
    let mut next = LOOK;
    for release in releases {
        let Some(until) = release.until() else { continue };
        match until.duration_since(SystemTime::now()) {
            Ok(left) if !left.is_zero() => next = next.min(left),
            _ => end(agent, &release).await,
        }
    }
    next
}

async fn end(agent: &Arc<Agent>, release: &Release) {
    let (app, name) = (&release.target.app, &release.target.name);
    match remove::remove_expired(agent, release).await {
        Ok(true) => {
            log::note(format_args!("{app}/{name} is over, and removed"));
            agent.audit(&Who::agent(), &Deed::of(app, name, "remove with its data, for it is over"), &Ending::Done);
        }
        Ok(false) => {}
        Err(failure) => log::note(format_args!("{app}/{name} is over, and cannot be removed: {}", failure.in_one())),
    }
}
