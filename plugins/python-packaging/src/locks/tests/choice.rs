//! Which file counts, and what is said where none does.

use super::Project;

const LOCKED: &str = "django==5.2 --hash=sha256:00\n";

#[test]
fn only_what_is_needed_is_read() {
    // A view is no part of any answer: the files below are all that the question touches.
    let project = Project::new(&[("requirements.txt", LOCKED), ("views.py", "")]);
    assert_eq!(project.lines(), ["django 5.2 hashes sha256:00"]);
    assert_eq!(project.answer().expect("a lock").lock.source, "requirements.txt");
}

#[test]
fn the_root_may_be_a_directory() {
    let project =
        Project::new(&[("backend/requirements.txt", "-r ../base.txt"), ("base.txt", LOCKED), ("uv.lock", "")]);
    let project = project.ask(|question| question.root = "backend/".into());
    assert_eq!(project.names(), ["django"]);
}

#[test]
fn several_locks_want_a_choice() {
    let files = [("poetry.lock", "package = []\nmetadata = {}"), ("requirements.txt", LOCKED)];
    insta(
        &Project::new(&files).refused(),
        "several files lock this project: `poetry.lock`, `requirements.txt`
name the one that counts: `config = { path = \"poetry.lock\" }`",
    );
    let chosen = Project::new(&files).ask(|question| question.path = Some("requirements.txt".into()));
    assert_eq!(chosen.names(), ["django"]);
}

#[test]
fn requirements_that_leave_a_choice_are_refused() {
    insta(
        &Project::new(&[("requirements.txt", "django>=5\n")]).refused(),
        "`requirements.txt` does not lock what it requires: a version or a digest is missing
run `pipe lock`, which resolves it into `pylock.toml`, and commit that",
    );
    insta(
        &Project::new(&[("pyproject.toml", "[project]\nname = 'x'\n")]).refused(),
        "`pyproject.toml` locks nothing
run `pipe lock`, which resolves it into `pylock.toml`, and commit that",
    );
}

#[test]
fn a_stale_pylock_is_refused() {
    let pylock = "lock-version = '1.0'\n[tool.pipe]\nfrom = 'requirements.txt'\npython = '3.11'\n\
                  platform = 'linux-x86_64-gnu'\nsources = [{ path = 'requirements.txt', blake3 = 'django' }]\n";
    assert!(Project::new(&[("requirements.txt", "django"), ("pylock.toml", pylock)]).lines().is_empty());
    insta(
        &Project::new(&[("requirements.txt", "django>5"), ("pylock.toml", pylock)]).refused(),
        "`pylock.toml`, made of `requirements.txt`, is stale: `requirements.txt` has changed since
run `pipe lock`, which resolves it into `pylock.toml`, and commit that",
    );
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let files = [("requirements.txt", LOCKED)];
    let refused = |change: fn(&mut crate::locks::Question)| Project::new(&files).ask(change).refused();
    assert!(refused(|question| question.python = "2.7".into()).starts_with("`2.7` is not a version of Python 3\n"));
    assert!(refused(|question| question.platform = "linux".into()).starts_with("`linux` is not a platform\n"));
    assert!(
        refused(|question| question.path = Some("requirement.txt".into()))
            .ends_with("did you mean `requirements.txt`?")
    );
}

#[track_caller]
fn insta(shown: &str, expected: &str) {
    assert_eq!(shown, expected);
}
