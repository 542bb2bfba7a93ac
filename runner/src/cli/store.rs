//! `pipe store`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use runner::event::log::Logs;
use runner::garbage::{self, GarbageError};
use runner::pipeline::parse_size;
use runner::plugin;
use runner::slug::Registry;
use runner::store::{Checked, Collected, Policy, Stats, Store};
use serde_json::json;

use super::failure::Kind;
use super::number::whole;
use super::{Context, Failure};

/// Shows, checks and cleans what is kept of earlier runs.
///
/// Runs collect garbage by themselves, once a day: what was of no use for 30 days goes, and what was of no use for longest
/// where 50 GiB are passed. What targets run, or could go back to, stays.
#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Says what is kept, and how much space it takes.
    Stats,
    /// Collects garbage now.
    Gc {
        /// Let go of what was of no use for so many days.
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = whole::<u64>, allow_negative_numbers = true)]
        max_age: u64,
        /// Let go of what was of no use for longest, so that the rest fits: `500MiB`, `20GiB`. What targets run or could go back to
        /// stays; what fits beside it is first what steps gave, then slugs that were never released, then compiled plugins,
        /// then logs of runs.
        #[arg(long, value_name = "SIZE", default_value = "50GiB", value_parser = bytes, allow_hyphen_values = true)]
        max_size: u64,
    },
    /// Reads all of it: every blob, tree and action, every laid-out file and compiled plugin, and what is noted of slugs. What is
    /// damaged is set aside, and made anew by the next run that needs it, and so is what programs gave where a laid-out file was.
    /// Ends with exit code 5 where something was.
    Check,
    /// Lets go of everything but what targets run, or could go back to.
    Clear,
}

pub(super) fn store(args: &StoreArgs, context: &Context) -> Result<(), Failure> {
    let place = context.home()?.join("store");
    match &args.command {
        // Whoever only looks makes none.
        _ if !place.exists() => nothing(args, place, context),
        StoreCommand::Stats => stats(args.json, context),
        StoreCommand::Gc { max_age, max_size } => {
            let unused_for = Duration::from_secs(max_age.saturating_mul(24 * 3600));
            collect(&Policy { unused_for, max_bytes: *max_size }, args.json, context)
        }
        StoreCommand::Check => check(args.json, context),
        StoreCommand::Clear => collect(&Policy { unused_for: Duration::ZERO, max_bytes: 0 }, args.json, context),
    }
}

/// Reads a size.
fn bytes(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "expected a size, such as `20GiB`".to_owned())
}

/// What is said where there is no store yet.
fn nothing(args: &StoreArgs, place: PathBuf, context: &Context) -> Result<(), Failure> {
    if !args.json {
        return context.print(format!("nothing is kept yet at {}\n", place.display()));
    }
    context.print(match &args.command {
        StoreCommand::Stats => {
            format!("{}\n", json!(Kept { store: Stats { path: place, ..Stats::default() }, runs: 0, run_bytes: 0 }))
        }
        StoreCommand::Check => format!(
            "{}\n",
            json!({ "sound": true, "store": Checked::default(), "compiled": 0, "slugs": 0, "trees": 0 })
        ),
        StoreCommand::Gc { .. } | StoreCommand::Clear => format!("{}\n", json!(Collected::default())),
    })
}

/// What is counted.
#[derive(serde::Serialize)]
struct Kept {
    #[serde(flatten)]
    store: Stats,
    /// How many logs of runs.
    runs: usize,
    /// Their bytes.
    run_bytes: u64,
}

fn stats(json: bool, context: &Context) -> Result<(), Failure> {
    let stats = context.store()?.stats()?;
    let (runs, run_bytes) = Logs::of(&context.home()?).size();
    if json {
        return context.print(format!("{}\n", json!(Kept { store: stats, runs, run_bytes })));
    }
    let mut text = String::new();
    let _ = writeln!(text, "{:>10}  blobs and trees ({})", size(stats.blob_bytes), stats.blobs);
    let _ = writeln!(text, "{:>10}  actions ({})", size(stats.action_bytes), stats.actions);
    let _ = writeln!(text, "{:>10}  laid-out trees ({})", size(stats.layout_bytes), stats.layouts);
    let _ = writeln!(text, "{:>10}  on the disk in all, at {}", size(stats.disk_bytes), stats.path.display());
    let _ = writeln!(text, "{:>10}  logs of runs, beside it ({runs})", size(run_bytes));
    context.print(text)
}

fn collect(policy: &Policy, json: bool, context: &Context) -> Result<(), Failure> {
    let collected = garbage::collect(&context.home()?, policy)?;
    if json {
        return context.print(format!("{}\n", json!(collected)));
    }
    let mut text = format!(
        "freed {}: {} actions, {} blobs and trees, {} laid-out trees; {} kept\n",
        size(collected.freed),
        collected.actions,
        collected.blobs,
        collected.layouts,
        size(collected.kept),
    );
    if collected.waiting > 0 {
        let _ = writeln!(text, "{} more will go once the runs that go on have ended", size(collected.waiting));
    }
    if collected.kept > policy.max_bytes {
        let _ = writeln!(
            text,
            "more than {} stays: targets run it or could go back to it, or runs that go on may need it",
            size(policy.max_bytes)
        );
    }
    context.print(text)
}

fn check(json: bool, context: &Context) -> Result<(), Failure> {
    let home = context.home()?;
    let checked = Store::check(&home)?;
    let components = plugin::check_compiled(&home)
        .map_err(|error| Failure::of(Kind::Environment, &error).about("cannot check the compiled plugins"))?;
    let store = context.store()?;
    let slugs = Registry::of(&home).check(&store)?;
    // What nobody can write nobody can take out of use.
    let trees = if checked.read_only { 0 } else { store.check_layouts()? };
    let is_sound = checked.is_sound() && components == 0 && slugs == 0 && trees == 0;
    if json {
        context.print(format!(
            "{}\n",
            json!({ "sound": is_sound, "store": checked, "compiled": components, "slugs": slugs, "trees": trees })
        ))?;
    } else {
        let mut text =
            format!("read {}: {} blobs and trees, {} actions\n", size(checked.bytes), checked.blobs, checked.actions);
        for digest in checked.taken_back.iter().take(SHOWN) {
            let _ = writeln!(text, "{digest} is damaged, or stands on what is");
        }
        if let Some(more @ 1..) = checked.taken_back.len().checked_sub(SHOWN) {
            let _ = writeln!(text, "and {more} more");
        }
        for (count, what) in [
            (checked.actions_taken_back, "actions stood on it, or were damaged themselves"),
            (checked.layouts, "laid-out files were damaged"),
            (
                checked.doubted,
                "results of steps were made before, and where programs had a part in one it is not believed any more: they may have seen those",
            ),
            (trees, "laid-out trees held other names, links or modes than they should"),
            (components, "compiled plugins were damaged"),
            (slugs, "slugs cannot be had any more: what is noted of them, or what they hold, was damaged"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        }
        context.print(text)?;
    }
    if is_sound {
        return Ok(());
    }
    Err(if checked.read_only {
        Failure::new(
            Kind::Environment,
            "something in the store is damaged, and stays where it is: nothing can be written there",
        )
        .hint(format!("make `{}` writable, and check again: what is damaged is set aside then", home.display()))
    } else {
        Failure::new(Kind::Environment, "something in the store is damaged, and was set aside")
            .hint("run again: what is needed of it is made anew")
    })
}

/// How many damaged blobs are named.
const SHOWN: usize = 20;

/// A size for people.
fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut left = bytes;
    while left >= 10 * 1024 && unit < 3 {
        left /= 1024;
        unit += 1;
    }
    format!("{left} {}", ["B", "KiB", "MiB", "GiB"][unit])
}

impl From<GarbageError> for Failure {
    fn from(error: GarbageError) -> Self {
        Self::of(Kind::Environment, &error).hints(error.hint())
    }
}
