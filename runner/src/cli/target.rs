//! A target, as the commands that are about one are given it; and `pipe target`.

mod add;
mod list;
mod remove;

use std::fs;
use std::path::Path;

use runner::diagnostic::nearest;
use runner::event::Location;
use runner::pipeline::{self, FILE_NAME, Pipeline, Spanned};
use runner::release::{
    BootError, History, HistoryError, Place, Release, ReleaseError, Repeated, SettingsError, Target, TargetStatus,
};
use runner::remote::RemoteError;
use runner::source;

use super::failure::Kind;
use super::{Context, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct TargetArg {
    /// The target, such as `staging`; `APP/TARGET` where several applications have one of that name.
    #[arg(value_name = "TARGET")]
    target: String,
}

/// The machines that targets are on.
#[derive(Debug, clap::Args)]
pub(super) struct TargetArgs {
    #[command(subcommand)]
    command: TargetCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TargetCommand {
    Add(add::AddArgs),
    List(list::ListArgs),
    Remove(remove::RemoveArgs),
}

pub(super) fn target(args: &TargetArgs, context: &Context) -> Result<(), Failure> {
    match &args.command {
        TargetCommand::Add(args) => add::add(args, context),
        TargetCommand::List(args) => list::list(args, context),
        TargetCommand::Remove(args) => remove::remove(args, context),
    }
}

/// A target that has taken releases, or could.
pub(super) struct Known {
    pub(super) app: String,
    pub(super) name: String,
    pub(super) place: Place,
}

impl Known {
    /// What it is called among the targets of all applications.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }

    /// Whether it is the one that something runs for.
    pub(super) fn is(&self, status: &TargetStatus) -> bool {
        (&self.app, &self.name) == (&status.app, &status.target)
    }

    /// That nothing runs there, and what brings back what did.
    pub(super) fn nothing_runs(&self) -> Result<String, Failure> {
        let name = &self.name;
        let releases = self.place.releases(&self.app, name)?;
        Ok(match releases.iter().rev().find(|release| release.stage.is_switched()) {
            Some(Release { number, .. }) => {
                format!("nothing runs on `{name}`; `pipe rollback {name} {number}` brings release {number} back\n")
            }
            None if releases.is_empty() => format!("nothing runs on `{name}`, which has no release\n"),
            None => format!("nothing runs on `{name}`, whose releases have all failed: `pipe releases {name}`\n"),
        })
    }
}

impl TargetArg {
    /// The target that is meant, among those of the state.
    pub(super) fn find(&self, context: &Context) -> Result<Known, Failure> {
        find(&self.target, context)
    }

    /// The same; or else one of the pipeline file in the current directory, which may never have taken a release.
    pub(super) fn find_or_planned(&self, context: &Context) -> Result<Known, Failure> {
        match (self.find(context), pipeline_here()) {
            (Err(failure), Some(pipeline)) => planned(&self.target, &pipeline, context).unwrap_or(Err(failure)),
            (found, _) => found,
        }
    }
}

/// The name of a target, and the number of its release where one is named: `staging@7`.
pub(super) fn with_release(text: &str) -> Result<(&str, Option<u64>), Failure> {
    let Some((name, number)) = text.rsplit_once('@') else { return Ok((text, None)) };
    let no_number = |_| {
        let message = format!("`{number}` is no number of a release of `{name}`, such as `{name}@1`");
        Failure::new(Kind::Usage, message).hint(format!("`pipe releases {name}` lists them"))
    };
    number.parse().map(|number| (name, Some(number))).map_err(no_number)
}

/// The target of a pipeline that has this name; where each branch has one of its own, that of the branch that is checked out, by
/// that name or by its own.
pub(super) fn of_pipeline(pipeline: &Pipeline, name: &str) -> Result<pipeline::Target, Failure> {
    let name = name.strip_prefix(&*pipeline.app.name).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
    if let Some(target) = pipeline.target(name) {
        if !target.is_of_many_branches() {
            return Ok(target.clone());
        }
        return on_branch(pipeline, target, None).map_err(|message| {
            Failure::new(Kind::Usage, message).hint("check one of them out; each has a target of its own")
        });
    }
    let of_many = pipeline.targets.iter().filter(|target| target.is_of_many_branches());
    let here = of_many.filter_map(|target| on_branch(pipeline, target, None).ok()).find(|target| *target.name == name);
    here.ok_or_else(|| {
        let names: Vec<_> = pipeline.targets.iter().map(|target| format!("`{}`", *target.name)).collect();
        let near = nearest(name, pipeline.targets.iter().map(|target| target.name.as_str()));
        Failure::new(Kind::Usage, format!("the pipeline has no target `{name}`"))
            .hints(near.map(|near| format!("did you mean `{near}`?")))
            .hint(if names.is_empty() {
                format!("it has none: add `[targets.{name}]` with a `driver`, and a step to `release`")
            } else {
                format!("its targets are {}", names.join(", "))
            })
    })
}

/// A target of a pipeline as it is for a branch, or else for the one that is checked out, or that CI says it builds; or why there is
/// none for it.
pub(super) fn on_branch(
    pipeline: &Pipeline,
    target: &pipeline::Target,
    branch: Option<&str>,
) -> Result<pipeline::Target, String> {
    let Some(pattern) = target.branch.as_deref() else { return Ok(target.clone()) };
    let name = &*target.name;
    let branch = branch.map(str::to_owned).or_else(|| source::branch(&pipeline.source_directory()));
    let branch = branch.or_else(|| of_ci(target.is_of_many_branches(), |name| std::env::var(name).ok()));
    let branch = branch.ok_or_else(|| format!("`{name}` is for the branch `{pattern}`, and none is checked out"))?;
    target.on(&branch).ok_or_else(|| format!("`{name}` is for the branch `{pattern}`, and this is `{branch}`"))
}

/// The branch that GitHub or GitLab builds, which check out none. What somebody asks to merge is not on any branch yet, and its
/// own may be called like one that is released: it counts where each branch has a target of its own.
fn of_ci(is_of_many: bool, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let variable = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let asked = ["GITHUB_HEAD_REF", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"].iter().find_map(variable);
    if asked.is_some() {
        return asked.filter(|_| is_of_many);
    }
    let is_branch = variable(&"GITHUB_REF_TYPE").is_some_and(|kind| kind == "branch");
    variable(if is_branch { &"GITHUB_REF_NAME" } else { &"CI_COMMIT_BRANCH" })
}

/// A target of a pipeline with its settings, as a release takes them, and what to warn of.
pub(super) fn settled(pipeline: &Pipeline, target: &pipeline::Target) -> Result<(Target, Vec<String>), Failure> {
    let settled = Target::of(pipeline, target).map_err(|error| {
        let of_file = || target.env_file.as_ref().map(Spanned::span);
        let span = match &error {
            SettingsError::EnvFile { .. } => of_file(),
            SettingsError::Reserved { name, .. } => target.env.get(name).map(Spanned::span).or_else(of_file),
            // It names a line of its own.
            SettingsError::Line { .. } => None,
        };
        let place = span.map(|span| Location::of(&pipeline.document, span.start));
        Failure::from(error).at(place)
    });
    let (settled, repeated) = settled?;
    let file = target.env_file.as_ref().map(|file| pipeline.resolve(file));
    Ok((settled, file.map(|file| told(&file, &repeated)).unwrap_or_default()))
}

/// What a file gives more than once, in words.
pub(super) fn told(file: &Path, repeated: &[Repeated]) -> Vec<String> {
    repeated.iter().map(|repeated| format!("{}:{repeated}", file.display())).collect()
}

/// A target of a pipeline, which may never have taken a release; none where it has none of that name.
fn planned(name: &str, pipeline: &Pipeline, context: &Context) -> Option<Result<Known, Failure>> {
    let target = of_pipeline(pipeline, name).ok()?;
    let place = place(&target, context);
    let (app, name) = (pipeline.app.name.to_string(), target.name.to_string());
    Some(place.map(|place| Known { app, name, place }))
}

/// Where a target of a pipeline is.
pub(super) fn place(target: &pipeline::Target, context: &Context) -> Result<Place, Failure> {
    Ok(Place::at(&context.home()?, target.server.as_deref()))
}

/// A target of the state; or one of the pipeline here that is on another machine, whose state is there.
pub(super) fn find(text: &str, context: &Context) -> Result<Known, Failure> {
    let pipeline = pipeline_here();
    // Where each branch has a target of its own, that of the branch here is meant.
    let of_many =
        pipeline.as_ref().filter(|pipeline| pipeline.target(text).is_some_and(pipeline::Target::is_of_many_branches));
    let of_branch = of_many.and_then(|pipeline| of_pipeline(pipeline, text).ok());
    let text = of_branch.as_ref().map_or(text, |target| target.name.as_str());
    let elsewhere =
        pipeline.as_ref().filter(|pipeline| of_pipeline(pipeline, text).is_ok_and(|target| target.server.is_some()));
    if let Some(pipeline) = elsewhere
        && let Some(known) = planned(text, pipeline, context)
    {
        return known;
    }
    let home = context.home()?;
    let history = History::existing(&home)?;
    let mut known = history.as_ref().map_or_else(|| Ok(Vec::new()), History::targets)?;
    let full: Vec<String> = known.iter().map(|(app, name)| format!("{app}/{name}")).collect();
    let short: Vec<String> = known.iter().map(|(_, name)| name.clone()).collect();
    let all: Vec<String> = full.iter().map(|name| format!("`{name}`")).collect();
    match text.split_once('/') {
        Some(wanted) => known.retain(|(app, name)| (app.as_str(), name.as_str()) == wanted),
        None => known.retain(|(_, name)| name == text),
    }
    let others = known.clone();
    if let Some(here) = pipeline.as_ref().filter(|_| !text.contains('/')) {
        // What is meant elsewhere by the same name is not meant here.
        known.retain(|(app, _)| *app == *here.app.name);
    }
    match known.pop() {
        Some((app, name)) if known.is_empty() => {
            let server = history.map_or(Ok(None), |history| history.server(&app, &name))?;
            let place = Place::at(&home, server.as_ref());
            Ok(Known { app, name, place })
        }
        Some(_) => Err(Failure::new(Kind::Usage, format!("several applications have a target `{text}`"))
            .hint(format!("name one of {}", all.join(", ")))),
        None if all.is_empty() => {
            Err(Failure::new(Kind::Usage, format!("no target `{text}`: nothing was released yet"))
                .hint("`pipe run` releases"))
        }
        None if !others.is_empty() => {
            let here = pipeline.map(|here| here.app.name.to_string()).unwrap_or_default();
            let others: Vec<String> = others.iter().map(|(app, name)| format!("`{app}/{name}`")).collect();
            let message = format!("target `{text}` of `{here}`, which is the application here, has taken no release");
            Err(Failure::new(Kind::Usage, message)
                .hint(format!("{} is another application's: name it so, if that is meant", others.join(", "))))
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

/// Whose fault it is where what was asked for cannot be, and where it could not be done.
fn kind(is_usage: bool) -> Kind {
    if is_usage { Kind::Usage } else { Kind::Environment }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        Self::of(Kind::Environment, &error).hints(error.hint())
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Self::of(kind(error.is_usage()), &error).hints(error.hint())
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Self {
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
            ReleaseError::NotReleased(failure) if failure.usage => Kind::Usage,
            ReleaseError::NotReleased(_) => Kind::Release,
            ReleaseError::NothingToPromote { .. }
            | ReleaseError::NeverHealthy { .. }
            | ReleaseError::TakenBack { .. }
            | ReleaseError::NotWhole { .. }
            | ReleaseError::NoSuchRelease { .. }
            | ReleaseError::NothingEarlier(_) => Kind::Usage,
            ReleaseError::People(error) => kind(error.is_usage()),
            ReleaseError::Remote(error) => kind(error.is_usage()),
            ReleaseError::Agent(_)
            | ReleaseError::History(_)
            | ReleaseError::Undone { .. }
            | ReleaseError::Silent { .. } => Kind::Environment,
            ReleaseError::Answer => Kind::Internal,
            ReleaseError::Cancelled => Kind::Cancelled,
        };
        Self::of(kind, &error).hints(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_of_ci_is_what_was_pushed_and_a_request_only_that_of_its_own_target() {
        let request = [("GITHUB_HEAD_REF", "main"), ("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "7/merge")];
        let pushed = [("GITHUB_HEAD_REF", ""), ("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "main")];
        let tag = [("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", "main"), ("CI", "true")];
        for (variables, of_one, of_many) in [
            (&request[..], None, Some("main")),
            (&pushed, Some("main"), Some("main")),
            (&tag, None, None),
            (&[("CI_COMMIT_BRANCH", "main")], Some("main"), Some("main")),
            (&[("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "main"), ("CI_COMMIT_REF_NAME", "main")], None, Some("main")),
            (&[("CI_COMMIT_TAG", "main"), ("CI_COMMIT_REF_NAME", "main")], None, None),
        ] {
            let variable = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned());
            assert_eq!(of_ci(false, variable).as_deref(), of_one, "{variables:?}");
            assert_eq!(of_ci(true, variable).as_deref(), of_many, "{variables:?}");
        }
    }
}
