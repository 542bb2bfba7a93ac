//! Ports of the loopback for what a test starts: never the same one twice in a process.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those of processes and of connections' own ends.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A port that nothing listens on, and that no other test of this process was given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at once begin at different places.
    let offset = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    loop {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(nth < COUNT, "no port is left");
        let port = FIRST + (offset + nth) % COUNT;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
