//! A host that runs under systemd, where a login ends with all that was started in it: what serves there stays, and comes back.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use pipe_tests::{Machine, eventually};

use super::small::{self, free_port, page_of};

#[test]
#[ignore = "needs root, and a host that systemd can be started on: `make torture`"]
fn what_serves_under_systemd_outlasts_the_login_and_comes_back_after_restarts_and_power_cuts() {
    let (mut machine, project) = (Machine::on(), small::project());
    let (client, host, ports) = (machine.client(), machine.host(), [free_port(), free_port()]);
    let mut targets = format!(
        "\n[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:{}\"\n",
        free_port()
    );
    for (user, port) in [Machine::USER, "root"].into_iter().zip(ports) {
        write!(
            targets,
            "\n[targets.of-{user}]\ndriver = \"ssh\"\nserver = \"{}\"\npromote = \"staging\"\naddress = \"{host}:{port}\"\n",
            machine.address(user)
        )
        .expect("written");
    }
    small::release_to(&project, &targets);
    // The machine's own interpreter is the one that all users have.
    let pipe = |args: &[&str]| {
        project.run_with(&[("PIPE_SSH", &client), ("PATH", "/usr/local/bin:/usr/bin:/bin")], args).success().stdout
    };
    let pages = || ports.map(|port| page_of(host, port));

    let lingers = machine.command("loginctl").args(["enable-linger", Machine::USER]).status();
    assert!(lingers.expect("loginctl").success());
    pipe(&["run"]);
    for user in [Machine::USER, "root"] {
        let (target, address) = (format!("of-{user}"), machine.address(user));
        let said = pipe(&["target", "add", &target, &address]);
        assert!(said.contains("comes back after a restart of the host: systemd"), "{said}");
        pipe(&["promote", "staging", &target]);
        ends_with_the_login(&machine, &address);
    }
    // What `pipe` keeps open for its next command.
    for socket in fs::read_dir(project.home().join("ssh")).into_iter().flatten().flatten() {
        Command::new("ssh").arg("-S").arg(socket.path()).args(["-qO", "exit", "any"]).status().expect("ssh runs");
    }
    eventually("nobody is logged in", || {
        let sessions = machine.command("loginctl").args(["list-sessions", "--no-legend"]).output().expect("loginctl");
        sessions.status.success() && sessions.stdout.is_empty()
    });
    assert_eq!(pages(), ["one", "one"], "the login is over");

    for stop in [Machine::turn_off, Machine::cut_power] {
        stop(&mut machine);
        assert_eq!(pages(), ["", ""], "it is off");
        machine.turn_on();
        eventually("they come back", || pages() == ["one", "one"]);
        let said = pipe(&["ps"]);
        let running = said.lines().filter(|line| line.starts_with("demo/of-") && line.contains(" running "));
        assert_eq!(running.count(), 2, "{said}");
    }
}

/// What somebody starts there and leaves behind is ended.
fn ends_with_the_login(machine: &Machine, address: &str) {
    let left = format!("{} {address} 'sleep 1000 > /dev/null 2>&1 & echo $!'", machine.client());
    let left = Command::new("sh").args(["-c", &left]).output().expect("ssh runs").stdout;
    let left = String::from_utf8(left).expect("text");
    assert!(left.trim().parse::<u32>().is_ok(), "a process: {left}");
    eventually("it has ended with the login", || {
        !machine.command("sh").args(["-c", "kill -0 $0", left.trim()]).status().expect("a shell").success()
    });
}
