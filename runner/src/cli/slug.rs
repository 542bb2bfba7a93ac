//! `pipe slug`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use runner::agent::log::stamp;
use runner::digest::Digest;
use runner::slug::{self, Exported, Manifest, Record, Registry};
use serde_json::{Value, json};

use super::failure::Kind;
use super::{Context, Failure};
use crate::report;

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
    /// Shows what is in one: what it runs and needs, and its packages.
    Show {
        /// The slug's id.
        id: String,
        /// The attestation of how it came about, as JSON.
        #[arg(long)]
        attestation: bool,
        /// All of its manifest and its packages, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes one to a file, `tar.zst`, the same bytes whenever and wherever it is done.
    Export {
        /// The slug's id.
        id: String,
        /// The file.
        #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        output: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
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
        SlugCommand::Show { id, attestation, json } => {
            // Before a store is made where there is none.
            let record = registry.find(id)?;
            let store = context.store()?;
            if let Some(digest) = record.attestation.filter(|_| *attestation) {
                return context.print(store.get(&digest)?);
            }
            let (id, manifest) = Manifest::read(&store, &record.tree)?;
            let packages = manifest.packages(&store)?;
            if *json {
                show_all((id, registry.doubts(&id)?), &manifest, &packages, context)
            } else {
                let doubted = if registry.doubts(&id)? { DOUBTED } else { "" };
                context.show(text(id, doubted, &manifest, &packages))
            }
        }
        SlugCommand::Export { id, output, json } => {
            let record = registry.find(id)?;
            let exported = slug::export(&context.store()?, &record, output)?;
            if *json { context.print_json(&exported) } else { context.show(written(&exported)) }
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
    let doubted = registry.doubted(&slugs)?;
    if json {
        let slugs = slugs.iter().map(|slug| {
            json!({ "id": slug.id, "app": slug.app, "created": created(slug), "doubted": doubted.contains(&slug) })
        });
        return context.print_json(&slugs.collect::<Vec<_>>());
    }
    let mut out = String::new();
    for slug in &slugs {
        let when = created(slug).replace('T', " ");
        let mark = if doubted.contains(&slug) { DOUBTED } else { "" };
        let _ = writeln!(out, "{}  {}  {}{mark}", slug.id, &when[..19], context.paint.bold(&slug.app));
    }
    context.print(out)
}

/// What is said of a slug that the registry doubts.
const DOUBTED: &str = "  its programs may have seen a damaged file: `pipe run` builds it again";

/// When a slug was first built.
fn created(slug: &Record) -> String {
    stamp(UNIX_EPOCH + Duration::from_secs(slug.created))
}

fn show_all(
    (id, is_doubted): (Digest, bool),
    manifest: &Manifest,
    packages: &BTreeMap<String, String>,
    context: &Context,
) -> Result<(), Failure> {
    let mut shown = json!({ "id": id, "doubted": is_doubted });
    let fields = serde_json::to_value(manifest).map_err(|error| Failure::of(Kind::Internal, &error))?;
    if let (Some(shown), Value::Object(fields)) = (shown.as_object_mut(), fields) {
        shown.extend(fields);
        shown.insert("packages".to_owned(), json!(packages));
    }
    context.print_json(&shown)
}

/// A line for each file that was written.
fn written(Exported { file, pack, attestation }: &Exported) -> String {
    let mut out = format!("wrote {}, {}, sha256:{}\n", file.display(), report::size(pack.size), pack.sha256);
    if let Some(attestation) = attestation {
        let _ = writeln!(out, "wrote {}, how it came about", attestation.display());
    }
    out
}

/// A line for each thing that a slug has, its kind before the first of them.
fn text(id: Digest, doubted: &str, manifest: &Manifest, packages: &BTreeMap<String, String>) -> String {
    let python = manifest.python.as_ref().map_or_else(String::new, |python| format!(", Python {python}"));
    let width = manifest.processes.keys().map(String::len).max().unwrap_or_default();
    let processes = manifest.processes.iter().map(|(name, command)| format!("{name:<width$}  {command}"));
    let kinds = [
        ("slug", vec![format!("{id}{doubted}")]),
        ("app", vec![format!("{}, {}{python}", manifest.app, manifest.platform)]),
        ("runtime", vec![manifest.runtime.to_string()]),
        ("processes", processes.collect()),
        ("release", manifest.release.iter().cloned().collect()),
        ("needs", manifest.environment.clone()),
        ("static", manifest.static_url.iter().cloned().collect()),
        ("packages", packages.iter().map(|(name, version)| format!("{name} {version}")).collect()),
    ];
    let mut out = String::new();
    for (kind, lines) in kinds {
        for (at, line) in lines.iter().enumerate() {
            let _ = writeln!(out, "{:<9}  {line}", if at == 0 { kind } else { "" });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_slug_is_shown_for_people() {
        let digest = Digest::of(b"");
        let manifest = Manifest {
            app: "polls".into(),
            directory: String::new(),
            environment: vec!["DATABASE_URL".into(), "SECRET_KEY".into()],
            format: 1,
            links: Vec::new(),
            platform: "linux-x86_64-gnu".into(),
            processes: [("web", "gunicorn polls.wsgi"), ("worker", "celery")]
                .map(|(name, command)| (name.to_owned(), command.to_owned()))
                .into(),
            python: Some("3.11".into()),
            release: None,
            runtime: digest,
            static_url: Some("/static/".into()),
            trees: BTreeMap::new(),
        };
        let packages = [("asgiref", "3.8.1"), ("django", "5.2")];
        let packages = packages.map(|(name, version)| (name.to_owned(), version.to_owned())).into();
        expect![[r"
            slug       blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
            app        polls, linux-x86_64-gnu, Python 3.11
            runtime    blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
            processes  web     gunicorn polls.wsgi
                       worker  celery
            needs      DATABASE_URL
                       SECRET_KEY
            static     /static/
            packages   asgiref 3.8.1
                       django 5.2
        "]]
        .assert_eq(&text(digest, "", &manifest, &packages));
    }
}
