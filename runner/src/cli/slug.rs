//! `pipe slug`.

use std::fmt::Write as _;
use std::path::PathBuf;

use runner::slug::{self, Manifest, Record, Registry};
use runner::store::Store;

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
    List,
    /// Shows what is in one: its manifest and its packages.
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
    },
}

pub(super) fn slug(args: &SlugArgs, context: &Context) -> Result<(), Failure> {
    let registry = Registry::of(&context.home()?);
    let store = context.store()?;
    match &args.command {
        SlugCommand::List => list(&registry, context),
        SlugCommand::Show { id, attestation } => show(&store, &registry.find(id)?, *attestation, context),
        SlugCommand::Export { id, output } => {
            let exported = slug::export(&store, &registry.find(id)?, output)?;
            let json = serde_json::to_value(&exported).unwrap_or_default();
            context.print(format!("{json:#}\n"))
        }
        SlugCommand::Diff { from, to } => {
            let difference = slug::diff(&store, &registry.find(from)?.tree, &registry.find(to)?.tree)?;
            context.print(if difference.is_empty() { "no difference\n".to_owned() } else { difference.to_string() })
        }
    }
}

fn list(registry: &Registry, context: &Context) -> Result<(), Failure> {
    let mut out = String::new();
    for record in registry.list()? {
        let _ = writeln!(out, "{}  {}", record.id, context.paint.bold(&record.app));
    }
    context.print(out)
}

fn show(store: &Store, record: &Record, attestation: bool, context: &Context) -> Result<(), Failure> {
    if let Some(digest) = record.attestation.filter(|_| attestation) {
        return context.print(store.get(&digest)?);
    }
    let (_, manifest) = Manifest::read(store, &record.tree)?;
    let mut shown = serde_json::to_value(&manifest).unwrap_or_default();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("packages".to_owned(), serde_json::json!(manifest.packages(store)?));
    }
    context.print(format!("{}\n{shown:#}\n", context.paint.bold(&record.id.to_string())))
}
