//! What keeps a release from being made before anything is started for it: what it lacks, and what cannot be.

use super::super::Agent;
use super::super::process::RELEASE;
use super::super::protocol::{Failure, Progress, Say};
use super::super::root::Root;
use super::remedy;
use crate::diagnostic::nearest;
use crate::disk::room;
use crate::pipeline::duration_text;
use crate::release::{How, Role, Target, Who};

/// Below so many free bytes a release is told of it, and below so many refused.
const LITTLE_ROOM: u64 = 1 << 30;
const TOO_LITTLE_ROOM: u64 = 64 << 20;

/// A slug that does not fit the target, or what is asked for.
pub(super) fn unfit(root: &Root, target: &str, how: &How, for_some: bool) -> Result<(), Failure> {
    if let How::Scale { formation } = how {
        unknown_processes(root, formation.counts().map(|(process, _)| process))?;
    }
    if for_some && !root.serves() {
        return Err(Failure::usage("the slug has no process `web` that clients could be given to")
            .hint("release it without `--canary`"));
    }
    cron_of_other_names(root, target)?;
    missing_environment(root, target)?;
    data_for_static(root, target)?;
    data_in_the_way(root, target)
}

/// A count of a process that the slug does not have would wait for ever for its process.
fn unknown_processes<'a>(root: &Root, asked: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let known: Vec<_> =
        root.arrived.manifest.processes.keys().map(String::as_str).filter(|name| *name != RELEASE).collect();
    for process in asked {
        if !known.contains(&process) {
            let near = nearest(process, known.iter().copied());
            let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            return Err(Failure::usage(format!("the slug has no process `{process}`"))
                .hint(format!("{near}it has `{}`", known.join("`, `"))));
        }
    }
    Ok(())
}

/// Logs and counts of a cron entry and of a process of the same name could not be told apart.
fn cron_of_other_names(root: &Root, target: &str) -> Result<(), Failure> {
    let processes = &root.arrived.manifest.processes;
    match root.settings.cron.keys().find(|name| processes.contains_key(*name) || *name == RELEASE) {
        Some(name) => {
            Err(Failure::new(format!("the slug has a process `{name}`, as which target `{target}` names a cron entry"))
                .hint("call the entry something else"))
        }
        None => Ok(()),
    }
}

fn missing_environment(root: &Root, target: &str) -> Result<(), Failure> {
    let given = root.environment(0);
    let missing: Vec<_> = root
        .arrived
        .manifest
        .environment
        .iter()
        .filter(|name| !given.contains_key(*name))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let made_up = missing.iter().find_map(|name| remedy::made_up(name)).unwrap_or_default();
    Err(Failure::new(format!("the slug needs what the target does not give: `{}`", missing.join("`, `"))).hint(
        format!(
            "`pipe config {target} set {}=…`, or put it into the file that the target's `env-file` names{made_up}",
            missing[0]
        ),
    ))
}

/// A target whose disk is full fails in ways that are hard to tell.
pub(super) fn little_room(agent: &Agent, say: &Say) -> Result<(), Failure> {
    // Where that cannot be told, what fails says so itself.
    let Ok(Some(free)) = room(&agent.home) else { return Ok(()) };
    let message = format!("{} MB are free on the disk of `{}`", free / 1_000_000, agent.home.display());
    let hint =
        "make room: `pipe store gc` lets go of what is of no use; `preflight = false` in the target, and nobody looks";
    if free < TOO_LITTLE_ROOM {
        return Err(Failure::new(format!("only {message}")).hint(hint));
    }
    if free < LITTLE_ROOM {
        let _ = say.send(Progress::Warning { message: format!("only {message}"), hint: Some(hint.to_owned()) });
    }
    Ok(())
}

/// With its end a target goes, and all its data with it: nobody brings that about who may not remove it.
pub(super) fn sooner_end(agent: &Agent, target: &Target, who: &Who, say: &Say) -> Result<(), Failure> {
    let Target { app, name, settings } = target;
    let Some(expires) = settings.expires else { return Ok(()) };
    let releases = agent.history.releases(app, name).map_err(|error| Failure::of(&error))?;
    let Some(before) = releases.last().map(|last| last.target.settings.expires) else { return Ok(()) };
    if before.is_some_and(|before| before <= expires) {
        return Ok(());
    }
    let until_now =
        before.map_or_else(|| "no end".to_owned(), |before| format!("`expires = \"{}\"`", duration_text(before)));
    let message = format!(
        "target `{name}` had {until_now} so far, and would be removed with its data {} after this release",
        duration_text(expires)
    );
    if who.role < Role::Admin {
        return Err(Failure::usage(message).hint(format!(
            "you are `{}`, a {} here: leave `expires` as it was, or have an admin release it",
            who.name, who.role
        )));
    }
    let hint = "take `expires` out of the target, and release once more, if it is to stay".to_owned();
    let _ = say.send(Progress::Warning { message: message.replace("would be", "is"), hint: Some(hint) });
    Ok(())
}

/// Static files are the slug's: no target keeps them, and nothing of a target can lie in them.
fn data_for_static(root: &Root, target: &str) -> Result<(), Failure> {
    let Some(path) = root.data_in_static() else { return Ok(()) };
    Err(Failure::new(format!("target `{target}` would keep `{path}` as its data, which is where the slug's static files are"))
        .hint("take it out of the target's `data`: static files come with each release; uploads belong in a directory of their own"))
}

/// What was kept so far is told where nobody will see it any more, and refuses the release where something empty would take its place.
pub(super) fn data_split(agent: &Agent, root: &Root, target: &Target, say: &Say) -> Result<(), Failure> {
    let current = agent.history.current(&target.app, &target.name).map_err(|error| Failure::of(&error))?;
    let Some(before) = current.map(|current| current.target.settings.data) else { return Ok(()) };
    for (path, place, around) in root.no_longer_kept(&before) {
        let place = place.display();
        if let Some(directory) = around {
            let message = format!(
                "target `{}` has kept `{path}` by itself so far, and would begin with a `{directory}` that does not have it",
                target.name
            );
            return Err(Failure::new(message)
                .hint(format!("name `{path}` in the target's `data` as before: what it holds is in `{place}`")));
        }
        let message =
            format!("`{path}` was kept as data so far, and this release does not see it: it stays in `{place}`");
        let hint = "name it in the target's `data` again, if it is to be seen".to_owned();
        let _ = say.send(Progress::Warning { message, hint: Some(hint) });
    }
    Ok(())
}

/// A database that is to be kept by itself would take the place of one that a directory of data holds.
fn data_in_the_way(root: &Root, target: &str) -> Result<(), Failure> {
    let Some((database, directory)) = root.database_in_data() else { return Ok(()) };
    Err(Failure::new(format!(
        "target `{target}` would keep `{database}` by itself, and a file of that name is in `{directory}`, which it keeps already"
    ))
    .hint(format!("take `{database}` out of the target's `data`: it is kept with `{directory}`")))
}
