//! The words between the runner and the inside of a sandbox: messages in postcard's encoding, each after its length, over a socket
//! that also carries descriptors. The first message is the runner's, all others come from inside.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::spec::Spec;

/// How many bytes are taken off the socket at once.
const PIECE: usize = 64 << 10;

/// What the runner asks for. The program's standard input travels with it as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: Spec,
    /// The user and group id that the program has outside.
    pub(super) outside: u32,
    /// Control groups to join, by the path of their `cgroup.procs`.
    pub(super) cgroups: Vec<std::path::PathBuf>,
}

/// What the inside says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The root is there, its descriptor travels along, and the program is about to start.
    Ready,
    /// Something could not be set up.
    Refused(Refusal),
    /// The program could not be executed.
    NotStarted { errno: i32 },
    /// The program has ended, and nothing that it started is left.
    Ended { code: Option<i32>, signal: Option<i32> },
}

/// One message and the descriptor that travels with it.
pub(super) fn send<T: Serialize>(socket: &UnixStream, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let message = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let bytes = [&(message.len() as u64).to_le_bytes(), &message[..]].concat();
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let mut sent =
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None)?;
    while sent < bytes.len() {
        sent += sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes[sent..])], &[], MsgFlags::MSG_NOSIGNAL, None)?;
    }
    Ok(())
}

/// Takes messages apart that arrive in pieces.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    fd: Option<OwnedFd>,
}

impl Inbox {
    /// Waits for bytes once and gives the next whole message; `Ok(None)` where more is to come, an error of kind
    /// `UnexpectedEof` at the end.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        socket: &UnixStream,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        if let Some(message) = self.next()? {
            return Ok(Some(message));
        }
        let mut buffer = vec![0; PIECE];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                self.fd = fds.into_iter().map(own).next_back();
            }
        }
        let len = message.bytes;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&buffer[..len]);
        self.next()
    }

    fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let Some((len, rest)) = self.bytes.split_first_chunk() else { return Ok(None) };
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(io::Error::other)?;
        let Some(message) = rest.get(..len) else { return Ok(None) };
        let message = postcard::from_bytes(message).map_err(io::Error::other)?;
        self.bytes.drain(..size_of::<u64>() + len);
        Ok(Some((message, self.fd.take())))
    }
}

#[expect(unsafe_code, reason = "the kernel has just made this descriptor for us, and nobody else knows of it")]
fn own(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: see above.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
