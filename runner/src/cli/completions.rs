//! `pipe completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Context, Failure};

/// Prints a script that completes `pipe` in a shell.
///
/// For bash: `pipe completions bash > ~/.local/share/bash-completion/completions/pipe`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pipe", &mut script);
    context.print(&script)
}
