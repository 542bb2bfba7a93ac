//! `pipe exec`.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use runner::agent::{ExecError, Session};
use runner::sandbox::{SandboxError, Stdio};

use super::elsewhere::pass_on;
use super::failure::Kind;
use super::pty::Pty;
use super::target::TargetArg;
use super::{Context, Failure};

/// What a shell ends with that finds no such program.
const NOT_STARTED: u8 = 127;

/// Runs a program where a target's processes run: `pipe exec staging -- python manage.py shell`.
///
/// It has the same files, data, environment and user, and a terminal where this command has one. It is not in the way of what
/// serves, and ends with this command. Where nothing serves, it runs in the place of its newest release.
#[derive(Debug, clap::Args)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    target: TargetArg,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn exec(args: &ExecArgs, context: &Context) -> Result<ExitCode, Failure> {
    let target = args.target.find(context)?;
    let home = context.home()?;
    if let Some(server) = target.place.server() {
        let name = target.full_name();
        let arguments = ["exec", &name, "--"].into_iter().chain(args.command.iter().map(String::as_str));
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        match pass_on(server, &arguments.collect::<Vec<_>>(), terminal, context)? {}
    }
    let who = context.who();
    let start = |stdio| {
        Session::start((&home, &who), (&target.app, &target.name), &args.command, stdio, |number| {
            eprintln!(
                "note: nothing serves on `{}`: this runs in the place of release {number}, the newest one",
                target.name
            );
        })
    };
    let code = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let pty = Pty::open().map_err(|error| failed(&error))?;
        let session = start(pty.stdio().map_err(|error| failed(&error))?)?;
        pty.relay(|| session.wait()).map_err(|error| failed(&error))??
    } else {
        start(inherited().map_err(|error| failed(&error))?)?.wait()?
    };
    Ok(ExitCode::from(code))
}

/// This command's own input and outputs.
fn inherited() -> io::Result<Stdio> {
    let own = |fd: &dyn AsFd| -> io::Result<OwnedFd> { fd.as_fd().try_clone_to_owned() };
    Ok(Stdio { stdin: own(&io::stdin())?, stdout: own(&io::stdout())?, stderr: own(&io::stderr())? })
}

fn failed(error: &io::Error) -> Failure {
    Failure::of(Kind::Environment, error).about("cannot make a terminal for the program")
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        if let ExecError::Sandbox(SandboxError::Program { .. }) = &error {
            return Self::of(Kind::Usage, &error)
                .hint("programs are looked for where those of its processes are: in the slug's environment, and its runtime")
                .ends_with(NOT_STARTED);
        }
        let kind = match &error {
            ExecError::NoRelease(_) => Kind::Usage,
            ExecError::Root(_) => Kind::Release,
            _ => Kind::Environment,
        };
        Self::of(kind, &error).hints(error.hint())
    }
}
