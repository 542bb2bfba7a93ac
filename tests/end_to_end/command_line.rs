//! The command line itself: help, completions, pictures, and what a wrong word leads to.

use pipe_tests::{Outcome, Project};
use serde_json::Value;

use super::small;

const PIPELINE: &str = "\
[app]
name = \"hello\"

[steps.chosen]
plugin = \"files\"
inputs = { trees = \"source\" }
config = { include = [\"**\"] }
";

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let project = Project::new();
    let said = project.run(["run", "--junit", "none/report.xml"]).code(5);
    assert!(said.stderr.ends_with("hint: make the directory `none` first\n"), "{}", said.stderr);
    assert!(project.run(["run", "--branch", ""]).code(2).stderr.contains("--branch"));
    let said = project.run(["target", "add", "a b", "local"]).code(2);
    assert!(said.stderr.contains("a name starts with a lower-case letter"), "{}", said.stderr);
}

#[test]
fn a_wrong_subcommand_gets_the_nearest_one() {
    let said = Project::new().run(["verfy"]).code(2);
    assert!(said.stderr.contains("'verify'"), "{}", said.stderr);
}

#[test]
fn exit_codes_are_in_the_help() {
    let said = Project::new().run(["--help"]).success();
    assert!(said.stdout.contains("130  cancelled"), "{}", said.stdout);
}

#[test]
fn what_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let project = Project::new().pipeline(PIPELINE).file("a.txt", "a");
    for arguments in [&["run"][..], &["run", "--json"], &["plan"], &["lock"]] {
        let into = |out: &str| {
            let pipe = project.command();
            let mut command = std::process::Command::new("bash");
            command
                .args(["-c", &format!("set -o pipefail; \"$0\" \"$@\" {out}")])
                .arg(pipe.get_program())
                .args(arguments);
            command.current_dir(project.path()).env_clear();
            command.envs(pipe.get_envs().filter_map(|(name, value)| Some((name, value?))));
            Outcome::of(command)
        };
        let said = into("> /dev/full").code(5);
        assert!(said.stderr.starts_with("error: cannot write to standard output\n"), "{arguments:?}: {}", said.stderr);
        assert_eq!(into("| true").success().stderr, "", "{arguments:?}");
    }
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let said = Project::new().run(["completions", shell]).success();
        assert!(said.stdout.contains("no-release"), "{shell}");
    }
}

#[test]
fn a_graph_is_drawn_in_every_form() {
    let project = Project::new().pipeline(PIPELINE);
    for (format, part) in [("svg", "<svg "), ("dot", "digraph"), ("mermaid", "flowchart"), ("json", "\"nodes\"")] {
        let said = project.run(["graph", "--format", format]).success();
        assert!(said.stdout.contains(part) && said.stdout.contains("chosen"), "{format}: {}", said.stdout);
    }
}

#[test]
fn a_plugin_tells_what_it_takes_and_asks_for() {
    let project = Project::new();
    assert!(project.run(["plugin", "list"]).success().stdout.contains("django-static"));
    let said = project.run(["plugin", "inspect", "command"]).success();
    assert!(said.stdout.contains("asks for\n  exec"), "{}", said.stdout);
    let said = project.run(["plugin", "inspect", "comand"]).code(2);
    assert!(said.stderr.contains("did you mean `command`?"), "{}", said.stderr);
}

#[test]
fn a_step_that_is_not_there_gets_the_nearest_one() {
    let said = Project::new().pipeline(PIPELINE).run(["why", "chosn"]).code(2);
    assert!(said.stderr.contains("did you mean `chosen`?"), "{}", said.stderr);
}

#[test]
fn a_word_in_place_of_a_number_or_a_size_is_told_what_is_wanted() {
    let project = Project::new().pipeline(PIPELINE);
    let number = "expected a whole number";
    for (arguments, wanted) in [
        (&["store", "gc", "--max-age", "-1"][..], number),
        (&["store", "gc", "--max-size", "5XB"], "expected a size, such as `20GiB`"),
        (&["store", "gc", "--max-size", "-5GiB"], "expected a size, such as `20GiB`"),
        (&["runs", "show", "abc"], number),
        (&["runs", "show", "-1"], number),
        (&["runs", "--limit", "99999999999999999999"], "it is too large"),
        (&["run", "-j", "0"], "expected a whole number, 1 or more"),
        (&["rollback", "staging", "last"], number),
        (&["logs", "staging", "-n", "all"], number),
        (&["run", "--otlp", "collector"], "such as `http://localhost:4318`"),
        (&["promote", "staging", "production"], "it has none: add `[targets.production]`"),
    ] {
        let said = project.run(arguments).code(2);
        assert!(said.stderr.contains(wanted), "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn colours_are_only_where_they_are_wanted() {
    let project = Project::new().pipeline(PIPELINE);
    assert!(!project.run(["plan"]).success().stdout.contains('\x1b'));
    assert!(project.run(["plan", "--color", "always"]).success().stdout.contains('\x1b'));
}

#[test]
fn init_writes_a_pipeline_that_is_right_and_never_over_another() {
    let project = Project::new()
        .file("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\nimport django\n")
        .file("requirements.txt", "django==5.2.1\n");
    let without = project.run(["plan"]).success();
    project.run(["init"]).success();
    assert_eq!(project.run(["plan"]).success().stdout, without.stdout, "the built-in pipeline is the same");
    let said = project.run(["init"]).code(2);
    assert!(said.stderr.contains("is there already"), "{}", said.stderr);
    project.run(["init", "--force"]).success();
}

#[test]
fn a_directory_without_a_project_has_no_pipeline() {
    let said = Project::new().run(["run"]).code(3);
    assert!(said.stderr.contains("no `manage.py` of Django"), "{}", said.stderr);
    Project::new().run(["init"]).code(2);
}

#[test]
fn a_doctor_looks_at_the_sandbox() {
    let said = Project::new().run(["doctor"]).success();
    assert!(said.stdout.contains("ok"), "{}", said.stdout);
}

#[test]
fn what_lists_something_does_so_as_json_too() {
    let project = Project::new().file("a.txt", "hello").pipeline(PIPELINE);
    let list = |args: &[&str]| {
        let said = project.run(args).success().stdout;
        let list: Value = serde_json::from_str(&said).expect("JSON");
        list.as_array().expect("a list").clone()
    };
    assert_eq!(list(&["plan", "--json"])[0]["outcome"], "runs");
    assert!(list(&["runs", "--json"]).is_empty());
    project.run(["run", "--no-release"]).success();
    assert_eq!(list(&["plan", "--json"])[0]["outcome"], "cached");
    assert_eq!(list(&["runs", "--json"])[0]["outcome"], "succeeded");
    assert!(list(&["plugin", "list", "--json"]).iter().any(|plugin| plugin["name"] == "slug"));
    assert!(list(&["slug", "list", "--json"]).is_empty());
    assert!(list(&["ps", "--json"]).is_empty());
    assert!(list(&["domains", "--json"]).is_empty());
}

#[test]
fn what_only_looks_makes_nothing() {
    let project = Project::new().pipeline(PIPELINE);
    assert_eq!(project.run(["ps"]).success().stdout, "nothing runs; `pipe run` releases\n");
    assert!(project.run(["domains"]).success().stdout.starts_with("no target that runs has a domain"));
    assert_eq!(project.run(["stop", "--all"]).success().stdout, project.run(["stop", "--all"]).success().stdout);
    for args in [
        &["releases", "staging"][..],
        &["logs", "staging"],
        &["rollback", "staging"],
        &["config", "staging"],
        &["domains", "staging"],
        &["ps", "staging"],
    ] {
        let said = project.run(args).code(2);
        assert!(said.stderr.contains("nothing was released yet"), "{args:?}: {}", said.stderr);
    }
    for args in [
        &["ps", "--json"][..],
        &["slug", "list"],
        &["runs"],
        &["store", "stats"],
        &["store", "check"],
        &["store", "stats", "--json"],
    ] {
        project.run(args).success();
    }
    project.run(["slug", "show", "0123"]).code(2);
    assert!(!project.home().exists(), "a look has made something");
}

#[test]
fn what_is_kept_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new().file("a.txt", "hello").pipeline(PIPELINE);
    project.run(["run", "--no-release"]).success();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(project.home().join(name)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    for name in ["", "runs", "store", "components"] {
        assert_eq!(mode(name), 0o700, "{name}");
    }
}

#[test]
fn a_directory_stands_for_the_pipeline_in_it() {
    let project = Project::new().file("here/release.pipeline", PIPELINE);
    assert!(project.run(["plan", "here"]).success().stdout.contains("chosen"));
    let said = project.run(["promote", "one", "other", "--file", "here"]).code(2);
    assert!(said.stderr.contains("the pipeline has no target `other`"), "{}", said.stderr);
}

#[test]
fn config_that_no_process_can_be_given_is_refused_before_anything_is_released() {
    let project = small::project();
    small::release_to(&project, "[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\nenv-file = \"e\"\n");
    project.write("twice", "A=1\nB=1\nA=2\n");
    project.write("digit", "A=1\n\n2FA=1\n");
    project.write("nul", "A=1\nB=a\0b\n");
    project.write("long", &format!("A={}\n", "x".repeat(131_070)));
    for (args, told) in [
        (&["set", "A=1", "B=1", "A=2"][..], "`A` is given more than once"),
        (&["set", "2FA=1"], "`2FA` cannot be the name of a variable"),
        (&["import", "digit"], "digit:3: `2FA` cannot be the name of a variable"),
        (&["import", "nul"], "nul:2: the value of `B` has a NUL byte in it"),
        (&["import", "long"], "long:1: `A` is 131072 bytes long with its value"),
    ] {
        let said = project.run([&["config", "staging"], args].concat()).code(2);
        assert!(said.stderr.contains(told), "{told}: {}", said.stderr);
    }
    let said = project.run(["config", "staging", "import", "twice"]).success();
    assert!(
        said.stderr.contains("warning: twice:3: `A` is given already, in line 1: the last counts"),
        "{}",
        said.stderr
    );
    assert_eq!(project.run(["config", "staging", "export"]).success().stdout, "A=\"2\"\nB=\"1\"\n");
    project.write("e", "A=1\nA=2\n");
    let said = project.run(["run", "--json"]).success();
    let warned = said.events().into_iter().find(|event| event["event"] == "warning").expect("a warning");
    let message = warned["message"].as_str().expect("a text");
    assert!(message.ends_with("e:2: `A` is given already, in line 1: the last counts"), "{message}");
    for file in ["digit", "nul", "long"] {
        project.write("e", &std::fs::read_to_string(project.path().join(file)).expect("a file"));
        let said = project.run(["run"]).code(3);
        assert!(said.stderr.contains("e:") && said.stderr.contains("variable") || file == "nul", "{}", said.stderr);
    }
}

#[test]
fn a_name_means_the_application_here_and_no_other() {
    let theirs = small::project();
    let port = small::free_port();
    let target = format!("[targets.live]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:{port}\"\n");
    small::release_to(&theirs, &target);
    theirs.run(["run"]).success();
    let ours = small::project();
    small::release_to(&ours, &target);
    ours.edit("release.pipeline", "name = \"demo\"", "name = \"other\"");
    let home = theirs.home().display().to_string();
    let run = |args: &[&str]| ours.run_with(&[("PIPE_HOME", &home)], args);
    for command in
        [&["stop", "live"][..], &["scale", "live", "web=2"], &["exec", "live", "--", "true"], &["rollback", "live"]]
    {
        let said = run(command).code(2);
        assert!(said.stderr.contains("`demo/live` is another application's"), "{}", said.stderr);
    }
    // What may be said of a target before its first release is said of the one here.
    run(&["config", "live", "set", "COLOUR=green"]).success();
    assert_eq!(small::page(port), "one");
    let releases = run(&["releases", "demo/live", "--json"]).success();
    assert_eq!(serde_json::from_str::<Value>(&releases.stdout).expect("JSON")[0]["number"], 1);
    theirs.run(["stop", "--all"]).success();
}
