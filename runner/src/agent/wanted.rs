//! What an order comes to once it is its turn: the release to be made, out of what the target runs by then. Starts nothing.

use super::protocol::{ConfigChange, Failure, Order, Wish};
use crate::release::{Contents, Formation, History, HistoryError, How, Release, Target};

/// Names that a config cannot set.
const RESERVED: [&str; 1] = ["PORT"];

/// A release that is to be made.
pub(super) struct Wanted {
    pub(super) target: Target,
    pub(super) contents: Contents,
    pub(super) how: How,
}

/// What is to be made; nothing where the target runs nothing that a change could be made to, or where nothing changes.
pub(super) fn wanted(history: &History, order: &Order) -> Result<Option<Wanted>, Failure> {
    let Order { app, target, wish, .. } = order;
    let failed = |error: HistoryError| Failure::hinted(&error, error.hint());
    let current = history.current(app, target).map_err(failed)?;
    match wish {
        Wish::Slug { target: settings, slug, how, .. } => {
            let config = history.config_with(app, target, settings.settings.made_up()).map_err(failed)?;
            let formation = formation(history, app, target).map_err(failed)?;
            let contents = Contents { slug: *slug, config, formation };
            Ok(Some(Wanted { target: (**settings).clone(), contents, how: how.clone() }))
        }
        Wish::Back { number } => {
            let releases = history.releases(app, target).map_err(failed)?;
            let goal = releases
                .into_iter()
                .find(|release| release.number == *number)
                .ok_or_else(|| Failure::new(format!("there is no release {number}")))?;
            Ok(Some(Wanted::like(goal, How::Rollback { number: *number })))
        }
        Wish::Config(ConfigChange { values: changes, .. }) => {
            if let Some(name) = changes.keys().find(|name| RESERVED.contains(&name.as_str())) {
                return Err(Failure::usage(format!("`{name}` is the front's to choose"))
                    .hint("set the target's `address` to where it is to listen"));
            }
            let before = history.config_version(app, target).and_then(|version| history.config(app, target, version));
            let before = before.map_err(failed)?;
            let mut values = before.clone();
            for (name, value) in changes {
                match value {
                    Some(value) => values.insert(name.clone(), value.clone()),
                    // What the target makes up it has anew.
                    None if makes_up(current.as_ref(), name) => {
                        values.insert(name.clone(), history.at_random(name).map_err(failed)?)
                    }
                    None => values.remove(name),
                };
            }
            if values == before {
                return Ok(None);
            }
            let version = history.add_config(app, target, &values).map_err(failed)?;
            let unset = changes.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.clone()).collect();
            let how = How::Config { names: changes.keys().cloned().collect(), unset };
            Ok(current.map(|current| {
                let mut wanted = Wanted::like(current, how);
                wanted.contents.config = version;
                wanted
            }))
        }
        // It is no other release.
        Wish::Canary(_) => Ok(None),
        Wish::Scale(counts) => {
            let current = current.ok_or_else(|| {
                Failure::usage(format!("target `{target}` runs nothing that could be scaled"))
                    .hint(format!("release to it first: `pipe run`; what ran before a stop `pipe ps {target}` knows"))
            })?;
            let mut wanted = Wanted::like(current, How::Scale { formation: counts.clone() });
            wanted.contents.formation = wanted.contents.formation.and(counts);
            Ok(Some(wanted))
        }
    }
}

impl Wanted {
    /// The number of the release that is current and no different. Only a run is content with it: whoever asks for a release
    /// by name gets one, with all that its release commands do.
    pub(super) fn served_by(&self, history: &History) -> Result<Option<u64>, Failure> {
        if self.how != How::Run {
            return Ok(None);
        }
        let Target { app, name, .. } = &self.target;
        let current = history.current(app, name).map_err(|error| Failure::hinted(&error, error.hint()))?;
        let same = current.filter(|current| current.target == self.target && current.contents() == self.contents);
        Ok(same.map(|current| current.number))
    }

    fn like(release: Release, how: How) -> Self {
        Self { contents: release.contents(), target: release.target, how }
    }
}

/// Whether a variable is one that what a target runs has it make up.
fn makes_up(current: Option<&Release>, name: &String) -> bool {
    current.is_some_and(|current| current.target.settings.made_up().any(|made_up| made_up == name))
}

/// How many of each process a target has: what served last says it, also where it was stopped since.
fn formation(history: &History, app: &str, target: &str) -> Result<Formation, HistoryError> {
    let releases = history.releases(app, target)?;
    let served = releases.into_iter().rev().find(|release| release.stage.is_switched());
    Ok(served.map(|release| release.formation).unwrap_or_default())
}
