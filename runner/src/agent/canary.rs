//! A release that some of the clients are given: until somebody gives it to all of them or takes it back, or until it is seen to do
//! worse than what the others are answered by, and is taken back by the agent. What serves is left alone meanwhile. Knows nothing of
//! how clients are chosen, and of what is worse.

use std::sync::Arc;
use std::time::Duration;

use super::deploy;
use super::front::{Counts, Listener, Trial, Upstream};
use super::log;
use super::process::{Process, WEB};
use super::protocol::{Answer, Answered, CanaryStatus, CanaryWish, Failure, ProcessState, Say};
use super::public::Domains;
use super::root::Root;
use super::running::{Running, stop_all};
use super::{Agent, DRAIN};
use crate::release::{Deed, Ending, Portion, Release, Stage, Target, Who};

/// How often it is looked how it does.
const LOOK: Duration = Duration::from_secs(1);

/// A release that some of the clients are given.
pub(super) struct Canary {
    pub(super) release: Release,
    pub(super) root: Arc<Root>,
    /// Those that answer requests; the others are started once it is given to all.
    pub(super) web: Vec<Arc<Process>>,
    /// What it listens at once it is given to all.
    pub(super) front: Arc<Listener>,
    pub(super) domains: Domains,
    pub(super) url: String,
    pub(super) trial: Arc<Trial>,
}

impl Canary {
    /// A release whose web processes are there, for a part of the clients.
    pub(super) async fn new(
        agent: &Agent,
        (release, root): (Release, Arc<Root>),
        web: Vec<Arc<Process>>,
        (front, domains, url): (Arc<Listener>, Domains, String),
        portion: Portion,
    ) -> Self {
        let assets = agent.assets(&root, &release).await;
        let ports = web.iter().map(|process| process.port);
        let upstream = Upstream::new(ports, assets, &root.settings);
        let trial = Trial::new(release.number, portion, upstream);
        Self { release, root, web, front, domains, url, trial }
    }

    pub(super) fn status(&self) -> CanaryStatus {
        let [old, new] = self.trial.counts().map(|counts| answered(&counts));
        CanaryStatus { release: self.release.number, portion: self.trial.portion(), new, old }
    }

    /// Why it is to be taken back, if it is.
    fn verdict(&self) -> Option<String> {
        let is_lost = |process: &&Arc<Process>| process.status().state == ProcessState::CrashLooping;
        let lost = self.web.iter().find(is_lost).map(|process| format!("its process `{}` keeps ending", process.slot));
        lost.or_else(|| self.trial.verdict())
    }
}

fn answered(counts: &Counts) -> Answered {
    Answered { answers: counts.answers, errors: counts.errors, within: counts.slow() }
}

/// Why a target cannot be changed otherwise for now, if it cannot.
pub(super) fn refuse_others(running: &Running) -> Result<(), Failure> {
    let Some(canary) = running.canary() else { return Ok(()) };
    let (number, target) = (canary.release.number, &running.target);
    Err(Failure::usage(format!("release {number} of `{target}` is given to {} of the clients", canary.trial.portion()))
        .hint(format!("`pipe canary {target} --finish` gives it to all, and `--abort` takes it back")))
}

/// Does what somebody wants to become of it.
pub(super) async fn change(
    agent: &Arc<Agent>,
    running: &Running,
    (wish, who): (CanaryWish, &Who),
    say: &Say,
) -> Result<Answer, Failure> {
    let Some(canary) = running.canary() else {
        let none = format!("no release of `{}` is given to a part of the clients", running.target);
        return Err(Failure::usage(none).hint("`pipe release` and `pipe promote` do that with `--canary 10%`"));
    };
    let number = canary.release.number;
    match wish {
        CanaryWish::Portion(portion) => {
            let mut release = canary.release.clone();
            agent.history.set_canary(&mut release, portion).map_err(|error| Failure::of(&error))?;
            canary.trial.set_portion(portion);
            Ok(Answer::Canary { number, portion, url: canary.url.clone() })
        }
        CanaryWish::Abort => {
            if let Some(ending) = take_back(agent, running, &format!("taken back by {}", who.name)) {
                tokio::spawn(ending);
            }
            Ok(Answer::TakenBack { number })
        }
        CanaryWish::Finish => {
            deploy::finish(agent, running, &canary, say.clone()).await?;
            Ok(Answer::Released { number, url: canary.url.clone() })
        }
    }
}

/// Looks how a canary does, and takes it back where that is worse.
pub(super) fn watch(agent: &Arc<Agent>, target: &Target, number: u64) {
    let (agent, running) = (Arc::clone(agent), agent.running(&target.app, &target.name));
    let is_it = move |canary: &Arc<Canary>| canary.release.number == number;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(canary) = running.canary().filter(is_it) else { return };
            if canary.verdict().is_none() {
                continue;
            }
            let _changes = agent.changes.read().await;
            let _turn = running.turn("the agent, which takes a canary back", None).await;
            // Somebody may have given it to all meanwhile.
            if let Some(why) = running.canary().filter(is_it).and_then(|canary| canary.verdict())
                && let Some(ending) = take_back(&agent, &running, &format!("taken back: {why}"))
            {
                log::note(format_args!("release {number} of {}/{}: taken back: {why}", running.app, running.target));
                let deed = Deed::of(&running.app, &running.target, format!("take back: {why}"));
                agent.audit(&Who::agent(), &Deed { release: Some(number), ..deed }, &Ending::Done);
                tokio::spawn(ending);
                return;
            }
        }
    });
}

/// Gives nobody to a target's canary any more; what is given back ends its processes, once they have answered what they have.
pub(super) fn take_back(
    agent: &Arc<Agent>,
    running: &Running,
    why: &str,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    let canary = running.end_canary()?;
    let mut release = canary.release.clone();
    if let Err(error) = agent.history.advance(&mut release, Stage::Failed, Some(why)) {
        log::note(&error);
    }
    let agent = Arc::clone(agent);
    Some(async move {
        tokio::join!(canary.trial.upstream.drained(), agent.alone(DRAIN));
        stop_all(&canary.web).await;
        canary.root.written.remove(canary.release.number);
    })
}

impl Agent {
    /// Goes on with a canary that an earlier agent had.
    pub(super) async fn resume_canary(
        self: &Arc<Self>,
        release: &Release,
        records: &mut Vec<crate::release::ProcessRecord>,
    ) -> Result<(), Failure> {
        let running = self.running(&release.target.app, &release.target.name);
        let portion =
            release.canary.ok_or_else(|| Failure::new("it is not known for how many of the clients it is"))?;
        let (account, root) = self.reopen(&running, release).await?;
        let front = running.front(&self.listeners, account.address).await?;
        let domains = self.open_domains(&release.target, &running.current).await?;
        let web = self.take_up(&root, release, records, |slot| slot.name == WEB)?;
        let url = self.url_of(&release.target, account.address, &domains);
        let canary = Canary::new(self, (release.clone(), root), web, (front, domains, url), portion).await;
        if !running.try_out(canary) {
            return Err(Failure::new("nothing serves the other clients"));
        }
        watch(self, &release.target, release.number);
        Ok(())
    }
}
