//! The switch, after which there is only forward: requests go to what has been started, and what served before comes to its end.

use std::sync::{Arc, PoisonError};

use super::super::canary::{self, Canary};
use super::super::front::{Listener, Upstream};
use super::super::log;
use super::super::process::{Process, RELEASE, WEB};
use super::super::protocol::{Failure, Progress};
use super::super::public::Domains;
use super::super::running::{Running, Serving, stop_all};
use super::super::{DRAIN, EARLIER_ASSETS, lock};
use super::Deploy;
use super::others::Others;
use crate::release::{Portion, Stage};

impl Deploy<'_> {
    /// Gives some of the clients to the new release; what serves goes on as it was.
    pub(super) async fn try_out(
        self,
        running: &Running,
        with: (Arc<Listener>, Domains, String),
        portion: Portion,
    ) -> Result<(), Failure> {
        let written = {
            let history = &self.agent.history;
            let written = history.set_canary(&mut lock(&self.release), portion).map_err(|error| Failure::of(&error));
            written.and_then(|()| self.journal(Stage::Canary, None))
        };
        if let Err(failure) = written {
            self.undo(&failure).await;
            return Err(failure);
        }
        let _ = self.say.send(Progress::Stage(Stage::Canary));
        let release = lock(&self.release).clone();
        let (target, number) = (release.target.clone(), release.number);
        let web = self.started_and_kept(|_| true);
        let canary = Canary::new(self.agent, (release, Arc::clone(&self.root)), web, with, portion).await;
        running.try_out(canary);
        canary::watch(self.agent, &target, number);
        Ok(())
    }

    /// Gives the requests to the new release. From here on there is only forward.
    pub(super) async fn switch(
        mut self,
        running: &Running,
        front: Arc<Listener>,
        url: String,
    ) -> Result<Others, Failure> {
        let release = lock(&self.release).clone();
        let proven = self.proven.take();
        let assets = if proven.is_some() { None } else { self.agent.assets(&self.root, &release).await };
        self.mark_switched().await?;
        let (processes, upstream) = if proven.is_some() {
            (self.started(), proven)
        } else {
            let processes = self.started_and_kept(|_| true);
            let ports = processes.iter().filter(|process| process.slot.name == WEB).map(|process| process.port);
            let upstream = self.root.serves().then(|| Upstream::new(ports, assets, &self.root.settings));
            (processes, upstream)
        };
        let crons = self.agent.crons(&self.root, &release, &running.runs, false);
        let until = release.until();
        let old = running.switch(Serving { number: self.number, url, until, upstream, processes, crons }, front);
        let (old_web, old_others): (Vec<_>, Vec<_>) = old.processes.into_iter().partition(|old| old.slot.name == WEB);
        // A scheduler must never run twice, so the old ones end before the new ones begin.
        stop_all(&old_others).await;
        let mut others = Others::new(&self.root, self.number);
        if self.root.serves() {
            self.start_others()?;
            for process in self.started_and_kept(|process| process.slot.name != WEB) {
                others.add(&process);
                running.add(process);
            }
        }
        let (written, first) = (self.root.written.clone(), self.number.saturating_sub(EARLIER_ASSETS as u64));
        let (agent, target) = (Arc::clone(self.agent), release.target);
        self.drain(async move {
            if let Some(upstream) = old.upstream {
                tokio::join!(upstream.drained(), agent.alone(DRAIN));
            }
            stop_all(&old_web).await;
            // Releases that came quickly one after the other drain side by side.
            if let Ok(runs) = agent.history.running(&target) {
                written.remove_before(first, &runs);
            }
        });
        Ok(others)
    }

    /// Adds what was started to what runs, and ends what is too much. From here on there is only forward.
    pub(super) async fn rescale(self, running: &Running) -> Result<Others, Failure> {
        let until = lock(&self.release).until();
        self.mark_switched().await?;
        if self.root.serves() {
            self.start_others()?;
        }
        let mut others = Others::new(&self.root, self.number);
        for process in self.started_and_kept(|_| true) {
            if process.slot.name != WEB {
                others.add(&process);
            }
            running.add(process);
        }
        let surplus = running.rescaled((self.number, until), &self.root.formation);
        let (agent, longest) = (Arc::clone(self.agent), self.root.settings.limits.answer);
        self.drain(async move {
            agent.alone(DRAIN).await;
            for (_, backend) in &surplus {
                if let Some(backend) = backend {
                    backend.drained(longest).await;
                }
            }
            stop_all(&surplus.into_iter().map(|(process, _)| process).collect::<Vec<_>>()).await;
        });
        Ok(others)
    }

    /// Writes down that the release serves; where that fails, what was started for it ends.
    async fn mark_switched(&self) -> Result<(), Failure> {
        if let Err(failure) = self.journal(Stage::Switched, None) {
            // What the journal does not know of, nobody may ask.
            stop_all(&self.started()).await;
            return Err(failure);
        }
        let _ = self.say.send(Progress::Stage(Stage::Switched));
        Ok(())
    }

    /// Ends what served before, which may take a while, and then writes down that the release is done.
    fn drain(self, ending: impl Future<Output = ()> + Send + 'static) {
        let history = Arc::clone(&self.agent.history);
        let mut release = self.release.into_inner().unwrap_or_else(PoisonError::into_inner);
        tokio::spawn(async move {
            ending.await;
            if let Err(error) = history.advance(&mut release, Stage::Drained, None) {
                log::note(&error);
            }
        });
    }

    /// What has been started to stay; from now on it is started again when it ends.
    fn started_and_kept(&self, which: impl Fn(&Process) -> bool) -> Vec<Arc<Process>> {
        let kept = |process: &Arc<Process>| process.slot.name != RELEASE && which(process);
        let processes: Vec<_> = self.started().into_iter().filter(kept).collect();
        for process in &processes {
            process.keep();
            self.root.watch(process);
        }
        processes
    }
}
