//! `pipe rollback`.

use runner::release;

use super::number::whole;
use super::reporting::reporting;
use super::target::TargetArg;
use super::{Context, Failure};

/// Goes back to an earlier release of a target: its slug and its settings.
///
/// It becomes a new release. Release commands do not run, so that what migrations have done to data stays.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    target: TargetArg,
    /// The number of the release [default: the one that served before].
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    number: Option<u64>,
    /// Print one event a line, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn rollback(args: &RollbackArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    reporting(args.json, context, |events, interrupt| {
        release::rollback(&target.place, &target.app, &target.name, args.number, events, &interrupt.cancel).map(Some)
    })?;
    Ok(())
}
