//! What of the store is kept whatever its age: what targets run or could go back to, and what was built lately.
//!
//! The one place that knows all owners of what is in a store. How garbage is collected is the store's matter.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::event::log::Logs;
use crate::plugin;
use crate::release::{History, HistoryError};
use crate::runtime::Runtime;
use crate::slug::{Manifest, Registry, SlugError};
use crate::store::{Collected, Policy, Roots, Store, StoreError};

/// How often runs collect garbage.
const PERIOD: Duration = Duration::from_hours(24);

/// Why garbage was not collected.
#[derive(Debug, thiserror::Error)]
pub enum GarbageError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is released is not known.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What was built is not known.
    #[error(transparent)]
    Slug(#[from] SlugError),
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl GarbageError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::History(error) => error.hint(),
            Self::Slug(error) => error.hint(),
            Self::Io { path, .. } => Some(format!("make `{}` writable", path.display())),
        }
    }
}

/// Collects garbage in a home directory: in its store, among its compiled plugins and the logs of runs, and slugs that
/// nobody can release any more.
pub fn collect(home: &Path, policy: &Policy) -> Result<Collected, GarbageError> {
    let store = Store::open_to_free(home)?;
    let mut collected = store.collect(policy, || roots(home, &store, policy))?;
    let registry = Registry::of(home);
    for record in registry.list()? {
        if !store.contains(&record.tree) {
            registry.remove(&record.id)?;
        }
    }
    let failed = |name: &str| {
        let path = home.join(name);
        |source| GarbageError::Io { action: "clear", path, source }
    };
    // They are made anew in a moment: what steps gave goes before them.
    let room = policy.max_bytes.saturating_sub(collected.kept);
    let compiled = plugin::collect_compiled(home, policy.unused_for, room).map_err(failed("components"))?;
    // They only tell what was.
    let room = room.saturating_sub(compiled.1);
    let logs = Logs::of(home).collect(policy.unused_for, room).map_err(failed("runs"))?;
    for (freed, kept) in [compiled, logs] {
        collected.freed += freed;
        collected.kept += kept;
    }
    Ok(collected)
}

/// Collects garbage with the usual policy, where that was done the last time longer ago than a day.
pub fn collect_if_due(home: &Path) -> Result<(), GarbageError> {
    let path = home.join("store/collected");
    let last = fs::metadata(&path).and_then(|metadata| metadata.modified());
    let now = SystemTime::now();
    let is_due = match last {
        // In the future: the clock was changed.
        Ok(last) => now.duration_since(last).map_or(true, |age| age > PERIOD),
        Err(_) => false,
    };
    if is_due || last.is_err() {
        // Noted first, so that of many runs that end at once one does it.
        fs::write(&path, "").map_err(|source| GarbageError::Io { action: "write", path, source })?;
    }
    if is_due {
        collect(home, &Policy::default())?;
    }
    Ok(())
}

/// All that is kept: each release's slug with its runtime; and where there is room, slugs that were built since the policy's age
/// began.
fn roots(home: &Path, store: &Store, policy: &Policy) -> Result<Roots, GarbageError> {
    let mut roots = Roots::default();
    let recent =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(policy.unused_for);
    let mut trees = Vec::new();
    let mut released = std::collections::HashSet::new();
    // Where nothing was ever released there is no state, and none is to be made.
    if let Some(history) = History::existing(home)? {
        for (app, target) in history.targets()? {
            for release in history.releases(&app, &target)? {
                released.insert(release.slug.id);
                trees.push(release.slug.tree);
            }
        }
    }
    for record in Registry::of(home).list()? {
        if released.contains(&record.id) {
            roots.blobs.extend(record.attestation);
        } else if u128::from(record.last_built()) > recent.as_millis() {
            roots.spare.extend([Some(record.tree), record.attestation].into_iter().flatten());
        }
    }
    for tree in trees {
        roots.blobs.push(tree);
        // A slug that cannot be read names no runtime that it could run on.
        if store.contains(&tree)
            && let Ok((_, manifest)) = Manifest::read(store, &tree)
        {
            roots.actions.insert(Runtime::key(&manifest.runtime));
        }
    }
    Ok(roots)
}
