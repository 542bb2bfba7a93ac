//! How an agent gives its place to one of another build, without a client noticing: first the sockets that it listens at, then the
//! lock of the home directory, and after that, one by one, the connections of clients as each comes to a pause. Processes are held
//! by their shims, and found in the history.
//!
//! Until the lock is given nothing has changed: an agent whose successor dies before goes on. Both sides may be of any build, so
//! [`Request::Succeed`] stays as it is, and to [`Piece`] nothing is done but to add to its end.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::client::{ask_running, short_socket};
use super::front::{Connection, Inherited, Left, Listener, Way};
use super::protocol::Request;
use crate::descriptors::{Inbox, send};

/// How often an agent that cannot hand over is asked to end.
const AGAIN: Duration = Duration::from_millis(100);

/// What is given, each with a descriptor.
#[derive(Debug, Serialize, Deserialize)]
enum Piece {
    /// Where commands come in.
    Commands,
    /// Where clients come in.
    Listener { way: Way, address: SocketAddr },
    /// The lock of the home directory: who has it is the agent.
    Lock,
    /// A client.
    Connection(Left),
}

/// A socket over which a place is given.
pub(super) struct Handover {
    socket: UnixStream,
    inbox: Inbox,
}

/// What an agent begins with.
pub(super) struct Place {
    pub(super) lock: File,
    pub(super) commands: Option<UnixListener>,
    pub(super) listeners: Vec<Inherited>,
    /// Where the connections of an earlier agent come from.
    pub(super) earlier: Option<Handover>,
}

impl Place {
    /// Of an agent that comes after none.
    pub(super) fn new(lock: File) -> Self {
        Self { lock, commands: None, listeners: Vec::new(), earlier: None }
    }

    /// Takes the place of the agent that holds `lock`; where that ends meanwhile, there is nothing to take.
    pub(super) fn take(home: &Path, lock: File) -> io::Result<Self> {
        loop {
            match Self::ask(home) {
                Ok(Some(place)) => return Ok(place),
                // It knows of no handover, and makes way without one as soon as no release is under way.
                Ok(None) => drop(ask_running(home, &Request::Retire)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            match lock.try_lock() {
                Ok(()) => return Ok(Self::new(lock)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(AGAIN),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn ask(home: &Path) -> io::Result<Option<Self>> {
        let (path, _directory) = short_socket(home)?;
        let mut socket = UnixStream::connect(path)?;
        let mut request = serde_json::to_vec(&Request::Succeed)?;
        request.push(b'\n');
        socket.write_all(&request)?;
        let mut handover = Handover { socket, inbox: Inbox::default() };
        let (mut commands, mut listeners) = (None, Vec::new());
        loop {
            match handover.next() {
                Ok((Piece::Commands, socket)) => commands = Some(UnixListener::from(socket)),
                Ok((Piece::Listener { way, address }, socket)) => {
                    listeners.push(Inherited { way, address, socket: socket.into() });
                }
                Ok((Piece::Lock, lock)) => {
                    let (lock, earlier) = (File::from(lock), Some(handover));
                    return Ok(Some(Self { lock, commands, listeners, earlier }));
                }
                Ok((Piece::Connection(_), _)) => {}
                Err(error) if is_gone(&error) && commands.is_none() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Handover {
    /// Gives what is listened at; the agent still goes on.
    pub(super) fn begin(
        socket: UnixStream,
        commands: &impl AsFd,
        listeners: &[std::sync::Arc<Listener>],
    ) -> io::Result<Self> {
        let handover = Self { socket, inbox: Inbox::default() };
        handover.give(&Piece::Commands, commands)?;
        for listener in listeners {
            if let Some(socket) = listener.socket() {
                handover.give(&Piece::Listener { way: listener.way.clone(), address: listener.address }, &socket)?;
            }
        }
        Ok(handover)
    }

    /// Gives the lock, and with it the place: the agent starts and stops nothing any more.
    pub(super) fn give_place(&self, lock: &File) -> io::Result<()> {
        self.give(&Piece::Lock, lock)
    }

    /// Gives connections until no more come.
    pub(super) fn give_connections(&self, mut connections: mpsc::UnboundedReceiver<Connection>) {
        while let Some((left, socket)) = connections.blocking_recv() {
            // With a successor that is gone its clients are, too.
            let _ = self.give(&Piece::Connection(left), &socket);
        }
    }

    fn give(&self, piece: &Piece, socket: &impl AsFd) -> io::Result<()> {
        send(&self.socket, piece, Some(socket.as_fd()))
    }

    /// The next connection of the earlier agent; none once that has ended.
    pub(super) fn next_connection(&mut self) -> Option<Connection> {
        loop {
            match self.next() {
                Ok((Piece::Connection(left), socket)) => return Some((left, socket)),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn next(&mut self) -> io::Result<(Piece, OwnedFd)> {
        loop {
            match self.inbox.receive(&self.socket) {
                Ok(Some((piece, Some(socket)))) => return Ok((piece, socket)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the other side ended, or is not there.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof)
}
