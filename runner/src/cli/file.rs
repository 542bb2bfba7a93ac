//! The pipeline file, as the commands that work on one are given it.

use std::path::{Path, PathBuf};

use runner::pipeline::{self, Pipeline};
use runner::run::{Project, read_pipeline};

use super::{Context, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct FileArg {
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

/// The pipeline of a command that builds nothing, as far as it can be told without its plugins.
pub(super) fn parsed(file: Option<&Path>) -> Result<Pipeline, Failure> {
    let (path, text) = read_pipeline(file)?;
    pipeline::parse(&path, &text).map_err(|malformed| Failure::diagnostics(malformed.errors))
}

impl FileArg {
    /// Opens the pipeline and checks all of it; `locked` refuses to resolve anything anew.
    pub(super) fn open(&self, context: &Context, locked: bool) -> Result<Project, Failure> {
        Ok(Project::open(&context.home()?, self.file.as_deref(), locked)?)
    }

    /// Opens the pipeline and checks all of it, to look at what would become of it.
    pub(super) fn open_to_look(&self, context: &Context) -> Result<Project, Failure> {
        Ok(Project::open_to_look(&context.home()?, self.file.as_deref())?)
    }
}
