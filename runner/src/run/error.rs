//! Why a run gave nothing, and whose fault that is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::event::Fault;
use crate::fetch::FetchError;
use crate::lock::LockError;
use crate::pipeline::InitError;
use crate::plan::PlanError;
use crate::plugin::{Failure, PluginError};
use crate::runtime::RuntimeError;
use crate::secret::{KeyError, SecretError};
use crate::slug::{self, SlugError};
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a run gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pipeline file cannot be read.
    #[error("cannot read the pipeline `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The pipeline has no step that gives a slug.
    #[error("no step of the pipeline gives a slug")]
    NoSlug,
    /// There is no pipeline file, and no project that has a built-in one.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The pipeline is wrong: every place of it that is.
    #[error("the pipeline is wrong")]
    Pipeline(Vec<Diagnostic>),
    /// A plugin, or the engine, is at fault.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A lock is missing, stale or cannot be resolved.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What is fetched from is wrong.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There is no such runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no key for the pipeline's secrets.
    #[error(transparent)]
    Key(KeyError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What a step gave is no slug.
    #[error(transparent)]
    Slug(#[from] SlugError),
    /// A step failed.
    #[error("step `{step}` failed")]
    Step {
        /// Which one.
        step: String,
        /// Why.
        #[source]
        failure: Failure,
        /// The slugs that were built nevertheless, by the step that gave each.
        slugs: Box<BTreeMap<String, slug::Record>>,
    },
    /// The operating system gives no threads.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
    /// The user stopped it.
    #[error("the run was stopped")]
    Cancelled,
}

impl From<PlanError> for RunError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Pipeline(diagnostics) => Self::Pipeline(diagnostics),
            PlanError::Plugin(error) => Self::Plugin(error),
        }
    }
}

impl From<SecretError> for RunError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Unreadable(diagnostics) => Self::Pipeline(diagnostics),
            SecretError::Key(error) => Self::Key(error),
        }
    }
}

impl RunError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Read { .. } | Self::NoSlug | Self::Init(_) | Self::Pipeline(_) => Fault::Pipeline,
            Self::Plugin(error) if error.is_the_files() => Fault::Plugin,
            Self::Source(error) if error.is_the_pipelines() => Fault::Pipeline,
            Self::Lock(error) if !error.is_environment() => Fault::Step,
            Self::Slug(error) if !error.is_environment() => Fault::Plugin,
            Self::Plugin(_)
            | Self::Lock(_)
            | Self::Fetch(_)
            | Self::Runtime(_)
            | Self::Key(_)
            | Self::Source(_)
            | Self::Store(_)
            | Self::Slug(_)
            | Self::Threads(_) => Fault::Environment,
            Self::Step { failure, .. } => failure.code.fault(),
            Self::Cancelled => Fault::Cancelled,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Init(error) => Some(error.hint()),
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("`pipe init` writes one".to_owned())
            }
            Self::Read { .. } => {
                Some("a pipeline is a text file, or a directory with a `release.pipeline` in it".to_owned())
            }
            Self::NoSlug => Some("add a step with `plugin = \"slug\"`".to_owned()),
            Self::Plugin(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::Key(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Slug(error) => error.hint(),
            Self::Step { failure, .. } => failure.hint.clone(),
            Self::Pipeline(_) | Self::Threads(_) | Self::Cancelled => None,
        }
    }
}
