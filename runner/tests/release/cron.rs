//! Cron entries: each runs when it is due, once at a time, whatever is released and killed meanwhile. Takes as long as it takes
//! for two minutes to begin.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release::{self, ProcessState, ProcessStatus, Target, target_directory};

use super::host::{Host, Slug, eventually, page};

fn entry(host: &Host) -> ProcessStatus {
    let status = release::status(&host.place()).expect("a status");
    let found = status.iter().flat_map(|target| &target.processes).find(|process| process.name == "tick");
    found.cloned().unwrap_or_else(|| panic!("{status:?}"))
}

/// How often the entry was begun, and how often it came to its end.
fn counts(target: &Target) -> [usize; 2] {
    let text = page(target, "/run/cat%20kept/ticks");
    ["begins", "ends"].map(|word| text.lines().filter(|line| *line == word).count())
}

/// Waits for a minute to begin.
#[track_caller]
fn within_two_minutes(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(2), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_entry_runs_when_it_is_due_and_never_twice_at_one_time() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data.push("kept".into());
    let command = "* * * * * echo begins | tee -a kept/ticks; sleep 10; echo ends >>kept/ticks; exit 3";
    target.settings.cron.insert("tick".into(), command.into());
    host.release(&target, &Slug::new("one")).up();
    let waiting = entry(&host);
    assert_eq!((waiting.state, waiting.release), (ProcessState::Scheduled, 1));
    let until = waiting.since.duration_since(SystemTime::now()).unwrap_or_default();
    assert!(until <= Duration::from_mins(1), "{until:?}");

    within_two_minutes("it begins", || counts(&target) == [1, 0]);
    assert_eq!(entry(&host).state, ProcessState::Running);
    // Neither the agent's end nor another release ends it, and none begins another one.
    let agent = host.agent().and_then(|agent| i32::try_from(agent).ok()).expect("an agent");
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it is there");
    host.release(&target, &Slug::new("two")).up();
    assert_eq!((page(&target, "/").as_str(), counts(&target)), ("two", [1, 0]));
    assert_eq!(entry(&host).state, ProcessState::Running);
    eventually("it ends by itself", || counts(&target) == [1, 1]);
    eventually("that it failed is seen", || entry(&host).state == ProcessState::Failed);

    within_two_minutes("it begins again", || counts(&target) == [2, 1]);
    assert_eq!((entry(&host).state, entry(&host).release), (ProcessState::Running, 2));
    let log = |number: u64| {
        let directory = target_directory(host.home.path(), "demo", "staging").join("logs");
        std::fs::read_to_string(directory.join(format!("{number}-tick.log"))).expect("a log")
    };
    assert!(log(1).contains("Z $ echo begins | tee") && log(1).contains("Z begins\n"), "{}", log(1));
    assert!(log(2).contains("Z begins\n"), "{}", log(2));
    assert_eq!(release::stop(&host.place(), None).expect("stopped"), ["demo/staging"]);
    eventually("nothing of it is left", || host.instances().is_empty());
}

#[test]
fn an_entry_that_is_called_like_a_process_is_refused() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.cron.insert("web".into(), "@daily true".into());
    let error = host.release(&target, &Slug::new("one")).refused();
    assert_eq!(error.to_string(), "the slug has a process `web`, as which target `staging` names a cron entry");
}
