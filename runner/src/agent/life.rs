//! The life of an agent: it takes over what an earlier one has left, serves, and ends or gives its place to the next. Knows nothing
//! of how any of that is done.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::account::Ports;
use super::acme::Acme;
use super::expiry;
use super::front::{Listeners, Public, Threads};
use super::handover::{Handover, Place};
use super::instance::Instance;
use super::keeper;
use super::log;
use super::memory;
use super::process::{back_off, clear};
use super::protocol::Failure;
use super::server::{self, End};
use super::{Agent, AgentError, DRAIN};
use crate::release::{Deed, Ending, History, HistoryError, Release, Stage, Target, Who};
use crate::store::Store;
use crate::tree::STACK;

/// How long work that cannot be interrupted has before the next agent begins.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Serves a home directory until nothing is left to do, or another agent takes its place. Where an agent is there already it ends
/// at once, or `succeeds` that one.
pub(super) fn serve(home: &Path, succeeds: bool) -> Result<(), AgentError> {
    let failed = |doing| move |source| AgentError::Io { doing, source };
    let run = home.join("agent/run");
    DirBuilder::new().recursive(true).mode(0o700).create(&run).map_err(failed("make its directory"))?;
    // Bodies of requests that are too long for memory: no disk of the machine is known to be one, but this.
    let _ = tempfile::env::override_temp_dir(&run);
    let (keeper, inherited) = keeper::given().map_err(failed("take what its keeper holds"))?;
    let lock = File::create(home.join("agent/lock")).map_err(failed("open its lock"))?;
    let is_free = match lock.try_lock() {
        Ok(()) => true,
        Err(fs::TryLockError::WouldBlock) if succeeds => false,
        Err(fs::TryLockError::WouldBlock) => return Ok(()),
        Err(fs::TryLockError::Error(error)) => return Err(failed("take its lock")(error)),
    };
    // All that can fail does so before another agent gives its place.
    let (store, history) = (Store::open_for_releases(home)?, Arc::new(History::open(home)?));
    let work = Builder::new_multi_thread().worker_threads(2).thread_stack_size(STACK).enable_all().build();
    let work = work.map_err(failed("start its threads"))?;
    let (connections, _running) = Threads::start().map_err(failed("start its threads"))?;
    let place = if is_free { Ok(Place { listeners: inherited, ..Place::new(lock) }) } else { Place::take(home, lock) };
    let Place { lock, commands, listeners, earlier } = place.map_err(failed("take the place of another agent"))?;
    let listeners = Arc::new(Listeners::new(Arc::clone(&connections), listeners));
    listeners.keep_at(keeper);
    let kept = (home.to_owned(), Arc::clone(&listeners));
    std::thread::spawn(move || keeper::stay_kept(&kept.0, &kept.1));
    let public = Public::new(&listeners);
    let agent = Arc::new(Agent {
        acme: Acme::new(home, public.sites()),
        public,
        listeners: Arc::clone(&listeners),
        home: home.to_owned(),
        store,
        history,
        run,
        targets: Mutex::default(),
        ports: Mutex::new(Ports::of(home)),
        coming_back: AtomicUsize::new(0),
        changes: Arc::default(),
        is_alone: watch::Sender::new(earlier.is_none()),
    });
    let end = work.block_on(async {
        let commands = server::listen(home, commands).map_err(failed("listen on its socket"))?;
        let acme = Arc::clone(&agent.acme);
        tokio::spawn(async move { acme.keep().await });
        tokio::spawn(expiry::keep(Arc::clone(&agent)));
        tokio::spawn(memory::give_back());
        // Commands wait at the socket meanwhile, and clients at those of the fronts.
        take_over(&agent).await?;
        if let Some(earlier) = earlier {
            let agent = Arc::clone(&agent);
            std::thread::spawn(move || adopt(&agent, earlier));
        }
        Ok::<_, AgentError>(server::serve(&agent, commands).await)
    })?;
    match end {
        End::Done => Ok(()),
        End::Succeeded(handover) => {
            let is_alone = agent.is_alone.subscribe();
            listeners.stop();
            drop(agent);
            let left = leave(handover, lock, work, &connections, &listeners, is_alone);
            left.map_err(failed("give its place to another agent"))
        }
    }
}

/// Goes on with the connections of an earlier agent, until that has none any more.
fn adopt(agent: &Agent, mut earlier: Handover) {
    while let Some((left, socket)) = earlier.next_connection() {
        let entrance = agent.entrance(&left.way);
        agent.listeners.adopt((left, socket), entrance);
    }
    agent.is_alone.send_replace(true);
}

/// Gives the place to another agent, and stays until each client's connection has ended or is given away.
fn leave(
    handover: Handover,
    lock: File,
    work: Runtime,
    connections: &Threads,
    listeners: &Listeners,
    is_alone: watch::Receiver<bool>,
) -> io::Result<()> {
    // With it ends all that supervises: what ends from now on is started again by the other agent alone.
    work.shutdown_timeout(LAST_WORK);
    handover.give_place(&lock)?;
    drop(lock);
    let (heir, given) = mpsc::unbounded_channel();
    let giving = std::thread::spawn(move || handover.give_connections(given));
    connections.block_on(listeners.give_to(heir, is_alone));
    let _ = giving.join();
    Ok(())
}

/// Goes on from where an earlier agent ended: finishes or undoes releases, and takes over processes.
async fn take_over(agent: &Arc<Agent>) -> Result<(), AgentError> {
    let mut canaries = Vec::new();
    for mut release in agent.history.unfinished()? {
        match release.stage {
            Stage::Switched => agent.history.advance(&mut release, Stage::Drained, None)?,
            Stage::Canary => canaries.push(release),
            _ => interrupted(agent, &mut release)?,
        }
    }
    let current = agent.history.all_current()?;
    let mut records = agent.history.processes()?;
    for release in current {
        if let Err(failure) = agent.resume(&release, &mut records).await {
            say_why_not(&release, &failure);
            agent.coming_back.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(come_back(Arc::clone(agent), release));
        }
    }
    for mut release in canaries {
        if let Err(failure) = agent.resume_canary(&release, &mut records).await {
            say_why_not(&release, &failure);
            interrupted(agent, &mut release)?;
        }
    }
    agent.public.accept();
    agent.listeners.close_inherited();
    for left in records {
        let agent = Arc::clone(agent);
        tokio::spawn(async move {
            agent.alone(DRAIN).await;
            if let Ok(instance) = Instance::attach(&left.directory) {
                instance.stop().await;
            }
            let _ = clear(&agent.history, &left);
        });
    }
    Ok(())
}

/// Takes back a release that nobody can finish any more.
fn interrupted(agent: &Agent, release: &mut Release) -> Result<(), HistoryError> {
    agent.history.advance(release, Stage::Failed, Some("interrupted"))?;
    let Target { app, name, .. } = &release.target;
    let deed = Deed { release: Some(release.number), slug: Some(release.slug.id), ..Deed::of(app, name, "take back") };
    agent.audit(&Who::agent(), &deed, &Ending::Done);
    Ok(())
}

/// Tries again what could not be served: where a machine has just come up, its addresses and disks may come later.
async fn come_back(agent: Arc<Agent>, release: Release) {
    let Target { app, name, .. } = &release.target;
    let running = agent.running(app, name);
    let mut why = String::new();
    for tries in 2.. {
        tokio::time::sleep(back_off(tries)).await;
        let _turn = running.turn("the agent, which brings it back", None).await;
        let is_current = |current: Option<Release>| current.is_some_and(|current| current.id == release.id);
        // Somebody may have stopped it meanwhile, or released something else.
        if !running.is_idle() || !agent.history.current(app, name).is_ok_and(is_current) {
            break;
        }
        match agent.resume(&release, &mut Vec::new()).await {
            Ok(()) => {
                agent.public.accept();
                break;
            }
            Err(failure) if failure.message != why => {
                say_why_not(&release, &failure);
                why = failure.message;
            }
            Err(_) => {}
        }
    }
    agent.coming_back.fetch_sub(1, Ordering::SeqCst);
}

fn say_why_not(release: &Release, failure: &Failure) {
    let Target { app, name, .. } = &release.target;
    log::note(format_args!("{app}/{name} release {} does not come back: {}", release.number, failure.message));
}
