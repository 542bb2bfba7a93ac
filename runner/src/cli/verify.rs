//! `pipe verify`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use runner::event::Events;
use runner::run::{Build, Project, RunError};
use runner::slug::Record;
use runner::verify::{self, Verdict, VerifyError};

use super::failure::Kind;
use super::file::FileArg;
use super::interrupt::Interrupt;
use super::{Context, Failure};

/// Builds a pipeline twice, in two directories and with two stores, and compares the slugs byte by byte.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    file: FileArg,
}

pub(super) fn verify(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    let project = args.file.open(context, true)?;
    let file = Path::new(&project.pipeline.document.name);
    let build = |file: &Path, home: &Path| build(file, home, &interrupt.cancel);
    match verify::verify(file, &project.pipeline.source_directory(), build) {
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
        Err(VerifyError::Build(error)) => Err(error.into()),
        Err(VerifyError::Slug(error)) => Err(error.into()),
        Err(error @ VerifyError::Copy { .. }) => Err(Failure::of(Kind::Environment, &error)),
    }
}

/// One of the two builds: as a run would, with nothing that another has kept.
fn build(file: &Path, home: &Path, cancel: &Arc<AtomicBool>) -> Result<Record, RunError> {
    let (events, _) = Events::channel();
    let built = Project::open(home, Some(file), true)?.build(Build::default(), &events, cancel)?;
    built.slugs.into_values().next().ok_or(RunError::NoPipeline)
}
