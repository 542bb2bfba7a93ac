//! What is given to a target once and stays: a user id of its own, and an address. Knows nothing of releases.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::protocol::Failure;
use crate::digest::Digest;
use crate::release::{History, Target};

/// Ids that distributions leave alone; systemd's dynamic users begin above.
const USERS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The first port that is given to a target which names none.
const FIRST_PORT: u16 = 8000;

/// The last one; further up connections get their own ends.
const LAST_PORT: u16 = 32_767;

/// What was given to a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// The user and group id of its processes; none where the agent is no root, and they are its own user's.
    pub(crate) user: Option<u32>,
    /// Where its front listens.
    pub(crate) address: SocketAddr,
}

/// Finds what a target was given, or gives it. A front that listens already keeps its port (`listening`).
pub(crate) fn account(history: &History, target: &Target, listening: Option<SocketAddr>) -> Result<Account, Failure> {
    let given = history.given(&target.app, &target.name).map_err(|error| Failure::of(&error))?;
    let all = history.all_given().map_err(|error| Failure::of(&error))?;
    let user = match given.user {
        _ if !nix::unistd::geteuid().is_root() => None,
        Some(user) => Some(user),
        None => Some(free_user(history.path(), &all.iter().filter_map(|given| given.user).collect::<Vec<_>>())?),
    };
    // One that somebody else has taken in the meantime is given up.
    let before = given.address.and_then(|address| address.parse().ok()).filter(|address| is_free(*address));
    let address = match (target.settings.address, listening.or(before)) {
        (Some(address), _) | (None, Some(address)) => address,
        (None, None) => free_address(&all.iter().filter_map(|given| given.address.clone()).collect::<Vec<_>>())?,
    };
    history.give(&target.app, &target.name, user, &address.to_string()).map_err(|error| Failure::of(&error))?;
    Ok(Account { user, address })
}

/// An id that nobody has. The agents of several home directories, each of which knows of its own targets only, begin at different places.
fn free_user(state: &Path, taken: &[u32]) -> Result<u32, Failure> {
    let is_known = |id: u32| {
        matches!(User::from_uid(Uid::from_raw(id)), Ok(Some(_)))
            || matches!(Group::from_gid(Gid::from_raw(id)), Ok(Some(_)))
    };
    let count = USERS.end() - USERS.start() + 1;
    let first = u32::from(number_of(state)) % count;
    (first..first + count)
        .map(|nth| USERS.start() + nth % count)
        .find(|id| !taken.contains(id) && !is_known(*id))
        .ok_or_else(|| Failure::new("no user id is left for another target"))
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn free_address(taken: &[String]) -> Result<SocketAddr, Failure> {
    (FIRST_PORT..=LAST_PORT)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| !taken.contains(&address.to_string()) && is_free(*address))
        .ok_or_else(|| Failure::new("no port is left for another target"))
}

/// Ports for processes, given out one after the other.
pub(crate) struct Ports(u16);

impl Ports {
    const RANGE: std::ops::Range<u16> = 20_000..30_000;

    /// Agents of several home directories do not all begin at the same place.
    pub(crate) fn of(home: &Path) -> Self {
        Self(Self::RANGE.start + number_of(home) % 10_000)
    }

    /// A loopback port on which nothing listens, and that is no process's in `taken` which may be down just now.
    pub(crate) fn free(&mut self, taken: &[u16]) -> Result<u16, Failure> {
        for _ in Self::RANGE {
            self.0 = if Self::RANGE.contains(&(self.0 + 1)) { self.0 + 1 } else { Self::RANGE.start };
            // Every address: a process that listens on all of them must find the port free.
            if !taken.contains(&self.0) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.0)).is_ok() {
                return Ok(self.0);
            }
        }
        Err(Failure::new("no port is left for another process"))
    }
}

/// A number that is always the same for a path, and hardly ever that of another.
fn number_of(path: &Path) -> u16 {
    let [first, second, ..] = *Digest::of(path.as_os_str().as_bytes()).as_bytes();
    u16::from_le_bytes([first, second])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_two_homes_are_not_the_same_user() {
        let user = |state: &str, taken: &[u32]| free_user(Path::new(state), taken).map_err(|failure| failure.message);
        let one = user("/home/one/agent/state.db", &[]).expect("an id");
        assert!(USERS.contains(&one));
        assert_ne!(user("/home/other/agent/state.db", &[]), Ok(one));
        assert_ne!(user("/home/one/agent/state.db", &[one]), Ok(one));
    }
}
