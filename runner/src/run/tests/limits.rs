//! A plugin that takes more than it may is stopped, and its user is told which limit and where it is raised.

use std::path::Path;

use super::{Fault, RunError, Sandbox};
use crate::plugin::Code;

/// How a step ends that uses something up under limits.
fn failure(limits: &str, used: &str) -> (Fault, Code, String, String) {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    let project = Sandbox::new(&format!(
        "[app]\nname = \"greedy\"\n[steps.eater]\nplugin = {probe:?}\ninputs = {{ trees = \"source\" }}\n\
         limits = {{ {limits} }}\nconfig = {{ uses = [{{ {used} }}] }}\n"
    ));
    let error = project.build().0.map(drop).expect_err("it takes too much");
    let RunError::Step { failure, .. } = &error else { panic!("{error}") };
    (error.fault(), failure.code.clone(), failure.message.clone(), failure.hint.clone().unwrap_or_default())
}

#[test]
fn a_limit_that_is_passed_is_named_with_where_to_raise_it() {
    for (name, limit, used, did) in [
        ("time", "\"200ms\"", "use = \"time\"", "took longer"),
        ("time", "\"200ms\"", "use = \"names\"", "took longer than its limit of 0 s"),
        ("memory", "\"8MiB\"", "use = \"memory\"", "used more memory"),
        ("memory", "\"8MiB\"", "use = \"blobs\", count = 10", "used more memory"),
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
