//! Why a step runs, in one line, for each kind of change; and that `preview` says the same beforehand.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

/// A project with one step that looks where it is told to.
fn probing(looks: &str) -> Sandbox {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    let project = Sandbox::new(&format!(
        "[app]\nname = \"probed\"\n[source]\npath = \"src\"\n[steps.s]\nplugin = \"./probe.wasm\"\n\
         inputs = {{ trees = \"source\" }}\nconfig = {{ looks = [{looks}] }}\n"
    ));
    fs::copy(probe, project.path("probe.wasm")).expect("copied");
    project.file("src/a.txt", "a\n").file("src/docs/one.md", "1\n").file("src/docs/deep/two.md", "2\n");
    project
}

/// Runs the step, makes a change, and gives why it runs again.
fn reason(project: &Sandbox, change: impl FnOnce(&Sandbox)) -> String {
    project.outcomes();
    change(project);
    let (events, _received) = Events::channel();
    let preview = project.open().and_then(|opened| opened.preview(&events)).expect("a preview");
    let Preview::Runs(foretold) = &preview[0].1 else { panic!("it does not run: {preview:?}") };
    let (_, outcome, why) = project.outcomes().remove(0);
    assert_eq!((outcome, &why), (StepOutcome::Ran, foretold), "what is said before and in the run");
    why
}

fn changed(looks: &str, change: impl FnOnce(&Sandbox)) -> String {
    reason(&probing(looks), change)
}

fn remove(project: &Sandbox, name: &str) {
    fs::remove_file(project.path(name)).expect("removed");
}

fn edit(project: &Sandbox, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("release.pipeline")).expect("a pipeline");
    assert!(text.contains(from), "{text}");
    project.file("release.pipeline", &text.replace(from, to));
}

fn all(reasons: &[String], expected: &Expect) {
    expected.assert_eq(&reasons.join("\n"));
}

const READ: &str = "{ look = \"read\", input = 0, path = \"a.txt\" }";
const MISSING: &str = "{ look = \"read\", input = 0, path = \"b.txt\" }";
const PASS: &str = "{ look = \"pass\", input = 0, path = \"docs\" }";
const SELECT: &str = "{ look = \"select\", input = 0, glob = \"docs/**\" }";
const GLOB: &str = "{ look = \"glob\", input = 0, glob = \"docs/**\" }";
const ENTRIES: &str = "{ look = \"entries\", input = 0, path = \"docs\" }";
const LINK: &str = "{ look = \"link\", input = 0, path = \"link\" }";

#[test]
fn a_file_is_named_with_what_became_of_it() {
    all(
        &[
            changed(READ, |project| _ = project.file("src/a.txt", "b\n")),
            changed(READ, |project| remove(project, "src/a.txt")),
            changed(READ, |project| {
                fs::set_permissions(project.path("src/a.txt"), fs::Permissions::from_mode(0o755)).expect("set");
            }),
            changed(READ, |project| {
                remove(project, "src/a.txt");
                project.file("src/a.txt/now", "a directory\n");
            }),
            changed(MISSING, |project| _ = project.file("src/b.txt", "new\n")),
        ],
        &expect![[r"
            `a.txt` in `trees` has changed
            `a.txt` in `trees` was removed
            `a.txt` in `trees` may be executed now
            `a.txt` in `trees` is a directory, before a file
            `b.txt` in `trees` was added"]],
    );
}

#[test]
fn a_file_below_what_was_passed_on_or_listed_is_named() {
    all(
        &[
            changed(PASS, |project| _ = project.file("src/docs/deep/two.md", "two\n")),
            changed(SELECT, |project| _ = project.file("src/docs/three.md", "3\n")),
            changed(SELECT, |project| {
                remove(project, "src/docs/one.md");
                project.file("src/docs/deep/two.md", "two\n").file("src/docs/deep/new.md", "two\n");
            }),
            changed(GLOB, |project| remove(project, "src/docs/deep/two.md")),
            changed(ENTRIES, |project| _ = project.file("src/docs/x", "x\n")),
            changed(LINK, |project| symlink("a.txt", project.path("src/link")).expect("linked")),
        ],
        &expect![[r"
            `docs/deep/two.md` in `trees` has changed
            `docs/three.md` in `trees` was added
            `docs/deep/new.md` in `trees` was added (and 2 more)
            `docs/deep/two.md` in `trees` was removed
            `docs/x` in `trees` was added
            `link` in `trees` was added"]],
    );
    let linked = probing(LINK);
    symlink("a.txt", linked.path("src/link")).expect("linked");
    let why = reason(&linked, |project| {
        remove(project, "src/link");
        symlink("b.txt", project.path("src/link")).expect("linked");
    });
    expect!["`link` in `trees` is a link to `b.txt`, before to `a.txt`"].assert_eq(&why);
}

#[test]
fn a_line_of_the_pipeline_is_named_with_both_values() {
    all(
        &[
            changed(READ, |project| edit(project, "read", "kind")),
            changed(READ, |project| edit(project, "inputs =", "limits = { memory = \"512MiB\" }\ninputs =")),
            changed(READ, |project| edit(project, "trees = \"source\"", "trees = [\"source\", \"source\"]")),
        ],
        &expect![[r#"
            `config.looks` is `[{"input":0,"look":"kind","path":"a.txt"}]`, before `[{"input":0,"look":"read","path":"a.txt"}]`
            `limits.memory` is `512 MiB`, before `1024 MiB`
            what its inputs are bound to is `["trees tree", "trees tree"]`, before `["trees tree"]`"#]],
    );
}

#[test]
fn a_plugin_is_named_with_both_versions() {
    let patch = |project: &Sandbox, from: &[u8], to: &[u8]| {
        let mut wasm = fs::read(project.path("probe.wasm")).expect("read");
        let places: Vec<usize> = (0..wasm.len() - from.len()).filter(|at| wasm[*at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for at in places {
            wasm[at..at + to.len()].copy_from_slice(to);
        }
        fs::write(project.path("probe.wasm"), wasm).expect("written");
    };
    all(
        &[
            changed(READ, |project| patch(project, b"Looks where it is told to", b"Looks where it was told t"))
                .split(": blake3:")
                .next()
                .unwrap_or_default()
                .to_owned(),
            changed(READ, |project| {
                edit(project, "./probe.wasm", "files");
                edit(project, "looks = [", "include = [\"**\"] } #");
            }),
        ],
        &expect![[r"
            the plugin `probe` 0.1.0 was built anew
            its plugin is `files`, before `probe` (and 2 more)"]],
    );
}

#[test]
fn what_another_application_ran_is_no_earlier_run() {
    let why = changed(READ, |project| {
        edit(project, "name = \"probed\"", "name = \"another\"");
        project.file("src/a.txt", "b\n");
    });
    assert_eq!(why, "it has not run before");
}

#[test]
fn what_another_pipeline_ran_is_no_earlier_run() {
    let why = |name: &str| {
        let project = probing(READ);
        project.outcomes();
        edit(&project, "path = \"a.txt\"", "path = \"docs/one.md\"");
        fs::rename(project.path("release.pipeline"), project.path(name)).expect("renamed");
        let opened = Project::open(&project.dir.path().join("home"), Some(&project.path(name)), false).expect("opened");
        let (events, _received) = Events::channel();
        opened.preview(&events).expect("a preview").remove(0).1
    };
    assert!(matches!(why("release.pipeline"), Preview::Runs(why) if why.starts_with("`config.looks`")));
    assert_eq!(why("other.pipeline"), Preview::Runs("it has not run before".to_owned()));
}

#[test]
fn of_earlier_runs_the_nearest_is_compared_with_and_not_the_latest() {
    let project = probing(&[READ, PASS, MISSING].join(", "));
    project.outcomes();
    project.file("src/a.txt", "b\n").file("src/docs/one.md", "uno\n").file("src/b.txt", "b\n");
    project.outcomes();
    let why = reason(&project, |project| {
        remove(project, "src/b.txt");
        project.file("src/a.txt", "c\n").file("src/docs/one.md", "1\n");
    });
    expect!["`a.txt` in `trees` has changed"].assert_eq(&why);

    // Of two directories that are no longer as they were listed, the one that is more alike.
    let project = probing(ENTRIES);
    project.outcomes();
    for name in ["one", "two", "three"] {
        project.file(&format!("src/docs/{name}"), "1\n");
    }
    project.outcomes();
    for name in ["one", "two", "three"] {
        remove(&project, &format!("src/docs/{name}"));
    }
    let why = reason(&project, |project| _ = project.file("src/docs/four", "4\n"));
    expect!["`docs/four` in `trees` was added"].assert_eq(&why);
}
