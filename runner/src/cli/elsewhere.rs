//! Commands about a target of another machine that only show something there, or run something: the same command, over there,
//! with this one's input and outputs.

use std::process::ExitCode;

use runner::remote::{self, Address};

use super::failure::Kind;
use super::{Context, Failure};

/// Runs `pipe` at a host, and gives what it ended with.
pub(super) fn pass_on(
    server: &Address,
    arguments: &[&str],
    terminal: bool,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let mut command = remote::pass_on(server, &context.home()?, arguments, terminal)?;
    let status =
        command.status().map_err(|error| Failure::of(Kind::Environment, &error).about("cannot start `ssh`"))?;
    // Killed by a signal, it has no code of its own.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(130)))
}
