//! `pipe releases`.

use std::fmt::Write as _;

use runner::agent::log::stamp;
use runner::release::{History, Release, Stage};

use super::target::TargetArg;
use super::{Context, Failure};

/// Tells the story of a target: every release, who made it, when, how, and how it went.
#[derive(Debug, clap::Args)]
pub(super) struct ReleasesArgs {
    #[command(flatten)]
    target: TargetArg,
}

pub(super) fn releases(args: &ReleasesArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    let releases = History::open(&context.home()?)?.releases(&target.app, &target.name)?;
    let who = releases.iter().map(|release| release.who.len()).max().unwrap_or_default().max(3);
    let how = releases.iter().map(|release| release.how.to_string().len()).max().unwrap_or_default().max(3);
    let mut text = format!("{:>4}  {:<19}  {:<who$}  {:<12}  {:<how$}  OUTCOME\n", "#", "WHEN", "WHO", "SLUG", "HOW");
    for release in releases.iter().rev() {
        let when = stamp(release.at).replace('T', " ");
        let _ = writeln!(
            text,
            "{:>4}  {:<19}  {:<who$}  {:<12}  {:<how$}  {}",
            release.number,
            &when[..19],
            release.who,
            release.slug.id.short(),
            release.how.to_string(),
            outcome(release),
        );
    }
    context.print(text)
}

fn outcome(release: &Release) -> String {
    match (release.stage, &release.failure) {
        (Stage::Failed, Some(failure)) => format!("failed: {failure}"),
        (Stage::Failed, None) => "failed".to_owned(),
        (stage, _) if stage.is_switched() && release.current => "serves".to_owned(),
        (stage, _) if stage.is_switched() => "served".to_owned(),
        (stage, _) => format!("under way: {stage}"),
    }
}
