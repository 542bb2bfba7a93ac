//! A native program as an action: program, arguments, environment and root give an exit code, output and collected trees.
//!
//! Knows the key of such an action and how its root is put together out of the runtime and of trees; knows nothing of how the
//! kernel makes that root ([`crate::sandbox`]), nor of who may run what ([`crate::plugin`]).

mod memory;
mod small;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{Event, junit};
use crate::key::{Fields as _, KeyBuilder};
use crate::plugin::{Code, Failure, Services};
use crate::sandbox::{self, Ended, Monitors, Mount, Run, SandboxError, Scratch, Spec, Stream};
use crate::secret::{self, Leak, Search, SearchError, Secrets};
use crate::store::{Bounds, LAID_OUT, Store, StoreError, TreeBuilder, Until};
use crate::tree::STACK;

/// Raised when a change to how programs are run could change what they give.
const RULES: &[u8] = b"2";
/// 1980-01-01 00:00:01 UTC, the first second that a zip file can hold.
const SOURCE_DATE_EPOCH: &str = "315532801";

/// A program to run, in a root of the runtime and of trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// A name on the root's `PATH`, or an absolute path in the root.
    pub program: String,
    /// What follows it.
    pub args: Vec<String>,
    /// What is added to the environment that every program has.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: String,
    /// Trees by the place where they are seen; later ones cover earlier ones.
    pub mounts: Vec<(String, Digest)>,
    /// Paths of the root that are kept afterwards.
    pub collect: Vec<String>,
    /// Mounts of which what the program wrote is kept, and nothing that was there before.
    pub collect_written: Vec<String>,
    /// A blob on standard input.
    pub stdin: Option<Digest>,
}

/// What a program left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// 0 where it did what it was asked to.
    pub exit_code: i32,
    /// Standard output, a blob.
    pub stdout: Digest,
    /// Standard error, a blob.
    pub stderr: Digest,
    /// What was at each collected path, where something was.
    pub collected: BTreeMap<String, Found>,
    /// The tree of what was written below each mount that was asked for.
    #[serde(default)]
    pub written: BTreeMap<String, Digest>,
}

/// What was at a collected path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A directory.
    Tree(Digest),
    /// A file.
    File(Digest),
}

/// What every root of a pipeline's programs stands on.
#[derive(Debug, Clone)]
pub struct Base {
    /// What identifies it: the same digest, the same programs.
    pub digest: Digest,
    /// What is mounted before anything else.
    pub mounts: Vec<Mount>,
    /// The programs' `PATH`.
    pub path: String,
}

/// Runs programs, at most so many at one time; cheap to clone.
#[derive(Clone)]
pub struct Executor {
    store: Store,
    base: Arc<Base>,
    monitors: Arc<Monitors>,
    permits: Permits,
}

impl Command {
    /// A program without arguments in an otherwise empty root.
    pub fn new(program: String) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: "/".to_owned(),
            mounts: Vec::new(),
            collect: Vec::new(),
            collect_written: Vec::new(),
            stdin: None,
        }
    }

    /// The name of the action. Limits are no part of it: they only fail, and failures are not kept.
    fn key(&self, base: &Base, secrets: &Secrets, believed_since: Option<&str>) -> Digest {
        let mut key = KeyBuilder::new("exec")
            .field("rules", RULES)
            .field("runtime", base.digest.as_bytes())
            .field("path", base.path.as_bytes())
            .field("program", self.program.as_bytes())
            .field("cwd", self.cwd.as_bytes())
            .field("stdin", self.stdin.as_ref().map_or(&[][..], |digest| digest.as_bytes()));
        key.add_list("args", self.args.iter().map(String::as_str));
        key.add_list("env", self.env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
        key.add_list("collect", self.collect.iter().map(String::as_str));
        if !self.collect_written.is_empty() {
            key.add_list("collect written", self.collect_written.iter().map(String::as_str));
        }
        for (at, tree) in &self.mounts {
            key.add(&format!("mount {at}"), tree.as_bytes());
        }
        for (name, secret) in secrets.iter() {
            key.add(&format!("secret {name}"), secret.mac().as_bytes());
        }
        key.add_believed_since(believed_since);
        key.finish()
    }

    /// The failure of a program that left a link to nothing that can be kept.
    fn useless(&self, path: &str, target: &str) -> Failure {
        let message =
            format!("`{}` left at `{path}` a link to `{target}`, where nothing is that can be kept", self.program);
        Failure::new(Code::Failed, message)
            .hint("a link has to lead to a file or a directory of the sandbox, and not to all of it or to `/proc`")
    }

    /// The failure of a program that left a secret in what is collected.
    fn refuse(&self, leak: Option<Leak>) -> Result<(), Failure> {
        leak.map_or(Ok(()), |leak| Err(leak.failure(&self.program)))
    }
}

impl Outcome {
    /// All that the outcome names.
    fn refs(&self) -> Vec<Digest> {
        let collected = self.collected.values().map(|(Found::Tree(digest) | Found::File(digest))| digest);
        [&self.stdout, &self.stderr].into_iter().chain(collected).chain(self.written.values()).copied().collect()
    }
}

impl Executor {
    /// An executor that runs up to `jobs` programs side by side.
    pub fn new(store: Store, base: Base, jobs: usize) -> Self {
        Self { store, base: Arc::new(base), monitors: Arc::default(), permits: Permits::new(jobs) }
    }

    /// Runs programs side by side; the first failure ends all.
    pub fn run_all(&self, commands: &[Command], services: &Services) -> Result<Vec<Outcome>, Failure> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<Result<Outcome, Failure>>>> = Mutex::new(vec![None; commands.len()]);
        let work = || {
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(command) = commands.get(index) else { return };
                let result = self.run(command, services);
                if result.is_err() {
                    next.store(commands.len(), std::sync::atomic::Ordering::Relaxed);
                }
                results.lock().expect(POISONED)[index] = Some(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.permits.total.min(commands.len()) {
                // Without another thread this one does all.
                let _ = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            }
            work();
        });
        let results = results.into_inner().expect(POISONED);
        // Programs that were never started stand behind the one that failed.
        results.into_iter().flatten().collect()
    }

    /// Runs a program, unless what it gives is known.
    pub fn run(&self, command: &Command, services: &Services) -> Result<Outcome, Failure> {
        let store = self.store.wanted(services.until());
        Self { store, ..self.clone() }.run_wanted(command, services)
    }

    fn run_wanted(&self, command: &Command, services: &Services) -> Result<Outcome, Failure> {
        let key = command.key(&self.base, &services.secrets, self.store.believed_since());
        let known = || -> Result<Option<Outcome>, StoreError> {
            Ok(self.store.action(&key)?.and_then(|record| serde_json::from_slice(&record).ok()))
        };
        if let Some(outcome) = known()? {
            self.tell_tests(&outcome, services);
            return Ok(outcome);
        }
        let _claim = self.store.claim(&key)?;
        if let Some(outcome) = known()? {
            self.tell_tests(&outcome, services);
            return Ok(outcome);
        }
        let _permit = self.permits.take(self.store.until())?;
        let outcome = self.run_now(command, services)?;
        self.tell_tests(&outcome, services);
        // A program that failed may pass the next time: only success is kept.
        if outcome.exit_code == 0 {
            let record = serde_json::to_vec(&outcome).expect("an outcome is plain data");
            self.store.put_action(&key, &record, &outcome.refs())?;
        }
        Ok(outcome)
    }

    /// Tells of tests, where a file that was collected is the report of a test runner; the program may have failed.
    fn tell_tests(&self, outcome: &Outcome, services: &Services) {
        for (path, found) in &outcome.collected {
            let Found::File(digest) = found else { continue };
            if Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
                && let Ok(bytes) = self.store.get(digest)
                && let Ok(tests) = junit::read(&bytes)
            {
                services.events.send(Event::StepTests { step: services.step.clone(), tests });
            }
        }
    }

    fn run_now(&self, command: &Command, services: &Services) -> Result<Outcome, Failure> {
        let mut written = Vec::new();
        let mut spec = self.spec(command, &services.secrets, &mut written)?;
        let limits = services.limits;
        spec.limits.memory = Some(limits.program_memory.unwrap_or_else(sandbox::ample_memory));
        // What is in `/tmp` is in memory.
        spec.limits.tmp = limits.program_memory.unwrap_or(spec.limits.tmp);
        let stdin = command.stdin.as_ref().map(|digest| self.stdin(digest)).transpose()?;
        let run = Run {
            stdin,
            time_limit: Some(services.time_left()),
            output_limit: Some(limits.log),
            layer_limit: Some(limits.output),
            cancel: Some(&services.cancel),
            written,
        };
        let masks = services.events.masks();
        let (mut stdout, mut stderr) = (masks.stream(), masks.stream());
        let show = |bytes: &[u8]| {
            if !bytes.is_empty() {
                let text = String::from_utf8_lossy(bytes).into_owned();
                services.events.send(Event::StepOutput { step: services.step.clone(), text });
            }
        };
        let show_masked = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => show(&stdout.next(bytes)),
            Stream::Stderr => show(&stderr.next(bytes)),
        };
        let search = Search::new(&services.secrets, self.store.until().clone());
        let started = Instant::now();
        let outcome = sandbox::run(&self.monitors, &spec, run, show_masked, |root, layers| {
            let mut bounds = Bounds { holes: limits.output, all: false };
            let collected = self.collect(command, root, search.as_ref(), &mut bounds)?;
            bounds.all = false;
            Ok((collected, self.written(command, layers, search.as_ref(), &mut bounds)?))
        });
        show(&stdout.end());
        show(&stderr.end());
        let exit_code = match outcome.as_ref().map(|outcome| &outcome.ended) {
            Ok(Ended::Exited(code)) => Some(*code),
            Ok(Ended::Killed(signal)) => Some(128 + signal),
            _ => None,
        };
        services.events.send(Event::ProgramFinished {
            step: services.step.clone(),
            argv: std::iter::once(&command.program).chain(&command.args).cloned().collect(),
            exit_code,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let outcome = outcome.map_err(|error| not_run(&error, command))?;
        if outcome.out_of_room {
            return Err(StoreError::full(self.store.tmp()).into());
        }
        let name = &command.program;
        let needs_memory = |words: &str| {
            Failure::new(Code::LimitExceeded, format!("`{name}` needs more memory than the step may use{words}"))
                .hint(format!("raise `limits.memory` of `[steps.{}]`", services.step))
        };
        let exit_code = match outcome.ended {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
            Ended::OutOfMemory => return Err(needs_memory("")),
            Ended::Cancelled => return Err(Failure::new(Code::Cancelled, "the run was stopped")),
            Ended::TimedOut => {
                return Err(Failure::new(
                    Code::TimedOut,
                    format!("`{name}` was still running at the step's time limit"),
                )
                .hint(format!("raise `limits.time` of `[steps.{}]`", services.step)));
            }
            Ended::TooMuchOutput => {
                return Err(Failure::new(
                    Code::LimitExceeded,
                    format!("`{name}` wrote more than {} of output", shown(limits.log)),
                )
                .hint(format!("make it quieter, or raise `limits.log` of `[steps.{}]`", services.step)));
            }
            Ended::TooMuchWritten => {
                return Err(Failure::new(
                    Code::LimitExceeded,
                    format!("`{name}` wrote more than {} to its files", shown(limits.output)),
                )
                .hint(format!("raise `limits.output` of `[steps.{}]`", services.step)));
            }
        };
        if exit_code != 0
            && limits.program_memory.is_some()
            && let Some(words) = memory::refused(&outcome.stderr)
            && !sandbox::limits_memory_together()
        {
            return Err(needs_memory(&format!(": it wrote `{words}`")));
        }
        let kept: Option<Result<_, Failure>> = outcome.collected;
        let ((collected, useless), written) = kept.transpose()?.unwrap_or_default();
        // What a program that failed says itself tells more.
        if let Some(link) = useless.filter(|_| exit_code == 0) {
            return Err(link);
        }
        let [stdout, stderr] = [outcome.stdout, outcome.stderr].map(|output| self.store.put(&masks.mask_bytes(output)));
        Ok(Outcome { exit_code, stdout: stdout?, stderr: stderr?, collected, written })
    }

    fn spec(&self, command: &Command, secrets: &Secrets, layers: &mut Vec<Scratch>) -> Result<Spec, StoreError> {
        let mut spec = Spec::new(std::iter::once(&command.program).chain(&command.args));
        let fixed = [
            ("PATH", self.base.path.as_str()),
            ("HOME", "/tmp/home"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("PYTHONHASHSEED", "0"),
            ("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH),
        ];
        spec.env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        spec.env.extend(command.env.clone());
        spec.cwd.clone_from(&command.cwd);
        spec.mounts.clone_from(&self.base.mounts);
        let tmp = self.store.tmp();
        for (at, tree) in &command.mounts {
            let layer = Scratch::new_in(tmp).map_err(|source| StoreError::Io {
                action: "create a directory in",
                path: tmp.to_owned(),
                source,
            })?;
            let (at, scratch) = (at.clone(), layer.path().to_owned());
            spec.mounts.push(match small::tree(&self.store, tree)? {
                Some(tree) => Mount::Held { tree, modified: LAID_OUT, at, scratch },
                None => Mount::Overlay { lower: vec![self.store.lay_out(tree)?], at, scratch },
            });
            layers.push(layer);
        }
        if !secrets.is_empty() {
            let texts = secrets.iter().map(|(name, secret)| (name.to_owned(), secret.text().to_owned())).collect();
            spec.mounts.push(Mount::Texts { at: secret::DIRECTORY.to_owned(), texts });
        }
        Ok(spec)
    }

    /// A program reads standard input from a file that nobody else sees.
    fn stdin(&self, digest: &Digest) -> Result<std::fs::File, Failure> {
        let unavailable = |error: io::Error| Failure::of(Code::Unavailable, &error);
        let mut file = tempfile::tempfile_in(self.store.tmp()).map_err(unavailable)?;
        io::copy(&mut self.store.open_blob(digest)?, &mut file)
            .map_err(|error| StoreError::inside(error).map_or_else(unavailable, Failure::from))?;
        io::Seek::rewind(&mut file).map_err(unavailable)?;
        Ok(file)
    }

    /// Keeps what was collected; nothing of it where a secret is found in it. A link that leads to nothing of use is a failure, if the
    /// program has done well.
    fn collect(
        &self,
        command: &Command,
        root: &sandbox::Root,
        search: Option<&Search>,
        bounds: &mut Bounds,
    ) -> Result<(BTreeMap<String, Found>, Option<Failure>), Failure> {
        let (mut collected, mut useless) = (BTreeMap::new(), None);
        for path in &command.collect {
            bounds.all = root.is_through_link(path);
            let found = match root.open(path).map_err(|error| Failure::of(Code::Unavailable, &error))? {
                sandbox::Found::Nothing => {
                    useless = useless.or_else(|| root.link(path).map(|target| command.useless(path, &target)));
                    continue;
                }
                sandbox::Found::Directory(directory) => {
                    if let Some(search) = search {
                        command.refuse(search.directory(directory.path(), path)?)?;
                    }
                    let (directory, at) = (directory.path(), Path::new(path));
                    let tree = self.store.import_within(directory, bounds);
                    Found::Tree(tree.map_err(|error| error.seen(directory, at))?)
                }
                sandbox::Found::File { mut file, .. } => {
                    if let Some(search) = search {
                        command.refuse(search.file(&mut file, path)?)?;
                    }
                    let metadata = file.metadata().map_err(|error| Failure::of(Code::Unavailable, &error))?;
                    let at = Path::new(path);
                    bounds.take(&metadata, at)?;
                    Found::File(self.store.put_read(file, at)?)
                }
            };
            collected.insert(path.clone(), found);
        }
        Ok((collected, useless))
    }

    /// What lies in the writable layers of the mounts that were asked for, without the places of mounts within them; nothing of it
    /// where a secret is found in it.
    fn written(
        &self,
        command: &Command,
        layers: &[Scratch],
        search: Option<&Search>,
        bounds: &mut Bounds,
    ) -> Result<BTreeMap<String, Digest>, Failure> {
        let mut written = BTreeMap::new();
        for (index, ((at, _), layer)) in command.mounts.iter().zip(layers).enumerate() {
            if !command.collect_written.contains(at) {
                continue;
            }
            if let Some(search) = search {
                command.refuse(search.directory(&layer.written(), at)?)?;
            }
            let directory = layer.written();
            let tree = self.store.import_within(&directory, bounds);
            let tree = tree.map_err(|error| error.seen(&directory, Path::new(at)))?;
            let mut builder = TreeBuilder::new(&self.store, Some(&tree))?;
            for (inner, _) in &command.mounts[index + 1..] {
                if let Some(inner) = inner.strip_prefix(at).and_then(|inner| inner.strip_prefix('/')) {
                    builder.remove(inner)?;
                }
            }
            written.insert(at.clone(), builder.finish()?);
        }
        Ok(written)
    }
}

/// Why a program was not started, or was lost.
fn not_run(error: &SandboxError, command: &Command) -> Failure {
    // A program that its own `PATH` hides is not missing on this machine.
    if let (SandboxError::Program { program, .. }, Some(path)) = (error, command.env.get("PATH"))
        && !error.is_too_long()
    {
        return Failure::of(Code::Failed, error).hint(format!(
            "`environment` sets PATH to `{path}`: leave PATH out, or add the directory to it that `{program}` is in"
        ));
    }
    let failure = Failure::of(Code::Unavailable, error);
    Failure { hint: error.hint(), retryable: false, ..failure }
}

/// A limit of bytes in words: in MiB, where it is not less than one.
pub(crate) fn shown(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{bytes} bytes") } else { format!("{} MiB", bytes >> 20) }
}

impl Services {
    /// How long the step may still take.
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Leak {
    /// The failure of a step that gives a secret away.
    pub(crate) fn failure(&self, by: &str) -> Failure {
        Failure::new(Code::Failed, format!("`{by}` left the secret `{}` in `{}`", self.secret, self.path)).hint(
            "nothing of it was kept: write it elsewhere than what is collected, such as `/tmp`, or take it out at the end",
        )
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Store(error) => error.into(),
            SearchError::TooLarge(_) => Self::of(Code::LimitExceeded, &error),
            SearchError::Io { .. } => Self::of(Code::Unavailable, &error),
        }
    }
}

/// So many programs may run at one time.
#[derive(Clone)]
struct Permits {
    total: usize,
    free: Arc<(Mutex<usize>, Condvar)>,
}

struct Permit(Arc<(Mutex<usize>, Condvar)>);

impl Permits {
    fn new(total: usize) -> Self {
        let total = total.max(1);
        Self { total, free: Arc::new((Mutex::new(total), Condvar::new())) }
    }

    fn take(&self, until: &Until) -> Result<Permit, StoreError> {
        let (free, changed) = &*self.free;
        let mut free = free.lock().expect(POISONED);
        while *free == 0 {
            until.look()?;
            free = changed.wait_timeout(free, Until::PAUSE).expect(POISONED).0;
        }
        *free -= 1;
        Ok(Permit(Arc::clone(&self.free)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (free, changed) = &*self.0;
        *free.lock().expect(POISONED) += 1;
        changed.notify_one();
    }
}

const POISONED: &str = "no thread panics while it holds a lock of the executor";
