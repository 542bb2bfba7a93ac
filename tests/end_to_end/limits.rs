//! Steps that take more than they may: each ends as that kind of failure, names the limit and how to raise it, and leaves nothing
//! running and nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_tests::Project;

/// What a run says that ends with this exit code, and the project that it was.
fn ended(step: &str, code: i32) -> (String, Project) {
    let project =
        Project::new().file("a.txt", "a").pipeline(&format!("[app]\nname = \"greedy\"\n\n[steps.eater]\n{step}\n"));
    let said = project.run(["run", "--no-release"]).code(code);
    assert_eq!(left_behind(&project), [""; 0], "nothing is left of it");
    (said.stdout + &said.stderr, project)
}

/// What is in the store's directory of scratch.
fn left_behind(project: &Project) -> Vec<String> {
    let scratch: PathBuf = project.home().join("store/tmp");
    let entries = fs::read_dir(scratch).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a run says of a program that runs under limits.
fn program(limits: &str, script: &str, code: i32) -> String {
    let step = format!(
        "plugin = \"command\"\nconfig = {{ run = '''{script}''', collect = \"/out\", directories = [\"/out\"] }}\n\
         grants = {{ exec = [\"sh\"] }}\nlimits = {{ {limits} }}"
    );
    ended(&step, code).0
}

/// What a run says of a plugin that uses something up under limits.
fn plugin(limits: &str, used: &str, code: i32) -> String {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    let step = format!(
        "plugin = '{}'\ninputs = {{ trees = \"source\" }}\nconfig = {{ uses = [{{ {used} }}] }}\nlimits = {{ {limits} }}",
        probe.display()
    );
    ended(&step, code).0
}

#[track_caller]
fn tells(said: &str, all: &[&str]) {
    for text in all {
        assert!(said.contains(text), "`{text}` in: {said}");
    }
}

#[test]
fn a_plugin_that_takes_too_much_is_told_which_limit_and_where_to_raise_it() {
    let raise = |limit: &str| format!("raise `limits.{limit}` of `[steps.eater]`");
    tells(&plugin("time = \"300ms\"", "use = \"time\"", 6), &["took longer than its limit", &raise("time")]);
    tells(
        &plugin("memory = \"8MiB\"", "use = \"memory\"", 1),
        &["used more memory than its limit of 8 MiB", &raise("memory")],
    );
    tells(
        &plugin("output = \"1MiB\"", "use = \"output\", bytes = 2000000", 1),
        &["wrote more than its limit of 1 MiB", &raise("output")],
    );
    tells(
        &plugin("log = \"1KiB\"", "use = \"log\", bytes = 2000", 1),
        &["said more than its limit of 1024 bytes", &raise("log")],
    );
    tells(
        &plugin("calls = 100", "use = \"calls\", count = 1000", 1),
        &["made more calls into the runner than its limit of 100", &raise("calls")],
    );
    tells(
        &plugin("handles = 100", "use = \"handles\", count = 1000", 1),
        &["held more handles at one time than its limit of 100", &raise("handles")],
    );
}

#[test]
fn a_program_that_never_ends_is_ended_whatever_it_ignores() {
    let script = "trap '' TERM INT HUP; (trap '' TERM; while :; do :; done) & while :; do sleep 1; done";
    let said = program("time = \"1s\"", script, 6);
    tells(&said, &["`sh` was still running at the step's time limit", "raise `limits.time` of `[steps.eater]`"]);
}

#[test]
fn a_program_that_takes_all_memory_is_ended() {
    let said = program(
        "memory = \"64MiB\"",
        "exec /opt/python/bin/python3 -c 'x = []\nwhile True: x.append(bytearray(1 << 20))'",
        1,
    );
    tells(&said, &["limits.memory", "[steps.eater]"]);
}

#[test]
fn a_program_that_writes_without_end_is_ended() {
    let said = program("log = \"100KiB\"", "exec yes", 1);
    tells(&said, &["`sh` wrote more than 102400 bytes of output", "raise `limits.log` of `[steps.eater]`"]);
    let said = program("output = \"8MiB\"", "while :; do head -c 1000000 /dev/zero >> /out/zeros; done", 1);
    tells(&said, &["`sh` wrote more than 8 MiB to its files", "raise `limits.output` of `[steps.eater]`"]);
}

#[test]
fn a_program_that_starts_others_without_end_is_ended_with_all_of_them() {
    let said = program("time = \"3s\"", "f() { f | f & }; f; sleep 600", 6);
    tells(&said, &["limits.time"]);
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let left = processes.filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("f() { f | f & }")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_file_that_is_mostly_nothing_does_not_fill_the_disk() {
    for script in ["truncate -s 1T out/big", "truncate -s 1T out/big && truncate -s 1M out/small"] {
        let said = program("output = \"2MiB\"", &format!("cd /; {script}"), 1);
        tells(&said, &["`/out/big` is larger than what may be written", "raise `limits.output`"]);
    }
    program("output = \"2MiB\"", "truncate -s 1M /out/small", 0);
}

#[test]
fn what_is_collected_through_a_link_counts_as_output() {
    let said = program("output = \"1MiB\"", "ln -s /usr/bin /out/link", 0);
    assert!(!said.contains("larger"), "a link in what is collected is kept as a link: {said}");
    let step = |target: &str, limits: &str| {
        format!(
            "plugin = \"command\"\nconfig = {{ run = 'ln -s {target} link', collect = \"link\" }}\n\
             inputs = {{ project = \"source\" }}\ngrants = {{ exec = [\"sh\"] }}\nlimits = {{ {limits} }}"
        )
    };
    let (said, _) = ended(&step("/usr/bin", "output = \"1MiB\""), 1);
    assert!(said.contains("is larger than what may be written"), "{said}");
    assert!(said.contains("hint: raise `limits.output` of the step, or write less"), "{said}");
    let _ = ended(&step("a.txt", "output = \"1MiB\""), 0);
}

#[test]
fn a_collected_link_that_leads_to_nothing_of_use_says_where_it_leads() {
    for target in ["/nowhere", "/", "/proc/self", "link"] {
        let step = format!(
            "plugin = \"command\"\nconfig = {{ run = 'ln -s {target} link', collect = \"link\" }}\n\
             inputs = {{ project = \"source\" }}\ngrants = {{ exec = [\"sh\"] }}"
        );
        let (said, _) = ended(&step, 1);
        let wanted = format!("left at `/app/src/link` a link to `{target}`, where nothing is that can be kept");
        assert!(said.contains(&wanted), "{said}");
    }
}
