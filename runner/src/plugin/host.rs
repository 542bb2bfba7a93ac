//! What a running step can ask for: one room per capability, and the values that it holds handles on.
//!
//! Every answer about an input is recorded as an [`Observation`]. Knows nothing of who compares them later.

mod archive;
mod context;
mod exec;
mod fetch;
pub(super) mod handles;
pub(super) mod said;
mod store;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use wasmtime::component::{ResourceTable, ResourceTableError};

use super::AUTHORS_FAULT;
use super::bindings::pipe::step::types;
use super::observe::{Observation, Place};
use super::run::{Limits, Value};
use crate::digest::Digest;
use crate::event::{Events, Fault};
use crate::exec::{Executor, shown};
use crate::fetch::Fetcher;
use crate::secret::Secrets;
use crate::store::{Store, StoreError, Until};

use handles::{Blob, Builder, Command, Origin, Outcome, Tree, Writer};
use said::{MESSAGE, NAME, Paced, cut};

/// What kind of failure ended a step, or a call that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// The config or an input is the user's to mend.
    InvalidConfig,
    /// A port that is needed has nothing bound to it.
    MissingInput,
    /// The pipeline does not grant it.
    Denied,
    /// A limit was passed.
    LimitExceeded,
    /// The network, a registry or the machine failed.
    Unavailable,
    /// It took too long.
    TimedOut,
    /// The run was stopped.
    Cancelled,
    /// The work itself failed.
    Failed,
    /// The store cannot be written, or holds something damaged.
    Storage,
    /// The plugin or the runner is at fault.
    Internal,
    /// Whatever else a plugin says.
    Other(String),
}

impl Code {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::InvalidConfig
            | Self::MissingInput
            | Self::Denied
            | Self::LimitExceeded
            | Self::Failed
            | Self::Other(_) => Fault::Step,
            Self::Unavailable | Self::Storage => Fault::Environment,
            Self::TimedOut => Fault::TimedOut,
            Self::Cancelled => Fault::Cancelled,
            Self::Internal => Fault::Plugin,
        }
    }
}

/// Why a step, or a call that it made, gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Its kind.
    pub code: Code,
    /// What failed and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether another try may pass.
    pub retryable: bool,
}

impl Failure {
    /// A failure without a remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retryable = code == Code::Unavailable;
        Self { code, message: message.into(), hint: None, retryable }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with all its causes, in one line.
    pub(crate) fn of(code: Code, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            _ if error.is_storage() => Code::Storage,
            StoreError::Changed(_) => Code::Unavailable,
            StoreError::Holes(_) => Code::LimitExceeded,
            StoreError::Stopped => Code::Cancelled,
            StoreError::TooLate(_) => Code::TimedOut,
            StoreError::Path { .. }
            | StoreError::TooDeep
            | StoreError::TooLarge
            | StoreError::TooManyPaths
            | StoreError::Conflict(_) => Code::Failed,
            _ => Code::Internal,
        };
        Self { hint: error.hint(), retryable: false, ..Self::of(code, &error) }
    }
}

/// What a plugin does that passes the limit on handles; how to raise it is for whoever knows its step.
pub(super) const TOO_MANY_HANDLES: &str = "held more handles at one time than its limit";

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => Self::new(Code::LimitExceeded, TOO_MANY_HANDLES),
            error => Self::of(Code::Internal, &error).hint(AUTHORS_FAULT),
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            Code::InvalidConfig => types::ErrorCode::InvalidConfig,
            Code::MissingInput => types::ErrorCode::MissingInput,
            Code::Denied => types::ErrorCode::Denied,
            Code::LimitExceeded => types::ErrorCode::LimitExceeded,
            Code::Unavailable => types::ErrorCode::Unavailable,
            Code::TimedOut => types::ErrorCode::TimedOut,
            Code::Cancelled => types::ErrorCode::Cancelled,
            Code::Failed => types::ErrorCode::Failed,
            Code::Storage | Code::Internal => types::ErrorCode::Internal,
            Code::Other(name) => types::ErrorCode::Other(name),
        };
        Self { code, message: failure.message, hint: failure.hint, retryable: failure.retryable }
    }
}

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        let code = match failure.code {
            types::ErrorCode::InvalidConfig => Code::InvalidConfig,
            types::ErrorCode::MissingInput => Code::MissingInput,
            types::ErrorCode::Denied => Code::Denied,
            types::ErrorCode::LimitExceeded => Code::LimitExceeded,
            types::ErrorCode::Unavailable => Code::Unavailable,
            types::ErrorCode::TimedOut => Code::TimedOut,
            // Only whoever watches the run can say that it was stopped; the plugin would not hear of it.
            types::ErrorCode::Cancelled | types::ErrorCode::Failed => Code::Failed,
            types::ErrorCode::Internal => Code::Internal,
            types::ErrorCode::Other(name) => Code::Other(cut(name, NAME)),
        };
        let hint = failure.hint.map(|hint| cut(hint, MESSAGE));
        if failure.message.trim().is_empty() {
            let hint = hint.or_else(|| Some(AUTHORS_FAULT.to_owned()));
            return Self {
                code,
                message: "the plugin failed without a word".to_owned(),
                hint,
                retryable: failure.retryable,
            };
        }
        Self { code, message: cut(failure.message, MESSAGE), hint, retryable: failure.retryable }
    }
}

/// What the context calls all that native programs run on: the runtime, what builds need besides, and tools.
pub const RUNTIME_OF_PROGRAMS: &str = "runtime.build";

/// What a pipeline grants a step, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Programs that may be run.
    pub exec: Vec<String>,
    /// Sources that may be fetched from.
    pub fetch: Vec<String>,
    /// Secrets that programs may read.
    pub secrets: Vec<String>,
}

/// Answers `fetch.pin`: source, requirements and constraints give JSON.
pub type Pin = Arc<dyn Fn(&str, &[String], &[String]) -> Result<String, Failure> + Send + Sync>;

/// What a step is run with, besides its config and inputs.
#[derive(Clone)]
pub struct Services {
    /// The step's name, for events.
    pub step: String,
    /// Where its messages go.
    pub events: Events,
    /// What it may do.
    pub grants: Grants,
    /// What the pipeline says about the whole run, by name.
    pub context: Arc<BTreeMap<String, String>>,
    /// The secrets that its programs see.
    pub secrets: Secrets,
    /// Runs native programs.
    pub executor: Arc<Executor>,
    /// Fetches by digest.
    pub fetcher: Fetcher,
    /// Resolves versions into `pipe.lock`.
    pub pin: Pin,
    /// When its time is over.
    pub deadline: Instant,
    /// What it and its native programs may use up.
    pub limits: Limits,
    /// Set when the run is stopped.
    pub cancel: Arc<AtomicBool>,
}

impl Services {
    /// Until when the step's work is wanted.
    pub(crate) fn until(&self) -> Until {
        Until::cancelled(&self.cancel).within(self.limits.time, self.deadline)
    }
}

/// How much of its limits a step has not used up.
pub(super) struct Left {
    /// Bytes to write.
    pub(super) output: u64,
    /// Bytes to say, with [`said::EACH`] for each message.
    pub(super) log: u64,
    /// Calls to make.
    pub(super) calls: u64,
}

/// The state of one running step.
pub(super) struct Host {
    pub(super) store: Store,
    pub(super) table: ResourceTable,
    pub(super) memory: super::run::Memory,
    pub(super) wasi: super::wasi::Wasi,
    /// None while a plugin describes itself: it has no inputs and may ask for nothing.
    pub(super) services: Option<Services>,
    pub(super) observations: HashSet<Observation>,
    pub(super) left: Left,
    pub(super) progress: Paced,
    /// Whether the same inputs would give the same again: not where something that was asked for was not to be had.
    pub(super) lasting: bool,
}

impl Host {
    /// Counts a call and gives the services, which a plugin that describes itself does not have.
    fn services(&mut self) -> Result<&Services, Failure> {
        self.count()?;
        self.services.as_ref().ok_or_else(|| Failure::new(Code::Denied, "`describe` may not ask for anything"))
    }

    /// Counts a call; ends a step of which nothing is wanted any more, or that makes too many.
    fn count(&mut self) -> Result<(), Failure> {
        self.store.until().look()?;
        self.spend(1, "calls", "made more calls into the runner", |left| &mut left.calls)?;
        Ok(())
    }

    /// Takes from what a limit leaves; ends a step that has nothing left.
    fn spend(&mut self, by: usize, limit: &str, did: &str, of: fn(&mut Left) -> &mut u64) -> Result<(), Failure> {
        let left = of(&mut self.left);
        if let Some(rest) = left.checked_sub(by as u64) {
            *left = rest;
            return Ok(());
        }
        let (step, limits) = self
            .services
            .as_ref()
            .map_or(("", Limits::default()), |services| (services.step.as_str(), services.limits));
        let whole = match limit {
            "calls" => limits.calls.to_string(),
            "output" => shown(limits.output),
            _ => shown(limits.log),
        };
        Err(Failure::new(Code::LimitExceeded, format!("{did} than its limit of {whole}"))
            .hint(format!("raise `limits.{limit}` of `[steps.{step}]`, if the plugin is right to")))
    }

    /// Counts a text that is held for the step; ends one for which too much is.
    fn hold(&mut self, text: &str) -> Result<(), Failure> {
        self.memory.grow(text.len() + size_of::<String>())
    }

    /// Records what an answer about an input was.
    fn observe(&mut self, origin: &Origin, observation: impl FnOnce(Place) -> Observation) -> Result<(), Failure> {
        origin.as_ref().map_or(Ok(()), |place| self.note(observation(place.clone())))
    }

    /// Records what an answer was; ends a step for which too much is remembered.
    fn note(&mut self, observation: Observation) -> Result<(), Failure> {
        let size = observation.size();
        if self.observations.insert(observation) { self.memory.grow(size) } else { Ok(()) }
    }

    /// Records that a value was read whole, or passed on.
    fn observe_content(&mut self, origin: &Origin, digest: Digest) -> Result<(), Failure> {
        self.observe(origin, |at| Observation::Content { at, digest })
    }

    /// Lends an input to the step.
    pub(super) fn lend(
        &mut self,
        input: usize,
        value: &Value,
    ) -> Result<super::bindings::exports::pipe::step::guest::Value, Failure> {
        use super::bindings::exports::pipe::step::guest;
        let origin = Some(Place { input, path: String::new() });
        Ok(match value {
            Value::Blob(digest) => {
                guest::Value::Blob(self.table.push(Blob { digest: *digest, origin, reader: None })?)
            }
            Value::Tree(digest) => guest::Value::Tree(self.table.push(Tree { digest: *digest, origin })?),
        })
    }

    /// Takes an output from the step.
    pub(super) fn take(&mut self, value: super::bindings::exports::pipe::step::guest::Value) -> Result<Value, Failure> {
        use super::bindings::exports::pipe::step::guest;
        match value {
            guest::Value::Blob(blob) => {
                let blob = self.table.delete(blob)?;
                self.observe_content(&blob.origin, blob.digest)?;
                Ok(Value::Blob(blob.digest))
            }
            guest::Value::Tree(tree) => {
                let tree = self.table.delete(tree)?;
                self.observe_content(&tree.origin, tree.digest)?;
                Ok(Value::Tree(tree.digest))
            }
        }
    }
}

impl types::Host for Host {
    fn convert_failure(&mut self, failure: Failure) -> wasmtime::Result<types::Failure> {
        // What is no property of the inputs is not shown to a step: it could make an output of it, which would be kept.
        match failure.code {
            Code::Cancelled | Code::TimedOut | Code::LimitExceeded | Code::Storage | Code::Internal => {
                Err(failure.into())
            }
            Code::Unavailable => {
                self.lasting = false;
                Ok(failure.into())
            }
            _ => Ok(failure.into()),
        }
    }
}
