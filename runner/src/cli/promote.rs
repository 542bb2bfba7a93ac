//! `pipe promote`.

use std::path::PathBuf;

use runner::pipeline::Origin;
use runner::release::{self, Portion};

use super::failure::Kind;
use super::file::parsed;
use super::reporting::reporting;
use super::target::{of_pipeline, place, settled, with_release};
use super::{Context, Failure};

/// Releases to a target exactly what another one runs, or has run.
///
/// Nothing is built: the very slug that runs there is hashed again where it arrives, and refused if a byte differs. The
/// settings are the target's own, from the pipeline file.
#[derive(Debug, clap::Args)]
pub(super) struct PromoteArgs {
    /// The target that runs the slug, such as `staging`; `staging@7`, for what its release 7 ran.
    from: String,
    /// The target that is to run it, such as `production`.
    to: String,
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Give it to this part of the clients only, such as `10%`: all others stay with what serves, and `pipe canary` goes on.
    #[arg(long, value_name = "PERCENT")]
    canary: Option<Portion>,
    /// Print one event a line, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn promote(args: &PromoteArgs, context: &Context) -> Result<(), Failure> {
    let pipeline = parsed(args.file.as_deref())?;
    let target = of_pipeline(&pipeline, &args.to)?;
    let (from, number) = with_release(&args.from)?;
    let from = of_pipeline(&pipeline, from)?;
    match &target.origin {
        Origin::Promote(wanted) if **wanted == *from.name => {}
        Origin::Promote(wanted) => {
            return Err(Failure::new(
                Kind::Usage,
                format!("`{}` takes what `{}` runs, not what `{}` does", *target.name, **wanted, *from.name),
            )
            .hint(format!("`pipe promote {} {}`, or change `promote` of the target", **wanted, *target.name)));
        }
        Origin::Release(step) => {
            return Err(Failure::new(
                Kind::Usage,
                format!("`{}` is released by every run, from step `{}`", *target.name, **step),
            )
            .hint(format!("`promote = \"{}\"` instead of `release` makes it one that is promoted to", *from.name)));
        }
    }
    let from_place = place(&from, context)?;
    let place = place(&target, context)?;
    let (target, warnings) = settled(&pipeline, &target)?;
    reporting(args.json, context, |events, interrupt| {
        for warning in warnings {
            events.warn(warning, None);
        }
        let from = (&from_place, from.name.as_str(), number);
        release::promote(from, (&place, &target, args.canary), events, &interrupt.cancel).map(Some)
    })?;
    Ok(())
}
