//! Plugins: components that are loaded, described and run, each time in a fresh Wasm store with nothing ambient in it.
//!
//! Knows what a component may import and what it costs at most; knows nothing of pipelines, caching or the order of steps.

mod bindings;
mod builtin;
mod compile;
mod compiled;
mod host;
mod observe;
mod run;
mod wasi;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::description::PluginDescription;
use crate::digest::Digest;
use crate::store::{Store, StoreError};

pub use builtin::{Builtin, builtins};
pub use compiled::{check_compiled, collect_compiled};
pub use host::{Code, Failure, Grants, Pin, RUNTIME_OF_PROGRAMS, Services};
pub use observe::{Changed, Grounds, How, Observation, Pinned, Place, World};
pub use run::{Answer, Binding, Call, Limits, Value};

use run::Ready;

/// Raised when a change to how plugins run could change what they give.
pub const DETERMINISM: u32 = 1;

/// A plugin that has described itself, in this run or in one before.
pub struct Plugin {
    /// The digest of its file.
    pub digest: Digest,
    /// What it says of itself.
    pub description: PluginDescription,
    name: String,
    file: Cow<'static, [u8]>,
    /// Its machine code with all that it imports; only where a step of it has to run.
    ready: Mutex<Option<Ready>>,
}

/// What can be wrong with a plugin, whatever it is asked to do.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The bytes are not a component.
    #[error("plugin `{name}`: not a WebAssembly component")]
    NotAComponent {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What is wrong with it.
        source: wasmtime::Error,
    },
    /// The bytes are no WebAssembly at all.
    #[error("plugin `{name}`: not a WebAssembly component: {found}")]
    NotWasm {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What they are instead.
        found: &'static str,
    },
    /// It asks for an interface that does not exist here.
    #[error("plugin `{name}`: asks for `{import}`, which this runner does not have")]
    UnknownImport {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What it imports.
        import: String,
    },
    /// It is a component, but not a step.
    #[error("plugin `{name}`: not a step of `pipe:step@0.1.0`")]
    NotAStep {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What is missing.
        source: wasmtime::Error,
    },
    /// It trapped, or passed a limit, while it was asked to describe itself.
    #[error("plugin `{name}`: cannot describe itself")]
    Describe {
        /// The plugin, as the pipeline names it.
        name: String,
        /// The last that it wrote to its standard streams.
        said: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// It says of itself what cannot be.
    #[error("plugin `{name}`: cannot be what it says that it is: {why}")]
    Description {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Its own config schema is no JSON.
    #[error("plugin `{name}`: its config schema is not JSON")]
    Schema {
        /// The plugin, as the pipeline names it.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The engine does not start.
    #[error("the WebAssembly engine does not start")]
    Engine(#[source] wasmtime::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PluginError {
    /// Whether the plugin's file is at fault, rather than this machine.
    pub const fn is_the_files(&self) -> bool {
        !matches!(self, Self::Engine(_) | Self::Store(_))
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotWasm { .. } | Self::NotAComponent { .. } => Some(
                "build it with `cargo build --release --target wasm32-unknown-unknown`, or see the SDK's page"
                    .to_owned(),
            ),
            Self::UnknownImport { import, .. } => Some(unknown_import(import).to_owned()),
            Self::NotAStep { .. } => Some("export `pipe:step/guest@0.1.0`: `pipe_sdk::step!` does".to_owned()),
            Self::Describe { said, .. } if !said.is_empty() => Some(format!("{AUTHORS_FAULT} what it said:\n{said}")),
            Self::Describe { .. } | Self::Description { .. } | Self::Schema { .. } => Some(AUTHORS_FAULT.to_owned()),
            Self::Engine(_) => None,
            Self::Store(error) => error.hint(),
        }
    }
}

/// The plugins of a pipeline, and the engine that runs them, which starts when the first of them has to run.
pub struct Plugins {
    engine: Mutex<Option<Engine>>,
    compiled: compile::Cache,
    store: Store,
    loaded: Mutex<HashMap<Digest, Arc<Plugin>>>,
}

impl Plugins {
    /// Plugins whose machine code and descriptions are kept in `home`.
    pub fn open(home: &Path, store: &Store) -> Result<Self, PluginError> {
        let compiled = compile::Cache::open(home)?;
        Ok(Self { engine: Mutex::default(), compiled, store: store.clone(), loaded: Mutex::default() })
    }

    /// Loads a plugin from the bytes of its file: a component, or a core module that says what component it wants to be.
    pub fn load(&self, name: &str, file: impl Into<Cow<'static, [u8]>>) -> Result<Arc<Plugin>, PluginError> {
        let file = file.into();
        let digest = Digest::of(&file);
        if let Some(plugin) = self.loaded.lock().expect(POISONED).get(&digest) {
            return Ok(Arc::clone(plugin));
        }
        let description = match self.compiled.description(&digest) {
            Some(description) => description,
            None => self.describe(name, &file, &digest)?,
        };
        let ready = Mutex::default();
        let plugin = Arc::new(Plugin { digest, description, name: name.to_owned(), file, ready });
        self.loaded.lock().expect(POISONED).insert(digest, Arc::clone(&plugin));
        Ok(plugin)
    }

    /// What was made with plugins under this name, if it was and is whole.
    pub fn made(&self, name: &Digest) -> Option<Vec<u8>> {
        self.compiled.made(name)
    }

    /// Keeps what was made with plugins, for as long as it is of use.
    pub fn keep_made(&self, name: &Digest, made: &[u8]) -> Result<(), StoreError> {
        self.compiled.keep_made(name, made)
    }

    /// Asks a component to describe itself, once: the answer is kept.
    fn describe(&self, name: &str, file: &[u8], digest: &Digest) -> Result<PluginDescription, PluginError> {
        let engine = self.engine()?;
        let component = self.compiled.component(&engine, name, file, digest)?;
        let capabilities = capabilities(&engine, name, &component)?;
        let description = run::describe(&engine, &self.store, name, &component, capabilities)?;
        self.compiled.keep_description(digest, &description)?;
        Ok(description)
    }

    fn engine(&self) -> Result<Engine, PluginError> {
        let mut engine = self.engine.lock().expect(POISONED);
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        Ok(engine.insert(compile::engine().map_err(PluginError::Engine)?).clone())
    }

    /// Runs a plugin once.
    pub fn run(&self, plugin: &Plugin, call: Call<'_>) -> Result<Answer, Failure> {
        let ready = self.ready(plugin).map_err(|error| {
            let code = if error.is_the_files() { Code::Internal } else { Code::Unavailable };
            let failure = Failure { retryable: false, ..Failure::of(code, &error) };
            error.hint().into_iter().fold(failure, Failure::hint)
        })?;
        run::run(&ready, &self.store, &plugin.description, call)
    }

    fn ready(&self, plugin: &Plugin) -> Result<Ready, PluginError> {
        let mut ready = plugin.ready.lock().expect(POISONED);
        if let Some(ready) = &*ready {
            return Ok(ready.clone());
        }
        let engine = self.engine()?;
        let component = self.compiled.component(&engine, &plugin.name, &plugin.file, &plugin.digest)?;
        let linked = run::link(&engine, &component, plugin.wants_wasi())
            .map_err(|source| PluginError::NotAStep { name: plugin.name.clone(), source })?;
        Ok(ready.insert(linked).clone())
    }
}

impl Plugin {
    /// Whether WASI must be lent to it.
    fn wants_wasi(&self) -> bool {
        self.description.capabilities.iter().any(|capability| capability == WASI)
    }
}

/// What the import list asks for; refuses what nobody here can give.
fn capabilities(engine: &Engine, name: &str, component: &Component) -> Result<Vec<String>, PluginError> {
    let mut capabilities = Vec::new();
    for (import, _) in component.component_type().imports(engine) {
        match capability(import) {
            Some("") => {}
            Some(capability) => capabilities.push(capability.to_owned()),
            None => return Err(PluginError::UnknownImport { name: name.to_owned(), import: import.to_owned() }),
        }
    }
    capabilities.sort();
    capabilities.dedup();
    Ok(capabilities)
}

/// The capability that an import asks for, empty for what every step has; none where nobody here can give it.
fn capability(import: &str) -> Option<&'static str> {
    let (interface, version) = import.split_once('@')?;
    let (package, interface) = interface.split_once('/')?;
    match (package, interface) {
        ("pipe:step", _) if !version.starts_with("0.1.") => None,
        ("pipe:step", "types" | "store" | "archive" | "context" | "log") => Some(""),
        ("pipe:step", "exec") => Some("exec"),
        ("pipe:step", "fetch") => Some("fetch"),
        ("wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random" | "wasi:sockets", _)
            if version.starts_with("0.2.") =>
        {
            Some(WASI)
        }
        _ => None,
    }
}

/// What to do about an import that nobody here can give.
fn unknown_import(import: &str) -> &'static str {
    if import.starts_with("pipe:step/") {
        "update `pipe`, or build the plugin against this version's `wit/`"
    } else if import.starts_with("wasi:http/") {
        "a step has no network; build it without: with componentize-js, `disableFeatures: ['http', 'fetch-event']`"
    } else {
        "a step can import `pipe:step`, and WASI 0.2 without `wasi:http`"
    }
}

/// The capability of components that bring the runtime of a language.
const WASI: &str = "wasi";

const AUTHORS_FAULT: &str = "this is the plugin's fault: tell its author";

const POISONED: &str = "no thread panics while it holds a lock of the plugins";
