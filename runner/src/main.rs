//! The `pipe` binary: a thin caller of the library, which does no terminal input or output itself.

use std::process::ExitCode;

use runner::{agent, sandbox};

mod cli;
mod report;

fn main() -> ExitCode {
    // The inside of a sandbox is this very program: it must be a process of one thread, and has no command line to parse.
    if std::env::args_os().nth(1).is_some_and(|command| command == sandbox::INIT_COMMAND) {
        sandbox::init_main();
    }
    // A file that may not grow is an error of the one who writes it, and no end of the process.
    runner::store::ignore_file_size_signal();
    if let Some(code) = agent::main(std::env::args_os()) {
        return code;
    }
    cli::main()
}
