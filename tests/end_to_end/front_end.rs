//! A front end: packages out of a lock of npm, a program of theirs in the sandbox, and its files put in their place.

use std::process::Command;

use pipe_tests::Project;

const PIPELINE: &str = "\
[app]
name = \"ui\"

[steps.node-modules]
plugin = \"node-modules\"
inputs = { project = \"source\" }
config = { root = \"ui\" }
grants = { fetch = [\"npm\"] }

[steps.bundle]
plugin = \"command\"
inputs = { project = \"source\", node-modules = \"node-modules\" }
config = { run = \"node_modules/.bin/bundle src dist\", cwd = \"ui\", collect = \"dist\", include = [\"ui\"] }
grants = { exec = [\"sh\"] }

[steps.assets]
plugin = \"files\"
inputs = { trees = \"bundle\" }
config = { rename = [{ from = \"all.txt\", to = \"ui/bundle.txt\" }], to = \"static\" }

[steps.check]
plugin = \"command\"
inputs = { project = \"assets\" }
config = { run = \"cat static/ui/bundle.txt | grep two\" }
grants = { exec = [\"sh\"] }
";

const LOCK: &str = r#"{
  "lockfileVersion": 3,
  "packages": {
    "": { "dependencies": { "bundler": "file:vendor/bundler.tgz" } },
    "node_modules/bundler": {
      "version": "1.0.0", "resolved": "file:vendor/bundler.tgz", "bin": { "bundle": "bundle.sh" },
      "optionalDependencies": { "bundler-darwin": "1.0.0" }
    },
    "node_modules/bundler-darwin": {
      "version": "1.0.0", "integrity": "sha512-AAAA", "optional": true, "os": ["darwin"]
    }
  }
}"#;

/// A project whose only package is an archive beside it, so that no registry is asked.
fn project() -> Project {
    let project = Project::new()
        .file("package/package.json", r#"{"name":"bundler","version":"1.0.0"}"#)
        .file("package/bundle.sh", "#!/bin/sh\r\nmkdir -p \"$2\" && cat \"$1\"/* >\"$2\"/all.txt\n")
        .file("ui/package.json", r#"{"dependencies":{"bundler":"file:vendor/bundler.tgz"}}"#)
        .file("ui/package-lock.json", LOCK)
        .file("ui/src/1.txt", "one\n")
        .file("ui/src/2.txt", "two\n")
        .file("ui/vendor/README", "what is not on the registry\n")
        .file("views.py", "# a view\n")
        .pipeline(PIPELINE);
    let tar =
        Command::new("tar").args(["czf", "ui/vendor/bundler.tgz", "package"]).current_dir(project.path()).status();
    assert!(tar.expect("tar runs").success());
    project
}

const BUILD: [&str; 3] = ["run", "--no-release", "--json"];

#[test]
fn a_front_end_is_built_from_its_lock() {
    let project = project();
    let said = project.run(BUILD).success();
    assert_eq!(said.steps("ran"), ["assets", "bundle", "check", "node-modules"]);
}

#[test]
fn an_edit_to_a_view_leaves_the_front_end_alone() {
    let project = project();
    project.run(BUILD).success();
    project.write("views.py", "# another view\n");
    assert_eq!(project.run(BUILD).success().steps("ran"), [""; 0]);
    project.write("ui/src/1.txt", "eins\n");
    assert_eq!(project.run(BUILD).success().steps("ran"), ["assets", "bundle", "check"]);
}

#[test]
fn what_a_program_writes_is_kept_in_its_place_and_nothing_else() {
    let project = project();
    let script = "node_modules/.bin/bundle src ../static/ui; echo drei >>src/2.txt; rm -r src/1.txt vendor";
    project.edit("release.pipeline", "node_modules/.bin/bundle src dist", script);
    project.edit("release.pipeline", "collect = \"dist\"", "collect-written = true");
    project.edit(
        "release.pipeline",
        "config = { rename = [{ from = \"all.txt\", to = \"ui/bundle.txt\" }], to = \"static\" }\n",
        "",
    );
    let check =
        "[ \\\"$(find . -type f | sort | xargs)\\\" = './static/ui/all.txt ./ui/src/2.txt' ]; grep drei ui/src/2.txt";
    project.edit("release.pipeline", "cat static/ui/bundle.txt | grep two", check);
    project.run(BUILD).success();
}

#[test]
fn a_program_that_fails_is_reported_with_its_own_words() {
    let project = project();
    project.edit("release.pipeline", "grep two", "grep three");
    project.edit("release.pipeline", "config = { run = \"cat", "config = { run = \"echo looking for three; cat");
    let said = project.run(["run", "--no-release"]).code(1);
    let words = said.stdout + &said.stderr;
    assert!(words.contains("ended with exit code 1; it wrote last:"), "{words}");
    assert!(words.contains("looking for three"), "{words}");
}

#[test]
fn a_misspelt_glob_does_not_pass() {
    let project = project();
    project.edit(
        "release.pipeline",
        "inputs = { trees = \"bundle\" }\nconfig = {",
        "inputs = { trees = \"bundle\" }\nconfig = { include = [\"*.js\"],",
    );
    let said = project.run(["run", "--no-release"]).code(1);
    let words = said.stdout + &said.stderr;
    assert!(words.contains("`*.js` of `include` matches nothing"), "{words}");
}

#[test]
fn a_lock_that_lacks_a_dependency_is_refused() {
    let project = project();
    project.edit("ui/package.json", "\"dependencies\":{", "\"dependencies\":{\"vite\":\"7\",");
    let said = project.run(["run", "--no-release"]).code(1);
    let words = said.stdout + &said.stderr;
    assert!(words.contains("`ui/package-lock.json` is out of date: it lacks `vite`"), "{words}");
}
