//! `pipe releases`.

use std::fmt::Write as _;

use runner::agent::log::stamp;
use runner::release::{Release, Stage};

use serde_json::{Value, json};

use super::target::TargetArg;
use super::{Context, Failure};

/// Tells the story of a target: every release, who made it, when, how, and how it went.
#[derive(Debug, clap::Args)]
pub(super) struct ReleasesArgs {
    #[command(flatten)]
    target: TargetArg,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn releases(args: &ReleasesArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    let releases = target.place.releases(&target.app, &target.name)?;
    if args.json {
        return context.print_json(&releases.iter().rev().map(json).collect::<Vec<_>>());
    }
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
            told(release),
        );
    }
    context.show(text)
}

fn json(release: &Release) -> Value {
    json!({
        "number": release.number,
        "at": stamp(release.at),
        "who": release.who,
        "slug": release.slug.id,
        "how": release.how.to_string(),
        "outcome": outcome(release),
        "stage": release.stage,
        "failure": release.failure,
    })
}

/// How a release went, in a word or two.
fn outcome(release: &Release) -> &'static str {
    match release.stage {
        Stage::Failed if release.is_taken_back() => "taken back",
        Stage::Failed => "failed",
        Stage::Canary => "canary",
        stage if stage.is_switched() && release.current => "serves",
        stage if stage.is_switched() => "served",
        _ => "under way",
    }
}

fn told(release: &Release) -> String {
    match (outcome(release), &release.failure) {
        (outcome @ ("serves" | "served"), Some(failure)) => format!("{outcome}, but {failure}"),
        (outcome @ "failed", Some(failure)) => format!("{outcome}: {failure}"),
        // Why or by whom is told in the same words.
        ("taken back", Some(failure)) => failure.clone(),
        (outcome @ "canary", _) => match release.canary {
            Some(portion) => format!("{outcome}: {portion} of the clients"),
            None => outcome.to_owned(),
        },
        (outcome @ "under way", _) => format!("{outcome}: {}", release.stage),
        (outcome, _) => outcome.to_owned(),
    }
}
