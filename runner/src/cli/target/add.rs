//! `pipe target add`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use runner::pipeline::{self, Pipeline};
use runner::release::History;
use runner::remote::{self, Address};
use runner::run::read_pipeline;

use crate::cli::failure::Kind;
use crate::cli::{Context, Failure};

/// Sets up a host for a target: `pipe target add production ssh://deploy@example.org`.
///
/// Nothing but sshd need be there. This very `pipe` is copied to it, over the SSH that you log in with, and looks whether the host
/// has what targets need. Done again, it renews the `pipe` there. Processes go on meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The target's name in the pipeline.
    name: String,
    /// The host: `ssh://user@host:port/directory`, where the directory of pipe's data may be left out, and the port too.
    server: Address,
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

pub(super) fn add(args: &AddArgs, context: &Context) -> Result<(), Failure> {
    let (path, text) = read_pipeline(args.file.as_deref())?;
    let pipeline = pipeline::parse(&path, &text).map_err(Failure::diagnostics)?;
    let AddArgs { name, server, .. } = args;
    let home = context.home()?;
    let history = History::open(&home)?;
    let app = pipeline.app.name.as_str();
    let before =
        if history.server(app, name)?.as_ref() == Some(server) { history.server_key(app, name)? } else { None };

    let may_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut said = Ok(());
    let mut say = |text: &str| said = context.print(format!("{text}\n"));
    let installed = remote::install(server, &home, may_ask, &mut say)?;
    said?;

    history.set_server(app, name, Some(server))?;
    if let Some(key) = &installed.key {
        history.set_server_key(app, name, key)?;
    }
    for (warning, remedy) in &installed.warnings {
        eprintln!("warning: {warning}");
        if let Some(remedy) = remedy {
            eprintln!("  hint: {remedy}");
        }
    }
    if let (Some(before), Some(now)) = (before, &installed.key).clone()
        && before != *now
    {
        eprintln!("warning: the host has another key than when it was set up: {now} instead of {before}");
    }
    let key = installed.key.map_or_else(String::new, |key| format!(", {key}"));
    context.print(format!("{server} is set up: Linux {}{key}, pipe in {}/bin\n", installed.machine, installed.home))?;
    match missing(&pipeline, name, server)? {
        Some(lines) => context.print(format!("for {} to be there, write into {}\n\n{lines}", name, path.display())),
        None => Ok(()),
    }
}

/// The lines that the pipeline lacks, if it does.
fn missing(pipeline: &Pipeline, name: &str, server: &Address) -> Result<Option<String>, Failure> {
    let Some(target) = pipeline.target(name) else {
        let origin = match pipeline.targets.first() {
            Some(first) => format!("promote = \"{}\"", *first.name),
            None => "release = \"slug\"".to_owned(),
        };
        return Ok(Some(format!("[targets.{name}]\ndriver = \"ssh\"\nserver = \"{server}\"\n{origin}\n")));
    };
    match &target.server {
        Some(found) if **found == *server => Ok(None),
        Some(found) => Err(Failure::new(
            Kind::Pipeline,
            format!("the host is set up, but target `{name}` of the pipeline is at `{}`", **found),
        )
        .hint(format!("write `server = \"{server}\"` there"))),
        None => Ok(Some(format!("[targets.{name}]\ndriver = \"ssh\"\nserver = \"{server}\"\n"))),
    }
}
