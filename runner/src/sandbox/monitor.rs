//! A monitor, `pipe sandbox-init`: stays outside and holds one sandbox after the other. It clones the process that is pid 1
//! inside, gives it its ids, passes signals on, and kills everything when the runner wishes or is gone.
//!
//! A process of its own, since user namespaces are entered by processes of one thread; and one for many sandboxes, since to
//! execute a program of this size, and to join a control group, takes longer than most programs do.
//!
//! Each sandbox begins as a copy of this process, so nothing of an earlier one may be in it: what is to run, and what it may
//! know, is read by pid 1 alone. All that a monitor is told of a sandbox is [`Start`]; all that it holds is the socket to its pid 1,
//! and only until that has ended. Namespaces, mounts and the root are made anew for each.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, setsid};

use super::error::{Mechanism, Refusal};
use super::init::{self, silence};
use super::namespaces::{Handshake, clone_into, map_ids};
use super::spec::Network;
use super::wire::{Gone, Order, Report, Start};
use crate::descriptors::{Inbox, send};

/// Becomes a monitor. Standard input is the socket to the runner.
pub fn init_main() -> ! {
    let code = match serve() {
        Ok(never) => match never {},
        // How the runner says that no more sandboxes are wanted.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}

/// The only ways to fail here are a runner that is gone and a kernel without processes: nobody is left to be told.
fn serve() -> io::Result<Infallible> {
    // A Ctrl-C at the terminal is the runner's to pass on.
    let _ = setsid();
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    silence()?;
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut inbox = Inbox::default();
    loop {
        // To end what has ended already is no order.
        let Some((Order::Start(start), control)) = inbox.receive(&line)? else { continue };
        let control = UnixStream::from(control.ok_or(io::ErrorKind::InvalidData)?);
        let privileged = geteuid().as_raw() != start.outside;
        let (ours, theirs) = Handshake::pair()?;
        match clone_into(flags(start.network, privileged)) {
            Ok(Some(child)) => {
                drop(theirs);
                give_ids(&start, child, privileged, &ours, &control);
                watch(&line, &mut inbox, &signals, child)?;
            }
            Ok(None) => {
                // What is the monitor's must not live on in the sandbox: its end would not be noticed.
                drop((ours, line, inbox, signals));
                init::inside(&control, &theirs, privileged)
            }
            Err(errno) => {
                let _ = send(&control, &Report::Refused(Refusal::new(Mechanism::Namespaces, "", errno)), None);
            }
        }
        drop(control);
        send(&line, &Gone, None)?;
    }
}

/// Waits until pid 1 wants its ids, and gives them.
fn give_ids(start: &Start, child: Pid, privileged: bool, handshake: &Handshake, control: &UnixStream) {
    if !handshake.wait() {
        return;
    }
    match map_ids(child, start.inside, start.outside, privileged) {
        Ok(()) => handshake.go(),
        Err(refusal) => {
            // That the runner is gone is noticed later.
            let _ = send(control, &Report::Refused(refusal), None);
            let _ = kill(child, Signal::SIGKILL);
        }
    }
}

/// Passes signals in, ends everything where the runner says so or is gone, and comes back when pid 1 has ended.
fn watch(line: &UnixStream, inbox: &mut Inbox, signals: &SignalFd, child: Pid) -> io::Result<()> {
    let mut gone = None;
    loop {
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if gone.is_none() {
            watched.push(PollFd::new(line.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if watched.get(1).and_then(PollFd::any).unwrap_or(false) {
            // While a sandbox is there, whatever the runner says is that it shall end.
            gone = inbox.receive::<Order>(line).err();
            let _ = kill(child, Signal::SIGKILL);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if signal == Some(Signal::SIGCHLD) {
                if !matches!(waitpid(child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
                    return gone.map_or(Ok(()), Err);
                }
            } else if let Some(signal) = signal {
                let _ = kill(child, signal);
            }
        }
    }
}

fn flags(network: Network, privileged: bool) -> CloneFlags {
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    // As root the mounts are made with root's rights, and the user namespace is entered after them.
    if !privileged {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    flags
}
