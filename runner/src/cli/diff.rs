//! `pipe diff`.

use runner::release::{Differences, Release, ReleaseError, Side, TargetSide};
use runner::slug::Registry;

use super::failure::Kind;
use super::target::{find, with_release};
use super::{Context, Failure};

/// Shows what differs between two releases, what two targets run, or two slugs: packages, migrations, code, static files,
/// processes, and of targets what they are given: of variables the names alone.
///
/// `pipe diff production staging` tells what a promotion of staging would change. What is added in the second has a `+`. A host
/// tells of its variables only which are set: whether two values differ is told of targets of this machine.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// A target, for what it runs; `TARGET@7`, for its release 7; or a slug's id, which may be shortened.
    from: String,
    /// The other, in one of these ways.
    to: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn diff(args: &DiffArgs, context: &Context) -> Result<(), Failure> {
    let (from, to) = (side(&args.from, context)?, side(&args.to, context)?);
    let differences = Differences::between(&context.store()?, &from, &to)?;
    if args.json {
        return context.print_json(&differences);
    }
    context.show(if differences.is_empty() { "no difference\n".to_owned() } else { differences.to_string() })
}

fn side(text: &str, context: &Context) -> Result<Side, Failure> {
    let (name, number) = with_release(text)?;
    let known = match find(name, context) {
        Ok(known) => known,
        // What is no target's name may be a slug's.
        Err(failure) => {
            let record = Registry::of(&context.home()?).find(text).map_err(|_| failure)?;
            return Ok(Side { tree: record.tree, target: None });
        }
    };
    let releases = known.place.releases(&known.app, &known.name)?;
    let is_meant = |release: &&Release| number.map_or(release.current, |number| release.number == number);
    let Some(release) = releases.iter().find(is_meant) else {
        return Err(match number {
            Some(number) => ReleaseError::NoSuchRelease { target: name.to_owned(), number }.into(),
            None => Failure::new(Kind::Usage, format!("target `{name}` runs nothing"))
                .hint(format!("name one of its releases, such as `{name}@1`: `pipe releases {name}` lists them")),
        });
    };
    let target = TargetSide {
        settings: release.target.settings.clone(),
        formation: release.formation.clone(),
        variables: known.place.variables(release)?,
    };
    Ok(Side { tree: release.slug.tree, target: Some(target) })
}
