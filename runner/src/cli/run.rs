//! `pipe run`.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use runner::event::Events;
use runner::garbage;
use runner::pipeline::{Origin, Pipeline};
use runner::release::{self, How, SlugRef, Target};
use runner::run::Build;
use runner::store::Store;

use super::failure::Kind;
use super::file::FileArg;
use super::interrupt::Interrupt;
use super::reporting::{Progress, Reporting, outcome};
use super::{Context, Failure};

/// Builds the pipeline's slug and releases it.
///
/// Steps whose result is known are taken from the cache. What is built is then released to every target that releases it;
/// targets that promote from others are left alone.
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
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// After a failure, go on with the steps that do not need the failed one.
    #[arg(long, short)]
    keep_going: bool,
}

pub(super) fn run(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    let reporting = Reporting::begin(args.json, context);
    let interrupt = Interrupt::watch(reporting.clone())?;
    let mut progress = Progress::default();
    let result = deploy(args, context, &interrupt, &reporting.events, &mut progress);
    if result.is_ok() {
        collect_now_and_then(context, &reporting.events);
    }
    reporting.finish(progress, outcome(&result));
    result
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
    let targets = if args.no_release { Vec::new() } else { released(&project.pipeline)? };
    progress.steps = project.graph.node_count();
    project.announce(events);
    interrupt.stop_in_order();
    let build = Build { jobs: args.jobs.map_or(Build::default().jobs, NonZeroUsize::get), keep_going: args.keep_going };
    let built = project.build(build, events, &interrupt.cancel)?;
    progress.slug = built.slugs.values().next().map(|slug| slug.id.to_string());
    for (step, target) in targets {
        let Some(slug) = built.slugs.get(&step) else {
            return Err(Failure::new(Kind::Pipeline, format!("step `{step}` gives no slug"))
                .hint(format!("`release` of target `{}` has to name a step that does", target.name)));
        };
        let slug = SlugRef { id: slug.id, tree: slug.tree };
        let released = release::release(&project.home, &target, &slug, &How::Run, events, &interrupt.cancel)?;
        progress.url = Some(released.url);
    }
    Ok(())
}

/// Collects garbage where that was long ago. What goes wrong with it is no failure of the run.
fn collect_now_and_then(context: &Context, events: &Events) {
    let collected = context.home().map(|home| garbage::collect_if_due(&home));
    if let Ok(Err(error)) = collected {
        events.warn(format!("garbage was not collected: {error}"), None);
    }
}

/// The targets that a run releases to, each with the step that gives its slug.
fn released(pipeline: &Pipeline) -> Result<Vec<(String, Target)>, Failure> {
    let mut targets = Vec::new();
    for target in &pipeline.targets {
        if let Origin::Release(step) = &target.origin {
            targets.push((step.to_string(), Target::of(pipeline, target)?));
        }
    }
    Ok(targets)
}
