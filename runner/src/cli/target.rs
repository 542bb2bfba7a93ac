//! A target, as the commands that are about one are given it.

use std::fs;

use runner::diagnostic::nearest;
use runner::pipeline::{self, FILE_NAME, Pipeline};
use runner::release::{History, HistoryError, ReleaseError, SettingsError};

use super::failure::Kind;
use super::{Context, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct TargetArg {
    /// The target, such as `staging`; `APP/TARGET` where several applications have one of that name.
    #[arg(value_name = "TARGET")]
    target: String,
}

/// A target that has taken releases.
pub(super) struct Known {
    pub(super) app: String,
    pub(super) name: String,
}

impl TargetArg {
    /// The target that is meant, among those of the state.
    pub(super) fn find(&self, context: &Context) -> Result<Known, Failure> {
        find(&self.target, context)
    }
}

impl TargetArg {
    /// The same; or else one of the pipeline file in the current directory, which may never have taken a release.
    pub(super) fn find_or_planned(&self, context: &Context) -> Result<Known, Failure> {
        match (self.find(context), pipeline_here()) {
            (Err(_), Some(pipeline)) if pipeline.target(&self.target).is_some() => {
                Ok(Known { app: pipeline.app.name.to_string(), name: self.target.clone() })
            }
            (found, _) => found,
        }
    }
}

/// The target of a pipeline that has this name.
pub(super) fn of_pipeline<'a>(pipeline: &'a Pipeline, name: &str) -> Result<&'a pipeline::Target, Failure> {
    pipeline.target(name).ok_or_else(|| {
        let names: Vec<_> = pipeline.targets.iter().map(|target| format!("`{}`", *target.name)).collect();
        let near = nearest(name, pipeline.targets.iter().map(|target| target.name.as_str()));
        Failure::new(Kind::Usage, format!("the pipeline has no target `{name}`"))
            .hints(near.map(|near| format!("did you mean `{near}`?")))
            .hint(format!("its targets are {}", names.join(", ")))
    })
}

pub(super) fn find(text: &str, context: &Context) -> Result<Known, Failure> {
    let mut known = match History::existing(&context.home()?)? {
        Some(history) => history.targets()?,
        None => Vec::new(),
    };
    let full: Vec<String> = known.iter().map(|(app, name)| format!("{app}/{name}")).collect();
    let short: Vec<String> = known.iter().map(|(_, name)| name.clone()).collect();
    let all: Vec<String> = full.iter().map(|name| format!("`{name}`")).collect();
    match text.split_once('/') {
        Some(wanted) => known.retain(|(app, name)| (app.as_str(), name.as_str()) == wanted),
        None => known.retain(|(_, name)| name == text),
    }
    if known.len() > 1
        && let Some(here) = pipeline_here()
    {
        known.retain(|(app, _)| *app == *here.app.name);
    }
    match known.pop() {
        Some((app, name)) if known.is_empty() => Ok(Known { app, name }),
        Some(_) => Err(Failure::new(Kind::Usage, format!("several applications have a target `{text}`"))
            .hint(format!("name one of {}", all.join(", ")))),
        None if all.is_empty() => {
            Err(Failure::new(Kind::Usage, format!("no target `{text}`: nothing was released yet"))
                .hint("`pipe run` releases"))
        }
        None => {
            let candidates = if text.contains('/') { full } else { short };
            let near = nearest(text, candidates.iter().map(String::as_str));
            Err(Failure::new(Kind::Usage, format!("no target `{text}` has taken a release"))
                .hints(near.map(|near| format!("did you mean `{near}`?")))
                .hint(format!("these have: {}", all.join(", "))))
        }
    }
}

/// The pipeline file in the current directory, if there is one that can be read.
fn pipeline_here() -> Option<Pipeline> {
    let text = fs::read_to_string(FILE_NAME).ok()?;
    pipeline::parse(FILE_NAME.as_ref(), &text).ok()
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        Self::of(Kind::Environment, &error).hints(error.hint())
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::of(Kind::Pipeline, &error).hints(error.hint())
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        let kind = match &error {
            ReleaseError::NotReleased(_)
            | ReleaseError::NothingToPromote { .. }
            | ReleaseError::NeverHealthy { .. } => Kind::Release,
            ReleaseError::NoSuchRelease { .. } | ReleaseError::NothingEarlier(_) => Kind::Usage,
            ReleaseError::Agent(_) | ReleaseError::History(_) => Kind::Environment,
            ReleaseError::Answer => Kind::Internal,
            ReleaseError::Cancelled => Kind::Cancelled,
        };
        Self::of(kind, &error).hints(error.hint())
    }
}
