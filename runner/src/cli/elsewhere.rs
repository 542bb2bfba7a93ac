//! Commands about a target of another machine that only show something there, or run something: the same command, over there,
//! with this one's input and outputs.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;

use runner::remote::{self, Address};

use super::failure::Kind;
use super::{Context, Failure};

/// Becomes `pipe` at a host, so that whatever ends this command ends that. Comes back only with why it cannot.
pub(super) fn pass_on(
    server: &Address,
    arguments: &[&str],
    terminal: bool,
    context: &Context,
) -> Result<Infallible, Failure> {
    let mut command = remote::pass_on(server, &context.home()?, arguments, terminal)?;
    Err(Failure::of(Kind::Environment, &command.exec()).about("cannot start `ssh`"))
}
