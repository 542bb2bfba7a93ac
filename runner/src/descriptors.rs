//! Messages over a socket that also carries descriptors: in postcard's encoding, each after its length. Knows nothing of what they
//! say.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many bytes are taken off the socket at once.
const PIECE: usize = 64 << 10;

/// What is before a message: its length, and in the lowest bit whether a descriptor travels with it.
const HEAD: usize = size_of::<u64>();

/// Sends one message, and the descriptor that travels with it.
pub(crate) fn send<T: Serialize>(socket: &UnixStream, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = postcard::to_extend(message, vec![0; HEAD]).map_err(io::Error::other)?;
    let head = ((bytes.len() - HEAD) as u64) << 1 | u64::from(fd.is_some());
    bytes[..HEAD].copy_from_slice(&head.to_le_bytes());
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
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Those of messages that are not whole yet, or not taken.
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Waits for bytes once and gives the next whole message; `Ok(None)` where more is to come, an error of kind
    /// `UnexpectedEof` at the end.
    pub(crate) fn receive<T: DeserializeOwned>(
        &mut self,
        socket: &UnixStream,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        if let Some(message) = self.next()? {
            return Ok(Some(message));
        }
        let mut buffer = vec![0; PIECE];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                self.fds.extend(fds.into_iter().map(own));
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
        let Some((head, rest)) = self.bytes.split_first_chunk() else { return Ok(None) };
        let head = u64::from_le_bytes(*head);
        let len = usize::try_from(head >> 1).map_err(io::Error::other)?;
        let Some(message) = rest.get(..len) else { return Ok(None) };
        let message = postcard::from_bytes(message).map_err(io::Error::other);
        self.bytes.drain(..HEAD + len);
        // A descriptor never comes after the first byte of its message.
        let fd = if head & 1 == 1 { self.fds.pop_front() } else { None };
        Ok(Some((message?, fd)))
    }
}

#[expect(unsafe_code, reason = "the kernel has just made this descriptor for us, and nobody else knows of it")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: see above.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn each_message_comes_with_its_own_descriptor_however_long_it_is() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let lengths = [3, 300_000, 5, 100_000];
        let sending = std::thread::spawn(move || {
            for (number, length) in lengths.into_iter().enumerate() {
                let mut file = tempfile::tempfile().expect("a file");
                write!(file, "{number}").expect("written");
                std::io::Seek::rewind(&mut file).expect("rewound");
                // One comes without.
                send(&one, &vec![b'x'; length], (number != 2).then(|| file.as_fd())).expect("sent");
            }
        });
        let mut inbox = Inbox::default();
        let mut came = Vec::new();
        let end = loop {
            match inbox.receive::<Vec<u8>>(&other) {
                Ok(Some((bytes, fd))) => {
                    let mut text = String::new();
                    fd.map(|fd| File::from(fd).read_to_string(&mut text).expect("read"));
                    came.push((bytes.len(), text));
                }
                Ok(None) => {}
                Err(error) => break error.kind(),
            }
        };
        sending.join().expect("no panic");
        let texts = ["0", "1", "", "3"].map(str::to_owned);
        assert_eq!(came, lengths.into_iter().zip(texts).collect::<Vec<_>>());
        assert_eq!(end, io::ErrorKind::UnexpectedEof);
    }
}
