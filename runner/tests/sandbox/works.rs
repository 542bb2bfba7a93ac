//! What a program must be able to do.

use std::fs;
use std::io::{BufRead, BufReader, Seek, Write};

use crate::trying::Try;
use nix::sys::signal::Signal;
use runner::sandbox::Ended;

#[test]
fn a_program_has_arguments_a_directory_and_an_exit_code() {
    let mut program = Try::shell("echo hello; echo oops >&2; id -un; hostname; pwd; exit 3");
    program.spec.cwd = "/tmp/home".into();
    let outcome = program.run();
    assert_eq!(outcome.ended, Ended::Exited(3));
    assert_eq!(outcome.stdout, "hello\napp\npipe\n/tmp/home\n");
    assert_eq!(outcome.stderr, "oops\n");
}

/// Settings ask for the address of the machine that they are on, to know which requests come from it.
#[test]
fn a_program_finds_the_address_of_its_own_name() {
    let script = "import socket; print(socket.gethostbyname(socket.gethostname()))";
    assert_eq!(Try::python(script).run().stdout, "127.0.0.1\n");
    assert_eq!(Try::python(script).host_network().run().stdout, "127.0.0.1\n");
}

#[test]
fn a_program_that_is_killed_says_by_which_signal() {
    assert_eq!(Try::shell("kill -SEGV $$").run().ended, Ended::Killed(11));
}

#[test]
fn standard_input_is_a_file() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"one\ntwo\n").expect("a file");
    file.rewind().expect("a file");
    assert_eq!(Try::program(&["wc", "-l"]).stdin(file).run().stdout, "2\n");
    assert_eq!(Try::program(&["wc", "-l"]).run().stdout, "0\n");
}

#[test]
fn devices_and_shared_memory_work() {
    let script = "head -c 4 /dev/urandom | wc -c; echo x > /dev/null; echo err > /dev/stderr; cat < /dev/zero | head -c 2 | wc -c; echo y > /dev/shm/y; ls -A /dev";
    let outcome = Try::shell(script).run();
    let names = "fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n";
    assert_eq!(outcome.stdout, format!("4\n2\n{names}"));
    assert_eq!(outcome.stderr, "err\n");
}

#[test]
fn the_root_can_be_written_unless_it_is_sealed() {
    let script = "mkdir /app && echo made > /app/out";
    assert_eq!(Try::shell(script).collect("/app/out").run().collected.expect("a file"), ["made\n"]);
    let mut program = Try::shell(script);
    program.spec.read_only = true;
    assert!(program.run().stderr.contains("Read-only file system"));
}

#[test]
fn a_mount_within_a_mount_is_collected_with_it() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    fs::write(dirs[0].path().join("manage.py"), "").expect("a file");
    fs::write(dirs[1].path().join("vite.js"), "").expect("a file");
    for dir in &dirs {
        crate::users::give_to_programs(dir.path());
    }
    let outcome = Try::shell("touch /app/src/node_modules/cache")
        .overlay(dirs[0].path(), "/app/src")
        .overlay(dirs[1].path(), "/app/src/node_modules")
        .collect("/app/src")
        .run();
    assert_eq!(outcome.stderr, "");
    let names = ["manage.py", "node_modules", "node_modules/cache", "node_modules/vite.js"];
    assert_eq!(outcome.collected.expect("a directory"), names);
}

#[test]
fn directories_that_were_closed_are_collected_and_cleaned_up() {
    let input = tempfile::tempdir().expect("a directory");
    crate::users::give_to_programs(input.path());
    let script = "mkdir -p /out/closed/deep && touch /out/closed/file && chmod 000 /out/closed";
    let outcome = Try::shell(script).overlay(input.path(), "/out").collect("/out").run();
    assert_eq!(outcome.collected.expect("a directory"), ["closed", "closed/deep", "closed/file"]);
}

#[test]
fn what_a_program_writes_into_a_bound_directory_stays() {
    let data = tempfile::tempdir().expect("a directory");
    crate::users::give_to_programs(data.path());
    let outcome = Try::shell("echo kept > /data/file").bind(data.path(), "/data", true).run();
    assert_eq!(outcome.stderr, "");
    assert_eq!(fs::read_to_string(data.path().join("file")).expect("a file"), "kept\n");
}

#[test]
fn a_signal_reaches_the_program() {
    let program = Try::shell("trap 'echo stopping; exit 5' TERM; echo ready; while true; do sleep 0.01; done");
    let (mut child, stdout) = program.spawn();
    let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.next().expect("a line"), "ready");
    child.signal(Signal::SIGTERM).expect("a signal");
    assert_eq!(child.wait().expect("an end"), Ended::Exited(5));
    assert_eq!(lines.next().expect("a line"), "stopping");
}

#[test]
fn what_a_shell_runs_is_told_to_end_too_and_waited_for() {
    let server = "trap 'echo stopping; sleep 0.3; echo stopped; exit' TERM; echo ready; while :; do sleep 0.02; done";
    let program = Try::shell(&format!("cd /tmp; (sh -c \"{server}\"; true); echo never"));
    let (mut child, stdout) = program.spawn();
    let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.next().expect("a line"), "ready");
    child.signal(Signal::SIGTERM).expect("a signal");
    assert_eq!(child.wait().expect("an end"), Ended::Killed(15));
    assert_eq!(lines.collect::<Vec<_>>(), ["stopping", "stopped"]);
}

#[test]
fn many_run_side_by_side() {
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                let outcome = Try::shell(&format!("echo {number} > /tmp/file; cat /tmp/file")).run();
                assert_eq!(outcome.stdout, format!("{number}\n"));
            });
        }
    });
}

#[test]
fn errors_name_the_program_or_the_place() {
    let error = Try::program(&["no-such-program"]).try_run(None).expect_err("there is none");
    assert_eq!(error.to_string(), "`no-such-program` cannot be started in the sandbox: no such file or directory");
    assert!(error.hint().is_some_and(|hint| hint.contains("is `no-such-program` among them?")));
    let error = Try::program(&["true", &"x".repeat(200_000)]).try_run(None).expect_err("too long");
    assert_eq!(error.to_string(), "`true` cannot be started in the sandbox: argument list too long");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("a program can be given about 2 MiB of arguments")));
    let mut program = Try::shell("true");
    program.spec.cwd = "/app/src".into();
    let error = program.try_run(None).expect_err("there is none");
    assert_eq!(error.to_string(), "cannot set up a sandbox: `/app/src`: no such file or directory");
    let error = Try::shell("true").bind("/no/such/input".as_ref(), "/in", false).try_run(None).expect_err("none");
    assert_eq!(error.to_string(), "cannot show `/no/such/input` in a sandbox");
}
