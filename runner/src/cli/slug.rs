//! `pipe slug`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use runner::agent::log::stamp;
use runner::slug::{self, Manifest, Record, Registry};
use runner::store::Store;
use serde_json::{Value, json};

use super::failure::Kind;
use super::{Context, Failure};

/// Looks at the slugs that this machine has built. An id may be shortened.
#[derive(Debug, clap::Args)]
pub(super) struct SlugArgs {
    #[command(subcommand)]
    command: SlugCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SlugCommand {
    /// Lists them, the newest first.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is in one, as JSON: its manifest and its packages.
    Show {
        /// The slug's id.
        id: String,
        /// The attestation of how it came about, as JSON.
        #[arg(long)]
        attestation: bool,
    },
    /// Writes one to a file, `tar.zst`, the same bytes whenever and wherever it is done.
    Export {
        /// The slug's id.
        id: String,
        /// The file.
        #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        output: PathBuf,
    },
    /// Shows what differs between two.
    Diff {
        /// The one.
        from: String,
        /// The other.
        to: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn slug(args: &SlugArgs, context: &Context) -> Result<(), Failure> {
    let registry = Registry::of(&context.home()?);
    match &args.command {
        SlugCommand::List { json } => list(&registry, *json, context),
        SlugCommand::Show { id, attestation } => {
            // Before a store is made where there is none.
            let record = registry.find(id)?;
            show(&context.store()?, &record, *attestation, context)
        }
        SlugCommand::Export { id, output } => {
            let record = registry.find(id)?;
            context.print_json(&slug::export(&context.store()?, &record, output)?)
        }
        SlugCommand::Diff { from, to, json } => {
            let (from, to) = (registry.find(from)?, registry.find(to)?);
            let difference = slug::diff(&context.store()?, &from.tree, &to.tree)?;
            if *json {
                return context.print_json(&difference);
            }
            context.show(if difference.is_empty() { "no difference\n".to_owned() } else { difference.to_string() })
        }
    }
}

fn list(registry: &Registry, json: bool, context: &Context) -> Result<(), Failure> {
    let slugs = registry.list()?;
    if json {
        let slugs = slugs.iter().map(|slug| json!({ "id": slug.id, "app": slug.app, "created": created(slug) }));
        return context.print_json(&slugs.collect::<Vec<_>>());
    }
    let mut out = String::new();
    for slug in slugs {
        let when = created(&slug).replace('T', " ");
        let _ = writeln!(out, "{}  {}  {}", slug.id, &when[..19], context.paint.bold(&slug.app));
    }
    context.print(out)
}

/// When a slug was first built.
fn created(slug: &Record) -> String {
    stamp(UNIX_EPOCH + Duration::from_secs(slug.created))
}

fn show(store: &Store, record: &Record, attestation: bool, context: &Context) -> Result<(), Failure> {
    if let Some(digest) = record.attestation.filter(|_| attestation) {
        return context.print(store.get(&digest)?);
    }
    let (id, manifest) = Manifest::read(store, &record.tree)?;
    let mut shown = json!({ "id": id });
    let fields = serde_json::to_value(&manifest).map_err(|error| Failure::of(Kind::Internal, &error))?;
    if let (Some(shown), Value::Object(fields)) = (shown.as_object_mut(), fields) {
        shown.extend(fields);
        shown.insert("packages".to_owned(), json!(manifest.packages(store)?));
    }
    context.print_json(&shown)
}
