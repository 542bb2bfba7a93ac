//! What a release waits for while a process does not answer yet, told now and then. Unaware of what becomes of the release.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::super::health;
use super::super::process::Process;
use super::super::protocol::{Progress, Say};

/// After so long it is told for the first time, and then twice as long after each time, up to the longest.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(1);

/// Tells, as long as it is waited, why a process counts as none that is up, and with what `written` says of it.
pub(super) async fn tell(
    process: &Process,
    path: &str,
    hosts: &[String],
    written: impl Fn() -> Option<String>,
    say: &Say,
) -> Infallible {
    let (began, mut pause) = (Instant::now(), FIRST);
    loop {
        tokio::time::sleep(pause).await;
        let so_far = health::so_far(process.port, path, hosts).await;
        let last =
            written().map_or_else(|| "it has written nothing".to_owned(), |line| format!("it wrote last: {line}"));
        let (what, seconds) = (&process.slot, began.elapsed().as_secs());
        let note = format!("`{what}` is not up after {seconds} s: {so_far}; {last}");
        let _ = say.send(Progress::Note(note));
        pause = (pause * 2).min(LONGEST);
    }
}
