//! The agent's side of the protocol: one connection a command, one task a connection.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Agent;
use super::canary;
use super::client::{build, short_socket};
use super::deploy;
use super::handover::Handover;
use super::protocol::{Answer, Failure, Order, PROTOCOL, Reply, Request};
use super::remove;
use super::running::{Running, Turn};
use super::written::Written;
use crate::release::{Deed, Who, target_directory};
use crate::store::Store;

/// Listens where an earlier agent did: at the very socket that it has given, or at a new one in its place.
pub(super) fn listen(home: &Path, given: Option<std::os::unix::net::UnixListener>) -> io::Result<UnixListener> {
    if let Some(given) = given {
        return UnixListener::from_std(given);
    }
    let (path, _directory) = short_socket(home)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Its directory is closed to others already.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Why commands are answered no longer.
pub(super) enum End {
    /// There is nothing to do any more, or the next agent is to begin by itself.
    Done,
    /// Another agent takes the place.
    Succeeded(Handover),
}

/// Answers commands until the end.
pub(super) async fn serve(agent: &Arc<Agent>, listener: UnixListener) -> End {
    let listener = Arc::new(listener);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (agent, listener) = (Arc::clone(agent), Arc::clone(&listener));
                    // A command that is gone needs no answer.
                    open.spawn(async move { converse(&agent, &listener, stream).await.ok().flatten() });
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            },
            Some(ended) = open.join_next() => {
                // A command that is still there may be about to give it something to do.
                let is_over = || (open.is_empty() && agent.is_idle()).then_some(End::Done);
                if let Some(end) = ended.ok().flatten().or_else(is_over) {
                    open.detach_all();
                    return end;
                }
            }
        }
    }
}

/// One command; whether and how the agent is to end after it.
async fn converse(agent: &Arc<Agent>, commands: &Arc<UnixListener>, stream: UnixStream) -> io::Result<Option<End>> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    read.read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    let asked = request.who().map(|who| (who.clone(), request.deed()));
    let answer = match request {
        Request::Hello => Answer::Hello { protocol: PROTOCOL, build: build() },
        Request::Deploy(order) => deploy(agent, *order, read, &mut write).await?,
        Request::Status => Answer::Status(agent.all_running().iter().filter_map(|running| running.status()).collect()),
        Request::Domains => Answer::Domains(agent.domains()),
        Request::Stop { target, .. } => stop(agent, target, &mut read, &mut write).await,
        Request::Remove { app, target, data, .. } => {
            let _changes = agent.changes.read().await;
            let running = agent.running(&app, &target);
            match turn(&running, "a removal", &mut read, &mut write).await {
                Some(_turn) => remove::remove(agent, &running, data)
                    .await
                    .map_or_else(|failure| Answer::Failed(failure.in_one()), Answer::Removed),
                None => gave_up(),
            }
        }
        Request::Succeed => return hand_over(agent, commands, read.into_inner().reunite(write)).await,
        Request::Retire if agent.all_running().iter().any(|running| running.is_changing()) => {
            Answer::Failed("a release is under way".into())
        }
        Request::Retire => Answer::Retiring,
    };
    if let Some((who, deed)) = asked {
        audit(agent, &who, deed, &answer);
    }
    let retires = matches!(answer, Answer::Retiring);
    send(&mut write, &Reply::Answer(answer)).await?;
    Ok(retires.then_some(End::Done))
}

/// Writes down what came of a change.
fn audit(agent: &Agent, who: &Who, deed: Deed, answer: &Answer) {
    let Some((ending, release)) = answer.ending() else { return };
    let made = || {
        let ((app, target), number) = (deed.target.as_ref()?, release?);
        agent.history.releases(app, target).ok()?.into_iter().find(|made| made.number == number)
    };
    let slug = deed.slug.or_else(|| Some(made()?.slug.id));
    agent.audit(who, &Deed { release, slug, ..deed }, &ending);
}

/// Gives what is listened at to the next agent, once nothing is being changed.
async fn hand_over(
    agent: &Arc<Agent>,
    commands: &Arc<UnixListener>,
    stream: Result<UnixStream, ReuniteError>,
) -> io::Result<Option<End>> {
    let changes = Arc::clone(&agent.changes).write_owned().await;
    let stream = stream.map_err(io::Error::other)?.into_std()?;
    stream.set_nonblocking(false)?;
    let (commands, listeners) = (Arc::clone(commands), agent.listeners.all());
    let begun = tokio::task::spawn_blocking(move || Handover::begin(stream, &commands, &listeners)).await;
    let handover = begun.map_err(io::Error::other)??;
    // From here on this agent changes nothing: whoever waits for that asks the next one.
    std::mem::forget(changes);
    Ok(Some(End::Succeeded(handover)))
}

async fn deploy(
    agent: &Arc<Agent>,
    order: Order,
    mut read: BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> io::Result<Answer> {
    let _changes = agent.changes.read().await;
    let running = agent.running(&order.app, &order.target);
    let (say, mut said) = mpsc::unbounded_channel();
    let work = {
        let agent = Arc::clone(agent);
        // A task of its own: whatever happens to the connection, it comes to an end of its own.
        tokio::spawn(async move {
            let gone = async {
                // A command says nothing more, so all that can come is its end.
                let _ = read.read_u8().await;
            };
            deploy::deploy(&agent, &running, &order, say, gone).await
        })
    };
    while let Some(progress) = said.recv().await {
        // The work notices by itself that nobody listens any more.
        let _ = send(write, &Reply::Progress(progress)).await;
    }
    Ok(match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => Answer::NotReleased(failure),
        Err(panic) => Answer::Failed(panic.to_string()),
    })
}

/// The turn at a target, for whoever is told whom he waits for; none where he is gone before it comes.
async fn turn<'a>(
    running: &'a Running,
    who: &str,
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> Option<Turn<'a>> {
    let (say, mut said) = mpsc::unbounded_channel();
    let mut turn = pin!(running.turn(who, Some(&say)));
    loop {
        tokio::select! {
            biased;
            turn = &mut turn => return Some(turn),
            Some(progress) = said.recv() => {
                let _ = send(write, &Reply::Progress(progress)).await;
            }
            // A command says nothing more, so all that can come is its end.
            _ = read.read_u8() => return None,
        }
    }
}

/// Nobody hears it; it is for the audit trail.
fn gave_up() -> Answer {
    Answer::Failed("given up while it waited for its turn".to_owned())
}

async fn stop(
    agent: &Arc<Agent>,
    target: Option<(String, String)>,
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> Answer {
    let _changes = agent.changes.read().await;
    // Who ends something is often about to make room.
    Store::spend_reserve(&agent.home);
    let mut stopped = Vec::new();
    for running in agent.all_running() {
        let name = format!("{}/{}", running.app, running.target);
        if target.as_ref().is_some_and(|(app, target)| *app != running.app || *target != running.target) {
            continue;
        }
        let Some(_turn) = turn(&running, "a stop", read, write).await else { return gave_up() };
        let canary = canary::take_back(agent, &running, "taken back: the target was stopped");
        if let Err(error) = agent.history.stop(&running.app, &running.target) {
            return Answer::Failed(Failure::hinted(&error, error.hint()).in_one());
        }
        agent.close_domains(&running.app, &running.target);
        if running.stop().await {
            stopped.push(name);
        }
        if let Some(ending) = canary {
            ending.await;
        }
        Written::of(&target_directory(&agent.home, &running.app, &running.target)).clear();
    }
    Answer::Stopped(stopped)
}

async fn send(write: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}
