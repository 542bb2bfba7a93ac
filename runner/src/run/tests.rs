//! Small pipelines of the `files` step, built for real: what runs again after which edit, and why.

mod lent;
mod limits;
mod sound;
mod why;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::event::{Stamped, StepOutcome};

/// A step, how it ended and, where it ran, why.
type Ended = (String, StepOutcome, String);

/// A project with its own home.
struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn new(pipeline: &str) -> Self {
        let sandbox = Self { dir: tempfile::tempdir().expect("a directory") };
        sandbox.file("release.pipeline", pipeline);
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("project").join(name)
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    fn open(&self) -> Result<Project, RunError> {
        Project::open(&self.dir.path().join("home"), Some(&self.path("release.pipeline")), false)
    }

    /// Builds, and gives each step with how it ended and, where it ran, why.
    fn build(&self) -> (Result<Built, RunError>, Vec<Ended>) {
        let (events, received) = Events::channel();
        let built = self.open().and_then(|project| {
            project.build(Build { jobs: 2, keep_going: false }, &events, &Arc::new(AtomicBool::new(false)))
        });
        drop(events);
        let mut reasons = BTreeMap::new();
        let mut steps = Vec::new();
        for Stamped { event, .. } in received {
            match event {
                Event::StepStarted { step, why, .. } => drop(reasons.insert(step, why)),
                Event::StepFinished { step, outcome, .. } => {
                    let why = reasons.remove(&step).unwrap_or_default();
                    steps.push((step, outcome, why));
                }
                _ => {}
            }
        }
        steps.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        (built, steps)
    }

    fn outcomes(&self) -> Vec<Ended> {
        let (built, steps) = self.build();
        built.map(drop).expect("built");
        steps
    }
}

const TWO_STEPS: &str = r#"
[app]
name = "notes"

[source]
exclude = ["release.pipeline"]

[steps.docs]
plugin = "files"
inputs = { trees = "source" }
config = { include = ["docs/**"] }

[steps.site]
plugin = "files"
inputs = { trees = "docs" }
config = { to = "site" }
"#;

fn ended(step: &str, outcome: StepOutcome, why: &str) -> Ended {
    (step.to_owned(), outcome, why.to_owned())
}

#[test]
fn an_unchanged_pipeline_runs_no_step() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n").file("code.py", "print()\n");
    let never = "it has not run before";
    assert_eq!(project.outcomes(), [ended("docs", StepOutcome::Ran, never), ended("site", StepOutcome::Ran, never)]);
    let cached = [ended("docs", StepOutcome::Cached, ""), ended("site", StepOutcome::Cached, "")];
    assert_eq!(project.outcomes(), cached);
    fs::remove_dir_all(project.dir.path().join("home/store/pool")).expect("the pool is disposable");
    assert_eq!(project.outcomes(), cached);
}

#[test]
fn a_run_whose_results_were_lost_runs_again_and_one_whose_order_changed_does_not() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n");
    project.outcomes();
    fs::remove_dir_all(project.dir.path().join("home/store")).expect("lost");
    assert!(project.outcomes().iter().all(|(_, outcome, _)| *outcome == StepOutcome::Ran));
    let (head, steps) = TWO_STEPS.split_at(TWO_STEPS.find("[steps.docs]").expect("a step"));
    let (docs, site) = steps.split_at(steps.find("[steps.site]").expect("a step"));
    project.file("release.pipeline", &format!("{head}{site}\n{docs}"));
    let cached = [ended("docs", StepOutcome::Cached, ""), ended("site", StepOutcome::Cached, "")];
    assert_eq!(project.outcomes(), cached);
    assert_eq!(project.outcomes(), cached);
}

#[test]
fn a_step_that_takes_in_another_value_is_not_taken_for_what_it_was() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n").file("code.py", "print()\n");
    project.outcomes();
    project.file("release.pipeline", &TWO_STEPS.replace("trees = \"docs\"", "trees = \"source\""));
    let steps = project.outcomes();
    assert_eq!((steps[0].1, steps[1].1), (StepOutcome::Cached, StepOutcome::Ran));
}

#[test]
fn an_edit_that_a_step_could_not_see_runs_nothing() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n").file("code.py", "print()\n");
    project.outcomes();
    project.file("code.py", "print(1)\n").file("new/file.txt", "x");
    assert_eq!(project.outcomes(), [ended("docs", StepOutcome::Cached, ""), ended("site", StepOutcome::Cached, "")]);
}

#[test]
fn an_edit_that_a_step_could_see_runs_it_and_says_why() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n");
    project.outcomes();
    project.file("docs/more.md", "more\n");
    let steps = project.outcomes();
    assert_eq!(steps[0], ended("docs", StepOutcome::Ran, "`docs/more.md` in `trees` was added"));
    assert_eq!(steps[1].1, StepOutcome::Ran);
    project.file("release.pipeline", &TWO_STEPS.replace("\"site\"", "\"public\""));
    assert_eq!(
        project.outcomes(),
        [
            ended("docs", StepOutcome::Cached, ""),
            ended("site", StepOutcome::Ran, "`config.to` is `\"public\"`, before `\"site\"`")
        ]
    );
}

#[test]
fn going_back_to_what_was_runs_nothing() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "one\n");
    project.outcomes();
    project.file("docs/index.md", "two\n");
    project.outcomes();
    project.file("docs/index.md", "one\n");
    assert!(project.outcomes().iter().all(|(_, outcome, _)| *outcome == StepOutcome::Cached));
}

#[test]
fn a_step_that_fails_says_why_and_skips_what_needs_it() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("code.py", "print()\n");
    let (built, steps) = project.build();
    let error = built.map(drop).expect_err("`docs/**` means nothing");
    assert_eq!((error.fault(), steps[0].1, steps[1].1), (Fault::Step, StepOutcome::Failed, StepOutcome::Skipped));
    assert!(error.hint().is_some());
    assert_eq!(project.build().1[0].2, "it failed when it ran before");
    project.file("docs/index.md", "now\n");
    assert!(project.outcomes().iter().all(|(_, outcome, _)| *outcome == StepOutcome::Ran), "failures are not kept");
}

#[test]
fn a_preview_says_what_would_run_and_runs_nothing() {
    let project = Sandbox::new(TWO_STEPS);
    project.file("docs/index.md", "# Notes\n");
    let preview = || {
        let (events, _received) = Events::channel();
        project.open().and_then(|opened| opened.preview(&events)).expect("a preview")
    };
    let never = Preview::Runs("it has not run before".to_owned());
    let depends = Preview::Depends("docs".to_owned());
    assert_eq!(preview(), [("docs".to_owned(), never), ("site".to_owned(), depends)]);
    project.outcomes();
    assert_eq!(preview(), [("docs".to_owned(), Preview::Cached), ("site".to_owned(), Preview::Cached)]);
}

#[test]
fn a_file_that_is_no_plugin_is_an_error_at_its_place() {
    let project = Sandbox::new(&TWO_STEPS.replace("\"files\"", "\"./mine.wasm\""));
    project.file("mine.wasm", "not wasm");
    let Err(RunError::Pipeline(diagnostics)) = project.open().map(drop) else { panic!("it was accepted") };
    assert_eq!(diagnostics.len(), 2, "one for each step");
    let text = crate::diagnostic::render(&diagnostics, crate::diagnostic::Colour::Never);
    assert!(text.contains("release.pipeline:9:10") && text.contains("not a WebAssembly component"), "{text}");
}
