//! The `pipe` binary: a thin caller of the library, which does no terminal input or output itself.

use std::process::ExitCode;

use runner::agent::{self, Part};
use runner::sandbox;

mod cli;
mod names;
mod report;

fn main() -> ExitCode {
    // The inside of a sandbox is this very program: it must be a process of one thread, and has no command line to parse.
    if std::env::args_os().nth(1).is_some_and(|command| command == sandbox::INIT_COMMAND) {
        sandbox::init_main();
    }
    names::load_nothing();
    // A file that may not grow is an error of the one who writes it, and no end of the process.
    runner::store::ignore_file_size_signal();
    match agent::main(std::env::args_os()) {
        Part::Done(code) => code,
        Part::Command { words, who } => {
            keep_memory();
            cli::main(words, who)
        }
    }
}

/// A command is over soon, and what it frees it will want again: memory is given back to the system only by its end. That, and
/// its pages being asked for one by one, would take a sixth of a run's time.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        const MUCH: libc::c_int = 256 << 20;
        const PIECE: libc::c_int = 4 << 20;
        #[expect(unsafe_code, reason = "no safe wrapper of mallopt is at hand")]
        // SAFETY: sets numbers, while there is one thread.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, MUCH);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MUCH);
            libc::mallopt(libc::M_TOP_PAD, PIECE);
        }
    }
}
