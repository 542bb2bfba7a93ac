//! `pipe target remove`.

use std::fmt::Write as _;

use runner::release::{self, History, Removed};

use crate::cli::target::TargetArg;
use crate::cli::{Context, Failure};
use crate::report;

/// Takes a target off the machine that it is on: its processes end, and it does not come back after a restart of the machine.
///
/// What it has kept stays, and is named, unless `--data` is given.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    target: TargetArg,
    /// Remove its data, its logs, its releases and its config too. There is no way back.
    #[arg(long)]
    data: bool,
    /// Only forget where it is, for a host that is no more.
    #[arg(long, conflicts_with = "data")]
    forget: bool,
}

pub(super) fn remove(args: &RemoveArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find_or_planned(context)?;
    let name = target.full_name();
    let mut text = String::new();
    if !args.forget {
        let removed = release::remove(&target.place, &target.app, &target.name, args.data)?;
        text = told(&name, &removed, args.data);
    }
    if let Some(server) = target.place.server() {
        if let Some(history) = History::existing(&context.home()?)? {
            history.forget(&target.app, &target.name)?;
        }
        let _ = writeln!(text, "this machine does not know any more that {name} is at {server}");
    } else if args.forget {
        text = format!("{name} is on this machine: there is nothing to forget\n");
    }
    context.print(text)
}

fn told(name: &str, removed: &Removed, data: bool) -> String {
    let Removed { ran, came_back, directory, left, releases, variables } = removed;
    let mut text = format!("{name} {}\n", if *ran { "is stopped" } else { "was not running" });
    if *came_back {
        text.push_str("it comes back after no restart of the machine any more\n");
    }
    let directory = directory.display();
    if data {
        let _ = writeln!(text, "its data, its logs, its releases and its config are removed: {directory}");
    } else if *left > 0 || *releases > 0 || *variables > 0 {
        let left = report::size(*left);
        let _ = writeln!(
            text,
            "left are {left} of data and logs in {directory}, {releases} releases, and {variables} variables of its config; `--data` removes them"
        );
    }
    text
}
