//! `pipe plan`.

use std::fmt::Write as _;

use runner::run::Preview;

use super::file::FileArg;
use super::why::preview;
use super::{Context, Failure};

/// Shows which steps a run would take from the cache and which would run, and why.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    file: FileArg,
}

pub(super) fn plan(args: &PlanArgs, context: &Context) -> Result<(), Failure> {
    let project = args.file.open(context, true)?;
    let paint = context.paint;
    let mut out = String::new();
    for (step, preview) in preview(&project)? {
        let text = match preview {
            Preview::Cached => paint.dim("cached"),
            Preview::Runs(why) => format!("{} {why}", paint.green("runs:")),
            Preview::Depends(other) => format!("{} on what `{other}` gives", paint.yellow("depends")),
        };
        let _ = writeln!(out, "{} {text}", paint.bold(&format!("{step:<12}")));
    }
    for target in &project.pipeline.targets {
        let text = match &target.origin {
            runner::pipeline::Origin::Release(step) => format!("gets the slug of `{step}`"),
            runner::pipeline::Origin::Promote(other) => format!("only by `pipe promote {other} {}`", target.name),
        };
        let _ = writeln!(out, "{} {text}", paint.bold(&format!("{:<12}", *target.name)));
    }
    context.print(out)
}
