//! The command line: what can be asked for, and how an answer becomes an exit code.
//!
//! One module a subcommand: its arguments, whose doc comments are its help, and a function that calls the library.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{ColorChoice, Parser, Subcommand};
use runner::release::Who;

use crate::report::Paint;
use context::Context;
use failure::{Failure, Kind};

mod audit;
mod canary;
mod completions;
mod config;
mod context;
mod diff;
mod doctor;
mod domains;
mod elsewhere;
mod everywhere;
mod exec;
mod failure;
mod file;
mod graph;
mod init;
mod interrupt;
mod lock;
mod logs;
mod number;
mod panic;
mod people;
mod plan;
mod plugin;
mod promote;
mod ps;
mod pty;
mod release;
mod releases;
mod reporting;
mod rollback;
mod run;
mod runs;
mod scale;
mod slug;
mod stop;
mod store;
mod target;
mod update;
mod verify;
mod why;

/// Takes a Django project to production.
///
/// Sandboxed WebAssembly steps build a slug: a content-addressed bundle of a Python environment, the application and its
/// static files. Every step is cached by what it could see, and the slug is released to targets.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, max_term_width = 100, after_help = failure::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Whether output has colours.
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Init(init::InitArgs),
    Plan(plan::PlanArgs),
    Graph(graph::GraphArgs),
    Why(why::WhyArgs),
    Runs(runs::RunsArgs),
    Verify(verify::VerifyArgs),
    Slug(slug::SlugArgs),
    Plugin(plugin::PluginArgs),
    Lock(lock::LockArgs),
    Release(release::ReleaseArgs),
    Config(config::ConfigArgs),
    Scale(scale::ScaleArgs),
    Releases(releases::ReleasesArgs),
    Diff(diff::DiffArgs),
    Promote(promote::PromoteArgs),
    Canary(canary::CanaryArgs),
    Rollback(rollback::RollbackArgs),
    Exec(exec::ExecArgs),
    Target(target::TargetArgs),
    People(people::PeopleArgs),
    Audit(audit::AuditArgs),
    Ps(ps::PsArgs),
    Domains(domains::DomainsArgs),
    Logs(logs::LogsArgs),
    Stop(stop::StopArgs),
    Store(store::StoreArgs),
    Update(update::UpdateArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

/// Parses the arguments, does what they ask for, and says how that went.
pub(crate) fn main(words: Vec<OsString>, who: Option<Who>) -> ExitCode {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(Kind::Usage.exit_code()) } else { ExitCode::SUCCESS };
            // Where not even that can be written, the exit code still tells.
            let _ = error.print();
            return code;
        }
    };
    let context = Context::new(cli.color, who);
    let paint = Paint::of(&io::stderr(), cli.color);
    match panic::guarded(paint, || run(&cli.command, &context)) {
        Ok(code) => code,
        Err(failure) => {
            let _ = io::stderr().write_all(paint.shown(&failure.render(paint)).as_bytes());
            failure.exit_code()
        }
    }
}

fn run(command: &Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        // A program of the user's has a code of its own.
        Command::Exec(args) => return exec::exec(args, context),
        Command::Run(args) => run::run(args, context),
        Command::Init(args) => init::init(args, context),
        Command::Plan(args) => plan::plan(args, context),
        Command::Graph(args) => graph::graph(args, context),
        Command::Why(args) => why::why(args, context),
        Command::Runs(args) => runs::runs(args, context),
        Command::Verify(args) => verify::verify(args, context),
        Command::Slug(args) => slug::slug(args, context),
        Command::Plugin(args) => plugin::plugin(args, context),
        Command::Lock(args) => lock::lock(args, context),
        Command::Release(args) => release::release(args, context),
        Command::Config(args) => config::config(args, context),
        Command::Scale(args) => scale::scale(args, context),
        Command::Diff(args) => diff::diff(args, context),
        Command::Releases(args) => releases::releases(args, context),
        Command::Promote(args) => promote::promote(args, context),
        Command::Canary(args) => canary::canary(args, context),
        Command::Rollback(args) => rollback::rollback(args, context),
        Command::Target(args) => target::target(args, context),
        Command::Audit(args) => audit::audit(args, context),
        Command::People(args) => people::people(args, context),
        Command::Ps(args) => ps::ps(args, context),
        Command::Domains(args) => domains::domains(args, context),
        Command::Logs(args) => logs::logs(args, context),
        Command::Stop(args) => stop::stop(args, context),
        Command::Store(args) => store::store(args, context),
        Command::Update(args) => update::update(args, context),
        Command::Doctor(args) => doctor::doctor(args, context),
        Command::Completions(args) => completions::completions(args, context),
    }?;
    Ok(ExitCode::SUCCESS)
}
