//! `pipe scale`.

use runner::release::{self, Count, CountError};

use super::failure::Kind;
use super::reporting::reporting;
use super::target::{Known, TargetArg};
use super::{Context, Failure};

/// Runs more or fewer of a target's processes; those that run already and stay are left alone.
///
/// The counts stay from release to release. Without any they are shown.
#[derive(Debug, clap::Args)]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    target: TargetArg,
    /// How many of which process, such as `web=4`; 0 stops it.
    #[arg(value_name = "PROCESS=COUNT")]
    counts: Vec<String>,
    /// Print one event a line, as JSON; without counts, what they are.
    #[arg(long)]
    json: bool,
}

pub(super) fn scale(args: &ScaleArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    if args.counts.is_empty() {
        return show(&target, args.json, context);
    }
    let counts = args.counts.iter().map(|text| text.parse()).collect::<Result<Vec<Count>, CountError>>();
    let counts = counts.map_err(|error| Failure::of(Kind::Usage, &error))?;
    if let Some((_, twice)) = counts.iter().enumerate().find(|(at, count)| is_named(&counts[..*at], &count.process)) {
        return Err(Failure::new(Kind::Usage, format!("`{}` is given more than one count", twice.process))
            .hint("say once how many of it there are to be"));
    }
    reporting(args.json, context, |events, interrupt| {
        release::scale(&target.place, &target.app, &target.name, counts, events, &interrupt.cancel).map(Some)
    })?;
    Ok(())
}

fn is_named(counts: &[Count], process: &str) -> bool {
    counts.iter().any(|count| count.process == process)
}

fn show(target: &Known, json: bool, context: &Context) -> Result<(), Failure> {
    let releases = target.place.releases(&target.app, &target.name)?;
    let formation = releases.into_iter().find(|release| release.current).map(|release| release.formation);
    if json {
        return context.print_json(&formation);
    }
    context.print(match formation.map(|formation| formation.to_string()) {
        None => target.nothing_runs()?,
        Some(counts) if counts.is_empty() => "one of each process\n".to_owned(),
        Some(counts) => format!("{counts}, and one of each other process\n"),
    })
}
