//! `pipe`: from the arguments to the library and back to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the inside of a sandbox must be one thread with nothing in it.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == runner::sandbox::INIT_COMMAND) {
        runner::sandbox::init_main()
    }
    ExitCode::SUCCESS
}
