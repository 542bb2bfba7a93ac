//! Takes a target off a machine: what runs, what would bring it back, and where that is wished all that it has kept.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::protocol::{Failure, Removed};
use super::running::Running;
use super::written::Written;
use super::{Agent, boot, canary};
use crate::release::{Release, target_directory};
use crate::sandbox;
use crate::store::Store;

/// Removes a target whose end has come, with all that it has kept, unless another release has followed.
pub(super) async fn remove_expired(agent: &Arc<Agent>, release: &Release) -> Result<bool, Failure> {
    let _changes = agent.changes.read().await;
    let running = agent.running(&release.target.app, &release.target.name);
    let _turn = running.turn("the agent, which removes it", None).await;
    let last = agent.history.all_last().map_err(|error| Failure::hinted(&error, error.hint()))?;
    if !last.iter().any(|last| last.id == release.id) {
        return Ok(false);
    }
    remove(agent, &running, true).await?;
    Ok(true)
}

/// Stops a target and has it not come back; `data` removes its data, its logs, its releases and its config. It is the caller's turn.
pub(super) async fn remove(agent: &Arc<Agent>, running: &Running, data: bool) -> Result<Removed, Failure> {
    let (app, target) = (running.app.as_str(), running.target.as_str());
    let canary = canary::take_back(agent, running, "taken back: the target was removed");
    Store::spend_reserve(&agent.home);
    let of = |error: crate::release::HistoryError| Failure::hinted(&error, error.hint());
    agent.history.stop(app, target).map_err(of)?;
    agent.close_domains(app, target);
    let ran = running.stop().await;
    if let Some(ending) = canary {
        ending.await;
    }
    let off = boot::off(&agent.home, &format!("{app}/{target}"));
    let came_back = off.map_err(|error| Failure::hinted(&error, error.hint()))?;
    let directory = target_directory(&agent.home, app, target);
    Written::of(&directory).clear();
    if data {
        let agent = Arc::clone(agent);
        let (app, target, directory) = (app.to_owned(), target.to_owned(), directory.clone());
        let gone = tokio::task::spawn_blocking(move || {
            match sandbox::remove_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let message = format!("cannot remove `{}`: {error}", directory.display());
                    return Err(Failure::new(message).hint("remove it by hand, and then the target again"));
                }
                _ => {}
            }
            // What is above it may be another target's too.
            let _ = directory.parent().map(std::fs::remove_dir);
            agent.history.forget(&app, &target).map_err(|error| Failure::hinted(&error, error.hint()))
        });
        gone.await.map_err(|error| Failure::of(&error))??;
    }
    let releases = agent.history.releases(app, target).map_err(of)?.len() as u64;
    let config = agent.history.config_version(app, target);
    let config = config.and_then(|version| agent.history.config(app, target, version)).map_err(of)?;
    Ok(Removed { ran, came_back, left: size(&directory), directory, releases, variables: config.len() as u64 })
}

/// The bytes of all files below a directory, as far as they can be seen.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_entry = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}
