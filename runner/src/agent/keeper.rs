//! The parent of the agent: starts it, and starts it again when it is killed, so that fronts come back by themselves; meanwhile it
//! holds their sockets. It listens to nobody else, so that nothing but a kill of its own ends it early; the agent then starts another
//! one, which waits for the end of an agent that is not its child. Where both are killed at once, the shims of what serves start them.
//! Unaware of what the agent does.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{dup2_stdin, getppid};

use super::front::{Inherited, Listeners};
use super::instance::executable;
use super::process::back_off;
use super::{AgentError, client, held, log, shim};
use crate::release;

/// The subcommand that is the agent itself.
pub(super) const SERVE: &str = "agent-serve";

/// The same where it is to take the place of one of another build.
pub(super) const SUCCEED: &str = "agent-succeed";

/// How a keeper is started by an agent that lost its first one.
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

/// What this agent's keeper holds of an earlier one's, and where to give it more: both come by standard input, which leads nowhere
/// then, so that the keeper sees the end of the agent alone.
pub(super) fn given() -> io::Result<(UnixStream, Vec<Inherited>)> {
    let keeper = taken_from_stdin()?;
    let inherited = held::take(&keeper);
    Ok((keeper, inherited))
}

fn taken_from_stdin() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// Sees to it, from within the agent, that there is a keeper as long as the agent lives. Never comes back.
pub(super) fn stay_kept(home: &Path, listeners: &Listeners) {
    let parent = getppid();
    while getppid() == parent {
        thread::sleep(LOOK);
    }
    let mut quick_ends = 0;
    loop {
        let mut command = Command::new(executable());
        command.arg0("pipe").args(["agent", WATCH]).env("PIPE_HOME", home);
        let began = Instant::now();
        if let Ok((mut keeper, socket)) = start(&mut command) {
            listeners.keep_at(socket);
            // It never ends by itself before this process.
            let _ = keeper.wait();
        }
        quick_ends = if began.elapsed() < STEADY { quick_ends + 1 } else { 1 };
        thread::sleep(back_off(quick_ends));
    }
}

/// Starts a program, with a socket to it.
fn start(command: &mut Command) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((command.stdin(OwnedFd::from(theirs)).spawn()?, ours))
}

/// Waits until the agent that has started this keeper has ended, and keeps the next one. Where it has ended since there is nothing
/// left to do, so does that.
pub(super) fn watch(home: &Path) -> Result<(), AgentError> {
    let failed = |doing| move |source| AgentError::Io { doing, source };
    let _ = nix::unistd::setsid();
    let _kept = told_of(home);
    let agent = taken_from_stdin().map_err(failed("wait for the agent"))?;
    let mut sockets = Vec::new();
    held::hold(&agent, &mut sockets);
    keep_with(home, SERVE, sockets)
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

/// Whether one is there.
pub(super) fn is_there(home: &Path) -> bool {
    lock_file(home).is_ok_and(|file| file.try_lock().is_err())
}

/// Runs the agent of a home directory until it has nothing left to do; the `first` that it runs is one of the above.
pub(super) fn keep(home: &Path, first: &str) -> Result<(), AgentError> {
    keep_with(home, first, Vec::new())
}

/// The same, where the first begins with the `sockets` of an earlier one.
fn keep_with(home: &Path, first: &str, mut sockets: Vec<Inherited>) -> Result<(), AgentError> {
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
        let started = start(Command::new(executable()).arg0("pipe").arg(command));
        let (mut agent, link) = started.map_err(failed("start"))?;
        for Inherited { way, address, socket } in &sockets {
            // An agent that has ended already takes none.
            let _ = held::give(&link, way, *address, socket);
        }
        let _ = link.shutdown(Shutdown::Write);
        held::hold(&link, &mut sockets);
        let status = agent.wait().map_err(failed("start"))?;
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
