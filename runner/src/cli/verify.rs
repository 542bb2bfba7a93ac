//! `pipe verify`.

use std::path::Path;
use std::time::Instant;

use runner::event::{Event, Events, Outcome};
use runner::run::{Build, Project, RunError};
use runner::slug::Record;
use runner::verify::{self, Verdict, VerifyError};

use super::failure::Kind;
use super::file::FileArg;
use super::interrupt::{Interrupt, Silently};
use super::{Context, Failure};
use crate::report::{self, Form, Paint};

/// Builds a pipeline twice, in two directories and with two stores, and compares the slugs byte by byte.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    file: FileArg,
}

pub(super) fn verify(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let interrupt = Interrupt::watch(Silently)?;
    interrupt.stop_soon();
    let project = args.file.open(context, true)?;
    let file = Path::new(&project.pipeline.document.name);
    let build = |file: &Path, home: &Path| build(file, home, context.paint, &interrupt);
    match verify::verify(file, &project.pipeline.source_directory(), &project.pipeline.read_beside(), build) {
        Ok(Verdict::Same { id, pack }) => context.print(format!(
            "{}: two builds gave the same bytes\nslug {id}\ntar.zst sha256:{}, {} bytes\n",
            context.paint.green("reproducible"),
            pack.sha256,
            pack.size
        )),
        Ok(Verdict::Different { ids: [one, other], first, paths }) => {
            Err(Failure::new(Kind::Step, format!("two builds gave two slugs, which differ at {paths} paths"))
                .because(format!("the first difference: {first}"))
                .because(format!("{one} and {other}")))
        }
        Ok(Verdict::PackedDifferently { id, packs: [one, other] }) => {
            Err(Failure::new(Kind::Internal, format!("slug {id} was packed to two different files"))
                .because(format!("sha256:{} and sha256:{}", one.sha256, other.sha256)))
        }
        Err(VerifyError::Build(error)) => Err(Failure::at_its_place(error, &project)),
        Err(VerifyError::Slug(error)) => Err(error.into()),
        Err(error @ VerifyError::Copy { .. }) => Err(Failure::of(Kind::Environment, &error)),
    }
}

/// One of the two builds: as a run would, with nothing that another has kept.
fn build(file: &Path, home: &Path, paint: Paint, interrupt: &Interrupt) -> Result<Record, RunError> {
    let started = Instant::now();
    let (events, receiver) = Events::channel();
    let watcher = report::follow(report::shown(Form::of_stdout(false), paint), Vec::new(), receiver);
    let result = Project::open(home, Some(file), true).and_then(|project| {
        let build = Build::default();
        project.announce(build, None, &events);
        let built = project.build(build, &events, &interrupt.cancel);
        interrupt.clear_up(&project.store);
        built?.slugs.into_values().next().ok_or(RunError::NoSlug)
    });
    events.send(Event::RunFinished {
        outcome: if result.is_ok() { Outcome::Succeeded } else { Outcome::Failed },
        // Counted by the watcher, which sees all steps.
        steps: 0,
        cached: 0,
        slug: result.as_ref().ok().map(|record| record.id.to_string()),
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        url: None,
    });
    // A watcher that panicked has shown why on standard error; one that could not write leaves that to the verdict.
    let _ = watcher.join();
    result
}
