//! `pipe target add`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::str::FromStr;

use runner::pipeline::{Driver, Pipeline, is_name};
use runner::release::{self, History};
use runner::remote::{self, Address, AddressError};

use crate::cli::failure::Kind;
use crate::cli::file::parsed;
use crate::cli::{Context, Failure};

/// What stands for this machine.
const LOCAL: &str = "local";

/// Sets up a host for a target: `pipe target add production ssh://deploy@example.org`, or `pipe target add staging local`.
///
/// Nothing but sshd need be there. This very `pipe` is copied to it, over the SSH that you log in with, and looks whether the host
/// has what targets need, and has systemd, or else cron, bring the target back after a restart of the host. Done again, it renews
/// the `pipe` there. Processes go on meanwhile. For a target of this machine, `local`, it does the same here.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The target's name in the pipeline.
    #[arg(value_parser = named)]
    name: String,
    /// The host: `ssh://user@host:port/directory`, where the directory of pipe's data may be left out, and the port too; or `local`.
    server: Server,
    /// Leave alone what the host starts when it comes up: the target comes back with the next `pipe` command.
    #[arg(long)]
    no_boot: bool,
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

/// Where a target is to be.
#[derive(Debug, Clone)]
enum Server {
    Local,
    Host(Address),
}

impl FromStr for Server {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == LOCAL { Ok(Self::Local) } else { text.parse().map(Self::Host) }
    }
}

/// Reads a name that a target may have.
fn named(text: &str) -> Result<String, &'static str> {
    let wanted = "a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most";
    if is_name(text) { Ok(text.to_owned()) } else { Err(wanted) }
}

pub(super) fn add(args: &AddArgs, context: &Context) -> Result<(), Failure> {
    let pipeline = parsed(args.file.as_deref())?;
    let lines = match &args.server {
        Server::Local => {
            let lines = missing_here(&pipeline, &args.name)?;
            set_up_here(&pipeline, args, context)?;
            lines
        }
        Server::Host(server) => {
            set_up(&pipeline, args, server, context)?;
            missing(&pipeline, &args.name, server)?
        }
    };
    match lines {
        Some(lines) => {
            context.print(format!("for {} to be there, write into {}\n\n{lines}", args.name, pipeline.document.name))
        }
        None => Ok(()),
    }
}

fn set_up(pipeline: &Pipeline, args: &AddArgs, server: &Address, context: &Context) -> Result<(), Failure> {
    let AddArgs { name, no_boot, .. } = args;
    let home = context.home()?;
    let history = History::open(&home)?;
    let app = pipeline.app.name.as_str();
    let before =
        if history.server(app, name)?.as_ref() == Some(server) { history.server_key(app, name)? } else { None };

    let may_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut said = Ok(());
    let mut say = |text: &str| said = context.print(format!("{text}\n"));
    let boot = (!no_boot).then(|| format!("{app}/{name}"));
    let installed = remote::install(server, boot.as_deref(), &home, may_ask, &mut say)?;
    said?;

    history.set_server(app, name, Some(server))?;
    if let Some(key) = &installed.key {
        history.set_server_key(app, name, key)?;
    }
    for (warning, remedy) in &installed.warnings {
        warn(warning, remedy.as_deref());
    }
    if let (Some(before), Some(now)) = (before, &installed.key).clone()
        && before != *now
    {
        warn(&format!("the host has another key than when it was set up: {now} instead of {before}"), None);
    }
    let key = installed.key.map_or_else(String::new, |key| format!(", {key}"));
    context.print(format!("{server} is set up: Linux {}{key}, pipe in {}/bin\n", installed.machine, installed.home))?;
    match installed.boot {
        Some(by) => context.print(format!("{name} comes back after a restart of the host: {by}\n")),
        None => Ok(()),
    }
}

/// Has a target of this machine come back after a restart.
fn set_up_here(pipeline: &Pipeline, AddArgs { name, no_boot, .. }: &AddArgs, context: &Context) -> Result<(), Failure> {
    let home = context.home()?;
    release::place_program(&home)?;
    if *no_boot {
        return Ok(());
    }
    let boot = release::bring_back(&home, &format!("{}/{name}", *pipeline.app.name))?;
    if let Some((lack, remedy)) = &boot.lacks {
        warn(lack, Some(remedy));
    }
    context.print(format!("{name} comes back after a restart of this machine: {}\n", boot.by))
}

fn warn(warning: &str, remedy: Option<&str>) {
    eprintln!("warning: {warning}");
    if let Some(remedy) = remedy {
        eprintln!("  hint: {remedy}");
    }
}

/// The lines that the pipeline lacks for a target of this machine, if it does.
fn missing_here(pipeline: &Pipeline, name: &str) -> Result<Option<String>, Failure> {
    match pipeline.target(name) {
        None => Ok(Some(format!("[targets.{name}]\ndriver = \"{LOCAL}\"\n{}\n", origin(pipeline)))),
        Some(target) if target.driver == Driver::Local => Ok(None),
        Some(_) => Err(Failure::new(Kind::Pipeline, format!("target `{name}` of the pipeline is not on this machine"))
            .hint("name its host instead of `local`, or write `driver = \"local\"` there")),
    }
}

/// The lines that the pipeline lacks, if it does.
fn missing(pipeline: &Pipeline, name: &str, server: &Address) -> Result<Option<String>, Failure> {
    let Some(target) = pipeline.target(name) else {
        let origin = origin(pipeline);
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

/// Where another target of a pipeline would take its slugs from.
fn origin(pipeline: &Pipeline) -> String {
    match pipeline.targets.first() {
        Some(first) => format!("promote = \"{}\"", *first.name),
        None => "release = \"slug\"".to_owned(),
    }
}
