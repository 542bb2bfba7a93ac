//! A plugin that takes more than it may is stopped, and its user is told which limit and where it is raised.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Build, Event, Events, Fault, RunError, Sandbox};
use crate::plugin::Code;

/// A step that uses something up under limits.
fn eater(limits: &str, used: &str) -> Sandbox {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    Sandbox::new(&format!(
        "[app]\nname = \"greedy\"\n[steps.eater]\nplugin = {probe:?}\ninputs = {{ trees = \"source\" }}\n\
         limits = {{ {limits} }}\nconfig = {{ uses = [{{ {used} }}] }}\n"
    ))
}

/// How it ends.
fn failure(limits: &str, used: &str) -> (Fault, Code, String, String) {
    let project = eater(limits, used);
    let error = project.build().0.map(drop).expect_err("it takes too much");
    let RunError::Step { failure, .. } = &error else { panic!("{error}") };
    (error.fault(), failure.code.clone(), failure.message.clone(), failure.hint.clone().unwrap_or_default())
}

#[test]
fn a_limit_that_is_passed_is_named_with_where_to_raise_it() {
    for (name, limit, used, did) in [
        ("time", "\"200ms\"", "use = \"time\"", "took longer"),
        ("time", "\"200ms\"", "use = \"names\"", "took longer than its limit of 200ms"),
        ("memory", "\"8MiB\"", "use = \"memory\"", "used more memory"),
        ("memory", "\"8MiB\"", "use = \"blobs\", count = 10", "used more memory"),
        ("memory", "\"8MiB\"", "use = \"questions\", count = 50000", "used more memory"),
        (
            "handles",
            "150000",
            "use = \"handles\", count = 200000",
            "held more handles at one time than its limit of 150000",
        ),
        ("output", "\"1MiB\"", "use = \"output\", bytes = 2000000", "wrote more"),
        ("log", "\"1KiB\"", "use = \"log\", bytes = 2000", "said more"),
        ("calls", "100", "use = \"calls\", count = 1000", "made more calls"),
    ] {
        let (fault, code, message, hint) = failure(&format!("{name} = {limit}"), used);
        assert!(message.starts_with(did), "{name}: {message}");
        assert!(hint.starts_with(&format!("raise `limits.{name}` of `[steps.eater]`")), "{name}: {hint}");
        let expected = match name {
            "time" => (Fault::TimedOut, Code::TimedOut),
            _ => (Fault::Step, Code::LimitExceeded),
        };
        assert_eq!((fault, code), expected, "{name}");
    }
}

#[test]
fn what_a_plugin_says_of_its_failure_is_cut_and_never_that_the_run_was_stopped() {
    let failure = |used: &str| failure("time = \"1m\"", used);
    let (fault, code, message, _) = failure("use = \"failure\", bytes = 20000");
    assert_eq!((fault, code), (Fault::Step, Code::Failed));
    assert!(message.len() < 17 << 10 && message.ends_with("x… (3616 more bytes were cut off)"), "{message}");
    let (_, code, message, hint) = failure(&format!("use = \"failure\", bytes = 0, code = \"{}\"", "c".repeat(120)));
    assert_eq!(code, Code::Other(format!("{}… (20 more bytes were cut off)", "c".repeat(100))));
    assert_eq!(message, "the plugin failed without a word");
    assert!(hint.contains("tell its author"), "{hint}");
    let (_, _, message, _) = failure("use = \"name\", bytes = 5000");
    assert!(message.contains("n…` cannot be in a tree: its name has 5000 bytes, of at most 255"), "{message}");
}

#[test]
fn progress_is_told_no_faster_than_anybody_looks_and_each_message_counts() {
    let project = eater("log = \"1KiB\"", "use = \"progress\", count = 20000");
    let (events, received) = Events::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let built = project.open().and_then(|project| project.build(Build { jobs: 1, keep_going: false }, &events, &stop));
    built.map(drop).expect("it ends");
    drop(events);
    let told = received.into_iter().filter(|told| matches!(told.event, Event::StepProgress { .. })).count();
    assert!((1..100).contains(&told), "{told}");
    let (_, code, message, _) = failure("log = \"1KiB\"", "use = \"log\", bytes = 1000");
    assert_eq!((code, message.as_str()), (Code::LimitExceeded, "said more than its limit of 1024 bytes"));
}
