//! What is asked of all machines that have targets which this one knows.

use std::collections::BTreeMap;
use std::thread;

use runner::release::{History, Place, ReleaseError};

use super::{Context, Failure};

/// What this machine and the others answer, as far as it is of targets that this machine knows. One that cannot be asked keeps
/// nobody from seeing what the others say.
pub(super) fn everywhere<T: Send>(
    context: &Context,
    ask: impl Fn(&Place) -> Result<Vec<T>, ReleaseError> + Sync,
    of: impl Fn(&T) -> (&String, &String),
) -> Result<Vec<T>, Failure> {
    let home = context.home()?;
    let Some(history) = History::existing(&home)? else { return Ok(Vec::new()) };
    let mut known = BTreeMap::<_, Vec<(String, String)>>::new();
    for (app, target) in history.targets()? {
        if let Some(server) = history.server(&app, &target)? {
            known.entry(server).or_default().push((app, target));
        }
    }
    let mut all = ask(&Place::here(&home))?;
    let asked: Vec<_> = thread::scope(|scope| {
        let (home, ask) = (&home, &ask);
        let asking = |server| scope.spawn(move || ask(&Place::at(home, Some(server))));
        let asked: Vec<_> = known.keys().map(asking).collect();
        asked.into_iter().map(|asked| asked.join().unwrap_or(Err(ReleaseError::Answer))).collect()
    });
    for (found, targets) in asked.into_iter().zip(known.values()) {
        match found {
            Ok(found) => {
                all.extend(
                    found.into_iter().filter(|found| targets.iter().any(|(app, target)| (app, target) == of(found))),
                );
            }
            Err(error) => eprintln!("warning: {error}"),
        }
    }
    Ok(all)
}
