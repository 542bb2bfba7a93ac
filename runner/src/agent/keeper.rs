//! The parent of the agent: starts it, and starts it again when it is killed, so that fronts come back by themselves. It
//! holds nothing and listens to nobody, so that nothing but a kill of its own ends it early. Unaware of what the agent does.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::instance::executable;
use super::process::{STEADY, back_off};
use super::{AgentError, log};

/// The subcommand that is the agent itself.
pub(super) const SERVE: &str = "agent-serve";

/// The same where it is to take the place of one of another build.
pub(super) const SUCCEED: &str = "agent-succeed";

/// Runs the agent of a home directory until it has nothing left to do; the `first` that it runs is one of the above.
pub(super) fn keep(home: &Path, first: &str) -> Result<(), AgentError> {
    let failed = |doing| move |source| AgentError::Io { doing, source };
    // Not killed with the terminal of the command that needed it.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").map_err(failed("leave its working directory"))?;
    let mut quick_ends = 0;
    let mut command = first;
    loop {
        log::bound(&home.join("agent/agent.log"));
        let began = Instant::now();
        let status = Command::new(executable()).arg0("pipe").arg(command).status().map_err(failed("start"))?;
        if status.success() {
            return Ok(());
        }
        let is_quick = began.elapsed() < STEADY;
        // What cannot even begin is told to the command that waits for it; later nobody else is there to try again.
        if quick_ends == 0 && is_quick && status.signal().is_none() {
            return Err(failed("begin")(io::Error::other(status.to_string())));
        }
        quick_ends = if is_quick { quick_ends + 1 } else { 1 };
        eprintln!("pipe agent: {status}; it is started again");
        thread::sleep(back_off(quick_ends));
        // Whoever holds the place now was there later.
        command = SERVE;
    }
}
