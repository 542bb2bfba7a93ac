//! What comes back when an agent begins anew, and what can do so only later.

use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release;

use super::host::{Host, Slug, eventually, page, request};

#[test]
fn a_target_whose_address_is_not_there_yet_comes_back_once_it_is() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let other = host.target("other");
    host.release(&other, &Slug::new("two")).up();
    let agent = host.agent().expect("an agent");
    // Somebody else is there before the next agent: whoever takes the address while nobody has it.
    let _ = kill(Pid::from_raw(parent(agent)), Signal::SIGKILL);
    let _ = kill(Pid::from_raw(i32::try_from(agent).expect("an id")), Signal::SIGKILL);
    let address = target.settings.address.expect("an address");
    let mut taken = None;
    eventually("the address is free", || {
        taken = TcpListener::bind(address).ok();
        taken.is_some()
    });
    // A command starts the next one, which has time enough for the other.
    assert_eq!(release::status(&host.place()).expect("a status").len(), 1);
    assert_eq!(page(&other, "/"), "two");
    drop(taken);
    eventually("it comes back", || request(&target, "/", "").is_some_and(|answer| answer.ends_with("\r\n\r\none")));
    assert_eq!(release::status(&host.place()).expect("a status").len(), 2);
}

fn parent(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit_once(") ").expect("fields").1;
    fields.split(' ').nth(1).and_then(|parent| parent.parse().ok()).expect("a parent")
}
