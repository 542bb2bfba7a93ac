//! The inside of a sandbox: pid 1, as a monitor has cloned it. Reads what is wanted, sets everything up, starts the program, and
//! outlives it only to report and to hold the root.
//!
//! One thread throughout, and no memory that the program could want to see: the environment is empty, the spec is its own.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, fork, pipe2, setsid};
use serde::de::DeserializeOwned;

use super::error::{Mechanism, Refusal};
use super::namespaces::Handshake;
use super::reap::reap;
use super::spec::Spec;
use super::wire::{Report, Request, Written};
use super::{confine, root};
use crate::descriptors::{Inbox, send};

/// Becomes pid 1 of a sandbox whose request comes over `control`.
pub(super) fn inside(control: &UnixStream, monitor: &Handshake, privileged: bool) -> ! {
    let Err(report) = receive_request(control)
        .map_err(|_| Report::Refused(Refusal::new(Mechanism::Setup, "", Errno::EPIPE)))
        .and_then(|(request, stdio)| set_up(control, &request, stdio, monitor, privileged));
    let _ = send(control, &report, None);
    std::process::exit(1)
}

/// What is wanted, and the program's standard input, output and error.
fn receive_request(control: &UnixStream) -> io::Result<(Request, [OwnedFd; 3])> {
    let mut inbox = Inbox::default();
    let (request, stdin) = receive(&mut inbox, control)?;
    let (Written, stdout) = receive(&mut inbox, control)?;
    let (Written, stderr) = receive(&mut inbox, control)?;
    Ok((request, [stdin, stdout, stderr]))
}

fn receive<T: DeserializeOwned>(inbox: &mut Inbox, control: &UnixStream) -> io::Result<(T, OwnedFd)> {
    loop {
        if let Some((message, fd)) = inbox.receive(control)? {
            return Ok((message, fd.ok_or(io::ErrorKind::InvalidData)?));
        }
    }
}

/// A pipe is its maker's, and `/dev/stderr` opens it again: it must be the program's.
fn give_pipes(outputs: &[OwnedFd], owner: u32) {
    for fd in outputs {
        let is_pipe = fstat(fd).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = fchown(fd, Some(owner.into()), None);
        }
    }
}

/// Lets go of standard input and output: what is written by mistake shall be nobody's.
pub(super) fn silence() -> Result<(), Errno> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)
}

/// Sets up, starts the program, reaps. Comes back only with what went wrong.
fn set_up(
    control: &UnixStream,
    request: &Request,
    stdio: [OwnedFd; 3],
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
        if privileged {
            give_pipes(&stdio[1..], request.outside);
        }
        let owner = if privileged { request.outside } else { spec.user.inside };
        root::build(spec, owner, request.outside, privileged)?;
        if privileged {
            confine::leave_root(monitor)?;
        }
        confine::confine(spec, !request.memory_is_limited)?;
        // Changing ids has made the kernel forget it.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(setup)?;
        // It is told only who has died since.
        if !monitor.is_held() {
            return Err(setup(Errno::EPIPE));
        }
        open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(setup)
    };
    let root = setup().map_err(Report::Refused)?;
    let lost = |_| Report::Refused(Refusal::new(Mechanism::Setup, "", Errno::EPIPE));
    send(control, &Report::Ready, Some(root.as_fd())).map_err(lost)?;
    drop(root);
    let program = start(spec, stdio).map_err(|errno| Report::NotStarted { errno: errno as i32 })?;
    let report = reap(program);
    send(control, &report, None).map_err(lost)?;
    // The root lives as long as this process, and the runner may want to look at it.
    loop {
        nix::unistd::pause();
    }
}

/// Forks and executes the program; comes back once that has happened.
fn start(spec: &Spec, stdio: [OwnedFd; 3]) -> Result<Pid, Errno> {
    let (failed, fail) = pipe2(OFlag::O_CLOEXEC)?;
    #[expect(unsafe_code, reason = "fork is only unsafe with threads, and this process has one")]
    // SAFETY: see above.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let errno = match execute(spec, &stdio) {
                Ok(never) => match never {},
                Err(errno) => errno,
            };
            let _ = File::from(fail).write_all(&(errno as i32).to_le_bytes());
            std::process::exit(127)
        }
    };
    // Their ends are the program's own.
    drop((stdio, fail));
    let mut errno = [0; 4];
    match File::from(failed).read_exact(&mut errno) {
        Ok(()) => Err(Errno::from_raw(i32::from_le_bytes(errno))),
        Err(_) => Ok(child),
    }
}

fn execute(spec: &Spec, [stdin, stdout, stderr]: &[OwnedFd; 3]) -> Result<Infallible, Errno> {
    let _ = setsid();
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
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
