//! `pipe stop`.

use runner::release::{self, Place};

use super::target::find;
use super::{Context, Failure};

/// Stops a target: its processes end, and nothing answers there until the next release. Its data and its history stay.
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The target, such as `staging`; `APP/TARGET` where several applications have one of that name.
    #[arg(value_name = "TARGET", required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// Stop all targets of all applications on this machine, and the agent.
    #[arg(long)]
    all: bool,
}

pub(super) fn stop(args: &StopArgs, context: &Context) -> Result<(), Failure> {
    let stopped = match &args.target {
        Some(target) => {
            let target = find(target, context)?;
            release::stop(&target.place, Some((target.app, target.name)))?
        }
        None => release::stop(&Place::here(&context.home()?), None)?,
    };
    let lines: Vec<String> = stopped.iter().map(|name| format!("{name} is stopped\n")).collect();
    context.print(if lines.is_empty() { "nothing was running\n".to_owned() } else { lines.concat() })
}
