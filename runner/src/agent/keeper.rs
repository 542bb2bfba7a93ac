//! The parent of the agent: starts it, and starts it again when it is killed, so that fronts come back by themselves. It
//! listens to nobody, so that nothing but a kill of its own ends it early; the agent then starts another one, which waits for the end of
//! an agent that is not its child. Where both are killed at once, the shims of what serves start them. Unaware of what the agent does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getppid;

use super::instance::executable;
use super::process::back_off;
use super::{AgentError, client, log, shim};
use crate::release;

/// The subcommand that is the agent itself.
pub(super) const SERVE: &str = "agent-serve";

/// The same where it is to take the place of one of another build.
pub(super) const SUCCEED: &str = "agent-succeed";

/// How a keeper is told of an agent that lost its first one; the agent's process id follows.
pub(super) const WATCH: &str = "agent-watch";

/// An agent that has lived for so long was no failure: what ended it is not waited out, for clients wait meanwhile.
const STEADY: Duration = Duration::from_millis(500);

/// How a keeper is started by what serves.
pub(super) const APART: &str = "agent-apart";

/// How often an agent looks whether its keeper is there.
const LOOK: Duration = Duration::from_secs(1);

/// The file that keepers have a lock on, which they share: where it is free there is none.
const KEPT: &str = "agent/kept";

/// How long an agent without a keeper may be taken to be about to have one.
const UNKEPT: Duration = Duration::from_millis(1500);

/// Sees to it, from within the agent, that there is a keeper as long as the agent lives. Never comes back.
pub(super) fn stay_kept(home: &Path) {
    let parent = getppid();
    while getppid() == parent {
        thread::sleep(LOOK);
    }
    let mut quick_ends = 0;
    loop {
        let mut command = Command::new(executable());
        command.arg0("pipe").args(["agent", WATCH, &std::process::id().to_string()]).env("PIPE_HOME", home);
        let began = Instant::now();
        // It never ends by itself before this process.
        let _ = command.stdin(Stdio::null()).status();
        quick_ends = if began.elapsed() < STEADY { quick_ends + 1 } else { 1 };
        thread::sleep(back_off(quick_ends));
    }
}

/// Waits until an agent has ended, and keeps the next one. Where it has ended since there is nothing left to do, so does that.
pub(super) fn watch(home: &Path, agent: u32) -> Result<(), AgentError> {
    let failed = |doing| move |source| AgentError::Io { doing, source };
    let _ = nix::unistd::setsid();
    let _kept = told_of(home);
    wait_for(agent).map_err(failed("wait for the agent"))?;
    keep(home, SERVE)
}

/// Says for as long as the lock is held that there is a keeper. Where that cannot be said, a second one does no harm: its agent
/// finds the place taken and ends.
fn told_of(home: &Path) -> Option<File> {
    let file = lock_file(home).ok()?;
    file.lock_shared().ok()?;
    Some(file)
}

fn lock_file(home: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(home.join(KEPT))
}

/// Sees to it, from within what outlives agents and keepers, that there are both. Comes back where there can be none any more.
pub(super) fn stand_by(home: &Path) {
    // All begin to wait at the same moment; the first of them is enough.
    let wait = UNKEPT + Duration::from_millis(u64::from(std::process::id() % 256));
    let mut tries = 0;
    while let Ok(file) = lock_file(home) {
        if file.lock().and_then(|()| file.unlock()).is_err() {
            return;
        }
        thread::sleep(wait + back_off(tries));
        if file.try_lock().is_err() {
            tries = 0;
            continue;
        }
        drop(file);
        if !home.join(KEPT).exists() {
            return;
        }
        tries += 1;
        if let Ok(mut between) = client::start(home, &[APART]) {
            let _ = between.wait();
        }
    }
}

/// Starts a keeper that nobody has started, where anything is to serve: a process counts all that it has started to itself.
pub(super) fn start_apart(home: &Path) -> Result<(), AgentError> {
    // What runs may have outlived its home directory.
    if release::is_idle(home)? {
        return Ok(());
    }
    client::start(home, &[]).map(drop).map_err(|source| AgentError::Io { doing: "start", source })
}

#[expect(unsafe_code, reason = "no safe wrapper of pidfd_open is at hand")]
fn wait_for(agent: u32) -> io::Result<()> {
    // SAFETY: takes numbers, and gives a descriptor that nobody else has.
    let fd = unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, agent, 0))?;
        OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?)
    };
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// Runs the agent of a home directory until it has nothing left to do; the `first` that it runs is one of the above.
pub(super) fn keep(home: &Path, first: &str) -> Result<(), AgentError> {
    let failed = |doing| move |source| AgentError::Io { doing, source };
    // Not killed with the terminal of the command that needed it.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").map_err(failed("leave its working directory"))?;
    let _kept = told_of(home);
    shim::prefer_to_stay();
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
        log::note(format_args!("{status}; it is started again"));
        thread::sleep(back_off(quick_ends));
        // Whoever holds the place now was there later.
        command = SERVE;
    }
}
