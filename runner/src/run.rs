//! From a pipeline file to its slug: opens a project, resolves what must be resolved, takes the snapshot, runs the graph.
//!
//! The order of things is here and nothing else is: each is done by the module of its name. Releases nothing.

mod account;
mod error;
mod place;
mod preview;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::diagnostic::{Diagnostic, Document};
use crate::event::{Event, Events};
use crate::exec::{Base, Executor};
use crate::execute::{self, Executed, Execution, Failures, Whole};
use crate::fetch::{Credentials, FetchConfig, Fetcher};
use crate::lock;
use crate::lockfile::LockFile;
use crate::pipeline::check::SLUG_PORT;
use crate::pipeline::{self, Pipeline};
use crate::plan::{self, Graph};
use crate::plugin::{Grants, Limits, Pin, Pinned, Plugins, RUNTIME_OF_PROGRAMS, Services};
use crate::runtime::{Resolver, Runtime, Wish};
use crate::secret::Secrets;
use crate::slug::{self, Manifest, Registry};
use crate::source;
use crate::store::{Store, StoreError};
use crate::tree::STACK;

pub use crate::event::Fault;
pub use error::RunError;
pub use preview::Preview;

/// A pipeline with all that is needed to run it.
pub struct Project {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Its steps, checked against their plugins.
    pub graph: Graph,
    /// Where everything is kept.
    pub store: Store,
    /// The directory with all of `pipe`'s data.
    pub home: PathBuf,
    plugins: Arc<Plugins>,
    fetcher: Fetcher,
    lock: LockFile,
    locked: bool,
}

/// What can be asked of a build.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// How many steps, and how many programs, run at one time.
    pub jobs: usize,
    /// Whether steps that do not need a failed one still run.
    pub keep_going: bool,
}

/// What a build gave.
pub struct Built {
    /// What came of each step.
    pub executed: Executed,
    /// The slugs that it built, by the step that gave each.
    pub slugs: BTreeMap<String, slug::Record>,
}

impl Default for Build {
    fn default() -> Self {
        Self { jobs: std::thread::available_parallelism().map_or(2, usize::from), keep_going: false }
    }
}

impl Project {
    /// Opens the pipeline `file`, or the built-in one for what is in the current directory, and checks all of it.
    ///
    /// `home` is the directory with all of `pipe`'s data; `locked` refuses to resolve anything anew.
    pub fn open(home: &Path, file: Option<&Path>, locked: bool) -> Result<Self, RunError> {
        Self::open_in(|| Store::open(home), home, file, locked)
    }

    /// Opens it only to look: nothing is resolved anew, and where nothing can be written in `home`, nothing is.
    pub fn open_to_look(home: &Path, file: Option<&Path>) -> Result<Self, RunError> {
        Self::open_in(|| Store::open_to_look(home), home, file, true)
    }

    fn open_in(
        open: impl FnOnce() -> Result<Store, StoreError>,
        home: &Path,
        file: Option<&Path>,
        locked: bool,
    ) -> Result<Self, RunError> {
        let (path, text) = read_pipeline(file)?;
        let store = open()?;
        let plugins = Arc::new(Plugins::open(home, &store)?);
        let (pipeline, graph) = plan::read(&path, &text, &plugins)?;
        let fetcher = Fetcher::new(fetch_config(&pipeline), store.clone())?;
        let lock = LockFile::beside(&pipeline.directory);
        Ok(Self { pipeline, graph, store, home: home.to_owned(), plugins, fetcher, lock, locked })
    }

    /// Builds: what is known is taken from the store, the rest runs.
    pub fn build(&self, build: Build, events: &Events, cancel: &Arc<AtomicBool>) -> Result<Built, RunError> {
        let started = now();
        events.mask(self.fetcher.secrets().iter().map(String::as_str));
        let runtime = self.runtime()?;
        let mode = if self.locked { lock::Mode::Locked } else { lock::Mode::Keep };
        lock::ensure(&self.pipeline, &self.lock_resolver(&runtime), &mode, events)?;
        let execution = self.execution(&runtime, build, events, cancel)?;
        let executed = self.execute(&execution)?;
        // A slug whose step ran is there, whatever became of other steps.
        let slugs = self.register(&execution, &executed, started);
        if let Some((step, failure)) = executed.failure() {
            let step = self.graph[petgraph::graph::NodeIndex::new(step)].name.clone();
            return Err(RunError::Step { step, failure: failure.clone(), slugs: Box::new(slugs.unwrap_or_default()) });
        }
        if cancel.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        Ok(Built { executed, slugs: slugs? })
    }

    /// Lets go of a project at the end of a process: what was read and built goes with that. Of thousands of steps, to take each apart by
    /// itself takes as long as to look at all of them.
    pub fn leave(self, built: Built) {
        self.store.leave_lent();
        std::mem::forget((self.pipeline, self.graph, built));
    }

    /// What all steps give: by one look-up where nothing has changed, else step by step.
    fn execute(&self, execution: &Execution) -> Result<Executed, RunError> {
        let whole = Whole::of(&self.pipeline, &self.graph, execution);
        if let Some(whole) = &whole
            && let Some(executed) = whole.look_up(&self.graph, execution)?
        {
            execute::tell_cached(&self.graph, execution);
            return Ok(executed);
        }
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(execution.jobs + 1)
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(RunError::Threads)?;
        let executed = tokio.block_on(execute::execute(&self.graph, execution));
        tokio.shutdown_background();
        if let Some(whole) = whole {
            whole.keep(&executed, execution)?;
        }
        // What the steps gave is kept, also where one of them failed.
        self.store.flush()?;
        Ok(executed)
    }

    /// Resolves what the pipeline's locks leave open, as far as `mode` says; gives the paths of the files that it wrote.
    pub fn lock(&self, mode: &lock::Mode, events: &Events) -> Result<Vec<PathBuf>, RunError> {
        events.mask(self.fetcher.secrets().iter().map(String::as_str));
        Ok(lock::ensure(&self.pipeline, &self.lock_resolver(&self.runtime()?), mode, events)?)
    }

    fn lock_resolver(&self, runtime: &Runtime) -> lock::Resolver {
        lock::Resolver::new(&self.pipeline, &self.python(runtime), &self.fetcher, &self.store, &self.home)
    }

    fn runtime(&self) -> Result<Runtime, RunError> {
        let resolver = Resolver {
            store: &self.store,
            home: &self.home,
            fetcher: &self.fetcher,
            lock: &self.lock,
            locked: self.locked,
        };
        Ok(Runtime::resolve(&Wish::of(&self.pipeline), &resolver)?)
    }

    /// The version of Python that is built for: `3.11`.
    fn python(&self, runtime: &Runtime) -> String {
        let of_runtime = || runtime.python().split('.').take(2).collect::<Vec<_>>().join(".");
        self.pipeline.app.python.as_ref().map_or_else(of_runtime, ToString::to_string)
    }

    /// What the graph is run with; takes the snapshot.
    fn execution(
        &self,
        runtime: &Runtime,
        build: Build,
        events: &Events,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Execution, RunError> {
        let directory = self.pipeline.source_directory();
        let mut exclude = self.pipeline.source_exclude();
        // What is kept here is nothing that is built, and a key is among it.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        exclude.extend(pipeline::anchored(&real(&directory), &real(&self.home)));
        let source = source::snapshot(&directory, &exclude, &self.store)?;
        for path in source::unfetched(&directory) {
            let message = format!("the submodule `{path}` is empty: `git submodule update --init` fetches it");
            events.send(Event::Note { message });
        }
        let base = Base {
            digest: runtime.build_digest(),
            mounts: runtime.mounts(true).to_vec(),
            path: runtime.path().to_owned(),
        };
        let (pin, pinned) = self.pins(runtime, events);
        let secrets = Secrets::read(&self.pipeline, &self.home)?;
        events.mask(secrets.iter().map(|(_, secret)| secret.text()));
        let services = Services {
            step: String::new(),
            events: events.clone(),
            grants: Grants::default(),
            context: Arc::new(self.context(runtime)),
            secrets,
            executor: Arc::new(Executor::new(self.store.clone(), base, build.jobs)),
            fetcher: self.fetcher.clone(),
            pin,
            deadline: Instant::now(),
            limits: Limits::default(),
            cancel: Arc::clone(cancel),
        };
        Ok(Execution {
            store: self.store.clone(),
            plugins: Arc::clone(&self.plugins),
            services,
            pinned,
            pipeline: self.own_name(),
            source: source.digest,
            jobs: build.jobs.max(1),
            failures: Arc::new(Failures::of(&self.home)),
            pools: self.pipeline.pools.iter().map(|pool| *pool.size).collect(),
            keep_going: build.keep_going,
        })
    }

    /// What tells the pipeline from others, wherever the project lies: the application's name and the file's.
    fn own_name(&self) -> String {
        let file = Path::new(&self.pipeline.document.name).file_name().unwrap_or_default();
        format!("{} {}", self.pipeline.app.name, file.to_string_lossy())
    }

    /// What steps may ask about the whole run.
    fn context(&self, runtime: &Runtime) -> BTreeMap<String, String> {
        let known = [
            ("app.name", self.pipeline.app.name.to_string()),
            ("app.python", self.python(runtime)),
            ("platform", self.pipeline.platform.to_string()),
            ("runtime.python", runtime.python().to_owned()),
            ("runtime.digest", runtime.digest().to_string()),
            (RUNTIME_OF_PROGRAMS, runtime.build_digest().to_string()),
        ];
        let tools = runtime.tools().iter().map(|(name, digest)| (format!("tool.{name}"), digest.to_string()));
        let machine = runtime.made_of().iter().map(|(name, value)| (format!("machine.{name}"), value.clone()));
        known.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(tools).chain(machine).collect()
    }

    /// How steps ask for versions: one way that resolves what `pipe.lock` does not say, and one that does not.
    fn pins(&self, runtime: &Runtime, events: &Events) -> (Pin, Arc<Pinned>) {
        let resolver = Arc::new(self.lock_resolver(runtime));
        let (file, locked, events) = (self.lock.clone(), self.locked, events.clone());
        let (their_resolver, their_file) = (Arc::clone(&resolver), file.clone());
        let pin: Pin = Arc::new(move |_, requirements, constraints| {
            Ok(lock::pin(requirements, constraints, &their_resolver, &their_file, locked, &events)?)
        });
        let pinned = Arc::new(move |_: &str, requirements: &[String], constraints: &[String]| {
            lock::pinned(requirements, constraints, &resolver, &file)
        });
        (pin, pinned)
    }

    /// Makes the slugs of a build known, each with the attestation of how it came about.
    fn register(
        &self,
        execution: &Execution,
        executed: &Executed,
        started: u64,
    ) -> Result<BTreeMap<String, slug::Record>, RunError> {
        let registry = Registry::of(&self.home);
        let mut slugs = BTreeMap::new();
        for node in self.graph.node_indices() {
            let Some(tree) = executed.output(node.index(), SLUG_PORT).map(|value| *value.digest()) else { continue };
            let (id, manifest) = Manifest::read(&self.store, &tree)?;
            let statement =
                slug::attest(&account::provenance(self, execution, executed, node, (id, &manifest), started));
            let record = slug::Record {
                id,
                tree,
                app: manifest.app,
                created: started,
                built: 0,
                attestation: Some(self.store.put(&statement)?),
                believed_since: None,
            };
            registry.add(&self.store, &record)?;
            slugs.insert(self.graph[node].name.clone(), record);
        }
        Ok(slugs)
    }

    /// For each step that takes in what others give, those steps.
    fn needs(&self) -> BTreeMap<String, Vec<String>> {
        let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for edge in self.graph.raw_edges() {
            needs
                .entry(self.graph[edge.target()].name.clone())
                .or_default()
                .push(self.graph[edge.source()].name.clone());
        }
        needs
    }

    /// Says that a run begins; `trace_parent` is the `TRACEPARENT` that it belongs to.
    pub fn announce(&self, build: Build, trace_parent: Option<String>, events: &Events) {
        events.send(Event::RunStarted {
            version: crate::event::EVENTS_VERSION,
            id: run_id(),
            pipeline: self.pipeline.document.name.clone(),
            app: self.pipeline.app.name.to_string(),
            source: self.pipeline.source_directory().display().to_string(),
            steps: self.graph.node_count(),
            jobs: build.jobs.max(1),
            trace_parent,
            needs: self.needs(),
        });
    }
}

/// The text of a pipeline and where it is or would be: of the `file`, or of the one in that directory, the current one where none
/// is named. In a directory without one it is the built-in one for the project there.
pub fn read_pipeline(file: Option<&Path>) -> Result<(PathBuf, String), RunError> {
    let (directory, path) = match file {
        Some(directory) if directory.is_dir() => (Some(directory), directory.join(pipeline::FILE_NAME)),
        Some(file) => (None, file.to_owned()),
        None => (Some(Path::new(".")), PathBuf::from(pipeline::FILE_NAME)),
    };
    match std::fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(RunError::Pipeline(vec![not_utf8(&path, &error)])),
        },
        Err(source) => match directory.filter(|_| source.kind() == std::io::ErrorKind::NotFound) {
            Some(directory) => Ok((path, pipeline::default_for(directory)?)),
            None => Err(RunError::Read { path, source }),
        },
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let place = error.utf8_error().valid_up_to();
    let document = Document::new(path.display().to_string(), String::from_utf8_lossy(error.as_bytes()));
    Diagnostic::new(&document, place..place, "this byte is no UTF-8").hint("save the file as UTF-8")
}

fn fetch_config(pipeline: &Pipeline) -> FetchConfig {
    let defaults = FetchConfig::default();
    let index = &pipeline.index;
    FetchConfig {
        index: index.url.as_ref().map_or(defaults.index, ToString::to_string),
        extra: index.extra.iter().map(ToString::to_string).collect(),
        find_links: index.find_links.iter().map(|path| pipeline.resolve(path)).collect(),
        npm: pipeline.npm.registry.as_ref().map_or(defaults.npm, ToString::to_string),
        credentials: Credentials::from_environment(),
        ..defaults
    }
}

/// A name that no other run has: a digest of when, where and by which process it was begun.
fn run_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&since.as_nanos().to_le_bytes()).update(&std::process::id().to_le_bytes());
    hasher.update(nix::unistd::gethostname().unwrap_or_default().as_encoded_bytes());
    // Machines made from one image may share all of the above.
    let mut random = [0; 16];
    if std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).is_ok() {
        hasher.update(&random);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
