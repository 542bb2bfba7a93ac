//! The pipeline file, as the commands that work on one are given it.

use std::path::PathBuf;

use runner::run::Project;

use super::{Context, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct FileArg {
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl FileArg {
    /// Opens the pipeline and checks all of it; `locked` refuses to resolve anything anew.
    pub(super) fn open(&self, context: &Context, locked: bool) -> Result<Project, Failure> {
        Ok(Project::open(&context.home()?, self.file.as_deref(), locked)?)
    }
}
