//! A release on its way: checked, migrated, started, healthy, switched, drained; or undone at any point before the switch.
//!
//! Each stage is in the journal before its work begins. What has been started is known outside of the work itself, so that
//! the work can be dropped at any moment and taken back.

mod hidden;
mod migrations;
mod others;
mod raised;
mod refuse;
mod remarks;
mod remedy;
mod waiting;

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::account::{self, Account};
use super::canary::{self, Canary};
use super::front::{Listener, Upstream};
use super::health::{self, Healthy, Unhealthy};
use super::instance::Exit;
use super::listening;
use super::log::{self, Follower};
use super::preflight;
use super::process::{Process, RELEASE, Slot, WEB};
use super::protocol::{Answer, Failure, Order, Progress, Say, Wish};
use super::public::{Domains, refuse_unreadable_certificates};
use super::root::Root;
use super::running::{Running, Serving, end_all, stop_all};
use super::wanted::{Wanted, wanted};
use super::{Agent, DRAIN, EARLIER_ASSETS, lock, starved};
use crate::diagnostic::quoted;
use crate::release::{How, Portion, Release, Stage, Target};
use crate::slug::{self, Change};
use others::Others;

/// Which of the release commands, as logs have it, ask Django what it thinks, and what it raises on a page; how long each may
/// take, and how many lines it may say.
const PREFLIGHT: u32 = 2;
const RAISED: u32 = 3;
const PATIENCE: Duration = Duration::from_mins(1);
const LONGEST_ANSWER: usize = 2000;

/// How many of the last lines of a process are shown when it fails.
const SHOWN_LINES: usize = 60;

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
    let Some(wanted) = wanted(&agent.history, order)? else { return Ok(Answer::Kept) };
    if canary.is_some() && !running.serves() {
        return Err(Failure::usage(format!("`{}` serves nobody whom a canary could be held against", running.target))
            .hint("release to all of its clients first: without `--canary`"));
    }
    if let Some(number) = wanted.served_by(&agent.history)?.filter(|number| running.is_whole(*number)) {
        let Target { app, name, .. } = &wanted.target;
        agent.history.set_failure(app, name, number, None).map_err(|error| Failure::of(&error))?;
        return Ok(Answer::Unchanged { number, url: running.url() });
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
    if let How::Scale { formation } = &how {
        refuse::unknown_processes(&root, formation.counts().map(|(process, _)| process))?;
    }
    if canary.is_some() && !root.serves() {
        return Err(Failure::usage("the slug has no process `web` that clients could be given to")
            .hint("release it without `--canary`"));
    }
    refuse::cron_of_other_names(&root, &target.name)?;
    refuse::missing_environment(&root, &target.name)?;
    refuse::data_for_static(&root, &target.name)?;
    if target.settings.preflight {
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

    /// Tells of files that processes do not see. What cannot be found out about them is no reason not to go on.
    fn tell_of_hidden_files(&self) {
        let release = lock(&self.release).clone();
        let serving = self.agent.history.current(&release.target.app, &release.target.name).ok().flatten();
        for told in hidden::of_new(&self.agent.store, serving.as_ref(), &release).unwrap_or_default() {
            let _ = self.say.send(told);
        }
    }

    /// Tells of migrations that somebody should know of before they run, or that stay. What cannot be found out about them is no
    /// reason not to go on.
    fn tell_of_migrations(&self) {
        let Some((serving, changes)) = self.migrations() else { return };
        let release = lock(&self.release).clone();
        let stay = migrations::that_stay(&release.target.name, &changes);
        let applied = self.applied_since(&serving, &release);
        let new = migrations::of_new(&self.agent.store, &release.slug.tree, self.brought(&changes), &applied);
        for told in stay.into_iter().chain(new.unwrap_or_default()) {
            let _ = self.say.send(told);
        }
    }

    /// What serves, and how the migrations of this release differ from its.
    fn migrations(&self) -> Option<(Release, Vec<Change>)> {
        let release = lock(&self.release).clone();
        let serving = self.agent.history.current(&release.target.app, &release.target.name).ok()??;
        let is_other = serving.slug != release.slug;
        let difference = is_other.then(|| slug::diff(&self.agent.store, &serving.slug.tree, &release.slug.tree).ok());
        Some((serving, difference??.migrations))
    }

    /// Those of them that this release may apply.
    fn brought<'a>(&self, changes: &'a [Change]) -> &'a [Change] {
        let brings = !matches!(self.how, How::Rollback { .. }) && !self.release_commands().is_empty();
        if brings { changes } else { &[] }
    }

    /// The migrations that releases of the same variables, and so of the same database, have applied since and told of, though they
    /// came to nothing.
    fn applied_since(&self, serving: &Release, release: &Release) -> Vec<String> {
        let Target { app, name, settings } = &release.target;
        let since = self.agent.history.releases(app, name).unwrap_or_default().into_iter().filter(|other| {
            let is_between = serving.number < other.number && other.number < release.number;
            is_between && other.config == release.config && other.target.settings.env == settings.env
        });
        let logs = since.map(|other| self.root.log(other.number, &Slot::first(RELEASE)));
        logs.flat_map(|log| log::tail(&log, LONGEST_ANSWER))
            .filter_map(|line| migrations::applied(log::text(&line)).map(str::to_owned))
            .collect()
    }

    /// Has Django say what it thinks of a slug that the target has not run yet.
    async fn ask_django(&self) -> Result<(), Failure> {
        if !self.root.settings.preflight || !self.root.is_django() {
            return Ok(());
        }
        let release = lock(&self.release).clone();
        let releases = self.agent.history.releases(&release.target.app, &release.target.name);
        let earlier: Vec<Release> = releases.map_err(|error| Failure::of(&error))?;
        if earlier.iter().any(|earlier| earlier.slug == release.slug && earlier.stage.is_switched()) {
            return Ok(());
        }
        let slot = self.ask(PREFLIGHT, &preflight::command()).await;
        let answer = |number| {
            let lines = log::tail(&self.root.log(number, &slot), LONGEST_ANSWER);
            lines.iter().map(|line| log::text(line).to_owned()).collect::<Vec<_>>()
        };
        let numbers = earlier.iter().rev().map(|earlier| earlier.number).filter(|number| *number < self.number);
        let before = numbers.map(answer).find(|answer| !answer.is_empty()).unwrap_or_default();
        let has_tls = release.target.settings.tls.is_some();
        for remark in preflight::judge(&answer(self.number), &before, has_tls) {
            let _ = self.say.send(remark);
        }
        Ok(())
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
                let was_started = !matches!(exit, Exit::NotStarted { .. });
                let hidden = self.hidden_from(&exit, failure.output.as_deref());
                let output = failure.output.unwrap_or_default();
                let half_way = || was_started.then(|| remedy::half_way(command, &output)).flatten();
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
            let host = hosts.first().map_or("localhost", String::as_str);
            let outcome = tokio::select! {
                outcome = health::until_healthy(&process, path, &hosts) => outcome,
                never = waiting::tell(&process, path, host, written, &self.say) => match never {},
            };
            match outcome {
                Ok(healthy) => {
                    if accepted.is_none() {
                        let (shim, port) = (process.shim(), process.port);
                        let look = move || listening::in_public(shim?, port);
                        let public = tokio::task::spawn_blocking(look).await.ok().flatten();
                        let public = public.map(|address| remarks::past_the_front(&process.slot, address));
                        for remark in remarks::remarks(&healthy).into_iter().chain(public) {
                            let _ = self.say.send(remark);
                        }
                    }
                    accepted.get_or_insert(healthy.host);
                }
                Err(Unhealthy::Ended(exit)) => return Err(self.failure(&what, &process.slot, &exit)),
                Err(Unhealthy::Error(page)) => return Err(self.error_page(path, &process.slot, &page).await),
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
                    return Err(self
                        .unhealthy(&process.slot, format!("{what} runs, and does not answer `GET {path}`"))
                        .hint("it has to listen on the port that is in `$PORT`"));
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

    fn started(&self) -> Vec<Arc<Process>> {
        lock(&self.started).clone()
    }

    fn failure(&self, what: &str, process: &Slot, exit: &Exit) -> Failure {
        let failure = ended(&self.root.log(self.number, process), what, exit);
        let output = failure.output.as_deref();
        let hint = self.hidden_from(exit, output).or_else(|| self.dropped(output?)).or(failure.hint);
        Failure { hint, ..failure }
    }

    fn unhealthy(&self, process: &Slot, message: String) -> Failure {
        let output = self.tail(process);
        Failure { hint: output.as_deref().and_then(|output| self.remedy(output)), output, ..Failure::new(message) }
    }

    /// What to do about what a process has written that does not come up.
    fn remedy(&self, output: &str) -> Option<String> {
        self.hidden(output).or_else(|| self.dropped(output)).or_else(|| remedy::remedy(output))
    }

    /// What to do where a table is missing that a migration of this release has taken away.
    fn dropped(&self, output: &str) -> Option<String> {
        let table = remedy::missing_table(remedy::known(output)?)?;
        let (_, changes) = self.migrations()?;
        let slug = lock(&self.release).slug.tree;
        migrations::that_dropped(&self.agent.store, &slug, self.brought(&changes), table).ok()?
    }

    /// What to do where files are missing that the target hides.
    fn hidden(&self, output: &str) -> Option<String> {
        hidden::remedy(&self.agent.store, &lock(&self.release), output)
    }

    /// The same of a process that has ended; one that something else has ended lacks no files.
    fn hidden_from(&self, exit: &Exit, output: Option<&str>) -> Option<String> {
        matches!(exit, Exit::Code(_)).then(|| self.hidden(output.unwrap_or_default())).flatten()
    }

    /// A page that is an error, and what is behind it: what the application has written, or else what Django says when it is asked.
    async fn error_page(&self, path: &str, process: &Slot, page: &Healthy) -> Failure {
        let Healthy { path: end, status, .. } = page;
        let leads = if end == path { String::new() } else { format!(" leads to `{end}`, which") };
        let failure = self.unhealthy(process, format!("`GET {path}`{leads} is answered with {status}"));
        let says_why = |output: &str| raised::is_traceback(output) || remedy::known(output).is_some();
        if failure.output.as_deref().is_some_and(says_why) {
            return failure;
        }
        match self.raised(page).await {
            Some(output) => {
                let hint = self.remedy(&output).unwrap_or_else(remedy::asked_again);
                Failure { output: Some(output), ..failure.hint(hint) }
            }
            None if failure.hint.is_some() => failure,
            None => failure.hint(remedy::silent()),
        }
    }

    /// What Django raises when it is asked for a page in a process of its own.
    async fn raised(&self, page: &Healthy) -> Option<String> {
        if !self.root.settings.preflight || !self.root.is_django() {
            return None;
        }
        let slot = self.ask(RAISED, &raised::command(page)).await;
        let written = self.last_lines(&slot, LONGEST_ANSWER);
        written.is_some_and(|output| raised::is_traceback(&output)).then(|| self.tail(&slot)).flatten()
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

    fn tail(&self, process: &Slot) -> Option<String> {
        self.last_lines(process, SHOWN_LINES)
    }

    fn last_lines(&self, process: &Slot, most: usize) -> Option<String> {
        last_lines(&self.root.log(self.number, process), most)
    }

    /// Gives some of the clients to the new release; what serves goes on as it was.
    async fn try_out(
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
    async fn switch(mut self, running: &Running, front: Arc<Listener>, url: String) -> Result<Others, Failure> {
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
    async fn rescale(self, running: &Running) -> Result<Others, Failure> {
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

/// That a process has ended which should not have, with what it wrote.
fn ended(log: &Path, what: &str, exit: &Exit) -> Failure {
    let output = last_lines(log, SHOWN_LINES);
    let hint = match exit {
        Exit::NotStarted { hint, .. } => hint.clone(),
        Exit::OutOfMemory => Some(starved::REMEDY.to_owned()),
        _ => output.as_deref().and_then(remedy::remedy),
    };
    Failure { hint, output, ..Failure::new(format!("{what} {exit}")) }
}

/// The last lines of a log, where it has any.
fn last_lines(path: &Path, most: usize) -> Option<String> {
    let lines = log::tail(path, most);
    (!lines.is_empty()).then(|| lines.iter().map(|line| log::text(line)).collect::<Vec<_>>().join("\n"))
}
