//! More and fewer of a process, while what runs already goes on.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::UNIX_EPOCH;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release::{self, History, ProcessState, ReleaseError, Target};

use super::host::{Host, Slug, eventually, page};

/// The web processes that run, each with its instance and the time of its start, in milliseconds as the state keeps it.
fn running(host: &Host) -> Vec<(u32, u128)> {
    let status = release::status(&host.place()).expect("a status");
    let processes = status.iter().flat_map(|target| &target.processes);
    processes
        .filter(|process| process.state == ProcessState::Running)
        .map(|process| (process.instance, process.since.duration_since(UNIX_EPOCH).expect("a time").as_millis()))
        .collect()
}

/// The ports of the processes that answer.
fn ports(target: &Target) -> BTreeSet<String> {
    let port = |env: String| env.lines().find(|line| line.starts_with("PORT=")).expect("a port").to_owned();
    (0..12).map(|_| port(page(target, "/env"))).collect()
}

#[test]
fn scaling_starts_and_stops_processes_and_leaves_the_others_alone() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let before = running(&host);

    let released = host.scale(&target, &["web=3"]).up();
    assert_eq!(released.number, 2);
    assert_eq!(released.url, format!("http://{}/", target.settings.address.expect("an address")));
    let scaled = running(&host);
    assert_eq!(scaled.iter().map(|(instance, _)| *instance).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(scaled[0], before[0], "the first was not touched");
    assert_eq!(ports(&target).len(), 3, "all of them answer");

    host.scale(&target, &["web=2"]).up();
    eventually("the surplus is gone", || host.instances().len() == 2);
    assert_eq!(running(&host), scaled[..2]);
    assert_eq!(ports(&target).len(), 2);

    assert_eq!(host.scale(&target, &["web=0"]).up().url, "", "it answers nowhere");
    eventually("nothing runs", || host.instances().is_empty());
    let unchanged = host.release(&target, &Slug::new("one")).up();
    assert_eq!((unchanged.number, unchanged.url.as_str()), (4, ""), "nor does it by a run that changes nothing");
    host.scale(&target, &["web=1"]).up();
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn each_process_has_a_host_name_of_its_own() {
    let host = Host::new();
    let target = host.target("staging");
    let web = "export SEEN=$(cat /proc/sys/kernel/hostname); exec python3 app.py";
    host.release(&target, &Slug::web("one", web)).up();
    host.scale(&target, &["web=2"]).up();
    let seen = |env: String| env.lines().find(|line| line.starts_with("SEEN=")).map(str::to_owned);
    let seen: BTreeSet<_> = (0..12).filter_map(|_| seen(page(&target, "/env"))).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["SEEN=web.2.staging.demo", "SEEN=web.staging.demo"]);
}

#[test]
fn counts_stay_with_the_next_release_and_go_back_with_a_rollback() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.scale(&target, &["web=2"]).up();
    host.release(&target, &Slug::new("two")).up();
    assert_eq!(page(&target, "/"), "two");
    assert_eq!(ports(&target).len(), 2);

    host.rollback(&target, Some(1)).up();
    assert_eq!(page(&target, "/"), "one");
    assert_eq!(ports(&target).len(), 1);
    let releases = History::open(host.home.path()).expect("a state").releases("demo", "staging").expect("releases");
    let told: Vec<String> = releases.iter().map(|release| release.how.to_string()).collect();
    assert_eq!(told, ["run", "scaled web=2", "run", "rolled back to 1"]);

    // Going back from a scaling changes no code, which is told with what would.
    host.release(&target, &Slug::new("two")).up();
    host.scale(&target, &["web=2"]).up();
    let said = host.rollback(&target, None);
    let warning = "release 5 ran the slug that runs now: what comes back is how it ran";
    assert!(said.warnings.contains(warning), "{}", said.warnings);
    said.up();
}

#[test]
fn a_killed_agent_finds_all_processes_again() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.scale(&target, &["web=3"]).up();
    let before = running(&host);
    let agent = host.agent().expect("an agent");
    kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).expect("killed");
    eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
    assert_eq!(running(&host), before);
    assert_eq!(ports(&target).len(), 3);
}

/// The process that has started another one.
pub(crate) fn parent(process: u32) -> i32 {
    above(format!("/proc/{process}").as_ref())
}

fn above(process: &std::path::Path) -> i32 {
    let stat = std::fs::read_to_string(process.join("stat")).expect("it is there");
    stat.rsplit_once(") ").expect("a name").1.split(' ').nth(1).expect("a parent").parse().expect("a number")
}

#[test]
fn a_keeper_that_is_killed_has_a_successor() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let agent = host.agent().expect("an agent");
    kill(Pid::from_raw(parent(agent)), Signal::SIGKILL).expect("killed");
    let watches = |entry: std::fs::DirEntry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        words == b"pipe\0agent\0agent-watch\0" && above(&entry.path()) == agent.cast_signed()
    };
    let is_kept = || std::fs::read_dir("/proc").expect("processes").flatten().any(watches);
    eventually("another keeper is there", is_kept);
    // It may only just have begun.
    std::thread::sleep(std::time::Duration::from_millis(500));
    kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).expect("killed");
    eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
    assert_eq!(running(&host).len(), 1);
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn what_serves_starts_an_agent_that_is_killed_with_its_keeper() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.scale(&target, &["web=3"]).up();
    let before = running(&host);
    for _ in 0..2 {
        let agent = host.agent().expect("an agent");
        for process in [parent(agent), agent.cast_signed()] {
            kill(Pid::from_raw(process), Signal::SIGKILL).expect("killed");
        }
        eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
        let agent = host.agent().expect("an agent");
        let score = std::fs::read_to_string(format!("/proc/{agent}/oom_score_adj")).expect("a score");
        assert_eq!(score.trim_end(), "0", "it is not as ready to be ended as what serves");
        let above = u32::try_from(parent(agent)).map(parent).expect("a keeper");
        let above = std::fs::read_to_string(format!("/proc/{above}/cmdline")).unwrap_or_default();
        assert!(!above.contains("shim"), "it is no part of what serves: {above}");
        assert_eq!(running(&host), before);
        assert_eq!(page(&target, "/"), "one");
    }
}

#[test]
fn each_process_that_is_stopped_may_finish() {
    let host = Host::new();
    let target = host.target("staging");
    let worker = "trap 'echo finishes; exit 0' TERM; echo begins; while :; do sleep 0.05; done";
    host.release(&target, &Slug { worker: Some(worker), ..Slug::new("one") }).up();
    host.scale(&target, &["worker=8"]).up();
    let logs = runner::release::target_directory(host.home.path(), "demo", "staging").join("logs");
    let have_said = |word: &str| {
        let files = std::fs::read_dir(&logs).expect("logs").map(|entry| entry.expect("a log").path());
        files.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(word))).count()
    };
    eventually("all have begun", || have_said("begins") == 8);
    runner::release::stop(&host.place(), None).expect("stopped");
    assert_eq!(have_said("finishes"), 8);
}

#[test]
fn what_cannot_be_scaled_says_why() {
    let host = Host::new();
    let target = host.target("staging");
    let error = host.scale(&target, &["web=2"]).refused();
    assert_eq!(error.to_string(), "target `staging` runs nothing that could be scaled");
    assert!(matches!(&error, ReleaseError::NotReleased(failure) if failure.usage), "nothing failed: {error:?}");
    host.release(&target, &Slug::new("one")).up();
    let error = host.scale(&target, &["wbe=2"]).refused();
    assert_eq!(error.to_string(), "the slug has no process `wbe`");
    assert_eq!(error.hint().as_deref(), Some("did you mean `web`? it has `web`"));
    assert_eq!(History::open(host.home.path()).expect("a state").releases("demo", "staging").expect("them").len(), 1);
}

#[test]
fn counts_are_shown_as_json_and_none_is_given_twice() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let scale = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(["scale", "staging"]).args(args).env("PIPE_HOME", host.home.path());
        let output = command.output().expect("pipe runs");
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(json(&scale(&["--json"]).1), serde_json::json!({}));
    host.scale(&target, &["web=2"]).up();
    assert_eq!(json(&scale(&["--json"]).1), serde_json::json!({ "web": 2 }));
    let (code, text) = scale(&["web=1", "worker=1", "web=2"]);
    assert!(code == Some(2) && text.contains("`web` is given more than one count"), "{text}");
    let (code, text) = scale(&["wbe=2"]);
    assert!(code == Some(2) && text.contains("the slug has no process `wbe`"), "{text}");
    assert_eq!(running(&host).len(), 2);
    release::stop(&host.place(), None).expect("stopped");
    assert_eq!(json(&scale(&["--json"]).1), serde_json::Value::Null);
}

#[test]
fn the_logs_of_what_was_scaled_are_those_of_all_that_runs() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("old")).up();
    host.release(&target, &Slug::new("one")).up();
    host.scale(&target, &["web=2"]).up();
    let logs = |process: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(["logs", "staging", "--process", process]).env("PIPE_HOME", host.home.path());
        String::from_utf8(command.output().expect("pipe runs").stdout).expect("text")
    };
    eventually("both have said that they serve", || logs("web").matches("serving one").count() == 2);
    assert!(!logs("web").contains("serving old"));
    assert_eq!(logs("web.2").matches("serving one").count(), 1);
}
