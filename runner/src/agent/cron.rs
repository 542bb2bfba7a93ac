//! The cron entries of a target: each is run when it is due, and never while it still runs, be that of an earlier release. Knows
//! nothing of deploys and of requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::instance::Exit;
use super::lock;
use super::log;
use super::log::LogWriter;
use super::process::{Plan, Process};
use super::protocol::{ProcessState, ProcessStatus};
use crate::release::{Entry, History, Target};

/// How late an entry is still run that was due while no agent was there.
const LATE: Duration = Duration::from_mins(10);

/// How often the clock is looked at, which somebody may set.
const LOOK: Duration = Duration::from_secs(15);

/// The runs of a target that have not ended, each by the name of its entry.
#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<BTreeMap<String, Arc<Process>>>>);

/// What is needed to run an entry as often as it is due.
pub(super) struct Work {
    pub(super) history: Arc<History>,
    pub(super) target: Target,
    pub(super) name: String,
    pub(super) entry: Entry,
    pub(super) log: PathBuf,
    pub(super) runs: Runs,
    /// Makes one run.
    pub(super) plan: Box<dyn Fn() -> Plan + Send + Sync>,
}

/// An entry of the release that serves. Without it nothing is run any more; what runs goes on.
pub(super) struct Cron {
    name: String,
    pub(super) number: u64,
    state: watch::Receiver<(ProcessState, SystemTime)>,
    keeping: JoinHandle<()>,
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Runs {
    /// Takes up a run of an earlier agent.
    pub(super) fn adopt(&self, name: &str, run: Process) {
        lock(&self.0).insert(name.to_owned(), Arc::new(run));
    }

    /// Those that have not ended.
    pub(super) fn all(&self) -> Vec<Arc<Process>> {
        let mut runs = lock(&self.0);
        runs.retain(|_, run| run.status().state != ProcessState::Ended);
        runs.values().cloned().collect()
    }

    fn of(&self, name: &str) -> Option<Arc<Process>> {
        lock(&self.0).get(name).filter(|run| run.status().state != ProcessState::Ended).cloned()
    }

    fn begin(&self, name: &str, plan: Plan) -> Arc<Process> {
        let run = Arc::new(Process::try_out(plan));
        lock(&self.0).insert(name.to_owned(), Arc::clone(&run));
        run
    }
}

impl Cron {
    /// Runs an entry whenever it is due from now on; what was due while no agent was there is made up for where that is `late`.
    pub(super) fn keep(work: Work, number: u64, late: bool) -> Self {
        let (sender, state) = watch::channel((ProcessState::Scheduled, SystemTime::now()));
        let name = work.name.clone();
        let now = SystemTime::now();
        let after = if late { work.last_due().map_or(now, |last| last.max(now - LATE)) } else { now };
        Self { name, number, state, keeping: tokio::spawn(work.keep(after, sender)) }
    }

    pub(super) fn status(&self) -> ProcessStatus {
        let (state, since) = *self.state.borrow();
        ProcessStatus {
            name: self.name.clone(),
            instance: 1,
            state,
            since,
            restarts: 0,
            release: self.number,
            cpu: None,
            memory: None,
            out_of_memory: None,
        }
    }
}

impl Work {
    async fn keep(self, mut after: SystemTime, state: watch::Sender<(ProcessState, SystemTime)>) {
        let mut waits = ProcessState::Scheduled;
        loop {
            if let Some(run) = self.runs.of(&self.name) {
                state.send_replace((ProcessState::Running, run.status().since));
                waits = waiting(run.ended().await.as_ref());
            }
            let Some(due) = self.entry.schedule.next(after) else { return };
            state.send_replace((waits, due));
            until(due).await;
            // Somebody else may have begun it in the meantime: an agent before this one.
            if self.runs.of(&self.name).is_none() {
                self.remember(due);
                self.say(&format!("$ {}", self.entry.command));
                let run = self.runs.begin(&self.name, (self.plan)());
                state.send_replace((ProcessState::Running, SystemTime::now()));
                let exit = run.ended().await;
                waits = waiting(exit.as_ref());
                if let Some(exit) = exit.filter(|exit| *exit != Exit::Code(0)) {
                    self.say(&format!("`{}` {exit}", self.entry.command));
                }
            }
            after = SystemTime::now();
            if self.entry.schedule.next(due).is_some_and(|missed| missed <= after) {
                self.say("what was due meanwhile is left out: it runs once at a time");
            }
        }
    }

    fn last_due(&self) -> Option<SystemTime> {
        self.history.last_due(&self.target.app, &self.target.name, &self.name).ok().flatten()
    }

    /// Before it runs: should this agent be killed, it is not run once more for that.
    fn remember(&self, due: SystemTime) {
        if let Err(error) = self.history.set_last_due(&self.target.app, &self.target.name, &self.name, due) {
            log::note(&error);
        }
    }

    /// Writes a line between those of the runs. A log that cannot be written keeps nothing from running.
    fn say(&self, line: &str) {
        if let Ok(mut log) = LogWriter::open(&self.log) {
            let _ = log.write(format!("{line}\n").as_bytes());
        }
    }
}

fn waiting(exit: Option<&Exit>) -> ProcessState {
    if exit == Some(&Exit::Code(0)) { ProcessState::Scheduled } else { ProcessState::Failed }
}

async fn until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
