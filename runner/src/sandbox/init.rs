//! The inside of a sandbox: `pipe sandbox-init`. The monitor stays outside and kills everything when the runner goes; the
//! process that it clones is pid 1 inside, sets everything up, and outlives the program only to report and to hold the root.
//!
//! One thread throughout, and no memory that the program could want to see: the environment is empty, the spec is public.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, fork, pipe2, setsid};

use super::error::{Mechanism, Refusal};
use super::namespaces::{Handshake, clone_into, map_ids};
use super::reap::reap;
use super::spec::{Network, Spec};
use super::wire::{Report, Request};
use super::{confine, root};
use crate::descriptors::{Inbox, send};

/// Becomes the monitor of one sandbox. Standard input is the socket to the runner; output is the program's.
pub fn init_main() -> ! {
    let code = match monitor() {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}

/// The only ways to fail here are a runner that is gone and a kernel without processes: nobody is left to be told.
fn monitor() -> Result<(), std::io::Error> {
    // A Ctrl-C at the terminal is the runner's to pass on.
    let _ = setsid();
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (request, stdin) = receive_request(&control)?;
    let signals = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    for procs in &request.cgroups {
        if let Err(error) = fs::write(procs, "0") {
            return send(&control, &Report::Refused(Refusal::io(Mechanism::Cgroup, procs, &error)), None);
        }
    }
    let privileged = nix::unistd::geteuid().as_raw() != request.outside;
    if privileged {
        give_pipes(request.outside);
    }
    let (ours, theirs) = Handshake::pair()?;
    let child = match clone_into(flags(&request.spec, privileged)) {
        Ok(Some(pid)) => pid,
        Ok(None) => {
            drop((ours, signal_fd));
            let Err(report) = inside(&control, &request, stdin, &theirs, privileged);
            let _ = send(&control, &report, None);
            std::process::exit(1)
        }
        Err(errno) => {
            return send(&control, &Report::Refused(Refusal::new(Mechanism::Namespaces, "", errno)), None);
        }
    };
    drop((theirs, stdin));
    silence()?;
    if ours.wait() {
        match map_ids(child, request.spec.user.inside, request.outside, privileged) {
            Ok(()) => ours.go(),
            Err(refusal) => {
                send(&control, &Report::Refused(refusal), None)?;
                let _ = kill(child, Signal::SIGKILL);
            }
        }
    }
    watch(&control, &signal_fd, child)
}

/// A pipe is its maker's, and `/dev/stderr` opens it again: it must be the program's.
fn give_pipes(owner: u32) {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    for fd in [stdout.as_fd(), stderr.as_fd()] {
        let is_pipe = fstat(fd).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = fchown(fd, Some(owner.into()), None);
        }
    }
}

fn flags(spec: &Spec, privileged: bool) -> CloneFlags {
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if spec.network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    // As root the mounts are made with root's rights, and the user namespace is entered after them.
    if !privileged {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    flags
}

fn receive_request(control: &UnixStream) -> std::io::Result<(Request, OwnedFd)> {
    let mut inbox = Inbox::default();
    loop {
        if let Some((request, stdin)) = inbox.receive(control)? {
            return Ok((request, stdin.ok_or(std::io::ErrorKind::InvalidData)?));
        }
    }
}

/// Passes signals in, ends everything when the runner's end of the socket closes, and ends with pid 1.
fn watch(control: &UnixStream, signals: &SignalFd, child: Pid) -> std::io::Result<()> {
    let mut runner_is_there = true;
    loop {
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if runner_is_there {
            watched.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if watched.get(1).and_then(PollFd::any).unwrap_or(false) {
            // The runner says nothing after its request: this is the end of the socket.
            runner_is_there = false;
            let _ = kill(child, Signal::SIGKILL);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if signal == Some(Signal::SIGCHLD) {
                if !matches!(waitpid(child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
                    return Ok(());
                }
            } else if let Some(signal) = signal {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Lets go of the program's input and output, so that their ends are the program's own.
fn silence() -> Result<(), Errno> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)
}

/// Pid 1: sets up, starts the program, reaps. Comes back only with what went wrong.
fn inside(
    control: &UnixStream,
    request: &Request,
    stdin: OwnedFd,
    monitor: &Handshake,
    privileged: bool,
) -> Result<Infallible, Report> {
    let spec = &request.spec;
    let setup = || -> Result<OwnedFd, Refusal> {
        let setup = |errno| Refusal::new(Mechanism::Setup, "", errno);
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(setup)?;
        if !privileged {
            monitor.ask_and_wait().map_err(|errno| Refusal::new(Mechanism::IdMap, "", errno))?;
        }
        let owner = if privileged { request.outside } else { spec.user.inside };
        root::build(spec, owner, request.outside, privileged)?;
        if privileged {
            confine::leave_root(monitor)?;
        }
        confine::confine(spec, request.cgroups.is_empty())?;
        // Changing ids has made the kernel forget it.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(setup)?;
        open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(setup)
    };
    let root = setup().map_err(Report::Refused)?;
    let lost = |_| Report::Refused(Refusal::new(Mechanism::Setup, "", Errno::EPIPE));
    send(control, &Report::Ready, Some(root.as_fd())).map_err(lost)?;
    drop(root);
    let program = start(spec, stdin).map_err(|errno| Report::NotStarted { errno: errno as i32 })?;
    let report = reap(program);
    send(control, &report, None).map_err(lost)?;
    // The root lives as long as this process, and the runner may want to look at it.
    loop {
        nix::unistd::pause();
    }
}

/// Forks and executes the program; comes back once that has happened.
fn start(spec: &Spec, stdin: OwnedFd) -> Result<Pid, Errno> {
    let (failed, fail) = pipe2(OFlag::O_CLOEXEC)?;
    #[expect(unsafe_code, reason = "fork is only unsafe with threads, and this process has one")]
    // SAFETY: see above.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let errno = match execute(spec, &stdin) {
                Ok(never) => match never {},
                Err(errno) => errno,
            };
            let _ = File::from(fail).write_all(&(errno as i32).to_le_bytes());
            std::process::exit(127)
        }
    };
    drop((stdin, fail));
    silence()?;
    let mut errno = [0; 4];
    match File::from(failed).read_exact(&mut errno) {
        Ok(()) => Err(Errno::from_raw(i32::from_le_bytes(errno))),
        Err(_) => Ok(child),
    }
}

fn execute(spec: &Spec, stdin: &OwnedFd) -> Result<Infallible, Errno> {
    let _ = setsid();
    dup2_stdin(stdin)?;
    take_terminal();
    default_signals();
    // Only what was held outside and is not marked to be closed could be left: nothing, but a runner may have been careless.
    close_from(3);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let argv = spec.argv.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
    let env = spec.env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<Vec<_>, _>>()?;
    let program = find_program(spec).ok_or(Errno::ENOENT)?;
    execve(&program, &argv, &env)
}

/// A terminal on standard input becomes that of the program's own session, so that its keys reach what runs there.
#[expect(unsafe_code, reason = "no safe wrapper of this request is at hand")]
fn take_terminal() {
    // SAFETY: touches no memory. Where there is no terminal, or not one to be had, it does nothing.
    unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
}

/// What is ignored stays ignored by a new program, and this one ignores SIGPIPE as every program of its language does.
fn default_signals() {
    for signal in Signal::iterator() {
        #[expect(unsafe_code, reason = "a handler could be unsafe; the default is none")]
        // SAFETY: see above. Fails on the two signals that cannot be handled.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
}

/// Marks descriptors, but for the one that reports a failure to execute (which is marked already).
#[expect(unsafe_code, reason = "no safe wrapper of close_range is at hand")]
fn close_from(first: libc::c_uint) {
    // SAFETY: marks descriptors to be closed by exec; closes none that is in use.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

fn find_program(spec: &Spec) -> Option<CString> {
    let name = spec.argv.first()?;
    let path = if name.contains('/') {
        Path::new(name).to_owned()
    } else {
        let path = spec.env.get("PATH")?;
        path.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())?
    };
    CString::new(path.as_os_str().as_bytes()).ok()
}
