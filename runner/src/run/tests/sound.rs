//! A cached result is always right, and a step whose observations hold never runs: random steps over random trees under random
//! edits, held against a model that knows nothing of digests, stores or caches.

mod model;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Sandbox;
use crate::event::StepOutcome;
use crate::store::Store;
use crate::tree::Entry;
use model::{Directory, Fact, Look, Node};

/// One change to the source.
#[derive(Debug, Clone)]
enum Edit {
    Write {
        path: &'static str,
        content: &'static str,
        executable: bool,
    },
    Link {
        path: &'static str,
        target: &'static str,
    },
    MakeDirectory {
        path: &'static str,
    },
    Remove {
        path: &'static str,
    },
    Rename {
        from: &'static str,
        to: &'static str,
    },
    /// Back to what the source was so many edits ago.
    Revert {
        steps: usize,
    },
    Nothing,
}

/// A step: which of the source and the earlier steps it takes in, as bits, and where it looks.
#[derive(Debug, Clone)]
struct Plan {
    inputs: u8,
    looks: Vec<Look>,
}

const PATHS: &[&str] = &["a", "b", "a/x", "a/y", "a/d", "a/d/z", "c/x", "told", "out/0", "out/0/x"];
/// Some are paths, for those who follow them.
const CONTENTS: &[&str] = &["one", "two", "a/x", "b", "told"];
const GLOBS: &[&str] = &["*", "**", "a", "a/**", "**/x", "a/*", "out/**", "nothing*"];

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(PATHS)
}

fn edit() -> impl Strategy<Value = Edit> {
    let content = prop::sample::select(CONTENTS);
    prop_oneof![
        5 => (path(), content, any::<bool>()).prop_map(|(path, content, executable)| Edit::Write { path, content, executable }),
        1 => (path(), path()).prop_map(|(path, target)| Edit::Link { path, target }),
        1 => path().prop_map(|path| Edit::MakeDirectory { path }),
        2 => path().prop_map(|path| Edit::Remove { path }),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Rename { from, to }),
        1 => (1..4_usize).prop_map(|steps| Edit::Revert { steps }),
        1 => Just(Edit::Nothing),
    ]
}

fn look() -> impl Strategy<Value = Look> {
    let at = || (0..3_usize, path()).prop_map(|(input, path)| (input, path.to_owned()));
    let globs = || (0..3_usize, prop::sample::select(GLOBS)).prop_map(|(input, glob)| (input, glob.to_owned()));
    prop_oneof![
        at().prop_map(|(input, path)| Look::Kind { input, path }),
        at().prop_map(|(input, path)| Look::Read { input, path }),
        at().prop_map(|(input, path)| Look::Follow { input, path }),
        at().prop_map(|(input, path)| Look::Entries { input, path }),
        at().prop_map(|(input, path)| Look::Link { input, path }),
        globs().prop_map(|(input, glob)| Look::Glob { input, glob }),
        globs().prop_map(|(input, glob)| Look::Select { input, glob }),
        at().prop_map(|(input, path)| Look::Pass { input, path }),
        at().prop_map(|(input, path)| Look::Without { input, path }),
        at().prop_map(|(input, path)| Look::Size { input, path }),
        (at(), path()).prop_map(|((input, path), other)| Look::Same { input, path, other: other.to_owned() }),
        (at(), prop::sample::select(&["x", "d/z", "nothing"][..])).prop_map(|((input, path), below)| Look::Below {
            input,
            path,
            below: below.to_owned()
        }),
        (at(), prop::sample::select(GLOBS)).prop_map(|((input, path), glob)| Look::Part {
            input,
            path,
            glob: glob.to_owned()
        }),
        at().prop_map(|(input, path)| Look::Packed { input, path }),
    ]
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (any::<u8>(), prop::collection::vec(look(), 1..5)).prop_map(|(inputs, looks)| Plan { inputs, looks });
    prop::collection::vec(plan, 1..4)
}

impl Plan {
    /// What the step of this number takes in: 0 is the source, `n` is step `n - 1`. At least one of them.
    fn takes(&self, number: usize) -> Vec<usize> {
        let taken: Vec<usize> = (0..=number).filter(|from| self.inputs >> from & 1 == 1).collect();
        if taken.is_empty() { vec![number] } else { taken }
    }

    /// Its looks, each into an input that there is; the first, which finds nothing, sets its step apart from all others.
    fn looks(&self, number: usize, salt: u32) -> Vec<Look> {
        let inputs = self.takes(number).len();
        let apart = Look::Kind { input: 0, path: format!("never/{salt}-{number}") };
        std::iter::once(apart).chain(self.looks.iter().map(|look| look.clone().within(inputs))).collect()
    }
}

fn pipeline(plans: &[Plan], salt: u32) -> String {
    let mut text = "[app]\nname = \"probed\"\n\n[source]\npath = \"src\"\n".to_owned();
    for (number, plan) in plans.iter().enumerate() {
        let inputs = plan.takes(number).into_iter().map(|from| match from {
            0 => "\"source\"".to_owned(),
            step => format!("\"s{}\"", step - 1),
        });
        let inputs: Vec<String> = inputs.collect();
        let looks: Vec<String> = plan.looks(number, salt).iter().map(Look::to_toml).collect();
        let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
        write!(
            text,
            "\n[steps.s{number}]\nplugin = {probe:?}\ninputs = {{ trees = [{}] }}\nconfig = {{ looks = [{}] }}\n",
            inputs.join(", "),
            looks.join(", "),
        )
        .expect("written");
    }
    text
}

fn apply(edit: &Edit, past: &[Directory]) -> Directory {
    let mut source = past.last().cloned().unwrap_or_default();
    match edit {
        Edit::Write { path, content, executable } => {
            source.put(path, Node::File { content: (*content).to_owned(), executable: *executable });
        }
        Edit::Link { path, target } => source.put(path, Node::Link((*target).to_owned())),
        Edit::MakeDirectory { path } => source.put(path, Node::Directory(Directory::default())),
        Edit::Remove { path } => drop(source.remove(path)),
        Edit::Rename { from, to } => {
            if let Some(node) = source.remove(from) {
                source.put(to, node);
            }
        }
        Edit::Revert { steps } => source = past.iter().rev().nth(*steps).cloned().unwrap_or_default(),
        Edit::Nothing => {}
    }
    source
}

/// A stored tree as the model knows directories.
fn read_back(store: &Store, tree: &crate::digest::Digest) -> Directory {
    let mut directory = Directory::default();
    for (name, entry) in store.tree(tree).expect("a tree").entries() {
        let node = match entry {
            Entry::Tree { digest } => Node::Directory(read_back(store, digest)),
            Entry::Symlink { target } => Node::Link(target.clone()),
            Entry::File { digest, executable } => Node::File {
                content: String::from_utf8(store.get(digest).expect("a blob")).expect("text"),
                executable: *executable,
            },
        };
        directory.0.insert(name.to_owned(), node);
    }
    directory
}

/// Builds, holds each output against the model's, and gives which steps ran.
fn build(project: &Sandbox, plans: &[Plan], expected: &[Directory]) -> Result<Vec<bool>, TestCaseError> {
    let (built, steps) = project.build();
    let built = built.map_err(|error| TestCaseError::fail(format!("{error}: {steps:?}")))?;
    let store = project.open().expect("opened").store;
    for (number, expected) in expected.iter().enumerate() {
        let seen = built.executed.output(number, "seen").expect("an output");
        prop_assert_eq!(&read_back(&store, seen.digest()), expected, "step {} of {:?}", number, plans);
    }
    Ok(steps.iter().map(|(_, outcome, _)| *outcome == StepOutcome::Ran).collect())
}

static SALT: AtomicU32 = AtomicU32::new(0);

/// One random pipeline through its random edits.
fn hold_against_the_model(project: &Sandbox, plans: &[Plan], edits: &[Edit]) -> Result<(), TestCaseError> {
    let salt = SALT.fetch_add(2, Ordering::Relaxed);
    project.file("release.pipeline", &pipeline(plans, salt));
    let mut past = vec![Directory::default()];
    let mut runs: BTreeMap<usize, Vec<Vec<Fact>>> = BTreeMap::new();
    let mut outputs = Vec::new();
    for edit in std::iter::once(&Edit::Nothing).chain(edits) {
        past.push(apply(edit, &past));
        let source = past.last().expect("there is one");
        source.write_anew(&project.path("src"));
        outputs = Vec::new();
        let mut must_run = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let takes = plan.takes(number);
            let inputs: Vec<&Directory> =
                takes.iter().map(|from| if *from == 0 { source } else { &outputs[from - 1] }).collect();
            let (output, facts) = model::probe(&plan.looks(number, salt), &inputs);
            let earlier = runs.entry(number).or_default();
            let known = earlier.iter().any(|facts: &Vec<Fact>| facts.iter().all(|fact| fact.holds(&inputs)));
            must_run.push(!known);
            if !known {
                earlier.push(facts);
            }
            outputs.push(output);
        }
        let ran = build(project, plans, &outputs)?;
        prop_assert_eq!(ran, must_run, "after {:?} in {:?}", edit, plans);
    }
    // Other names for what is never there: nothing that is known is of use, as for a runner without a cache.
    project.file("release.pipeline", &pipeline(plans, salt + 1));
    let ran = build(project, plans, &outputs)?;
    prop_assert_eq!(ran, vec![true; plans.len()]);
    Ok(())
}

/// `PROPTEST_CASES` says how many pipelines are tried.
#[test]
fn what_is_cached_is_what_a_run_would_give_and_nothing_runs_in_vain() {
    let project = Sandbox::new("");
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = std::env::var_os("PROPTEST_CASES").map_or(24, |_| config.cases);
    let edits = prop::collection::vec(edit(), 1..8);
    TestRunner::new(Config { cases, ..config })
        .run(&(plans(), edits), |(plans, edits)| hold_against_the_model(&project, &plans, &edits))
        .unwrap_or_else(|error| panic!("{error}"));
}
