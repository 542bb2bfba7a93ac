//! `pipe release`.

use std::path::PathBuf;

use runner::pipeline;
use runner::release::{self, How, Portion, SlugRef};
use runner::slug::Registry;

use super::failure::Kind;
use super::file::parsed;
use super::reporting::reporting;
use super::target::{of_pipeline, place, settled};
use super::{Context, Failure};

/// Releases a slug that was built before, without a build.
///
/// The settings are the target's, from the pipeline file.
#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    /// The slug's id, which may be shortened [default: the one that a run gave last], and the target that is to run it.
    #[arg(required = true, num_args = 1..=2, value_names = ["SLUG", "TARGET"])]
    words: Vec<String>,
    /// The pipeline file [default: `release.pipeline` here, or what suits the project].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Give it to this part of the clients only, such as `10%`: all others stay with what serves, and `pipe canary` goes on.
    #[arg(long, value_name = "PERCENT")]
    canary: Option<Portion>,
    /// Print one event a line, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn release(args: &ReleaseArgs, context: &Context) -> Result<(), Failure> {
    let pipeline = parsed(args.file.as_deref())?;
    let (slug, name) = match args.words.as_slice() {
        [slug, target] => (Some(slug), target.as_str()),
        words => (None, words.first().map_or("", String::as_str)),
    };
    let target = of_pipeline(&pipeline, name)?;
    if let pipeline::Origin::Promote(from) = &target.origin {
        let message = format!("`{}` takes what `{}` runs or has run, and only by `pipe promote`", *target.name, **from);
        return Err(Failure::new(Kind::Usage, message).hint(format!(
            "`pipe promote {} {}`; `pipe promote {0}@7 {1}` for what its release 7 ran",
            **from, *target.name
        )));
    }
    let place = place(&target, context)?;
    let (target, warnings) = settled(&pipeline, &target)?;
    let home = context.home()?;
    let registry = Registry::of(&home);
    let slug = match slug {
        Some(slug) => registry.find(slug)?,
        None => registry.list()?.into_iter().find(|slug| slug.app == target.app).ok_or_else(|| {
            Failure::new(Kind::Usage, format!("no slug of `{}` was built here", target.app))
                .hint("`pipe run --no-release` builds one")
        })?,
    };
    if slug.app != target.app {
        return Err(Failure::new(Kind::Usage, format!("that slug is one of `{}`, not of `{}`", slug.app, target.app))
            .hint("`pipe slug list` lists them"));
    }
    let slug = SlugRef { id: slug.id, tree: slug.tree };
    reporting(args.json, context, |events, interrupt| {
        for warning in warnings {
            events.warn(warning, None);
        }
        release::try_out(&place, &target, &slug, (&How::Release, args.canary), events, &interrupt.cancel).map(Some)
    })?;
    Ok(())
}
