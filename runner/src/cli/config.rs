//! `pipe config`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use runner::pipeline::check_variable;
use runner::release::{self, ConfigChange, SettingsError, env_file};

use super::failure::Kind;
use super::reporting::reporting;
use super::target::{Known, TargetArg, told};
use super::{Context, Failure};

/// The config of a target: names and values that no slug holds, sealed where they are kept.
///
/// Without a subcommand the names are listed. It comes on top of what the pipeline file says in `env` and `env-file`, stays
/// from release to release, and each change is a release of what the target runs already.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    target: TargetArg,
    /// List the names as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Sets names to values.
    Set {
        /// `NAME=value`, or `NAME` alone: then its value is read from standard input.
        #[arg(required = true, value_name = "NAME=VALUE")]
        values: Vec<String>,
        /// Print one event a line, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forgets names.
    Unset {
        /// The names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Print one event a line, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sets what a file of `NAME=value` lines says.
    Import {
        /// The file, or `-` for standard input.
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        /// Print one event a line, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints names and values as lines that `import` reads.
    Export,
}

type Changes = BTreeMap<String, Option<String>>;

pub(super) fn config(args: &ConfigArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find_or_planned(context)?;
    match &args.command {
        None => list(&target, args.json, context),
        Some(ConfigCommand::Export) => export(&target, context),
        Some(ConfigCommand::Set { values, json }) => change(&target, assignments(values)?, false, *json, context),
        Some(ConfigCommand::Import { file, json }) => change(&target, read(file)?, true, *json, context),
        Some(ConfigCommand::Unset { names, json }) => {
            let known = names_of(&target)?;
            if let Some(name) = names.iter().find(|name| !known.contains(name)) {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("`{name}` is not set by the config of `{}`", target.name),
                )
                .hint(format!("`pipe config {}` lists what is", target.name)));
            }
            change(&target, names.iter().map(|name| (name.clone(), None)).collect(), false, *json, context)
        }
    }
}

fn names_of(target: &Known) -> Result<Vec<String>, Failure> {
    Ok(target.place.config_names(&target.app, &target.name)?)
}

fn list(target: &Known, json: bool, context: &Context) -> Result<(), Failure> {
    let names = names_of(target)?;
    if json {
        return context.print_json(&names);
    }
    if names.is_empty() {
        return context.print(format!("nothing is set; `pipe config {} set NAME=value` does\n", target.name));
    }
    context.print(names.iter().flat_map(|name| [name, "\n"]).collect::<String>())
}

fn export(target: &Known, context: &Context) -> Result<(), Failure> {
    let line = |(name, value): (&String, &String)| {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{quoted}\"\n")
    };
    let values = target.place.config(&target.app, &target.name)?;
    context.print(values.iter().map(line).collect::<String>())
}

fn change(target: &Known, values: Changes, is_import: bool, json: bool, context: &Context) -> Result<(), Failure> {
    let change = ConfigChange { values, is_import };
    let released = reporting(json, context, |events, interrupt| {
        release::configure(&target.place, &target.app, &target.name, change, events, &interrupt.cancel)
    })?;
    match released {
        Some(_) => Ok(()),
        None if json => Ok(()),
        None => context.print("kept; nothing that runs had to change\n"),
    }
}

/// What the arguments of `set` say. The value of a name alone is read, so that no list of processes and no history shows it.
fn assignments(values: &[String]) -> Result<Changes, Failure> {
    let name_of = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
    let names: Vec<String> = values.iter().map(|text| name_of(text)).collect();
    if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Failure::new(Kind::Usage, format!("`{name}` is given more than once"))
            .hint("a name can be set to one value only"));
    }
    let alone = values.iter().filter(|value| !value.contains('=')).count();
    if alone > 1 {
        return Err(Failure::new(Kind::Usage, "only one value can be read from standard input")
            .hint("write the others as `NAME=value`, or use `import`"));
    }
    values
        .iter()
        .map(|text| {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (text.as_str(), from_input(text)?),
            };
            check_variable(name, &value).map_err(|error| Failure::of(Kind::Usage, &error).hint(error.hint()))?;
            Ok((name.to_owned(), Some(value)))
        })
        .collect()
}

fn from_input(name: &str) -> Result<String, Failure> {
    let mut value = String::new();
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        return Err(Failure::new(Kind::Usage, format!("`{name}` has no value"))
            .hint(format!("write `{name}=value`, or give the value on standard input")));
    }
    input.read_to_string(&mut value).map_err(|error| Failure::of(Kind::Environment, &error))?;
    if value.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("standard input is empty, and has no value for `{name}`"))
            .hint(format!("`{name}=` sets it to nothing, and `unset {name}` forgets it")));
    }
    Ok(value.strip_suffix('\n').unwrap_or(&value).to_owned())
}

fn read(file: &Path) -> Result<Changes, Failure> {
    let text = if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) }
        .map_err(|error| Failure::of(Kind::Usage, &error).about(format!("cannot read `{}`", file.display())))?;
    let read = env_file(&text).map_err(|line| {
        let error = SettingsError::Line { path: file.to_owned(), line };
        Failure::of(Kind::Usage, &error).hints(error.hint())
    })?;
    for warning in told(file, &read.repeated) {
        eprintln!("warning: {warning}");
    }
    Ok(read.values.into_iter().map(|(name, value)| (name, Some(value))).collect())
}
