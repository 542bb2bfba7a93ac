//! `pipe plan`.

use std::fmt::Write as _;

use runner::run::Preview;
use serde_json::{Value, json};

use super::file::FileArg;
use super::why::preview;
use super::{Context, Failure};

/// Shows which steps a run would take from the cache and which would run, and why.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    file: FileArg,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn plan(args: &PlanArgs, context: &Context) -> Result<(), Failure> {
    let project = args.file.open_to_look(context)?;
    let previews = preview(&project)?;
    if args.json {
        return context.print_json(&previews.iter().map(|(step, preview)| json(step, preview)).collect::<Vec<_>>());
    }
    let paint = context.paint;
    let mut out = String::new();
    for (step, preview) in previews {
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
    context.show(out)
}

pub(super) fn json(step: &str, preview: &Preview) -> Value {
    match preview {
        Preview::Cached => json!({ "step": step, "outcome": "cached" }),
        Preview::Runs(why) => json!({ "step": step, "outcome": "runs", "why": why }),
        Preview::Depends(on) => json!({ "step": step, "outcome": "depends", "on": on }),
    }
}
