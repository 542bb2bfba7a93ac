//! The agent: one process a home directory that starts, supervises and fronts the releases of all targets on this machine.
//!
//! ```text
//! pipe run, promote, rollback ── protocol ──▶ server ── deploy ──▶ process ── instance ──▶ pipe shim ── sandbox ──▶ web
//!                                                          │                                                         ▲
//! browser ───────────────────────────────────────────────▶ front ── switched by deploy ──────────────────────────────┘
//! ```
//!
//! It starts by need, and what it knows is in [`crate::release::History`] and in the directories of instances: a new agent
//! takes over what an earlier one has left, whether that ended or was killed; a killed one is started again by its parent. One of
//! another build gives its place, and the connections of its clients, to the next. Unaware of pipelines and of how slugs are built.

mod account;
mod acme;
mod boot;
mod canary;
pub(crate) mod client;
mod cron;
mod deed;
mod deploy;
mod exec;
mod expiry;
mod family;
mod front;
mod handover;
mod health;
mod held;
mod instance;
mod keeper;
mod life;
mod listening;
pub mod log;
mod lost;
mod memory;
mod preflight;
mod process;
pub(crate) mod protocol;
mod public;
mod remove;
mod root;
mod running;
mod server;
mod shim;
mod starved;
mod usage;
mod wanted;
mod watch;
mod written;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::sync::watch::Sender;

pub use boot::{Boot, BootError, on as bring_back, place_program};
pub use exec::{ExecError, Session};

pub(crate) use boot::Told;
pub(crate) use instance::executable;
pub(crate) use process::WEB;

use account::{Account, Ports};
use acme::Acme;
use cron::{Cron, Runs, Work};
use front::{Assets, Collection, Entrance, Listeners, Public, Way};
use process::{Plan, Process, Slot};
use protocol::Failure;
use root::Root;
use running::{Running, Serving};

use crate::event::Fault;
use crate::release::{Contents, Deed, Ending, Entry, History, HistoryError, How, ProcessRecord, Release, Target, Who};
use crate::remote::{self, Follow, Login};
use crate::slug::Manifest;
use crate::store::{Store, StoreError};

/// The tree of a slug that holds collected static files.
const STATIC: &str = "static";

/// From how many other releases static files are served.
const EARLIER_ASSETS: usize = 5;

/// How long requests that never end by themselves go on where what answers them has to: websockets, and events as they happen.
const DRAIN: Duration = Duration::from_secs(30);

/// The agent could not begin its work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directory, its lock or its socket.
    #[error("the agent cannot {doing}")]
    Io {
        /// What it tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The state of targets.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All that an agent holds.
struct Agent {
    home: PathBuf,
    store: Store,
    history: Arc<History>,
    /// Where directories of instances are.
    run: PathBuf,
    targets: Mutex<BTreeMap<(String, String), Arc<Running>>>,
    ports: Mutex<Ports>,
    listeners: Arc<Listeners>,
    /// The front of all domains, and what sees to their certificates.
    public: Public,
    acme: Arc<Acme>,
    /// How many targets are to be served, and cannot be just now.
    coming_back: AtomicUsize,
    /// Held by each change of a target, and by who gives the place of this agent to the next.
    changes: Arc<RwLock<()>>,
    /// Whether no earlier agent is left that may still have requests of what runs.
    is_alone: Sender<bool>,
}

/// What this program is.
pub enum Part {
    /// A part of the agent, which has come to its end.
    Done(ExitCode),
    /// A command.
    Command {
        /// Its words, the program's name among them.
        words: Vec<OsString>,
        /// Who asks, where that is not the user of this process.
        who: Option<Who>,
    },
}

/// What this program is when it was started as a part of the agent: `pipe agent` and, inside of it, `pipe agent-serve` for the
/// home directory that is in `PIPE_HOME`, or `pipe agent-succeed` where another build's is there, `pipe agent-boot`, which is the same where something is to come back after a restart of
/// the machine, `pipe agent-connect`, which stands for its commands on other machines, `pipe agent-person NAME`, which is that and
/// some commands for who comes with a key, or `pipe shim DIRECTORY`. None is for people to type.
pub fn main(args: impl Iterator<Item = OsString>) -> Part {
    let args: Vec<OsString> = args.collect();
    match part(args.iter().cloned()) {
        None => Part::Command { words: args, who: None },
        Some(Ok(None)) => Part::Done(ExitCode::SUCCESS),
        Some(Ok(Some(Follow { words, who }))) => {
            Part::Command { words: words.into_iter().map(OsString::from).collect(), who: Some(who) }
        }
        Some(Err(failure)) => {
            let fault = if failure.usage { Fault::Usage } else { Fault::Environment };
            eprintln!("pipe: {}", failure.in_one());
            Part::Done(ExitCode::from(fault.exit_code()))
        }
    }
}

/// Does what a part of the agent is for; none where the command is none of its parts. A part may have another command followed.
fn part(mut args: impl Iterator<Item = OsString>) -> Option<Result<Option<Follow>, Failure>> {
    let command = args.nth(1)?;
    let outcome = match command.to_str()? {
        "agent" => {
            let how = args.next();
            let home = std::env::var_os("PIPE_HOME")?;
            let kept = match how.as_deref().and_then(OsStr::to_str) {
                Some(keeper::WATCH) => keeper::watch(Path::new(&home)),
                Some(keeper::SUCCEED) => keeper::keep(Path::new(&home), keeper::SUCCEED),
                Some(keeper::APART) => keeper::start_apart(Path::new(&home)),
                _ => keeper::keep(Path::new(&home), keeper::SERVE),
            };
            kept.map_err(|error| Failure::of(&error))
        }
        boot::COMMAND => {
            let target = args.next().and_then(|target| target.into_string().ok());
            let home = std::env::var_os("PIPE_HOME")?;
            boot::run(Path::new(&home), target.as_deref()).map_err(|error| Failure::of(&error))
        }
        keeper::SERVE | keeper::SUCCEED => {
            let home = std::env::var_os("PIPE_HOME")?;
            life::serve(Path::new(&home), command == keeper::SUCCEED).map_err(|error| Failure::of(&error))
        }
        remote::COMMAND => {
            let home = std::env::var_os("PIPE_HOME")?;
            remote::connect(Path::new(&home), &Login::Shell).map_err(|error| Failure::of(&error))
        }
        remote::PERSON => {
            let name = args.next().and_then(|name| name.into_string().ok())?;
            return Some(remote::admit(Path::new(&std::env::var_os("PIPE_HOME")?), &name));
        }
        "shim" => shim::shim(Path::new(&args.next()?)).map_err(|error| Failure::of(&error)),
        _ => return None,
    };
    Some(outcome.map(|()| None))
}

impl Agent {
    /// What is held of a target.
    fn running(&self, app: &str, target: &str) -> Arc<Running> {
        let mut targets = lock(&self.targets);
        let key = (app.to_owned(), target.to_owned());
        Arc::clone(targets.entry(key).or_insert_with(|| Arc::new(Running::new(app, target))))
    }

    fn all_running(&self) -> Vec<Arc<Running>> {
        lock(&self.targets).values().cloned().collect()
    }

    /// Whether there is nothing to do.
    fn is_idle(&self) -> bool {
        self.coming_back.load(Ordering::SeqCst) == 0
            && self.all_running().iter().all(|running| running.is_idle() && !running.is_changing())
    }

    /// Where clients come in by some way.
    fn entrance(&self, way: &Way) -> Entrance {
        match way {
            Way::Target { app, target } => self.running(app, target).entrance(),
            Way::Domains => self.public.entrance(false),
            Way::DomainsOverTls => self.public.entrance(true),
        }
    }

    /// Waits until no earlier agent has requests any more, or for so long.
    async fn alone(&self, patience: Duration) {
        let mut is_alone = self.is_alone.subscribe();
        let _ = tokio::time::timeout(patience, is_alone.wait_for(|is_alone| *is_alone)).await;
    }

    /// Writes down what came of something that was asked for.
    fn audit(&self, who: &Who, deed: &Deed, ending: &Ending) {
        if let Err(error) = self.history.audit(who, deed, ending) {
            log::note(format_args!("what {} did is not written down: {}", who.name, Failure::of(&error).message));
        }
    }

    fn free_port(&self) -> Result<u16, Failure> {
        let processes = self.history.processes().map_err(|error| Failure::of(&error))?;
        let taken: Vec<_> = processes.iter().map(|process| process.port).collect();
        lock(&self.ports).free(&taken)
    }

    /// Makes a slug ready to run for a target; `arrives` checks all of its bytes.
    async fn root(
        &self,
        target: &Target,
        contents: &Contents,
        account: Account,
        arrives: bool,
    ) -> Result<Root, Failure> {
        let config = self.history.config(&target.app, &target.name, contents.config);
        let config = config.map_err(|error| Failure::hinted(&error, error.hint()))?;
        let home = self.home.clone();
        let (target, contents) = (target.clone(), contents.clone());
        let opened =
            tokio::task::spawn_blocking(move || Root::open(&home, &target, &contents, config, account.user, arrives));
        opened.await.map_err(|error| Failure::of(&error))?
    }

    /// How a process of a release is started.
    fn plan(&self, root: &Arc<Root>, release: &Release, slot: Slot, command: &str, port: u16) -> Plan {
        Plan::of(&self.history, &self.run, root, (release.id, release.number), slot, command, port)
    }

    /// The cron entries of a release, from now on.
    fn crons(&self, root: &Arc<Root>, release: &Release, runs: &Runs, late: bool) -> Vec<Cron> {
        let entries = root.settings.cron.iter().filter_map(|(name, entry)| Some((name, entry.parse::<Entry>().ok()?)));
        let crons = entries.map(|(name, entry)| {
            let slot = Slot::first(name);
            let work = Work {
                history: Arc::clone(&self.history),
                target: release.target.clone(),
                name: name.clone(),
                log: root.log(release.number, &slot),
                runs: runs.clone(),
                plan: self.plan_again(root, release, slot, &entry.command),
                entry,
            };
            Cron::keep(work, release.number, late)
        });
        crons.collect()
    }

    /// How something is run any number of times that listens nowhere.
    fn plan_again(
        &self,
        root: &Arc<Root>,
        release: &Release,
        slot: Slot,
        command: &str,
    ) -> Box<dyn Fn() -> Plan + Send + Sync> {
        let (history, run) = (Arc::clone(&self.history), self.run.clone());
        let (root, release, command) = (Arc::clone(root), (release.id, release.number), command.to_owned());
        Box::new(move || Plan::of(&history, &run, &root, release, slot.clone(), &command, 0))
    }

    /// Takes up the runs of cron entries that an earlier agent has begun, for whichever release.
    fn adopt_runs(
        &self,
        running: &Running,
        root: &Arc<Root>,
        release: &Release,
        records: &mut Vec<ProcessRecord>,
    ) -> Result<(), Failure> {
        let Target { app, name, .. } = &release.target;
        let releases = self.history.releases(app, name).map_err(|error| Failure::of(&error))?;
        for of in releases {
            let is_run = |record: &mut ProcessRecord| {
                record.release == of.id && of.target.settings.cron.contains_key(&record.name)
            };
            for record in records.extract_if(.., is_run) {
                // Only to see it out: it is started by nobody.
                let plan = self.plan(root, &of, Slot::first(&record.name), "", 0);
                running.runs.adopt(&record.name.clone(), Process::see_out(plan, record));
            }
        }
        Ok(())
    }

    /// The static files that a target's front serves: the slug's, and those of the last releases for pages that are still open.
    async fn assets(&self, root: &Root, release: &Release) -> Option<Assets> {
        let manifest = &root.arrived.manifest;
        let address = front::Address::of(manifest.static_url.as_deref()?)?;
        let own = Collection { tree: *manifest.trees.get(STATIC)?, directory: root.arrived.trees.get(STATIC)?.clone() };
        let Target { app, name, .. } = &release.target;
        let releases = self.history.releases(app, name).unwrap_or_default();
        let (store, written) = (self.store.clone(), root.written.clone());
        let since = began(&releases, release);
        let collected = tokio::task::spawn_blocking(move || {
            let mut collections = vec![own];
            for other in releases.iter().rev().filter(|other| other.stage.is_switched()) {
                if collections.len() > EARLIER_ASSETS {
                    break;
                }
                // What of it is gone cannot be served, which is no fault of this release.
                collections.extend(earlier_assets(&store, other).filter(|other| !collections.contains(other)));
            }
            Assets { store, collections, address, written, since }
        });
        collected.await.ok()
    }

    /// Serves a release that was current before, with those of its processes that are recorded.
    async fn resume(&self, release: &Release, records: &mut Vec<ProcessRecord>) -> Result<(), Failure> {
        let running = self.running(&release.target.app, &release.target.name);
        let (account, root) = self.reopen(&running, release).await?;
        let front = running.front(&self.listeners, account.address).await?;
        let domains = self.open_domains(&release.target, &running.current).await?;
        let processes = self.take_up(&root, release, records, |_| true)?;
        let ports = processes.iter().filter(|process| process.slot.name == process::WEB).map(|process| process.port);
        let upstream = if root.serves() {
            Some(front::Upstream::new(ports, self.assets(&root, release).await, &root.settings))
        } else {
            None
        };
        let url = self.url_of(&release.target, account.address, &domains);
        self.adopt_runs(&running, &root, release, records)?;
        let crons = self.crons(&root, release, &running.runs, true);
        let until = release.until();
        running.switch(Serving { number: release.number, url, until, upstream, processes, crons }, front);
        self.put_domains(&release.target, &domains);
        Ok(())
    }

    /// Where the pages of a target are.
    fn url_of(&self, target: &Target, address: SocketAddr, domains: &public::Domains) -> String {
        // One that cannot be read now is found again by the next release.
        let host = || self.history.host(&target.app, &target.name).ok().flatten();
        domains.url().unwrap_or_else(|| url_of(address, host().as_deref()))
    }

    /// Makes a release ready to run that ran before.
    async fn reopen(&self, running: &Running, release: &Release) -> Result<(Account, Arc<Root>), Failure> {
        let listening = running.address().or_else(|| self.listeners.inherited(&running.app, &running.target));
        let account = account::account(&self.history, &release.target, listening)?;
        let root = self.root(&release.target, &release.contents(), account, false).await?;
        Ok((account, Arc::new(root)))
    }

    /// Takes over the processes of a release that are recorded, and starts the others.
    fn take_up(
        &self,
        root: &Arc<Root>,
        release: &Release,
        records: &mut Vec<ProcessRecord>,
        which: impl Fn(&Slot) -> bool,
    ) -> Result<Vec<Arc<Process>>, Failure> {
        let mut processes = Vec::new();
        for (slot, command) in root.slots().into_iter().filter(|(slot, _)| which(slot)) {
            let is_it = |record: &ProcessRecord| {
                record.release == release.id && record.name == slot.name && record.instance == slot.instance
            };
            let record = records.iter().position(is_it).map(|at| records.swap_remove(at));
            let port = record.as_ref().map_or_else(|| self.free_port(), |record| Ok(record.port))?;
            let plan = self.plan(root, release, slot, &command, port);
            let process = Arc::new(Process::keep_running(plan, record));
            root.watch(&process);
            processes.push(process);
        }
        Ok(processes)
    }
}

/// What a mutex holds, also where a thread that held it has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the release that started the processes of this one: it may be the same, scaled since.
fn began(releases: &[Release], release: &Release) -> u64 {
    let until = releases.iter().filter(|other| other.number <= release.number).rev();
    let mut starts = until.filter(|other| other.number == release.number || other.stage.is_switched());
    starts.find(|other| !matches!(other.how, How::Scale { .. })).map_or(release.number, |other| other.number)
}

/// The static files of an earlier release, where they are still in the store.
fn earlier_assets(store: &Store, release: &Release) -> Option<Collection> {
    let (_, manifest) = Manifest::read(store, &release.slug.tree).ok()?;
    let tree = *manifest.trees.get(STATIC)?;
    Some(Collection { directory: store.lay_out(&tree).ok()?, tree })
}

/// Where a browser of this machine finds a front, under a name that the application accepts where one is known. Where it listens
/// on all of the machine's addresses, whoever asked knows which of them he sees.
fn url_of(address: SocketAddr, host: Option<&str>) -> String {
    match host {
        Some(host) if host.starts_with("localhost:") && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) => {
            format!("http://{host}/")
        }
        _ => format!("http://{address}/"),
    }
}
