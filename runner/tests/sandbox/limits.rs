//! What a program must not use up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::trying::Try;
use runner::sandbox::Ended;

#[test]
fn a_fork_bomb_stays_within_its_number_of_processes() {
    let mut program = Try::python(
        "import os
started = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            os.execv('/usr/bin/sleep', ['sleep', '1000'])
        started += 1
except BlockingIOError:
    print(started)",
    );
    program.spec.limits.processes = Some(40);
    let outcome = program.run();
    let started: u32 = outcome.stdout.trim().parse().expect("it was stopped");
    assert!((20..40).contains(&started), "{started}");
}

#[test]
fn memory_is_limited_for_one_process() {
    let mut program = Try::python("b = bytearray(600 << 20); print(len(b))");
    program.spec.limits.memory = Some(256 << 20);
    let outcome = program.run();
    assert_eq!(outcome.stdout, "");
    assert_ne!(outcome.ended, Ended::Exited(0));
}

#[test]
fn memory_within_the_limit_can_be_used() {
    let mut program = Try::python("b = bytearray(100 << 20); print(len(b))");
    program.spec.limits.memory = Some(256 << 20);
    assert_eq!(program.run().stdout, "104857600\n");
}

#[test]
fn output_is_limited() {
    let outcome = Try::program(&["yes"]).output(100_000).run();
    assert_eq!(outcome.ended, Ended::TooMuchOutput);
    assert_eq!(outcome.stdout.len(), 100_000);
}

#[test]
fn files_are_limited() {
    let mut program = Try::shell("head -c 2000000 /dev/zero > /tmp/file; wc -c < /tmp/file");
    program.spec.limits.file_size = Some(1_000_000);
    assert_eq!(program.run().stdout, "1000000\n");
    let mut program = Try::shell("head -c 2000000 /dev/zero > /tmp/file");
    program.spec.limits.tmp = 1 << 20;
    assert!(program.run().stderr.contains("No space left"));
}

#[test]
fn time_is_limited_and_what_was_said_before_is_kept() {
    let outcome = Try::shell("echo begun; sleep 1000 & sleep 1000").time(Duration::from_millis(500)).run();
    assert_eq!((outcome.ended, outcome.stdout.as_str()), (Ended::TimedOut, "begun\n"));
}

#[test]
fn a_program_can_be_cancelled() {
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| Try::shell("sleep 1000").try_run(Some(&cancel)).expect("a sandbox").ended);
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(run.join().expect("a thread"), Ended::Cancelled);
    });
}
