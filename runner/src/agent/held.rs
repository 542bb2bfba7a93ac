//! The sockets of fronts in the hands of the keeper too, so that clients who come while no agent is there wait for the next one. Each
//! travels with where it listens over a socket between the two, which are of one build. Knows nothing of how agents are started.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::front::{Inherited, Way};
use crate::descriptors::{Inbox, send};

/// Gives a socket to whoever is to hold it as well.
pub(super) fn give(to: &UnixStream, way: &Way, address: SocketAddr, socket: &impl AsFd) -> io::Result<()> {
    send(to, &(way, address), Some(socket.as_fd()))
}

/// Takes all that is given, until no more is to come.
pub(super) fn take(from: &UnixStream) -> Vec<Inherited> {
    let (mut inbox, mut taken) = (Inbox::default(), Vec::new());
    while let Ok(next) = next(from, &mut inbox) {
        taken.extend(next);
    }
    taken
}

/// Holds what an agent gives for as long as it listens there; until the agent has ended.
pub(super) fn hold(from: &UnixStream, held: &mut Vec<Inherited>) {
    let mut inbox = Inbox::default();
    loop {
        let mut polled = vec![PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        // Nothing is asked for, and what is told in any case is that the agent has shut it down.
        polled.extend(held.iter().map(|held| PollFd::new(held.socket.as_fd(), PollFlags::empty())));
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let mut told: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let is_given = told.remove(0);
        let mut is_closed = told.into_iter();
        held.retain(|_| is_closed.next() == Some(false));
        if is_given {
            match next(from, &mut inbox) {
                Ok(Some(new)) => {
                    held.retain(|held| held.way != new.way || held.address != new.address);
                    held.push(new);
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
}

fn next(from: &UnixStream, inbox: &mut Inbox) -> io::Result<Option<Inherited>> {
    match inbox.receive(from) {
        Ok(Some(((way, address), Some(socket)))) => Ok(Some(Inherited { way, address, socket: socket.into() })),
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;
    use std::thread;
    use std::time::Duration;

    use nix::sys::socket::{Shutdown, shutdown};

    use super::*;

    #[test]
    fn what_an_agent_leaves_is_held_and_what_it_has_shut_down_is_not() {
        let (agent, keeper) = UnixStream::pair().expect("a pair");
        let sockets = ["127.0.0.1:0"; 2].map(|any| TcpListener::bind(any).expect("a port"));
        let [shut, left] = sockets.each_ref().map(|socket| socket.local_addr().expect("an address"));
        for (socket, address) in sockets.iter().zip([shut, left]) {
            // Once for each keeper and each agent.
            for _ in 0..2 {
                give(&agent, &Way::Domains, address, socket).expect("given");
            }
        }
        let holding = thread::spawn(move || {
            let mut held = Vec::new();
            hold(&keeper, &mut held);
            held
        });
        thread::sleep(Duration::from_millis(50));
        shutdown(sockets[0].as_raw_fd(), Shutdown::Read).expect("shut down");
        thread::sleep(Duration::from_millis(50));
        drop((sockets, agent));
        let held = holding.join().expect("no panic");
        assert_eq!(held.iter().map(|held| held.address).collect::<Vec<_>>(), [left]);
        assert!(TcpStream::connect(left).is_ok() && TcpStream::connect(shut).is_err());

        let (keeper, agent) = UnixStream::pair().expect("a pair");
        give(&keeper, &held[0].way, left, &held[0].socket).expect("given");
        drop(keeper);
        assert_eq!(take(&agent).iter().map(|taken| taken.address).collect::<Vec<_>>(), [left]);
    }
}
