//! Releases: what a target runs, numbered and kept. [`release`], [`promote`], [`rollback`], [`configure`] and [`scale`] each
//! make one.
//!
//! What is decided here is what is asked for; [`crate::agent`] does it and says how it goes. Unaware of steps.

mod arrival;
mod audit;
mod became;
mod deed;
mod difference;
mod env_file;
mod formation;
mod history;
mod people;
mod place;
mod portion;
mod schedule;
mod sealed;
mod settings;
mod stage;
mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::agent::client::ClientError;
use crate::agent::protocol::{Answer, Order, Progress, Request, Wish};
use crate::event::{Event, Events, Outcome};
use crate::remote::{PeopleError, RemoteError, Sent};

pub use crate::agent::protocol::{
    Answered, CanaryStatus, CanaryWish, CertificateSource, CertificateStatus, ConfigChange, DomainStatus, Failure,
    ProcessState, ProcessStatus, Removed, TargetStatus,
};
pub use crate::agent::{Boot, BootError, bring_back, place_program};
pub use audit::{Audited, Damage, Ending, Trail};
pub use deed::Deed;
pub use difference::{Differences, Side, TargetSide, Variables};
pub use env_file::{EnvFile, LineError, Repeated, env_file};
pub use formation::{Count, CountError, Formation};
pub use history::{History, HistoryError, Release};
pub use people::{KeyError, Person, PublicKey, Role, RoleError, Who};
pub use place::Place;
pub use portion::{Portion, PortionError};
pub use schedule::{Entry, Schedule, ScheduleError};
pub use sealed::SealError;
pub use settings::SettingsError;
pub use stage::{Stage, StageError};
pub use target::{Contents, How, Limits, Settings, SlugRef, Target, Tls};

pub(crate) use arrival::Arrived;
pub(crate) use history::ProcessRecord;
#[cfg(test)]
pub(crate) use people::tests::KEY;
pub(crate) use people::{ASKER, is_person, origin, user};
pub(crate) use place::read_config;

/// A release that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Its number.
    pub number: u64,
    /// Where it answers; empty where no process of it answers requests.
    pub url: String,
}

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It was tried, and what served before goes on serving.
    #[error("{}", .0.message)]
    NotReleased(Box<Failure>),
    /// Nobody wanted it any more, and what served before goes on serving.
    #[error("the release was stopped, and nothing of it runs")]
    Cancelled,
    /// The agent.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The host that the target is on.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The state of targets.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The people of a machine.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// Nothing can be promoted from there.
    #[error("target `{from}` of `{app}` runs nothing that could be promoted")]
    NothingToPromote {
        /// The application.
        app: String,
        /// Where it should come from.
        from: String,
    },
    /// There is no such release.
    #[error("target `{target}` has no release {number}")]
    NoSuchRelease {
        /// The target.
        target: String,
        /// The release.
        number: u64,
    },
    /// The release never served.
    #[error("release {number} of `{target}` never was healthy")]
    NeverHealthy {
        /// The target.
        target: String,
        /// The release.
        number: u64,
    },
    /// The release served some of the clients, and was taken back.
    #[error("release {number} of `{target}` was given to some of the clients only, and taken back")]
    TakenBack {
        /// The target.
        target: String,
        /// The release.
        number: u64,
    },
    /// The release serves, and a process of it ended at once.
    #[error("release {number} of `{from}` serves, but {failure}")]
    NotWhole {
        /// Where it serves.
        from: String,
        /// The release.
        number: u64,
        /// What ended.
        failure: String,
        /// Where it should go.
        to: String,
    },
    /// There is nothing before.
    #[error("target `{0}` has no earlier release to go back to")]
    NothingEarlier(String),
    /// Whoever made it fell silent, and who came then has undone it.
    #[error("release {number} of `{target}` is undone: {why}")]
    Undone {
        /// The target.
        target: String,
        /// The release.
        number: u64,
        /// What is written down there of its end.
        why: String,
        /// Why no more was heard.
        source: Box<ReleaseError>,
    },
    /// Whoever makes it fell silent after it had begun, and nobody has come since who would know.
    #[error("nobody says what became of release {number} of `{target}`")]
    Silent {
        /// The target.
        target: String,
        /// The release.
        number: u64,
        /// Why not.
        source: Box<ReleaseError>,
    },
    /// The agent answers something else.
    #[error("the agent answers something that was not asked")]
    Answer,
}

impl ReleaseError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotReleased(failure) => failure.hint.clone(),
            Self::Agent(error) => error.hint(),
            Self::History(error) => error.hint(),
            Self::Remote(error) => error.hint(),
            Self::People(error) => error.hint(),
            Self::NothingToPromote { from, .. } => {
                Some(format!("release to `{from}` first: only what has run there is promoted"))
            }
            Self::NotWhole { from, number, to, .. } => Some(format!(
                "`pipe ps {from}` says whether it stays up by now; `pipe promote {from}@{number} {to}` promotes it all the same"
            )),
            Self::Undone { .. } => {
                Some("nothing of it runs; what its release commands have done stays: try it again".to_owned())
            }
            Self::Silent { target, .. } => {
                Some(format!("what was not switched is undone: `pipe releases {target}` says what became of it"))
            }
            Self::NoSuchRelease { target, .. } | Self::NeverHealthy { target, .. } | Self::TakenBack { target, .. } => {
                Some(format!("`pipe releases {target}` lists them"))
            }
            _ => None,
        }
    }

    /// The end of what the failing process wrote; the events have shown it.
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::NotReleased(failure) => failure.output.as_deref(),
            _ => None,
        }
    }
}

/// Releases a slug: comes back when it answers at the target, or when what served before goes on alone. Once `cancel` is true
/// a release that does not serve yet is taken back.
pub fn release(
    place: &Place,
    target: &Target,
    slug: &SlugRef,
    how: &How,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Released, ReleaseError> {
    try_out(place, target, slug, (how, None), events, cancel)
}

/// The same, where that is said for a part of the clients only: all others stay with what serves, which takes them all back where
/// the new release does worse. [`canary`] says what becomes of it.
pub fn try_out(
    place: &Place,
    target: &Target,
    slug: &SlugRef,
    (how, canary): (&How, Option<Portion>),
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Released, ReleaseError> {
    let wish = Wish::Slug { target: Box::new(target.clone()), slug: *slug, how: how.clone(), canary };
    if place.doubts(&slug.id) {
        let message = format!("the programs that made {} may have seen a damaged file, which was found since", slug.id);
        events.warn(message, Some("`pipe run` makes it anew, and releases what comes of that".to_owned()));
    }
    served(order(place, &target.app, &target.name, wish, events, cancel)?)
}

/// Gives a release that some of the clients were given to more of them, to all, or to none; none is given where it was taken back.
pub fn canary(
    place: &Place,
    app: &str,
    target: &str,
    wish: CanaryWish,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Option<Released>, ReleaseError> {
    order(place, app, target, Wish::Canary(wish), events, cancel)
}

/// Asks the agent for a release, and tells how it goes; none where nothing runs that could be changed.
fn order(
    place: &Place,
    app: &str,
    target: &str,
    wish: Wish,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Option<Released>, ReleaseError> {
    if cancel.load(Ordering::Relaxed) {
        return Err(ReleaseError::Cancelled);
    }
    place.remember(app, target)?;
    let slug = match &wish {
        Wish::Slug { slug, .. } => Some(*slug),
        _ => None,
    };
    let order = Order { app: app.to_owned(), target: target.to_owned(), wish, who: Who::here() };
    let mut number = 0;
    let mut report = |progress| tell(events, target, &mut number, progress);
    let mut on_sent = |sent: Sent| {
        if let (Some(server), Some(slug)) = (place.server(), slug) {
            events.send(Event::SlugSent {
                target: target.to_owned(),
                slug: slug.id.to_string(),
                server: server.to_string(),
                bytes: sent.bytes,
                elapsed_ms: u64::try_from(sent.elapsed.as_millis()).unwrap_or(u64::MAX),
            });
        }
    };
    let answer = place.order(order, slug, cancel, &mut on_sent, &mut report);
    let answer = match answer {
        Err(error @ (ReleaseError::Agent(_) | ReleaseError::Remote(_))) if number > 0 => {
            became::became(place, (app, target, number), error, events, cancel)
        }
        answer => answer,
    };
    let (outcome, url, result) = match answer {
        Ok(Answer::Released { number, url }) => {
            let url = if url.is_empty() { url } else { place.seen(url) };
            (Outcome::Succeeded, Some(url.clone()).filter(|url| !url.is_empty()), Ok(Some(Released { number, url })))
        }
        Ok(Answer::Unchanged { number, url }) => {
            let url = if url.is_empty() { url } else { place.seen(url) };
            events.send(Event::ReleaseUnchanged { target: target.to_owned(), release: number, url: url.clone() });
            return Ok(Some(Released { number, url }));
        }
        Ok(Answer::Canary { number: of, portion, url }) => {
            let url = place.seen(url);
            number = 0;
            events.send(Event::Note {
                message: format!(
                    "release {of} is given to {portion} of the clients of `{target}`; `pipe canary {target}` says how it does"
                ),
            });
            (Outcome::Succeeded, None, Ok(Some(Released { number: of, url })))
        }
        Ok(Answer::TakenBack { number: of }) => {
            number = 0;
            events.send(Event::Note { message: format!("release {of} of `{target}` is taken back") });
            (Outcome::Succeeded, None, Ok(None))
        }
        Ok(Answer::Kept) => (Outcome::Succeeded, None, Ok(None)),
        Ok(Answer::NotReleased(failure)) if failure.cancelled => {
            (Outcome::Cancelled, None, Err(ReleaseError::Cancelled))
        }
        Ok(Answer::NotReleased(failure)) => {
            if let Some(text) = &failure.output {
                events.send(Event::ReleaseOutput { target: target.to_owned(), text: text.clone() });
            }
            let url = failure.serves.clone().map(|url| place.seen(url));
            (Outcome::Failed, url, Err(ReleaseError::NotReleased(Box::new(failure))))
        }
        Ok(_) => (Outcome::Failed, None, Err(ReleaseError::Answer)),
        Err(error) => (Outcome::Failed, None, Err(error)),
    };
    if number > 0 {
        events.send(Event::ReleaseFinished { target: target.to_owned(), release: number, outcome, url });
    }
    result
}

/// What an order gave that cannot come to nothing.
fn served(released: Option<Released>) -> Result<Released, ReleaseError> {
    released.ok_or(ReleaseError::Answer)
}

/// Releases to `target` exactly what `from` runs, or what the release of that number ran there. One of which a process ended at once
/// has to be named.
pub fn promote(
    (from_place, from, number): (&Place, &str, Option<u64>),
    (place, target, canary): (&Place, &Target, Option<Portion>),
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Released, ReleaseError> {
    let releases = from_place.releases(&target.app, from)?;
    let is_named = number.is_some();
    let source = match number {
        Some(number) => that_served(&releases, from, number)?,
        None => releases
            .iter()
            .find(|source| source.current && source.stage.is_switched())
            .ok_or_else(|| ReleaseError::NothingToPromote { app: target.app.clone(), from: from.to_owned() })?,
    };
    if let Some(last) = releases.last().filter(|last| !is_named && last.number > source.number) {
        let became = match last.stage {
            Stage::Failed if last.is_taken_back() => "was taken back",
            Stage::Failed => "failed",
            Stage::Canary => "is given to some of the clients only",
            _ => "is under way",
        };
        let message = format!("release {} of `{from}` {became}; release {} is promoted", last.number, source.number);
        events.warn(message, None);
    }
    if let Some(failure) = &source.failure {
        let (from, number, to) = (from.to_owned(), source.number, target.name.clone());
        let error = ReleaseError::NotWhole { from, number, failure: failure.clone(), to };
        if !is_named {
            return Err(error);
        }
        events.warn(error.to_string(), None);
    }
    let how = How::Promote { from: from.to_owned(), number: source.number };
    try_out(place, target, &source.slug, (&how, canary), events, cancel)
}

/// Goes back: to release `number` of a target, or to the one before. Slug, settings, config and formation come back together;
/// release commands do not run, and what migrations have done stays.
pub fn rollback(
    place: &Place,
    app: &str,
    target: &str,
    number: Option<u64>,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Released, ReleaseError> {
    let releases = place.releases(app, target)?;
    let goal = match number {
        Some(number) => that_served(&releases, target, number)?,
        None => earlier(&releases).ok_or_else(|| ReleaseError::NothingEarlier(target.to_owned()))?,
    };
    if number.is_none() && releases.iter().any(|release| release.current && release.slug == goal.slug) {
        let message = format!("release {} ran the slug that runs now: what comes back is how it ran", goal.number);
        let other = releases
            .iter()
            .rev()
            .find(|release| release.number < goal.number && release.stage.is_switched() && release.slug != goal.slug);
        events.warn(message, other.map(|other| format!("`pipe rollback {target} {}` brings other code", other.number)));
    }
    served(order(place, app, target, Wish::Back { number: goal.number }, events, cancel)?)
}

/// Sets names of a target's config to values, or unsets those without one. Where the target runs something that is released
/// again with it; else it counts from the next release on, and there is none yet.
pub fn configure(
    place: &Place,
    app: &str,
    target: &str,
    change: ConfigChange,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Option<Released>, ReleaseError> {
    order(place, app, target, Wish::Config(change), events, cancel)
}

/// Runs other counts of some processes; what runs already and is still wanted is left alone.
pub fn scale(
    place: &Place,
    app: &str,
    target: &str,
    counts: impl IntoIterator<Item = Count>,
    events: &Events,
    cancel: &AtomicBool,
) -> Result<Released, ReleaseError> {
    let wish = Wish::Scale(Formation::default().with(counts));
    served(order(place, app, target, wish, events, cancel)?)
}

/// The release of a number, which must have served.
fn that_served<'a>(releases: &'a [Release], target: &str, number: u64) -> Result<&'a Release, ReleaseError> {
    let found = releases.iter().find(|release| release.number == number);
    let found = found.ok_or_else(|| ReleaseError::NoSuchRelease { target: target.to_owned(), number })?;
    if found.is_taken_back() {
        return Err(ReleaseError::TakenBack { target: target.to_owned(), number });
    }
    if !found.stage.is_switched() {
        return Err(ReleaseError::NeverHealthy { target: target.to_owned(), number });
    }
    Ok(found)
}

/// The release that served before the current one; going back twice goes back two.
fn earlier(releases: &[Release]) -> Option<&Release> {
    let before = match releases.iter().find(|release| release.current) {
        Some(Release { how: How::Rollback { number }, .. }) => *number,
        Some(current) => current.number,
        None => u64::MAX,
    };
    let mut served = releases.iter().rev().filter(|release| release.number < before && release.stage.is_switched());
    // One of which a process ended at once is the last choice.
    served.clone().find(|release| release.failure.is_none()).or_else(|| served.next())
}

/// What all targets of a place run. Starts the agent where something should run and none is there.
pub fn status(place: &Place) -> Result<Vec<TargetStatus>, ReleaseError> {
    match place.ask(Request::Status, &AtomicBool::new(false), &mut |_| ())? {
        Answer::Status(mut status) => {
            for target in &mut status {
                target.url = place.seen(std::mem::take(&mut target.url));
            }
            Ok(status)
        }
        _ => Err(ReleaseError::Answer),
    }
}

/// The domains that a place serves, with their certificates.
pub fn domains(place: &Place) -> Result<Vec<DomainStatus>, ReleaseError> {
    match place.ask(Request::Domains, &AtomicBool::new(false), &mut |_| ())? {
        Answer::Domains(domains) => Ok(domains),
        _ => Err(ReleaseError::Answer),
    }
}

/// Stops a target, or all of a place; gives the names of those that ran, with their applications.
pub fn stop(place: &Place, target: Option<(String, String)>) -> Result<Vec<String>, ReleaseError> {
    match place.ask(Request::Stop { target, who: Who::here() }, &AtomicBool::new(false), &mut |_| ())? {
        Answer::Stopped(stopped) => Ok(stopped),
        _ => Err(ReleaseError::Answer),
    }
}

/// Takes a target off the machine that it is on: it is stopped, and does not come back. `data` removes what it has kept.
pub fn remove(place: &Place, app: &str, target: &str, data: bool) -> Result<Removed, ReleaseError> {
    let request = Request::Remove { app: app.to_owned(), target: target.to_owned(), data, who: Who::here() };
    match place.ask(request, &AtomicBool::new(false), &mut |_| ())? {
        Answer::Removed(removed) => Ok(removed),
        _ => Err(ReleaseError::Answer),
    }
}

/// Whether there is nothing that should run.
pub(crate) fn is_idle(home: &Path) -> Result<bool, HistoryError> {
    Ok(match History::existing(home)? {
        Some(history) => history.all_current()?.is_empty(),
        None => true,
    })
}

/// Where a target's data and logs are.
pub fn target_directory(home: &Path, app: &str, target: &str) -> PathBuf {
    home.join("targets").join(app).join(target)
}

fn tell(events: &Events, target: &str, number: &mut u64, progress: Progress) {
    let target = target.to_owned();
    match progress {
        Progress::Started { release, slug } => {
            *number = release;
            events.send(Event::ReleaseStarted { target, release, slug: slug.to_string() });
        }
        Progress::Output(text) => events.send(Event::ReleaseOutput { target, text }),
        Progress::Warning { message, hint } => events.warn(message, hint),
        Progress::Note(message) => events.send(Event::Note { message }),
        Progress::Stage(stage) => events.send(Event::ReleaseStage { target, release: *number, stage }),
    }
}
