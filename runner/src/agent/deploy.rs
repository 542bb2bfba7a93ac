//! A release on its way: checked, migrated, started, healthy, switched, drained; or undone at any point before the switch.
//!
//! Each stage is in the journal before its work begins. What has been started is known outside of the work itself, so that
//! the work can be dropped at any moment and taken back.

mod hidden;
mod migrations;
mod names;
mod others;
mod raised;
mod refuse;
mod remarks;
mod remedy;
mod switch;
mod told;
mod waiting;
mod why;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::account::{self, Account};
use super::canary::{self, Canary};
use super::front::Upstream;
use super::health::{self, Unhealthy};
use super::instance::Exit;
use super::listening;
use super::log::{self, Follower};
use super::process::{Process, RELEASE, Slot, WEB};
use super::protocol::{Answer, Failure, Order, Progress, Say, Wish};
use super::public::{Domains, refuse_unreadable_certificates};
use super::root::Root;
use super::running::{Running, end_all};
use super::wanted::{Wanted, wanted};
use super::{Agent, lock};
use crate::diagnostic::quoted;
use crate::pipeline::duration_text;
use crate::release::{How, Release, Stage, Target};

/// How long Django may take to say what it is asked, and how many lines it may say.
const PATIENCE: Duration = Duration::from_mins(1);
const LONGEST_ANSWER: usize = 2000;

/// How long processes of a slug that answers no requests must live to count as up.
const ALIVE: Duration = Duration::from_secs(2);

/// A release that is being made, and all that has been started for it.
struct Deploy<'a> {
    agent: &'a Arc<Agent>,
    root: Arc<Root>,
    release: Mutex<Release>,
    number: u64,
    how: How,
    /// The processes that are to be started, each with its command: all, but where a target is scaled.
    missing: Vec<(Slot, String)>,
    started: Mutex<Vec<Arc<Process>>>,
    /// Where a web process of what serves now listens, where there is one.
    serving: Option<u16>,
    /// Where its requests go already, if some of the clients were given it.
    proven: Option<Arc<Upstream>>,
    say: Say,
}

/// Makes a release, unless what was ordered changes nothing that runs. `gone` ends when nobody waits for it any more: before
/// the switch that takes it back.
pub(super) async fn deploy(
    agent: &Arc<Agent>,
    running: &Running,
    order: &Order,
    say: Say,
    gone: impl Future<Output = ()>,
) -> Result<Answer, Failure> {
    tokio::pin!(gone);
    let _turn = tokio::select! {
        turn = running.turn(&order.who.name, Some(&say)) => turn,
        () = &mut gone => return Err(Failure::cancelled()),
    };
    let mut outcome = carry_out(agent, running, order, say, gone).await;
    if let (Err(failure), Wish::Config(change)) = (&mut outcome, &order.wish) {
        agent.history.forget_refused_config(&order.app, &order.target).map_err(|error| Failure::of(&error))?;
        if failure.number.is_some() {
            failure.hint = Some(remedy::of_change(change, failure.hint.as_deref()));
        }
    }
    outcome
}

async fn carry_out(
    agent: &Arc<Agent>,
    running: &Running,
    order: &Order,
    say: Say,
    mut gone: Pin<&mut impl Future<Output = ()>>,
) -> Result<Answer, Failure> {
    if let Wish::Canary(wish) = &order.wish {
        return canary::change(agent, running, (*wish, &order.who), &say).await;
    }
    canary::refuse_others(running)?;
    let canary = match &order.wish {
        Wish::Slug { canary, .. } => *canary,
        _ => None,
    };
    if let Wish::Config(_) = order.wish {
        // It is written down before anything else is known.
        refuse::little_room(agent, &say)?;
    }
    let Some(wanted) = wanted(&agent.history, order)? else { return Ok(Answer::Kept) };
    refuse::sooner_end(agent, &wanted.target, &order.who, &say)?;
    if canary.is_some() && !running.serves() {
        return Err(Failure::usage(format!("`{}` serves nobody whom a canary could be held against", running.target))
            .hint("release to all of its clients first: without `--canary`"));
    }
    if let Some(number) = wanted.served_by(&agent.history)?.filter(|number| running.is_whole(*number)) {
        let Target { app, name, .. } = &wanted.target;
        agent.history.set_failure(app, name, number, None).map_err(|error| Failure::of(&error))?;
        let answers = wanted.contents.formation.count(WEB) > 0;
        return Ok(Answer::Unchanged { number, url: if answers { running.url() } else { String::new() } });
    }
    let Wanted { target, contents, how } = wanted;
    let scales = matches!(how, How::Scale { .. });
    let account = account::account(&agent.history, &target, running.address())?;
    // At once, so that nobody else takes the port meanwhile.
    let front = running.front(&agent.listeners, account.address).await?;
    let root = tokio::select! {
        root = agent.root(&target, &contents, account, !scales) => Arc::new(root?),
        () = &mut gone => return Err(Failure::cancelled()),
    };
    for damage in &root.arrived.mended {
        let hint = "what serves may still run on it: the disk or another program has changed it".to_owned();
        let _ = say.send(Progress::Warning { message: format!("{damage}; it was made anew"), hint: Some(hint) });
    }
    if root.has_drifted {
        let _ = say.send(remarks::drifted());
    }
    refuse::unfit(&root, &target.name, &how, canary.is_some())?;
    refuse::data_split(agent, &root, &target, &say)?;
    // Whoever goes back needs that most on a disk that is full, and what he goes back to is there.
    if target.settings.preflight && !matches!(how, How::Config { .. } | How::Rollback { .. }) {
        refuse::little_room(agent, &say)?;
    }
    front.accept();
    let domains = agent.open_domains(&target, &running.current).await?;
    domains.accept();
    refuse_unreadable_certificates(&domains, &target.settings)?;
    let release =
        agent.history.begin(&target, &contents, &how, &order.who.name).map_err(|error| Failure::of(&error))?;
    let number = release.number;
    log::prune(&root.logs, number, &running.releases());
    let _ = say.send(Progress::Started { release: number, slug: contents.slug.id });
    let mut missing = root.slots();
    let has_web = missing.iter().any(|(slot, _)| slot.name == WEB);
    if scales {
        missing.retain(|(slot, _)| !running.has(slot));
    }
    let deploy = Deploy {
        agent,
        root,
        release: Mutex::new(release),
        number,
        how,
        missing,
        started: Mutex::default(),
        serving: running.web_port(),
        proven: None,
        say,
    };
    let outcome = tokio::select! {
        outcome = deploy.bring_up(account, &domains) => outcome,
        () = gone => Err(Failure::cancelled()),
    };
    match outcome {
        Ok(_) if scales => {
            let url = if has_web { running.url() } else { String::new() };
            let others = deploy.rescale(running).await?;
            others.stay_alive(agent, &target, &url).await?;
            Ok(Answer::Released { number, url })
        }
        Ok(host) => {
            agent.history.set_host(&target.app, &target.name, host.as_deref()).map_err(|error| Failure::of(&error))?;
            let url = agent.url_of(&target, account.address, &domains);
            if let Some(portion) = canary {
                deploy.try_out(running, (front, domains, url.clone()), portion).await?;
                return Ok(Answer::Canary { number, portion, url });
            }
            let others = deploy.switch(running, front, url.clone()).await?;
            agent.put_domains(&target, &domains);
            others.stay_alive(agent, &target, &url).await?;
            Ok(Answer::Released { number, url: if has_web { url } else { String::new() } })
        }
        Err(failure) => {
            deploy.undo(&failure).await;
            Err(Failure { number: Some(number), ..failure })
        }
    }
}

/// Gives all clients to a release that some of them were given. Where that cannot be written down, none of them is.
pub(super) async fn finish(
    agent: &Arc<Agent>,
    running: &Running,
    canary: &Arc<Canary>,
    say: Say,
) -> Result<(), Failure> {
    let release = canary.release.clone();
    let (number, how, target) = (release.number, release.how.clone(), release.target.clone());
    let deploy = Deploy {
        agent,
        root: Arc::clone(&canary.root),
        release: Mutex::new(release),
        number,
        how,
        missing: canary.root.slots(),
        started: Mutex::new(canary.web.clone()),
        serving: None,
        proven: Some(Arc::clone(&canary.trial.upstream)),
        say,
    };
    let others = match deploy.switch(running, Arc::clone(&canary.front), canary.url.clone()).await {
        Ok(others) => others,
        Err(failure) => {
            if let Some(ending) = canary::take_back(agent, running, &format!("taken back: {}", failure.message)) {
                ending.await;
            }
            return Err(failure);
        }
    };
    agent.put_domains(&target, &canary.domains);
    others.stay_alive(agent, &target, &canary.url).await
}

impl Deploy<'_> {
    /// Everything before the switch; gives the host name that was accepted.
    async fn bring_up(&self, account: Account, domains: &Domains) -> Result<Option<String>, Failure> {
        self.root.prepare().map_err(|error| Failure::new(format!("cannot make the target's directories: {error}")))?;
        self.advance(Stage::ReleasePhase)?;
        self.tell_of_hidden_files();
        self.tell_of_static_files();
        self.tell_of_migrations();
        for command in self.release_commands() {
            self.run_release_command(&command).await?;
        }
        self.advance(Stage::Starting)?;
        let (host, ()) = tokio::try_join!(self.start_all(account), self.ask_django())?;
        self.advance(Stage::Healthy)?;
        self.agent.certify(domains, &self.say).await;
        Ok(host)
    }

    /// Starts what has to be up before the switch, and waits for that; gives the host name that was accepted.
    async fn start_all(&self, account: Account) -> Result<Option<String>, Failure> {
        if self.root.serves() {
            return self.start_web(account).await;
        }
        self.start_others()?;
        self.stay_alive().await?;
        Ok(None)
    }

    fn advance(&self, to: Stage) -> Result<(), Failure> {
        self.journal(to, None)?;
        let _ = self.say.send(Progress::Stage(to));
        Ok(())
    }

    fn journal(&self, to: Stage, failure: Option<&str>) -> Result<(), Failure> {
        let mut release = lock(&self.release);
        self.agent.history.advance(&mut release, to, failure).map_err(|error| Failure::of(&error))
    }

    fn release_commands(&self) -> Vec<String> {
        let settings = &self.root.settings;
        match &self.how {
            // What they have done to data stays, and what ran before knows nothing of undoing it.
            How::Rollback { .. } | How::Scale { .. } => Vec::new(),
            _ if settings.release_commands.is_empty() => {
                self.root.arrived.manifest.release.clone().into_iter().collect()
            }
            _ => settings.release_commands.clone(),
        }
    }

    async fn run_release_command(&self, command: &str) -> Result<(), Failure> {
        let _ = self.say.send(Progress::Output(format!("$ {command}")));
        let slot = Slot::first(RELEASE);
        let mut follower = Follower::from_end(&self.root.log(self.number, &slot));
        let process = self.start(slot.clone(), command, 0);
        let limit = self.root.settings.limits.release;
        let late = tokio::time::sleep(limit);
        tokio::pin!(late);
        let exit = loop {
            let exit = tokio::select! {
                exit = process.ended() => Some(exit.unwrap_or(Exit::Lost)),
                () = tokio::time::sleep(Duration::from_millis(100)) => None,
                () = &mut late => {
                    process.stop().await;
                    return Err(Failure::new(format!(
                        "release command `{command}` took longer than its limit of {} s, and was stopped",
                        limit.as_secs()
                    ))
                    .hint(
                        "it may wait for what another session of the database holds; or give it longer: `release` in the \
                         target's `limits`",
                    ));
                }
            };
            for line in follower.read().unwrap_or_default() {
                let _ = self.say.send(Progress::Output(log::text(&line).to_owned()));
            }
            if let Some(exit) = exit {
                break exit;
            }
        };
        match exit {
            Exit::Code(0) => {
                for database in process.lost() {
                    let _ = self.say.send(remarks::lost_database(command, &database));
                }
                Ok(())
            }
            // Its output has been shown as it came.
            exit => {
                let failure = self.failure(&format!("release command `{command}`"), &slot, &exit);
                let hidden = self.hidden_from(&exit, failure.output.as_deref());
                let output = failure.output.unwrap_or_default();
                let half_way = || remedy::half_way(command, &exit, &output);
                Err(Failure { output: None, hint: hidden.or_else(half_way).or(failure.hint), ..failure })
            }
        }
    }

    /// Starts the web processes side by side, and waits until each of them answers.
    async fn start_web(&self, account: Account) -> Result<Option<String>, Failure> {
        let mut processes = Vec::new();
        for (slot, command) in self.missing.iter().filter(|(slot, _)| slot.name == WEB) {
            processes.push(self.start(slot.clone(), command, self.agent.free_port()?));
        }
        let path = self.root.health();
        let hosts = self.root.hosts(account.address);
        let mut accepted = None;
        for process in processes {
            let what = format!("process `{}`", process.slot);
            let written = || self.last_lines(&process.slot, 1);
            let outcome = tokio::select! {
                outcome = health::until_healthy(&process, path, &hosts, self.root.settings.limits.start) => outcome,
                never = waiting::tell(&process, path, &hosts, written, &self.say) => match never {},
            };
            match outcome {
                Ok(healthy) => {
                    if let Some(failure) = self.refuses_all(&process.slot, &healthy, &hosts).await {
                        return Err(failure);
                    }
                    if accepted.is_none() {
                        let (shim, port) = (process.shim(), process.port);
                        let look = move || listening::in_public(shim?, port);
                        let public = tokio::task::spawn_blocking(look).await.ok().flatten();
                        let public = public.map(|address| remarks::past_the_front(&process.slot, address));
                        let other = self.other_name(&process, &healthy).await;
                        for remark in remarks::remarks(&healthy, other.as_ref()).into_iter().chain(public) {
                            let _ = self.say.send(remark);
                        }
                    }
                    accepted.get_or_insert(healthy.host);
                }
                Err(Unhealthy::Ended(exit)) => return Err(self.failure(&what, &process.slot, &exit)),
                Err(Unhealthy::Error(page)) => return Err(self.error_page(path, &process, &page).await),
                Err(Unhealthy::Elsewhere(addresses)) => {
                    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                    let message = format!(
                        "{what} listens on {}, and not on 127.0.0.1:{}",
                        quoted(addresses.iter().map(String::as_str)),
                        process.port
                    );
                    return Err(self
                        .unhealthy(&process.slot, message)
                        .hint("it has to listen on the port that is in `$PORT`, such as by `--bind 127.0.0.1:$PORT`"));
                }
                Err(Unhealthy::Restarting) => {
                    let failure =
                        self.unhealthy(&process.slot, format!("{what} starts workers that end again and again"));
                    let hint = failure.hint.unwrap_or_else(|| {
                        "what they have written says why; the application has to load without an error".to_owned()
                    });
                    return Err(Failure { hint: Some(hint), ..failure });
                }
                Err(Unhealthy::Silent) => {
                    let hint = if health::listens(process.port).await {
                        "it takes requests: look at what that page waits for, such as a database or a service that does not answer"
                    } else {
                        "it has to listen on the port that is in `$PORT`"
                    };
                    let patience = duration_text(self.root.settings.limits.start);
                    let hint = format!(
                        "{hint}; if it is only slow, `start` in the target's `limits` gives it longer than {patience}"
                    );
                    let message = format!("{what} runs, and does not answer `GET {path}`");
                    return Err(self.unhealthy(&process.slot, message).hint(hint));
                }
            }
        }
        Ok(accepted)
    }

    /// Starts all other processes.
    fn start_others(&self) -> Result<(), Failure> {
        for (slot, command) in self.missing.iter().filter(|(slot, _)| slot.name != WEB) {
            self.start(slot.clone(), command, self.agent.free_port()?);
        }
        Ok(())
    }

    async fn stay_alive(&self) -> Result<(), Failure> {
        tokio::time::sleep(ALIVE).await;
        for process in self.started() {
            if let Some(exit) = process.status().exit
                && process.slot.name != RELEASE
            {
                return Err(self.failure(&format!("process `{}`", process.slot), &process.slot, &exit));
            }
        }
        Ok(())
    }

    fn start(&self, slot: Slot, command: &str, port: u16) -> Arc<Process> {
        let release = lock(&self.release);
        let process = Arc::new(Process::try_out(self.agent.plan(&self.root, &release, slot, command, port)));
        lock(&self.started).push(Arc::clone(&process));
        process
    }

    /// Runs a program that asks Django something, beside the release commands; it is none of the processes that stay.
    async fn ask(&self, instance: u32, command: &str) -> Slot {
        let slot = Slot { name: RELEASE.to_owned(), instance };
        let process = self.start(slot.clone(), command, 0);
        if tokio::time::timeout(PATIENCE, process.ended()).await.is_err() {
            process.stop().await;
        }
        slot
    }

    fn started(&self) -> Vec<Arc<Process>> {
        lock(&self.started).clone()
    }

    /// Leaves nothing of the release but its line in the history.
    async fn undo(&self, failure: &Failure) {
        // First: what has to be stopped may take a while over it.
        let _ = self.say.send(Progress::Stage(Stage::Failed));
        // Nobody has been answered yet, and what only asked Django something is asked no more.
        end_all(&self.started(), |slot| slot.name == WEB || slot.name == RELEASE && slot.instance > 1).await;
        self.root.written.remove(self.number);
        if let Err(failure) = self.journal(Stage::Failed, Some(&failure.message)) {
            log::note(&failure.message);
        }
    }
}
