//! `pipe run`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::builder::NonEmptyStringValueParser;
use runner::event::{Event, Events};
use runner::garbage;
use runner::pipeline::Origin;
use runner::release::{self, How, Place, SlugRef, Target};
use runner::run::{Build, Built, Project, RunError};
use runner::store::Store;

use super::failure::Kind;
use super::file::FileArg;
use super::interrupt::Interrupt;
use super::number::whole;
use super::reporting::{Progress, Reporting};
use super::target::{on_branch, settled};
use super::{Context, Failure};
use crate::report::{Endpoint, EndpointError, Otlp, Reader, ReportFile};

/// Builds the pipeline's slug and releases it.
///
/// Steps whose result is known are taken from the cache. What is built is then released to every target that releases it;
/// targets that promote from others, or want an approval, are left alone.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct RunArgs {
    #[command(flatten)]
    file: FileArg,
    /// Build only: leave all targets as they are.
    #[arg(long)]
    no_release: bool,
    /// Fail rather than choose versions: everything must stand in a lock.
    #[arg(long)]
    locked: bool,
    /// Print one event a line, as JSON.
    #[arg(long)]
    json: bool,
    /// How many steps, and how many programs, run at one time [default: one for each processor].
    #[arg(long, short, value_name = "N", value_parser = whole::<NonZeroUsize>, allow_negative_numbers = true)]
    jobs: Option<NonZeroUsize>,
    /// After a failure, go on with the steps that do not need the failed one.
    #[arg(long, short)]
    keep_going: bool,
    /// The branch that is built, for targets of branches [default: the one that is checked out, or that CI says it builds].
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    branch: Option<String>,
    #[command(flatten)]
    reports: Reports,
}

/// Other forms in which a run is told.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct Reports {
    /// Write steps and tests as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write what is wrong where as GitLab's code quality report.
    #[arg(long, value_name = "FILE")]
    code_quality: Option<PathBuf>,
    /// Write a Chrome trace, for Perfetto and others.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Send an OpenTelemetry trace to this server, by OTLP over HTTP; OTEL_EXPORTER_OTLP_ENDPOINT does so too.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

impl Reports {
    /// Whether any was asked for.
    pub(super) const fn any(&self) -> bool {
        self.junit.is_some() || self.code_quality.is_some() || self.trace.is_some() || self.otlp.is_some()
    }

    /// The files that were asked for, made and empty.
    pub(super) fn files(&self) -> Result<Vec<ReportFile>, Failure> {
        type Create = fn(&std::path::Path) -> std::io::Result<ReportFile>;
        let wanted: [(&Option<PathBuf>, Create); 3] = [
            (&self.junit, ReportFile::junit),
            (&self.code_quality, ReportFile::code_quality),
            (&self.trace, ReportFile::trace),
        ];
        let files = wanted.into_iter().filter_map(|(path, create)| Some((path.as_ref()?, create)));
        files
            .map(|(path, create)| {
                create(path).map_err(|error| {
                    let folder = path.parent().filter(|_| error.kind() == std::io::ErrorKind::NotFound);
                    Failure::of(Kind::Environment, &error)
                        .about(format!("cannot write `{}`", path.display()))
                        .hints(folder.map(|folder| format!("make the directory `{}` first", folder.display())))
                })
            })
            .collect()
    }

    /// The server that was asked for.
    pub(super) fn otlp(&self) -> Result<Option<Otlp>, Failure> {
        let endpoint = self.otlp.as_deref().map(Endpoint::at).transpose();
        let wrong = |error| Failure::of(Kind::Usage, &error).hint("such as `http://localhost:4318`");
        Ok(endpoint.map_err(wrong)?.map(Otlp::new))
    }

    /// What is to read the events of a run: what was asked for here, or by the environment.
    fn readers(&self) -> Result<Vec<Box<dyn Reader>>, Failure> {
        let mut readers: Vec<Box<dyn Reader>> = Vec::new();
        for file in self.files()? {
            readers.push(Box::new(file));
        }
        let of_environment = || {
            Endpoint::of_environment().unwrap_or_else(|error: EndpointError| {
                // The environment is often not the user's own: it does not keep them from a run.
                eprintln!("warning: {error}");
                None
            })
        };
        let otlp = self.otlp()?.or_else(|| of_environment().map(Otlp::new));
        if let Some(otlp) = otlp {
            readers.push(Box::new(otlp));
        }
        Ok(readers)
    }
}

pub(super) fn run(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    let reporting = Reporting::begin(args.json, context, args.reports.readers()?);
    let interrupt = Interrupt::watch(reporting.clone())?;
    let mut progress = Progress::default();
    let result = deploy(args, context, &interrupt, &reporting.events, &mut progress);
    if result.is_ok() {
        collect_now_and_then(context, &reporting.events);
    }
    let result = result.map_err(|failure| failure.masked(&reporting.events.masks()));
    reporting.finish(progress, result)
}

/// How often a run begins anew because something in the store was found damaged.
const MENDED: usize = 3;

/// Runs; where that fails since something in the store is damaged, what made it runs again.
fn deploy(
    args: &RunArgs,
    context: &Context,
    interrupt: &Interrupt,
    events: &Events,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut mended = 0;
    loop {
        let result = attempt(args, context, interrupt, events, progress);
        let is_over = result.is_ok() || mended == MENDED || interrupt.cancel.load(Ordering::Relaxed);
        if is_over || !Store::is_damaged(&context.home()?) {
            return result;
        }
        mended += 1;
        events.warn("something in the store is damaged: it is set aside, and what made it runs again".to_owned(), None);
    }
}

fn attempt(
    args: &RunArgs,
    context: &Context,
    interrupt: &Interrupt,
    events: &Events,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let project = args.file.open(context, args.locked)?;
    // Before anything is built: settings that cannot be used would be noticed too late.
    let targets = if args.no_release { Vec::new() } else { released(&project, args.branch.as_deref(), events)? };
    let build = Build { jobs: args.jobs.map_or(Build::default().jobs, NonZeroUsize::get), keep_going: args.keep_going };
    let trace_parent = std::env::var("TRACEPARENT").ok().filter(|value| !value.is_empty());
    project.announce(build, trace_parent, events);
    interrupt.stop_soon();
    let built = project.build(build, events, &interrupt.cancel);
    interrupt.clear_up(&project.store);
    let slugs = match &built {
        Ok(Built { slugs, .. }) => Some(slugs),
        Err(RunError::Step { slugs, .. }) => Some(&**slugs),
        Err(_) => None,
    };
    progress.slug = slugs.and_then(|slugs| slugs.values().next()).map(|slug| slug.id.to_string());
    let built = built.map_err(|error| Failure::at_its_place(error, &project))?;
    // From here on something runs that must be taken back.
    interrupt.stop_in_order();
    for Wanted { step, place, target, approval } in targets {
        let Some(slug) = built.slugs.get(&step) else {
            return Err(Failure::new(Kind::Pipeline, format!("step `{step}` gives no slug"))
                .hint(format!("`release` of target `{}` has to name a step that does", target.name)));
        };
        let slug = SlugRef { id: slug.id, tree: slug.tree };
        if approval {
            let message = format!("`{0}` waits for an approval: `pipe release {1} {0}`", target.name, slug.id.short());
            events.send(Event::Note { message });
            continue;
        }
        let released = release::release(&place, &target, &slug, &How::Run, events, &interrupt.cancel)?;
        progress.url = Some(released.url).filter(|url| !url.is_empty());
    }
    project.leave(built);
    Ok(())
}

/// Collects garbage where that was long ago. What goes wrong with it is no failure of the run.
fn collect_now_and_then(context: &Context, events: &Events) {
    let collected = context.home().map(|home| garbage::collect_if_due(&home));
    if let Ok(Err(error)) = collected {
        events.warn(format!("garbage was not collected: {error}"), None);
    }
}

/// A target that takes what a run builds.
struct Wanted {
    /// The step that gives its slug.
    step: String,
    place: Place,
    target: Target,
    /// Whether somebody has to say so first.
    approval: bool,
}

/// The targets that take what a run builds.
fn released(project: &Project, branch: Option<&str>, events: &Events) -> Result<Vec<Wanted>, Failure> {
    let mut targets = Vec::new();
    for target in &project.pipeline.targets {
        if let Origin::Release(step) = &target.origin {
            let approval = target.approval;
            let target = match on_branch(&project.pipeline, target, branch) {
                Ok(target) => target,
                Err(message) => {
                    events.send(Event::Note { message });
                    continue;
                }
            };
            let place = Place::at(&project.home, target.server.as_deref());
            let (target, warnings) = settled(&project.pipeline, &target)?;
            for warning in warnings {
                events.warn(warning, None);
            }
            targets.push(Wanted { step: step.to_string(), place, target, approval });
        }
    }
    Ok(targets)
}
