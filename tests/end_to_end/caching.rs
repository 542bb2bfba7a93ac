//! What runs again after an edit, and what does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::process::Command;

use pipe_tests::Project;

const TWO_STEPS: &str = "\
[app]
name = \"notes\"

[steps.pages]
plugin = \"files\"
inputs = { trees = \"source\" }
config = { include = [\"pages/**\"] }

[steps.shout]
plugin = \"command\"
inputs = { project = \"pages\" }
config = { run = \"mkdir out && tr a-z A-Z < pages/a.txt > out/a.txt && echo shouted\", collect = \"out\" }
grants = { exec = [\"sh\"] }
";

fn notes() -> Project {
    Project::new().file("pages/a.txt", "hello").file("README.md", "read me").pipeline(TWO_STEPS)
}

const BUILD: [&str; 3] = ["run", "--no-release", "--json"];

#[test]
fn an_unchanged_run_runs_no_step_and_says_so() {
    let project = notes();
    assert_eq!(project.run(BUILD).success().end()["cached"], 0);
    let said = project.run(BUILD).success();
    assert_eq!((&said.end()["steps"], &said.end()["cached"]), (&2.into(), &2.into()));
    let said = project.run(["run", "--no-release"]).success();
    assert!(said.stdout.contains("no step ran"), "{}", said.stdout);
}

#[test]
fn only_what_a_step_saw_makes_it_run_again() {
    let project = notes();
    project.run(BUILD).success();
    project.write("README.md", "read me again");
    assert_eq!(project.run(BUILD).success().steps("ran"), [""; 0]);
    project.write("pages/a.txt", "good bye");
    assert_eq!(project.run(BUILD).success().steps("ran"), ["pages", "shout"]);
    project.write("pages/a.txt", "hello");
    assert_eq!(project.run(BUILD).success().steps("ran"), [""; 0], "both states are known");
}

#[test]
fn a_plan_says_what_would_run_and_why() {
    let project = notes();
    let said = project.run(["plan"]).success();
    assert!(said.stdout.contains("it has not run before"), "{}", said.stdout);
    project.run(BUILD).success();
    project.write("pages/a.txt", "good bye");
    let said = project.run(["why", "pages"]).success();
    let reason = "runs: `pages/a.txt` in `trees` has changed";
    assert_eq!(said.stdout, format!("`pages` {reason}\n"));
    let said = project.run(["plan"]).success();
    assert!(said.stdout.contains(reason), "{}", said.stdout);
    let said = project.run(["why", "shout"]).success();
    assert!(said.stdout.starts_with("`shout` depends on what `pages` gives\n`pages` runs: "), "{}", said.stdout);
}

#[test]
fn the_last_event_of_a_run_has_the_promised_keys() {
    let said = notes().run(BUILD).success();
    let end = said.end();
    let keys: Vec<&str> = end.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["event", "outcome", "steps", "cached", "slug", "elapsed_ms", "url"]);
    assert_eq!(end["event"], "run-finished");
    assert_eq!(end["outcome"], "succeeded");
}

#[test]
fn another_tool_runs_what_could_have_run_it() {
    let pipeline = "\
[app]
name = \"greetings\"

[source]
exclude = [\"greet\"]

[tools]
greet = \"greet\"

[steps.greeting]
plugin = \"command\"
inputs = { project = \"source\" }
config = { run = \"greet > greeting.txt\", collect = [\"greeting.txt\"] }
grants = { exec = [\"sh\"] }

[steps.pages]
plugin = \"files\"
inputs = { trees = \"source\" }
config = { empty = true }
";
    let project = Project::new().file("greet", "#!/bin/sh\necho good day\n").pipeline(pipeline);
    fs::set_permissions(project.path().join("greet"), fs::Permissions::from_mode(0o755)).expect("made executable");
    project.run(BUILD).success();
    project.edit("greet", "good day", "good night");
    let said = project.run(["why", "greeting"]).success();
    assert!(said.stdout.contains("the tool `greet` has changed"), "{}", said.stdout);
    assert_eq!(project.run(BUILD).success().steps("ran"), ["greeting"]);
}

#[test]
fn past_runs_are_told_again() {
    let project = notes();
    project.run(["runs", "show"]).code(2);
    project.run(BUILD).success();
    project.write("pages/a.txt", "good bye");
    let shown = project.run(["run", "--no-release"]).success().stdout;
    let listed = project.run(["runs"]).success().stdout;
    assert_eq!(listed.lines().count(), 3, "a head and two runs: {listed}");
    assert!(listed.lines().nth(1).is_some_and(|latest| latest.trim_start().starts_with('2')), "{listed}");
    assert_eq!(project.run(["runs", "show"]).success().stdout, shown);
    let events = project.run(["runs", "show", "1", "--json"]).success().events();
    assert!(events.iter().all(|event| event["at"].is_u64()), "{events:?}");
    assert_eq!(events.last().expect("some")["outcome"], "succeeded");
    project.run(["runs", "show", "--trace", "trace.json"]).success();
    let trace = fs::read_to_string(project.path().join("trace.json")).expect("a trace");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let names: Vec<_> = trace["traceEvents"].as_array().expect("a list").iter().map(|bar| &bar["name"]).collect();
    assert_eq!(names, ["pages", "shout"]);
    let said = project.run(["runs", "show", "7"]).code(2);
    assert!(said.stderr.contains("`2` and `1`"), "{}", said.stderr);
}

#[test]
fn what_only_git_on_this_machine_leaves_out_is_part_of_the_source() {
    let project = Project::new().file("a.txt", "").file("b.txt", "").pipeline(
        "[app]\nname = \"excluded\"\n\n[steps.list]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
         grants = { exec = [\"sh\"] }\nconfig = { run = \"cat a.txt b.txt\" }\n",
    );
    let git = Command::new("git").args(["init", "-q"]).current_dir(project.path()).status().expect("git runs");
    assert!(git.success());
    project.write(".git/info/exclude", "a.txt\n");
    // The user's own, in what is home to the run.
    project.write("../.config/git/ignore", "b.txt\n");
    project.run(["run", "--no-release"]).success();
    project.write(".pipeignore", "a.txt\n");
    project.run(["run", "--no-release"]).code(1);
}
