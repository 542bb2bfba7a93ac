//! Steps that fail: what a user is told, and what still runs.

use pipe_tests::Project;

const FAILING: &str = "\
[app]
name = \"broken\"

[steps.bad]
plugin = \"command\"
inputs = { project = \"source\" }
config = { run = \"echo reason $((6 * 7)) >&2; exit 3\" }
grants = { exec = [\"sh\"] }

[steps.after]
plugin = \"files\"
inputs = { trees = \"bad\" }
config = { include = [\"**\"], empty = true }

[steps.beside]
plugin = \"files\"
inputs = { trees = \"source\" }
config = { include = [\"**\"], empty = true }
";

#[test]
fn a_failed_program_is_shown_with_its_own_words() {
    let said = Project::new().pipeline(FAILING).run(["run", "--no-release"]).code(1);
    assert_eq!(said.stdout.matches("reason 42").count(), 1, "once is enough: {}", said.stdout);
    assert_eq!(said.stderr, "");
}

#[test]
fn what_no_program_can_be_given_is_refused_by_its_name() {
    for (config, told) in [
        (r#"run = "echo a\u0000b""#, "`sh` cannot be given its argument 2: it holds a NUL byte"),
        (
            r#"run = "env", environment = { A = "b\u0000c" }"#,
            "cannot be given the variable `A`: its value holds a NUL byte",
        ),
        (
            r#"run = "env", environment = { "A=B" = "c" }"#,
            "cannot be given a variable of the name \"A=B\": a name is not empty",
        ),
        (
            r#"run = "env", environment = { "" = "c" }"#,
            "cannot be given a variable of the name \"\": a name is not empty",
        ),
    ] {
        let text = format!(
            "[app]\nname = \"demo\"\n\n[steps.odd]\nplugin = \"command\"\ninputs = {{ project = \"source\" }}\n\
             grants = {{ exec = [\"sh\"] }}\nconfig = {{ {config} }}\n"
        );
        let said = Project::new().pipeline(&text).run(["run", "--no-release"]).code(1);
        assert!(said.stdout.contains(told), "{}", said.stdout);
    }
}

#[test]
fn what_does_not_need_the_failed_step_runs_only_with_keep_going() {
    let project = Project::new().pipeline(FAILING);
    let said = project.run(["run", "--no-release", "--json", "--keep-going"]).code(1);
    assert_eq!(said.steps("ran"), ["beside"]);
    assert_eq!(said.steps("failed"), ["bad"]);
    assert_eq!(said.steps("skipped"), ["after"]);
    assert_eq!(said.end()["outcome"], "failed");
}

#[test]
fn what_was_skipped_does_not_run_when_what_it_waits_for_ends_well() {
    let step = |name: &str, input: &str, run: &str| {
        format!(
            "[steps.{name}]\nplugin = \"command\"\ninputs = {{ project = \"{input}\" }}\ngrants = {{ exec = [\"sh\"] }}\n\
             config = {{ run = \"{run}\" }}\n"
        )
    };
    let slow = step("slow", "source", "sleep 2; echo 1 > made");
    let text = ["[app]\nname = \"demo\"\n", &slow, &step("bad", "source", "exit 3"), &step("next", "slow", "true")];
    let said = Project::new().pipeline(&text.join("\n")).run(["run", "--no-release", "--json", "-j", "2"]).code(1);
    assert_eq!([said.steps("ran"), said.steps("failed"), said.steps("skipped")], [["slow"], ["bad"], ["next"]]);
}

#[test]
fn a_slug_is_known_though_another_step_fails() {
    let project = Project::new().file("Procfile", "web: true\n").pipeline(&format!(
        "{FAILING}\n[steps.slug]\nplugin = \"slug\"\ninputs = {{ project = \"source\", venv = \"source\" }}\n"
    ));
    let said = project.run(["run", "--no-release", "--json", "--keep-going"]).code(1);
    assert!(said.steps("ran").contains(&"slug".to_owned()), "{}", said.stdout);
    let list = project.run(["slug", "list", "--json"]).success().stdout;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert!(said.end()["slug"].as_str().is_some_and(|slug| list.to_string().contains(slug)), "{}", said.stdout);
}

#[test]
fn a_plugin_that_is_no_webassembly_is_said_to_be_none() {
    let project = Project::new().pipeline("[app]\nname = \"a\"\n[steps.own]\nplugin = \"./own.wasm\"\n");
    for (bytes, found) in
        [("", "it is empty"), ("not found\n", "it is a text"), ("\u{7f}ELF\u{1}", "it is a native program or library")]
    {
        project.write("own.wasm", bytes);
        let said = project.run(["run"]).code(3);
        assert!(said.stderr.contains(&format!("own.wasm`: not a WebAssembly component: {found}\n")), "{}", said.stderr);
        let hint = "hint: build it with `cargo build --release --target wasm32-unknown-unknown`";
        assert!(said.stderr.contains(hint), "{}", said.stderr);
    }
}

#[test]
fn what_a_step_is_told_to_do_is_not_blamed_on_the_machine_nor_on_a_spelling() {
    let command = |config: &str| {
        format!(
            "[app]\nname = \"a\"\n[steps.s]\nplugin = \"command\"\ninputs = {{ project = \"source\" }}\n\
             grants = {{ exec = [\"sh\"] }}\nconfig = {{ run = \"true\", {config} }}\n"
        )
    };
    let failure = |pipeline: &str| {
        let said = Project::new().pipeline(pipeline).run(["run", "--no-release"]).code(1);
        said.stdout + &said.stderr
    };
    let said = failure(&command("environment = { PATH = \"/nowhere\" }"));
    assert!(said.contains("`environment` sets PATH to `/nowhere`"), "{said}");
    let said = failure(&command("allow-exit-codes = [3]"));
    assert!(said.contains("`allow-exit-codes` leaves 0 out"), "{said}");
    let said = failure(
        "[app]\nname = \"a\"\n[source]\nexclude = [\"*\"]\n[steps.s]\nplugin = \"files\"\ninputs = { trees = \"source\" }\n",
    );
    assert!(said.contains("the trees given hold nothing"), "{said}");
}

#[test]
fn a_program_may_change_modes_and_times_of_what_it_is_given() {
    // A tree that is handed over in memory, and one that is laid out on the disk.
    for size in [10, 4 << 20] {
        let run = "chmod +x say dir && touch -d @1000000000 big dir link && ./say > out && stat -c %Y big >> out && chmod 600 big \
                   && ln say dir/same && mv dir/in dir/there && grep -qx said out && grep -qx 1000000000 out";
        let pipeline =
            FAILING.split("[steps.after]").next().expect("a step").replace("echo reason $((6 * 7)) >&2; exit 3", run);
        let project = Project::new().pipeline(&pipeline).file("say", "#!/bin/sh\necho said\n").file("dir/in", "x");
        project.write("big", &"x".repeat(size));
        std::os::unix::fs::symlink("say", project.path().join("link")).expect("a link");
        project.run(["run", "--no-release"]).success();
    }
}

#[test]
fn a_failure_is_not_kept() {
    let project = Project::new().pipeline(FAILING);
    for _ in 0..2 {
        let said = project.run(["run", "--no-release", "--json"]).code(1);
        assert_eq!(said.steps("failed"), ["bad"]);
    }
}

#[test]
fn a_step_that_takes_too_long_ends_with_its_own_exit_code() {
    let pipeline =
        FAILING.replace("exit 3", "sleep 600").replace("[steps.after]", "limits = { time = \"1s\" }\n\n[steps.after]");
    Project::new().pipeline(&pipeline).run(["run", "--no-release"]).code(6);
}

#[test]
fn what_a_program_writes_does_nothing_to_the_terminal() {
    let script = "printf '\\033]0;title\\007\\033[31mred\\033[2J \\033[0mreason\\n' >&2; exit 3";
    let project =
        Project::new().pipeline(&FAILING.replace("echo reason $((6 * 7)) >&2; exit 3", &script.replace('\\', "\\\\")));
    let said = project.run(["run", "--no-release"]).code(1);
    assert!(said.stdout.contains("red reason") && !said.stdout.contains(['\x1b', '\x07']), "{:?}", said.stdout);
    let said = project.run(["run", "--no-release", "--color", "always"]).code(1);
    let gone = ["\x07", "\x1b]", "\x1b[2J"];
    assert!(
        said.stdout.contains("\x1b[31mred") && !gone.iter().any(|it| said.stdout.contains(it)),
        "{:?}",
        said.stdout
    );
    let said = project.run(["run", "--no-release", "--json"]).code(1);
    assert!(said.stdout.contains(r"\u001b[2J"), "{}", said.stdout);
}
