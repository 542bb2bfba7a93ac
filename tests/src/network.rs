//! A network of its own, as another machine has one, and a cable between it and this machine: a network namespace of the kernel, which
//! only root may connect. Knows nothing of what listens there.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::free_port;

const IP: &str = "/usr/sbin/ip";

/// The network, there until it is dropped and all that was started in it has ended.
pub(crate) struct Network {
    /// What keeps it.
    keeper: Child,
    /// Its own end of the cable.
    address: Ipv4Addr,
}

impl Network {
    /// Makes one that this machine reaches, and that reaches nothing else.
    pub(crate) fn connected() -> Self {
        crate::needs(IP);
        let keeper = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().expect("a namespace is made");
        // Four addresses for each cable, of which the middle ones are its ends.
        let number = u32::from(free_port());
        let first = u32::from(Ipv4Addr::new(10, 192, 0, 0)) + number * 4;
        let [here, there] = [first + 1, first + 2].map(Ipv4Addr::from);
        let network = Self { keeper, address: there };
        network.wait();
        let (near, far) = (format!("near{number}"), format!("far{number}"));
        let pid = network.keeper.id().to_string();
        ip(&mut Command::new(IP), &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &pid]);
        ip(&mut Command::new(IP), &["address", "add", &format!("{here}/30"), "dev", &near]);
        ip(&mut Command::new(IP), &["link", "set", &near, "up"]);
        ip(&mut network.command(IP), &["link", "set", "lo", "up"]);
        ip(&mut network.command(IP), &["address", "add", &format!("{there}/30"), "dev", &far]);
        ip(&mut network.command(IP), &["link", "set", &far, "up"]);
        network
    }

    /// Where this machine reaches it.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program to be started in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.keeper.id())).arg(program);
        command
    }

    /// Until it is another than this process's.
    fn wait(&self) {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
        crate::eventually("there is a namespace", || namespace(&self.keeper.id().to_string()) != namespace("self"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn ip(command: &mut Command, args: &[&str]) {
    let done = command.args(args).stdin(Stdio::null()).status().expect("`ip` runs");
    assert!(done.success(), "`ip {}`", args.join(" "));
}
