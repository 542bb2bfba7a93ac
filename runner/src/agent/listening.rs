//! Where a process and those that it has started listen for connections, by what `/proc` says. Knows nothing of what they are.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::family::family;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The addresses on which a process or one that descends from it listens. What `/proc` does not show is not there.
pub(super) fn addresses(pid: u32) -> Vec<SocketAddr> {
    let sockets: HashSet<String> = family(pid).into_iter().flat_map(sockets).collect();
    let mut found = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        let listening = table.lines().skip(1).filter_map(listening);
        found.extend(listening.filter(|(_, inode)| sockets.contains(*inode)).map(|(address, _)| address));
    }
    found.into_iter().collect()
}

/// Where a process or one that descends from it takes connections at a port from others than this machine; nothing where it lives
/// in a network of its own, or where this machine's has no others.
pub(super) fn in_public(pid: u32, port: u16) -> Option<SocketAddr> {
    let is_public = |address: &SocketAddr| address.port() == port && !address.ip().to_canonical().is_loopback();
    addresses(pid).into_iter().find(is_public).filter(|_| {
        let table = |name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        leads_out(&table("route"), &table("ipv6_route"))
    })
}

/// Whether a route of the kernel's two tables goes over more than the loopback: the first names devices first, under a heading, the
/// other one last.
fn leads_out(four: &str, six: &str) -> bool {
    let four = four.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let six = six.lines().filter_map(|line| line.split_whitespace().next_back());
    four.chain(six).any(|device| device != "lo")
}

/// The inodes of the sockets that a process holds.
fn sockets(pid: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| inode(&target)).collect()
}

fn inode(target: &Path) -> Option<String> {
    Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// The address and the inode of a line of `/proc/net/tcp` or `tcp6`, where it is of a socket that listens.
fn listening(line: &str) -> Option<(SocketAddr, &str)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = columns.get(1)?.split_once(':')?;
    let is_listening = *columns.get(3)? == LISTEN;
    let address = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
    is_listening.then_some((address, *columns.get(9)?))
}

/// An address as the kernel writes it: words of four bytes in the machine's own order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_this_process_listens_on_is_found() {
        let four = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let here = addresses(std::process::id());
        assert!(!here.contains(&four), "it is closed");
        let four = TcpListener::bind("127.0.0.1:0").expect("a port");
        let six = TcpListener::bind("[::]:0");
        let here = addresses(std::process::id());
        assert!(here.contains(&four.local_addr().expect("an address")), "{here:?}");
        if let Ok(six) = six {
            assert!(here.contains(&six.local_addr().expect("an address")), "{here:?}");
        }
    }

    #[test]
    fn what_listens_on_more_than_the_loopback_is_public_where_routes_lead_out() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let table = |name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        let reached = leads_out(&table("route"), &table("ipv6_route")).then_some(address);
        assert_eq!(in_public(std::process::id(), address.port()), reached);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert_eq!(in_public(std::process::id(), listener.local_addr().expect("an address").port()), None);

        let (heading, lo) = ("Iface\tDestination\n", "00000000000000000000000000000001 80 00 00 00000003     lo\n");
        assert!(!leads_out(heading, lo) && !leads_out("", ""));
        assert!(leads_out(&format!("{heading}eth0\t00000000\n"), lo) && leads_out(heading, &lo.replace("lo", "eth0")));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 4711 1 x";
        assert_eq!(listening(line), Some(("127.0.0.1:8080".parse().expect("an address"), "4711")));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(ip("00000000000000000000000001000000"), Some("::1".parse().expect("an address")));
    }
}
