//! Programs that somebody runs where a target's processes run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{Host, Slug};

/// Tells when it is up, and what it was told.
const LISTENS: &str =
    "trap 'echo told to end; exit 9' TERM; trap 'echo told to stop' INT; echo up; while :; do sleep 0.05; done";

/// `pipe exec` of a shell's command, and what that writes.
fn exec(host: &Host, command: &str) -> (Child, BufReader<ChildStdout>) {
    let mut exec = Command::new(env!("CARGO_BIN_EXE_pipe"));
    exec.args(["exec", "demo/staging", "--", "sh", "-c", command]).env("PIPE_HOME", host.home.path());
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a command");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    (child, output)
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn tell(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("a process");
}

/// How many programs have a directory.
fn left(host: &Host) -> usize {
    let entries = fs::read_dir(host.home.path().join("agent/run")).expect("a directory").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-")).count()
}

#[test]
fn a_program_is_told_what_its_command_is_told_and_nothing_is_left_of_it() {
    let host = Host::new();
    host.release(&host.target("staging"), &Slug::new("one")).up();
    let (mut child, mut output) = exec(&host, LISTENS);
    assert_eq!(line(&mut output), "up");
    tell(&child, Signal::SIGINT);
    assert_eq!(line(&mut output), "told to stop");
    tell(&child, Signal::SIGTERM);
    assert_eq!(line(&mut output), "told to end");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
    assert_eq!(left(&host), 0);

    let (mut killed, mut output) = exec(&host, LISTENS);
    assert_eq!(line(&mut output), "up");
    killed.kill().and_then(|()| killed.wait()).expect("it ends");
    assert_eq!(line(&mut output), "", "the program ends with its command");
    assert_eq!(left(&host), 1);
    let (mut next, _output) = exec(&host, "exit 3");
    assert_eq!(next.wait().expect("it ends").code(), Some(3));
    assert_eq!(left(&host), 0, "the next one clears up");
}

#[test]
fn a_first_release_that_lacks_a_file_of_its_data_can_be_given_it() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["media".into()];
    target.settings.release_commands = vec!["cat media/key".into()];
    let bring = || {
        let mut exec = Command::new(env!("CARGO_BIN_EXE_pipe"));
        exec.args(["exec", "demo/staging", "--", "sh", "-c", "echo secret > media/key"]);
        exec.env("PIPE_HOME", host.home.path()).output().expect("a command")
    };
    assert_eq!(bring().status.code(), Some(2), "nothing was ever tried");
    host.release(&target, &Slug::new("one")).refused();
    let brought = bring();
    let note = "note: nothing serves on `staging`: this runs in the place of release 1, the newest one\n";
    assert_eq!((brought.status.code(), String::from_utf8_lossy(&brought.stderr).as_ref()), (Some(0), note));
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(bring().stderr, b"", "the one that serves has been given it");
}
