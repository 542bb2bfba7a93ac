//! What is asked of uv, what is written and what is left alone. uv itself is a stand-in: what it finds is not the point.

use super::*;
use crate::fetch::FetchConfig;
use crate::lockfile::LockFile;

const STEP: &str = "[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n";

/// A project, a pipeline and a home.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self { directory: tempfile::tempdir().expect("a directory") };
        for (path, text) in files {
            bench.write(path, text);
        }
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("project").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// What the stand-in has noted.
    fn noted(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join("home/cache/uv").join(name)).unwrap_or_default()
    }

    fn resolver(&self, steps: &str) -> (Pipeline, Resolver) {
        let home = self.directory.path().join("home");
        let text = format!("[app]\nname = \"polls\"\npython = \"3.11\"\n{steps}");
        let pipeline = crate::pipeline::parse(&self.path("release.pipeline"), &text).expect("a pipeline");
        let store = Store::open(&home).expect("a store");
        let fetcher = Fetcher::new(FetchConfig::default(), store.clone()).expect("a fetcher");
        let mut resolver = Resolver::new(&pipeline, "3.11", &fetcher, &store, &home);
        resolver.uv = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lock/tests/uv"));
        (pipeline, resolver)
    }

    fn ensure_with(&self, steps: &str, mode: &Mode) -> Result<usize, LockError> {
        let (pipeline, resolver) = self.resolver(steps);
        let (events, _receiver) = Events::channel();
        ensure(&pipeline, &resolver, mode, &events).map(|written| written.len())
    }

    fn ensure(&self, mode: &Mode) -> Result<usize, LockError> {
        self.ensure_with(STEP, mode)
    }

    fn pin(&self, constraints: &[&str], locked: bool) -> Result<String, LockError> {
        let (_, resolver) = self.resolver(STEP);
        let (events, _receiver) = Events::channel();
        let constraints: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
        let lock = LockFile::beside(&self.path(""));
        pin(&["django".to_owned()], &constraints, &resolver, &lock, locked, &events)
    }
}

#[test]
fn what_is_resolved_is_kept_with_what_it_came_from() {
    let bench = Bench::new(&[
        ("requirements.txt", "-r base.txt\n./libs/x\n"),
        ("base.txt", "django\n"),
        ("libs/x/pyproject.toml", ""),
        ("views.py", ""),
        ("pylock.draft-killed.toml", ""),
    ]);
    assert_eq!(bench.ensure(&Mode::Keep).expect("a lock"), 1);
    let pylock = bench.read("pylock.toml");
    assert!(pylock.starts_with("# Resolved by `pipe lock` from `requirements.txt`. Commit this file."), "{pylock}");
    assert!(pylock.contains("wheels = [{ name = \"django-5.2.1-py3-none-any.whl\", hashes"), "{pylock}");
    let record = Record::of(&pylock).expect("a record");
    let sources: Vec<&str> = record.sources.iter().map(|source| source.path.as_str()).collect();
    assert_eq!(sources, ["base.txt", "libs/x/pyproject.toml", "requirements.txt"]);
    assert!(bench.noted("asked").contains("--python-version 3.11 --python-platform x86_64-manylinux_2_36"));
    assert_eq!(fs::read_dir(bench.path("")).expect("a directory").count(), 5, "no draft is left");
}

#[test]
fn what_is_fresh_is_left_alone_and_what_is_stale_keeps_its_versions() {
    let bench = Bench::new(&[("requirements.txt", "-r base.txt\n"), ("base.txt", "django\n")]);
    assert_eq!(bench.ensure(&Mode::Keep).expect("a lock"), 1);
    assert_eq!(bench.ensure(&Mode::Keep).expect("a lock"), 0);
    assert_eq!(bench.ensure(&Mode::Locked).expect("a lock"), 0);
    assert_eq!(bench.noted("asked").lines().count(), 1);
    bench.write("base.txt", "django>5\n");
    let error = bench.ensure(&Mode::Locked).expect_err("it is stale");
    assert_eq!(
        error.to_string(),
        "`pylock.toml` is stale: `base.txt` has changed since; and `requirements.txt` may not be resolved again here"
    );
    assert_eq!(bench.ensure(&Mode::Keep).expect("a lock"), 1);
    assert!(bench.noted("kept").contains("5.2.1"), "the old lock is what uv prefers");
}

#[test]
fn an_upgrade_lets_go_of_what_it_names() {
    let bench = Bench::new(&[("requirements.txt", "django\n")]);
    bench.ensure(&Mode::Keep).expect("a lock");
    assert_eq!(bench.ensure(&Mode::UpgradeOnly(vec!["django".into()])).expect("a lock"), 1);
    assert!(bench.noted("asked").contains("--upgrade-package django"));
    assert!(bench.noted("kept").contains("5.2.1"));
    assert_eq!(bench.ensure(&Mode::Upgrade).expect("a lock"), 1);
    assert!(!bench.noted("kept").contains("5.2.1"));
}

#[test]
fn an_upgrade_of_what_is_no_package_of_the_project_is_told() {
    let bench = Bench::new(&[("requirements.txt", "django\n")]);
    let (pipeline, resolver) = bench.resolver(STEP);
    let (events, receiver) = Events::channel();
    let names = ["Django", "djnago"].map(str::to_owned).to_vec();
    ensure(&pipeline, &resolver, &Mode::UpgradeOnly(names), &events).expect("a lock");
    drop(events);
    let warnings = receiver.filter_map(|stamped| match stamped.event {
        Event::Warning { message, hint } => Some((message, hint)),
        _ => None,
    });
    let expected = ("`pylock.toml` has no package `djnago` to upgrade".into(), Some("did you mean `django`?".into()));
    assert_eq!(warnings.collect::<Vec<_>>(), [expected]);
}

#[test]
fn what_somebody_else_has_locked_is_theirs() {
    let bench = Bench::new(&[("uv.lock", "version = 1\n")]);
    assert_eq!(bench.ensure(&Mode::Keep).expect("nothing to do"), 0);
    assert_eq!(bench.ensure(&Mode::Upgrade).expect("a warning"), 0);
    let theirs = "lock-version = '1.0'\n";
    let bench = Bench::new(&[("pylock.toml", theirs), ("dev.txt", "django\n")]);
    let step = format!("{STEP}config = {{ path = \"dev.txt\" }}\n");
    assert_eq!(bench.ensure_with(&step, &Mode::Keep).expect("a lock"), 1);
    assert_eq!(bench.read("pylock.toml"), theirs);
    assert!(bench.read("pylock.dev.toml").contains("from = \"dev.txt\""));
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_contradictory() {
    let output = "error: Error parsing included file in `requirements.txt` at position 36".to_owned();
    let error = LockError::Unresolvable { what: "requirements.txt".to_owned(), output, offline: false };
    assert!(error.hint().is_some_and(|hint| hint.starts_with("correct the line that it names")));
}

#[test]
fn sources_that_name_no_backend_are_asked_with_one_of_their_time() {
    let bench = Bench::new(&[("requirements.txt", "django\n")]);
    bench.ensure(&Mode::Keep).expect("a lock");
    assert!(!bench.noted("asked").contains("--build-constraints"));
    let old = bench.directory.path().join("home/cache/uv/old");
    fs::write(&old, "setuptools<69").expect("a file");
    assert_eq!(bench.ensure(&Mode::Upgrade).expect("a lock"), 1);
    fs::write(&old, "setuptools<9").expect("a file");
    let error = bench.ensure(&Mode::Upgrade).expect_err("no backend does");
    assert!(error.hint().is_some_and(|hint| hint.contains("a version of it that has a wheel")), "{:?}", error.hint());
}

#[test]
fn a_failure_leaves_what_was_there() {
    let bench = Bench::new(&[("requirements.txt", "django\n")]);
    bench.ensure(&Mode::Keep).expect("a lock");
    let before = bench.read("pylock.toml");
    let broken = bench.directory.path().join("home/cache/uv/broken");
    fs::write(&broken, "no versions do").expect("a file");
    let error = bench.ensure(&Mode::Upgrade).expect_err("uv fails");
    assert!(error.to_string().ends_with("requirements.txt`:\nno versions do"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("change the requirements so that they can be met together"));
    assert!(!error.is_environment());
    assert_eq!(bench.read("pylock.toml"), before);
    fs::write(&broken, "No interpreter found for Python 3.11 in search path").expect("a file");
    let error = bench.ensure(&Mode::Upgrade).expect_err("there is no Python");
    assert!(
        error.is_environment() && error.hint().is_some_and(|hint| hint.contains("apt-get install python3")),
        "{error}"
    );
    let error = Bench::new(&[]).ensure(&Mode::Keep).expect_err("nothing to lock");
    assert!(
        error.to_string().starts_with("step `lock`: nothing in the project says which packages it needs"),
        "{error}"
    );
}

#[test]
fn a_pipfile_is_put_in_uvs_words() {
    let bench = Bench::new(&[("Pipfile", "[packages]\ndjango = '*'\n[dev-packages]\npytest = '>=8'\n")]);
    let step = format!("{STEP}config = {{ dev = true }}\n");
    bench.ensure_with(&step, &Mode::Keep).expect("a lock");
    assert_eq!(bench.noted("lines"), "django\npytest>=8");
}

#[test]
fn a_pin_stands_until_its_constraints_exclude_it() {
    let bench = Bench::new(&[]);
    fs::create_dir_all(bench.path("")).expect("a directory");
    let error = bench.pin(&[], true).expect_err("nothing stands there");
    assert_eq!(error.to_string(), "`pipe.lock` has no versions for `django`, and none may be looked for here");
    let answer = bench.pin(&["sqlparse==0.5"], false).expect("an answer");
    let expected = r#"[{"name":"django","version":"5.2.1","files":[{"name":"django-5.2.1-py3-none-any.whl","url":"","sha256":"aa"}]}]"#;
    assert_eq!(answer, expected);
    assert!(bench.noted("asked").contains("--only-binary :all:"));
    assert_eq!(bench.noted("constraints"), "sqlparse==0.5");
    assert_eq!(bench.pin(&["django==5.2.1"], true).expect("it stands"), expected);
    assert!(bench.pin(&["django>=6"], true).is_err());
    assert_eq!(bench.noted("asked").lines().count(), 1);
}

#[test]
fn paths_of_this_machine_are_left_out() {
    let text = "a = 1\nwheels = [{ url = \"file:///home/me/wheels/x-1%2Bours-py3-none-any.whl\", hashes = {} }]\n";
    assert_eq!(portable(text), "a = 1\nwheels = [{ name = \"x-1+ours-py3-none-any.whl\", hashes = {} }]\n");
}
