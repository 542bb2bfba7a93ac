//! A pipeline file as data: what the user wrote, each value with its place in the text.
//!
//! [`parse`] takes a text and gives either a [`Pipeline`] or everything that is wrong with its shape; [`check`] then holds
//! a pipeline against the plugins that it names. Knows nothing of how plugins are loaded, of the store, or of running.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Document};
use crate::lockfile::LockFile;
use crate::release::Tls;
use crate::remote::Address;

mod branch;
pub mod check;
mod config;
mod data;
mod fields;
mod init;
mod read;
mod references;
mod schema;
mod spanned;
mod units;
mod variable;

pub use config::Config;
pub(crate) use data::is_database;
pub use init::{InitError, default_for};
pub use schema::schema;
pub use spanned::Spanned;
pub(crate) use units::{duration_text, size_text};
pub use units::{is_name, size as parse_size};
pub use variable::{VariableError, check_variable};

/// The name of the pipeline file that commands look for when none is given.
pub const FILE_NAME: &str = "release.pipeline";

/// The version of the language that this runner reads.
const VERSION: i64 = 1;

/// The platforms that a pipeline can build for, the first by default.
const PLATFORMS: &[&str] = &["linux-x86_64-gnu", "linux-aarch64-gnu"];

/// What a `fetch` grant can name.
const FETCH_SOURCES: &[&str] = &["index", "npm", "https", "git"];

/// A pipeline: how one application is built, and where it is released to.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields, title = "A pipeline of pipe")]
pub struct Pipeline {
    /// The text that all spans are places of.
    #[schemars(skip)]
    #[serde(skip)]
    pub document: Arc<Document>,
    /// Where the file is, or would be.
    #[schemars(skip)]
    pub path: PathBuf,
    /// The directory that the file is in, which the paths in it are relative to.
    #[schemars(skip)]
    pub directory: PathBuf,
    /// The version of this language.
    #[schemars(default = "default_version", range(min = 1, max = 1))]
    pub version: i64,
    /// The platform that is built for, whatever the machine that builds.
    #[schemars(default = "default_platform", extend("enum" = PLATFORMS))]
    pub platform: Spanned<String>,
    /// The application.
    pub app: App,
    /// The directory that is built.
    #[schemars(default)]
    pub source: Source,
    /// What native programs stand on: Python, libraries, compilers.
    #[schemars(default, with = "schema::Runtime")]
    pub runtime: Runtime,
    /// Programs outside of the runtime, by name; each is shown to sandboxed programs under `/opt/tools/<name>`.
    #[schemars(default, with = "BTreeMap<String, PathBuf>")]
    pub tools: BTreeMap<String, Spanned<PathBuf>>,
    /// Where Python packages come from.
    #[schemars(default)]
    pub index: Index,
    /// Where npm packages come from.
    #[schemars(default)]
    pub npm: Npm,
    /// For each pool how many of its steps run at one time: for what is scarce, such as a test database or a licence.
    #[schemars(
        default,
        with = "BTreeMap<String, std::num::NonZeroUsize>",
        extend("propertyNames" = { "pattern": units::NAME_PATTERN })
    )]
    pub pools: Vec<Pool>,
    /// What the programs of some steps may know and nobody else, in the file's order; a step gets those that its grants name.
    #[schemars(default, with = "BTreeMap<String, schema::Secret>", extend("propertyNames" = { "pattern": units::NAME_PATTERN }))]
    pub secrets: Vec<Secret>,
    /// The steps, in the file's order. They run in the order that their inputs ask for.
    #[schemars(with = "BTreeMap<String, Step>", extend("propertyNames" = { "pattern": units::NAME_PATTERN }))]
    pub steps: Vec<Step>,
    /// Where slugs are released to, in the file's order.
    #[schemars(default, with = "BTreeMap<String, Target>", extend("propertyNames" = { "pattern": units::NAME_PATTERN }))]
    pub targets: Vec<Target>,
}

/// The application.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct App {
    /// Its name, which slugs and releases carry.
    #[schemars(regex(pattern = units::NAME_PATTERN))]
    pub name: Spanned<String>,
    /// The version of Python that it runs on, such as `3.11`.
    #[schemars(regex(pattern = r"^3\.\d+$"))]
    pub python: Option<Spanned<String>>,
}

/// The directory that is built: an immutable snapshot, without what `.gitignore` and `.pipeignore` name.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// Relative to the pipeline file; the pipeline file's own directory by default.
    #[schemars(default, with = "String")]
    pub path: Spanned<PathBuf>,
    /// What else to leave out: patterns as in `.gitignore`.
    #[schemars(default)]
    pub exclude: Vec<Spanned<String>>,
}

/// What native programs stand on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Runtime {
    /// The machine's own `/usr` and Python. Slugs are marked as this machine's.
    Host {
        /// The interpreter; by default the one of the wanted version on `PATH`.
        python: Option<Spanned<PathBuf>>,
    },
    /// Debian packages, pinned in `pipe.lock`.
    Packages {
        /// Packages beyond what Python needs, at build and in production.
        system: Vec<Spanned<String>>,
        /// Packages for builds only: compilers, headers.
        build_system: Vec<Spanned<String>>,
        /// The Debian mirror.
        mirror: Option<Spanned<String>>,
        /// The Debian release.
        suite: Option<Spanned<String>>,
    },
    /// A standalone Python.
    Archive {
        /// Where its archive is.
        url: Spanned<String>,
        /// What the archive's bytes must be, in hex.
        sha256: Spanned<String>,
    },
}

/// Where Python packages come from.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Index {
    /// The index; PyPI by default.
    #[schemars(default)]
    pub url: Option<Spanned<String>>,
    /// Indexes that are asked as well.
    #[schemars(default)]
    pub extra: Vec<Spanned<String>>,
    /// Directories with wheels and sdists, relative to the pipeline file.
    #[schemars(default, with = "Vec<String>")]
    pub find_links: Vec<Spanned<PathBuf>>,
}

/// Where npm packages come from.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Npm {
    /// The registry; npm's own by default.
    #[schemars(default)]
    pub registry: Option<Spanned<String>>,
}

/// Something scarce that steps share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pool {
    /// What steps call it.
    pub name: Spanned<String>,
    /// How many of its steps run at one time, beside the limit for all.
    pub size: Spanned<usize>,
}

/// A text that programs may know and that is kept and shown nowhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secret {
    /// Its name, and that of the file under `/run/secrets` that programs read it from.
    pub name: Spanned<String>,
    /// Where the runner reads it.
    pub from: Spanned<SecretSource>,
}

/// Where a secret is read, when a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// A variable of the runner's environment.
    Variable(String),
    /// A file, relative to the pipeline file; it is no part of the source.
    File(PathBuf),
}

/// One use of a plugin.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// Its name in the pipeline, at the place of its table.
    #[schemars(skip)]
    pub name: Spanned<String>,
    /// A built-in step (`python-venv`), a file (`./my-step.wasm`), or an image (`oci://…@sha256:…`).
    #[schemars(with = "String")]
    pub plugin: Spanned<PluginRef>,
    /// What it takes in: for each port of the plugin `source`, a step's name, `step.port`, or a list of these.
    #[schemars(default, with = "BTreeMap<String, schema::OneOrMany>")]
    pub inputs: Vec<Input>,
    /// The plugin's settings, checked against its own schema.
    #[schemars(default)]
    pub config: Config,
    /// What the plugin is allowed beyond its inputs.
    #[schemars(default)]
    pub grants: Grants,
    /// What it may use up.
    #[schemars(default)]
    pub limits: Limits,
    /// The pool of `[pools]` that it runs in.
    #[schemars(default)]
    pub pool: Option<Spanned<String>>,
}

/// Which plugin a step uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PluginRef {
    /// One that is built in, by name.
    BuiltIn(String),
    /// A component file, relative to the pipeline file.
    File(PathBuf),
    /// An image in a registry: all that follows `oci://`.
    Oci(String),
}

impl PluginRef {
    /// What the pipeline calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::BuiltIn(name) | Self::Oci(name) => name.clone(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// What is bound to one port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The plugin's port.
    pub port: Spanned<String>,
    /// The values, in order; several where the port takes a list.
    pub from: Vec<Spanned<Reference>>,
}

/// A value that a step takes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// The snapshot of the source directory.
    Source,
    /// What a step gives.
    Step {
        /// The step's name.
        step: String,
        /// The output; its plugin's first where none is named.
        port: Option<String>,
    },
}

/// What a plugin is allowed beyond its inputs.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grants {
    /// Where it may fetch from by digest: `index`, `npm`, `https`, `git`.
    #[schemars(default, extend("items" = { "enum": FETCH_SOURCES }))]
    pub fetch: Option<Spanned<Vec<Spanned<String>>>>,
    /// The native programs that it may run in the sandbox, such as `python`.
    #[schemars(default)]
    pub exec: Option<Spanned<Vec<Spanned<String>>>>,
    /// The secrets of `[secrets]` that those programs find as files in `/run/secrets`.
    #[schemars(default)]
    pub secrets: Option<Spanned<Vec<Spanned<String>>>>,
}

/// What a step may use up.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// How long it may take, until what it leaves is kept, such as `90s`, `10m`, `1h30m`.
    #[schemars(default, with = "Option<String>", regex(pattern = units::DURATION_PATTERN))]
    pub time: Option<Spanned<Duration>>,
    /// How much memory it and each of its programs may take, in bytes, written such as `512MiB`, `2GiB`.
    #[schemars(default, with = "Option<String>", regex(pattern = units::SIZE_PATTERN))]
    pub memory: Option<Spanned<u64>>,
    /// How much its plugin, and each of its programs to files, may write, in bytes, written such as `512MiB`, `2GiB`.
    #[schemars(default, with = "Option<String>", regex(pattern = units::SIZE_PATTERN))]
    pub output: Option<Spanned<u64>>,
    /// How much its plugin may say, and each of its programs write to standard output and error, in bytes, written such as `512KiB`, `2MiB`.
    #[schemars(default, with = "Option<String>", regex(pattern = units::SIZE_PATTERN))]
    pub log: Option<Spanned<u64>>,
    /// How often its plugin may call the runner.
    #[schemars(default, with = "Option<u64>", range(min = 1))]
    pub calls: Option<Spanned<u64>>,
    /// How many blobs, trees and what they are made with its plugin may hold at one time.
    #[schemars(default, with = "Option<u64>", range(min = 1))]
    pub handles: Option<Spanned<u64>>,
}

/// A place that runs the application.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields, extend("oneOf" = [{ "required": ["release"] }, { "required": ["promote"] }]))]
pub struct Target {
    /// Its name in the pipeline, at the place of its table.
    #[schemars(skip)]
    pub name: Spanned<String>,
    /// What runs it: `local`, the agent on this machine; `ssh`, the same agent on the host at `server`.
    pub driver: Driver,
    /// The host of an `ssh` target, such as `ssh://deploy@example.org`; with a port and the directory of pipe's data there, where
    /// they are not the usual ones: `ssh://deploy@example.org:2222/srv/pipe`.
    #[schemars(default, with = "Option<String>", regex(pattern = "^ssh://"))]
    pub server: Option<Spanned<Address>>,
    /// Where its slugs come from.
    #[schemars(flatten, with = "schema::Origin")]
    pub origin: Origin,
    /// Whether a run only builds for it: what is built runs here once somebody says so, by `pipe release`. Nothing is ever promoted
    /// without that.
    #[schemars(default)]
    pub approval: bool,
    /// The branches whose runs release to it, such as `main`. With `feature/*` each of them has a target of its own, with data of its
    /// own: for `feature/login` it is called `review-feature-login` where this one is called `review`.
    #[schemars(default, with = "Option<String>")]
    pub branch: Option<Spanned<String>>,
    /// How long after its last release it is stopped and removed, with its data, its releases and its config: `7d`.
    #[schemars(default, with = "Option<String>", regex(pattern = units::DURATION_PATTERN))]
    pub expires: Option<Spanned<Duration>>,
    /// Its processes' environment, in the clear.
    #[schemars(default, with = "BTreeMap<String, String>")]
    pub env: BTreeMap<String, Spanned<String>>,
    /// A file of `NAME=value` lines that are no part of a slug or of the repository, relative to the pipeline file. What it says
    /// counts instead of what `env` says.
    #[schemars(default, with = "Option<String>")]
    pub env_file: Option<Spanned<PathBuf>>,
    /// Names of variables whose values are made up, at random, by the first release that has none: secret keys. The target's config keeps them.
    #[schemars(default)]
    pub generate: Vec<Spanned<String>>,
    /// Commands that run once for each release, before it is switched to: migrations.
    #[schemars(default)]
    pub release_commands: Vec<Spanned<String>>,
    /// What runs at its times, such as `17 4 * * * python manage.py clearsessions`, in UTC; never twice at one time.
    #[schemars(default, with = "BTreeMap<String, String>")]
    pub cron: BTreeMap<String, Spanned<String>>,
    /// What is the target's and outlives releases, relative to `/app/src`: directories of uploads, `SQLite` files.
    #[schemars(default)]
    pub data: Vec<Spanned<String>>,
    /// Where it listens, such as `127.0.0.1:8000`.
    #[schemars(default, with = "Option<String>")]
    pub address: Option<Spanned<SocketAddr>>,
    /// The domain that it is asked for by.
    #[schemars(default)]
    pub host: Option<Spanned<String>>,
    /// Whether Django is asked by `check --deploy` and `makemigrations --check` what it thinks of a release before that gets requests.
    #[schemars(default = "yes")]
    pub preflight: bool,
    /// The domains by which everybody reaches it. All targets of a machine share one front for their domains.
    #[schemars(default)]
    pub domains: Vec<Spanned<String>>,
    /// Where certificates for its domains come from: `acme`, Let's Encrypt; another authority, `{ acme = "https://…/directory" }`;
    /// or files on the target's machine, `{ certificate = "…", key = "…" }`.
    #[schemars(default, with = "Option<schema::Tls>")]
    pub tls: Option<Spanned<Tls>>,
    /// Where that front listens: all addresses of the machine at port 80, where nothing else is said.
    #[schemars(default, with = "Option<String>")]
    pub http: Option<Spanned<SocketAddr>>,
    /// Where it listens over TLS: all addresses of the machine at port 443, where nothing else is said.
    #[schemars(default, with = "Option<String>")]
    pub https: Option<Spanned<SocketAddr>>,
    /// The path that must answer before a release takes requests; `/` by default.
    #[schemars(default, with = "Option<String>", regex(pattern = "^/"))]
    pub health: Option<Spanned<String>>,
    /// What its requests and its release commands may take.
    #[schemars(default)]
    pub limits: TargetLimits,
}

/// What a target's requests and its release commands may take.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TargetLimits {
    /// How large the body of a request may be, in bytes, written such as `20MB`, `2GiB`; `100MB` by default.
    #[schemars(default, with = "Option<String>", regex(pattern = units::SIZE_PATTERN))]
    pub body: Option<Spanned<u64>>,
    /// How long the application may take until it begins to answer a request, such as `30s`; `5m` by default.
    #[schemars(default, with = "Option<String>", regex(pattern = units::DURATION_PATTERN))]
    pub answer: Option<Spanned<Duration>>,
    /// How long each release command may run, such as `10m`; `1h` by default.
    #[schemars(default, with = "Option<String>", regex(pattern = units::DURATION_PATTERN))]
    pub release: Option<Spanned<Duration>>,
    /// How long a web process may take until its page answers, such as `5m`; `2m` by default.
    #[schemars(default, with = "Option<String>", regex(pattern = units::DURATION_PATTERN))]
    pub start: Option<Spanned<Duration>>,
    /// How much memory each process and release command may take, with all that it starts, in bytes, written such as `512MB`, `2GiB`; as
    /// much as there is by default. Where pipe is not root it counts for each single program.
    #[schemars(default, with = "Option<String>", regex(pattern = units::SIZE_PATTERN))]
    pub memory: Option<Spanned<u64>>,
}

/// What runs a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[schemars(rename_all = "kebab-case")]
pub enum Driver {
    /// The agent on this machine.
    Local,
    /// The agent on a host that is reached over SSH.
    Ssh,
}

/// Where a target's slugs come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Origin {
    /// A run of this pipeline: the named step's slug.
    Release(Spanned<String>),
    /// What another target runs, never rebuilt.
    Promote(Spanned<String>),
}

/// Reads a pipeline; `path` is where the text is from, for messages and for what is relative to it.
///
/// Every error in the shape of the file, and in the names that its targets use, is reported; a text that is no TOML at all
/// is only reported as that. What depends on plugins is left to [`check`].
pub fn parse(path: &Path, text: &str) -> Result<Pipeline, Malformed> {
    read::pipeline(path, text)
}

/// A pipeline file that is wrong by itself, whatever its plugins.
#[derive(Debug)]
pub struct Malformed {
    /// Everything that is.
    pub errors: Vec<Diagnostic>,
    /// What could be read all the same, in which more may be wrong, and for each of its steps whether all of that could be read; none
    /// of a text that is no TOML.
    pub rest: Option<Box<(Pipeline, Vec<bool>)>>,
}

impl Pipeline {
    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| *step.name == name)
    }

    /// The target of that name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| *target.name == name)
    }

    /// The directory to take the snapshot of.
    pub fn source_directory(&self) -> PathBuf {
        self.resolve(&self.source.path)
    }

    /// What the snapshot leaves out, as patterns: what the user excludes, and the files that say how to build and release,
    /// which are no part of what is built. So secrets stay out of the slug, and a target's settings do not change it.
    pub fn source_exclude(&self) -> Vec<String> {
        let own = [self.path.clone(), LockFile::beside(&self.directory).path().to_owned()];
        let env_files = self.targets.iter().filter_map(|target| target.env_file.as_deref());
        let secrets = self.secrets.iter().filter_map(|secret| match &*secret.from {
            SecretSource::File(path) => Some(path),
            SecretSource::Variable(_) => None,
        });
        let files = own.into_iter().chain(env_files.chain(secrets).map(|path| self.resolve(path)));
        let source = self.source_directory();
        let inside = files.filter_map(|file| anchored(&source, &file));
        self.source.exclude.iter().map(ToString::to_string).chain(inside).collect()
    }

    /// A path of the file, seen from the working directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() || path == Path::new(".") {
            self.directory.clone()
        } else {
            self.directory.join(path)
        }
    }

    /// The paths of what a build reads beside the source, as the file has them: plugins, wheels, secrets.
    pub fn read_beside(&self) -> Vec<&Path> {
        let plugins = self.steps.iter().filter_map(|step| match &*step.plugin {
            PluginRef::File(path) => Some(path.as_path()),
            PluginRef::BuiltIn(_) | PluginRef::Oci(_) => None,
        });
        let secrets = self.secrets.iter().filter_map(|secret| match &*secret.from {
            SecretSource::File(path) => Some(path.as_path()),
            SecretSource::Variable(_) => None,
        });
        plugins.chain(self.index.find_links.iter().map(|path| path.as_path())).chain(secrets).collect()
    }

    /// A message about a place of this pipeline.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.document, span, message)
    }
}

impl Grants {
    /// The sources that it may fetch from.
    pub fn fetch(&self) -> impl Iterator<Item = &str> {
        self.fetch.iter().flat_map(|names| names.iter()).map(|name| name.as_str())
    }

    /// The programs that it may run.
    pub fn exec(&self) -> impl Iterator<Item = &str> {
        self.exec.iter().flat_map(|names| names.iter()).map(|name| name.as_str())
    }

    /// The secrets that those programs may read.
    pub fn secrets(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.secrets.iter().flat_map(|names| names.iter())
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self::Host { python: None }
    }
}

/// The pattern for one file of a directory, if it is in there.
pub(crate) fn anchored(directory: &Path, file: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = parent.canonicalize().ok()?.join(file.file_name()?);
    let relative = file.strip_prefix(directory).ok()?.to_str().filter(|relative| !relative.is_empty())?;
    Some(format!("/{}", globset::escape(relative)))
}

const fn default_version() -> i64 {
    VERSION
}

fn default_platform() -> String {
    PLATFORMS[0].to_owned()
}

#[cfg(test)]
mod tests;

fn yes() -> bool {
    true
}
