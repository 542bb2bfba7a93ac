//! Ctrl-C, and being told to end: whatever the run waits for, it ends, and nothing that it started is left.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pipe_tests::Project;

/// Ends a process as `kill` does.
fn signal(name: &str, child: &Child) {
    let status =
        Command::new("sh").args(["-c", &format!("kill -s {name} {}", child.id())]).status().expect("kill runs");
    assert!(status.success());
}

fn started(project: &Project) -> Child {
    let mut command = project.command();
    command.args(["run", "--no-release", "--json"]).stdout(Stdio::piped()).spawn().expect("`make build` has built pipe")
}

/// Reads events until one of them has this in it; gives what comes after it.
fn until(child: &mut Child, text: &str) -> impl Read + use<> {
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(out.read_line(&mut line).expect("lines"), 0, "the run ended before {text}");
    }
    out
}

/// The rest of the events, and the exit code.
fn ended(mut child: Child, mut rest: impl Read) -> (Vec<serde_json::Value>, Option<i32>) {
    let mut text = String::new();
    rest.read_to_string(&mut text).expect("text");
    let events = text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect();
    (events, child.wait().expect("it ends").code())
}

/// Waits until no process of this machine has a text in its command line; sandboxed ones are seen from here too.
fn is_gone(text: &str) -> bool {
    let alive = || {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(text))
    };
    let began = Instant::now();
    while alive() {
        if began.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_lock_that_is_stopped_leaves_nothing_in_the_store() {
    let project = Project::new()
        .pipeline(
            "[app]\nname = \"locked\"\n[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n",
        )
        .file("requirements.txt", "django\n")
        .file("uv", "#!/bin/sh\n[ \"$1\" = --version ] && echo uv 0.9.0 && exit\ntouch asked\nsleep 60\n");
    let uv = project.path().join("uv");
    fs::set_permissions(&uv, fs::Permissions::from_mode(0o755)).expect("made executable");
    let mut lock = project.command().env("PIPE_UV", &uv).arg("lock").spawn().expect("`make build` has built pipe");
    let began = Instant::now();
    while !project.path().join("asked").exists() {
        assert!(began.elapsed() < Duration::from_secs(20) && lock.try_wait().expect("asked").is_none(), "uv is asked");
        thread::sleep(Duration::from_millis(20));
    }
    signal("INT", &lock);
    assert_eq!(lock.wait().expect("it ends").code(), Some(130));
    assert_cleared(&project);
}

fn assert_cancelled(events: &[serde_json::Value], code: Option<i32>) {
    assert_eq!(code, Some(130), "{events:?}");
    let last = events.last().expect("a last event");
    assert_eq!((&last["event"], &last["outcome"]), (&"run-finished".into(), &"cancelled".into()));
}

/// Nothing that the run needed for a while only is in the store any more.
#[track_caller]
fn assert_cleared(project: &Project) {
    let left = fs::read_dir(project.home().join("store/tmp")).expect("listed").flatten();
    let left: Vec<_> = left.map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn outcome(events: &[serde_json::Value], step: &str) -> String {
    let ended = events.iter().find(|event| event["event"] == "step-finished" && event["step"] == step);
    ended.expect("it ended")["outcome"].as_str().expect("text").to_owned()
}

#[test]
fn a_program_that_ignores_signals_is_ended_with_all_that_it_started() {
    let marker = format!("stubborn-{}", std::process::id());
    let script =
        format!("trap '' INT TERM HUP; (sleep 611; : {marker}) & echo up; while :; do sleep 612; done; : {marker}");
    let pipeline = format!(
        "[app]\nname = \"stubborn\"\n[steps.stays]\nplugin = \"command\"\ninputs = {{ project = \"source\" }}\n\
         config = {{ run = {script:?} }}\ngrants = {{ exec = [\"sh\"] }}\n\
         [steps.after]\nplugin = \"files\"\ninputs = {{ trees = \"stays\" }}\n"
    );
    for name in ["INT", "TERM"] {
        let project = Project::new().pipeline(&pipeline);
        let mut child = started(&project);
        let rest = until(&mut child, "up");
        signal(name, &child);
        let (events, code) = ended(child, rest);
        assert_cancelled(&events, code);
        assert_eq!(
            (outcome(&events, "stays"), outcome(&events, "after")),
            ("cancelled".to_owned(), "skipped".to_owned())
        );
        assert!(is_gone(&marker), "SIG{name} left something behind");
        assert_cleared(&project);
    }
}

/// A step that never ends by itself.
fn endless(input: &str) -> String {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    format!(
        "[steps.turns]\nplugin = \"{}\"\ninputs = {{ trees = \"{input}\" }}\n\
         config = {{ uses = [{{ use = \"time\" }}] }}\n",
        probe.display()
    )
}

#[test]
fn what_waits_for_another_program_to_hold_ends_with_a_killed_run() {
    let project = Project::new().pipeline(&format!(
        "[app]\nname = \"killed\"\n[steps.first]\nplugin = \"command\"\ninputs = {{ project = \"source\" }}\n\
         config = {{ run = \"mkdir out\", collect = \"out\" }}\ngrants = {{ exec = [\"sh\"] }}\n{}",
        endless("first")
    ));
    let mut child = started(&project);
    let _rest = until(&mut child, "step-finished");
    let of_the_run = format!("PPid:\t{}\n", child.id());
    let line = |process: &Path| fs::read(process.join("cmdline")).unwrap_or_default();
    let holds = |process: &Path| line(process) == b"pipe\0sandbox-init\0";
    let processes = fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    let idle: Vec<_> = processes
        .filter(|process| fs::read_to_string(process.join("status")).is_ok_and(|status| status.contains(&of_the_run)))
        .filter(|process| holds(process))
        .collect();
    assert_eq!(idle.len(), 1);
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let began = Instant::now();
    while idle.iter().any(|process| holds(process)) {
        assert!(began.elapsed() < Duration::from_secs(20), "{idle:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_plugin_in_an_endless_loop_is_ended() {
    let project = Project::new().pipeline(&format!("[app]\nname = \"endless\"\n{}", endless("source")));
    let mut child = started(&project);
    let rest = until(&mut child, "step-started");
    signal("INT", &child);
    let (events, code) = ended(child, rest);
    assert_cancelled(&events, code);
    assert_eq!(outcome(&events, "turns"), "cancelled");
}

#[test]
fn a_program_that_writes_faster_than_it_is_told_waits_for_that() {
    let project = Project::new().pipeline(
        "[app]\nname = \"talks\"\n[steps.talks]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
         config = { run = \"yes\" }\ngrants = { exec = [\"sh\"] }\nlimits = { log = \"100GiB\" }\n",
    );
    let mut child = started(&project);
    let rest = until(&mut child, "step-output");
    // Nobody reads meanwhile.
    thread::sleep(Duration::from_secs(2));
    signal("INT", &child);
    let mut rest = BufReader::new(rest);
    let (mut line, mut length) = (Vec::new(), 0);
    while rest.read_until(b'\n', &mut line).expect("lines") > 0 {
        length += line.len();
        line.clear();
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(length < 32 << 20, "{length} bytes were on their way");
}

#[test]
fn a_fetch_that_hangs_is_left() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let hash = "0".repeat(64);
    let project =
        Project::new().file("requirements.txt", &format!("django==5.2.1 --hash=sha256:{hash}\n")).pipeline(&format!(
            "[app]\nname = \"hanging\"\npython = \"3.11\"\n[index]\nurl = \"http://127.0.0.1:{port}/simple\"\n\
             [steps.lock]\nplugin = \"python-lock\"\ninputs = {{ project = \"source\" }}\n\
             [steps.venv]\nplugin = \"python-venv\"\ninputs = {{ lock = \"lock\" }}\n\
             grants = {{ fetch = [\"index\"], exec = [\"python\"] }}\n"
        ));
    let mut child = started(&project);
    let rest = until(&mut child, "step-started");
    // Held open, and never answered.
    let (_held, _) = server.accept().expect("the index is asked");
    signal("INT", &child);
    let (events, code) = ended(child, rest);
    assert_cancelled(&events, code);
    assert_eq!(outcome(&events, "venv"), "cancelled");
    // The step was given up, and holds the store to the end.
    assert_cleared(&project);
}

#[test]
fn ctrl_c_at_a_terminal_leaves_it_as_it_was() {
    let project = Project::new().pipeline(
        "[app]\nname = \"typed\"\n[steps.stays]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
         config = { run = \"echo up; sleep 613\" }\ngrants = { exec = [\"sh\"] }\n",
    );
    let pipe = project.command().get_program().to_str().expect("a path").to_owned();
    let script = format!("trap : INT; stty -a > before; {pipe} run --no-release; echo code $?; stty -a > after");
    let mut command = Command::new("script");
    command.args(["-qfec", &script, "/dev/null"]).current_dir(project.path());
    command.env("PIPE_HOME", project.home()).env("SHELL", "/bin/sh").env("TERM", "xterm").env_remove("CI");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("`script` runs");
    let mut out = child.stdout.take().expect("piped");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("stays") || !seen.contains("up") {
        let len = out.read(&mut buffer).expect("output");
        assert_ne!(len, 0, "it ended early: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    child.stdin.as_mut().expect("piped").write_all(b"\x03").expect("typed");
    out.read_to_string(&mut seen).expect("output");
    child.wait().expect("it ends");
    assert!(seen.contains("code 130"), "{seen}");
    let state = |name: &str| fs::read_to_string(project.path().join(name)).expect("the terminal's state");
    assert_eq!(state("before"), state("after"));
    assert!(!seen.contains("\x1b[?"), "no mode of the terminal is changed: {seen:?}");
}
