//! What the agent holds of one target: whose turn it is to change it, and what serves. Knows nothing of how it came to be.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::canary::Canary;
use super::cron::{Cron, Runs};
use super::front::{Backend, Current, Entrance, Listener, Listeners, Upstream};
use super::process::{Process, Slot, WEB};
use super::protocol::{Failure, ProcessState, ProcessStatus, Progress, Say, TargetStatus};
use super::{lock, usage};
use crate::release::Formation;

/// One target of an agent.
pub(super) struct Running {
    pub(super) app: String,
    pub(super) target: String,
    turn: tokio::sync::Mutex<()>,
    owner: Mutex<Option<String>>,
    /// Where its requests go, from wherever they come.
    pub(super) current: Current,
    /// What runs of cron entries, of this release and of earlier ones.
    pub(super) runs: Runs,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    front: Option<Arc<Listener>>,
    serving: Serving,
    canary: Option<Arc<Canary>>,
}

/// A release that serves.
#[derive(Default)]
pub(super) struct Serving {
    pub(super) number: u64,
    pub(super) url: String,
    /// When all of it is removed.
    pub(super) until: Option<SystemTime>,
    pub(super) upstream: Option<Arc<Upstream>>,
    pub(super) processes: Vec<Arc<Process>>,
    pub(super) crons: Vec<Cron>,
}

/// The right to change a target.
pub(super) struct Turn<'a> {
    owner: &'a Mutex<Option<String>>,
    _guard: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(self.owner) = None;
    }
}

impl Running {
    pub(super) fn new(app: &str, target: &str) -> Self {
        Self {
            app: app.to_owned(),
            target: target.to_owned(),
            turn: tokio::sync::Mutex::default(),
            owner: Mutex::default(),
            current: Current::default(),
            runs: Runs::default(),
            held: Mutex::default(),
        }
    }

    /// Waits until nobody else changes the target, and says who does.
    pub(super) async fn turn(&self, who: &str, say: Option<&Say>) -> Turn<'_> {
        let guard = if let Ok(guard) = self.turn.try_lock() {
            guard
        } else {
            let owner = lock(&self.owner).clone().unwrap_or_default();
            if let Some(say) = say {
                let note = format!("`{}` is being changed by {owner}; waiting for that to end", self.target);
                let _ = say.send(Progress::Note(note));
            }
            self.turn.lock().await
        };
        *lock(&self.owner) = Some(who.to_owned());
        Turn { owner: &self.owner, _guard: guard }
    }

    /// Whether somebody changes it.
    pub(super) fn is_changing(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// Whether anything of it runs.
    pub(super) fn is_idle(&self) -> bool {
        let held = lock(&self.held);
        held.front.is_none() && held.serving.processes.is_empty() && held.serving.crons.is_empty()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        lock(&self.held).front.as_ref().map(|front| front.address)
    }

    /// Where its clients come in.
    pub(super) fn entrance(&self) -> Entrance {
        let (app, target) = (self.app.clone(), self.target.clone());
        Entrance::Target { app, target, current: Arc::clone(&self.current) }
    }

    /// Listens on an address; clients are answered once it is said so, and after a switch in any case.
    pub(super) async fn front(&self, listeners: &Listeners, address: SocketAddr) -> Result<Arc<Listener>, Failure> {
        listeners.listen(address, self.entrance()).await.map_err(|error| {
            Failure::new(format!("cannot listen on `{address}`: {error}"))
                .hint(format!("set `address` of target `{}` to one that is free", self.target))
        })
    }

    /// Gives all further requests to a release, and gives back what served before.
    pub(super) fn switch(&self, to: Serving, front: Arc<Listener>) -> Serving {
        let mut held = lock(&self.held);
        if let Some(upstream) = &to.upstream {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(upstream));
        }
        front.accept();
        // One of another address ends only now.
        held.front = Some(front);
        // It is what serves now.
        held.canary = None;
        std::mem::replace(&mut held.serving, to)
    }

    /// Gives some of the clients to another release, where there is one that serves all others.
    pub(super) fn try_out(&self, canary: Canary) -> bool {
        let mut held = lock(&self.held);
        let Some(upstream) = &held.serving.upstream else { return false };
        upstream.try_out(Some(Arc::clone(&canary.trial)));
        held.canary = Some(Arc::new(canary));
        true
    }

    /// The release that some of the clients are given.
    pub(super) fn canary(&self) -> Option<Arc<Canary>> {
        lock(&self.held).canary.clone()
    }

    /// Gives its clients back to the release that serves all others.
    pub(super) fn end_canary(&self) -> Option<Arc<Canary>> {
        let mut held = lock(&self.held);
        if let Some(upstream) = &held.serving.upstream {
            upstream.try_out(None);
        }
        held.canary.take()
    }

    /// Whether a release serves that answers requests.
    pub(super) fn serves(&self) -> bool {
        lock(&self.held).serving.upstream.is_some()
    }

    /// Where a web process of what serves listens.
    pub(super) fn web_port(&self) -> Option<u16> {
        let held = lock(&self.held);
        held.serving.processes.iter().find(|process| process.slot.name == WEB).map(|process| process.port)
    }

    /// Counts another process to the release that serves; one that answers requests gets its part of them.
    pub(super) fn add(&self, process: Arc<Process>) {
        let serving = &mut lock(&self.held).serving;
        if let Some(upstream) = serving.upstream.as_ref().filter(|_| process.slot.name == WEB) {
            upstream.add(process.port);
        }
        serving.processes.push(process);
    }

    /// Whether a process is there that is to be.
    pub(super) fn has(&self, slot: &Slot) -> bool {
        lock(&self.held).serving.processes.iter().any(|process| process.slot == *slot)
    }

    /// Whether a release serves, and all of its processes run.
    pub(super) fn is_whole(&self, number: u64) -> bool {
        let serving = &lock(&self.held).serving;
        serving.number == number
            && serving.processes.iter().all(|process| process.status().state == ProcessState::Running)
    }

    /// The releases that its processes were started for: one, or more where it was scaled since.
    pub(super) fn releases(&self) -> Vec<u64> {
        let serving = &lock(&self.held).serving;
        let crons = serving.crons.iter().map(|cron| cron.number);
        serving.processes.iter().map(|process| process.number).chain(crons).collect()
    }

    /// Where it answers.
    pub(super) fn url(&self) -> String {
        lock(&self.held).serving.url.clone()
    }

    /// Counts what runs to another release, and gives back what its formation has no place for; none of it gets requests
    /// any more, but those that it has are still to be finished.
    pub(super) fn rescaled(
        &self,
        (number, until): (u64, Option<SystemTime>),
        formation: &Formation,
    ) -> Vec<(Arc<Process>, Option<Arc<Backend>>)> {
        let serving = &mut lock(&self.held).serving;
        (serving.number, serving.until) = (number, until);
        let has_place = |process: &Arc<Process>| process.slot.instance <= formation.count(&process.slot.name);
        let (kept, surplus) = std::mem::take(&mut serving.processes).into_iter().partition(has_place);
        serving.processes = kept;
        let surplus: Vec<Arc<Process>> = surplus;
        let backend = |process: &Process| serving.upstream.as_ref()?.remove(process.port);
        surplus.into_iter().map(|process| (Arc::clone(&process), backend(&process))).collect()
    }

    /// Stops all of it; whether there was anything.
    pub(super) async fn stop(&self) -> bool {
        let (front, serving) = {
            let mut held = lock(&self.held);
            self.current.write().unwrap_or_else(PoisonError::into_inner).take();
            (held.front.take(), std::mem::take(&mut held.serving))
        };
        let Serving { mut processes, crons, .. } = serving;
        let was_there = front.is_some() || !processes.is_empty() || !crons.is_empty();
        drop((front, crons));
        processes.extend(self.runs.all());
        stop_all(&processes).await;
        was_there
    }

    pub(super) fn status(&self) -> Option<TargetStatus> {
        let held = lock(&self.held);
        let serving = &held.serving;
        (serving.number > 0).then(|| TargetStatus {
            app: self.app.clone(),
            target: self.target.clone(),
            release: serving.number,
            url: serving.url.clone(),
            processes: serving
                .processes
                .iter()
                .map(|process| status_of(process))
                .chain(serving.crons.iter().map(Cron::status))
                .chain(held.canary.iter().flat_map(|canary| canary.web.iter().map(|process| status_of(process))))
                .collect(),
            canary: held.canary.as_ref().map(|canary| canary.status()),
            until: serving.until,
        })
    }
}

/// Stops processes side by side, and waits until nothing of them is left.
pub(super) async fn stop_all(processes: &[Arc<Process>]) {
    end_all(processes, |_| false).await;
}

/// The same, where some have nothing to finish.
pub(super) async fn end_all(processes: &[Arc<Process>], has_nothing: impl Fn(&Slot) -> bool) {
    let ending = |process: &Arc<Process>| {
        let (process, kills) = (Arc::clone(process), has_nothing(&process.slot));
        tokio::spawn(async move { if kills { process.kill().await } else { process.stop().await } })
    };
    let ending: Vec<_> = processes.iter().map(ending).collect();
    for ended in ending {
        let _ = ended.await;
    }
}

fn status_of(process: &Process) -> ProcessStatus {
    let status = process.status();
    let usage = process.shim().filter(|_| status.state == ProcessState::Running).and_then(usage::of_program);
    ProcessStatus {
        name: process.slot.name.clone(),
        instance: process.slot.instance,
        state: status.state,
        since: status.since,
        restarts: status.restarts,
        release: process.number,
        cpu: usage.map(|usage| usage.cpu),
        memory: usage.map(|usage| usage.memory),
        out_of_memory: status.starved,
    }
}
