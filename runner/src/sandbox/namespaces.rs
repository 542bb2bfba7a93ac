//! A process in namespaces of its own, and the ids that it has there. Knows nothing of what it will do.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::error::{Mechanism, Refusal};

/// Like `fork`, into new namespaces: the child's pid in the parent, none in the child.
pub(super) fn clone_into(flags: CloneFlags) -> Result<Option<Pid>, Errno> {
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    #[expect(unsafe_code, reason = "no safe wrapper clones without a second stack; this is fork with flags")]
    // SAFETY: without CLONE_VM the child has its own copy of everything, and this process has one thread.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(i32::try_from(pid).ok().filter(|pid| *pid != 0).map(Pid::from_raw))
}

/// Two processes that wait for one another: one is in a user namespace and has no ids yet, the other gives them.
pub(super) struct Handshake(UnixStream);

impl Handshake {
    pub(super) fn pair() -> std::io::Result<(Self, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Waits to be asked; false where the other has ended without asking.
    pub(super) fn wait(&self) -> bool {
        (&self.0).read_exact(&mut [0]).is_ok()
    }

    pub(super) fn go(&self) {
        let _ = (&self.0).write_all(&[1]);
    }

    /// Whether the other still holds its end.
    pub(super) fn is_held(&self) -> bool {
        // Nothing is asked for, and what is told in any case is that nobody is there.
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        matches!(poll(&mut polled, PollTimeout::ZERO), Ok(0))
    }

    pub(super) fn ask_and_wait(&self) -> Result<(), Errno> {
        self.go();
        if self.wait() { Ok(()) } else { Err(Errno::EPIPE) }
    }
}

/// Gives the one id that a user namespace has.
pub(super) fn map_ids(pid: Pid, inside: u32, outside: u32, privileged: bool) -> Result<(), Refusal> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).map_err(|error| Refusal::io(Mechanism::IdMap, path.as_ref(), &error))
    };
    let outside_group = if privileged { outside } else { nix::unistd::getegid().as_raw() };
    // Without it a user could leave a group that denies something; root has left all groups by now.
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{inside} {outside} 1"))?;
    write("gid_map", format!("{inside} {outside_group} 1"))
}
