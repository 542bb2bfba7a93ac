//! `pipe audit`.

use std::fmt::Write as _;

use runner::agent::log::stamp;
use runner::release::Audited;
use serde_json::{Value, json};

use super::failure::Kind;
use super::target::TargetArg;
use super::{Context, Failure};

/// Tells who had what done to a target and to its host, or was refused it, and what came of that; the newest last.
///
/// What only shows something is not written down, but for values of the config. An entry holds the digest of the one before: if one is
/// changed or removed this is told, and the command fails.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    target: TargetArg,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn audit(args: &AuditArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find_or_planned(context)?;
    let trail = target.place.audit(&target.app, &target.name)?;
    if args.json {
        context.print_json(&trail.entries.iter().map(as_json).collect::<Vec<_>>())?;
    } else if trail.entries.is_empty() {
        context.print("nothing was done yet\n")?;
    } else {
        context.show(table(&trail.entries))?;
    }
    match trail.damages.as_slice() {
        [] => Ok(()),
        damages => Err(damages
            .iter()
            .fold(Failure::new(Kind::Environment, "the audit trail is not whole"), |failure, damage| {
                failure.because(damage.to_string())
            })
            .hint("somebody, or a disk, has changed `agent/state.db` of the host; a backup of it has what was there")),
    }
}

fn table(entries: &[Audited]) -> String {
    let rows: Vec<(String, String, &Audited)> = entries.iter().map(|entry| (who(entry), what(entry), entry)).collect();
    let longest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.chars().count()).max();
    let who = longest(&mut rows.iter().map(|(who, ..)| who)).unwrap_or_default().max(3);
    let what = longest(&mut rows.iter().map(|(_, what, _)| what)).unwrap_or_default().max(4);
    let mut text = format!("{:>5}  {:<19}  {:<who$}  {:<8}  {:<what$}  OUTCOME\n", "#", "WHEN", "WHO", "ROLE", "WHAT");
    for (name, done, Audited { number, at, who: by, ending, .. }) in &rows {
        let (when, role) = (stamp(*at).replace('T', " "), by.role.name());
        let _ = writeln!(text, "{number:>5}  {:<19}  {name:<who$}  {role:<8}  {done:<what$}  {ending}", &when[..19]);
    }
    text
}

/// Who it was, with the address where that is not in the name already.
fn who(Audited { who, .. }: &Audited) -> String {
    match &who.from {
        Some(from) if !who.name.ends_with(&format!("@{from}")) => format!("{} ({from})", who.name),
        _ => who.name.clone(),
    }
}

fn what(Audited { deed, .. }: &Audited) -> String {
    let mut text = deed.to_string();
    if let Some(release) = deed.release {
        let _ = write!(text, ": release {release}");
    }
    if let Some(slug) = &deed.slug {
        let _ = write!(text, " of {}", slug.short());
    }
    text
}

fn as_json(entry: &Audited) -> Value {
    let Audited { number, at, who, deed, ending, digest } = entry;
    let (outcome, failure) = match ending {
        runner::release::Ending::Failed(why) => ("failed".to_owned(), Some(why)),
        other => (other.to_string(), None),
    };
    json!({
        "number": number,
        "at": stamp(*at),
        "who": who.name,
        "role": who.role,
        "from": who.from,
        "what": deed.what,
        "app": deed.target.as_ref().map(|(app, _)| app),
        "target": deed.target.as_ref().map(|(_, target)| target),
        "release": deed.release,
        "slug": deed.slug,
        "outcome": outcome,
        "failure": failure,
        "digest": digest,
    })
}
