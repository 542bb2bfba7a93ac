//! `Pipfile.lock`.

use super::Project;

const LOCK: &str = r#"{
    "_meta": {"hash": {"sha256": "a82f77feecb4d246b25176416fdb2075320fca7fcd4c3c3521b860be82d204d5"}, "pipfile-spec": 6, "requires": {"python_version": "3.11"},
              "sources": [{"name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": true}]},
    "default": {
        "django": {"hashes": ["sha256:bb", "sha256:aa"], "index": "pypi", "markers": "python_version >= '3.10'", "version": "==5.2.1"},
        "colorama": {"hashes": ["sha256:cc"], "markers": "sys_platform == 'win32'", "version": "==0.4.6"},
        "forked": {"git": "https://host/forked.git", "ref": "0123456789012345678901234567890123456789"},
        "libs": {"editable": true, "path": "./libs"},
        "wheel-of-ours": {"file": "https://host/ours-1-py3-none-any.whl", "hashes": ["sha256:dd"]},
        "itself": {"editable": true, "path": "."}
    },
    "develop": {"pytest": {"hashes": ["sha256:ee"], "version": "==8.0"}}
}"#;

#[test]
fn the_default_packages_are_read() {
    assert_eq!(
        Project::new(&[("Pipfile.lock", LOCK)]).lines(),
        [
            "django 5.2.1 hashes sha256:aa sha256:bb",
            "forked ? git https://host/forked.git 0123",
            "libs ? directory \"libs\"",
            "wheel-of-ours ? wheel ours-1-py3-none-any.whl https://host/ours-1-py3-none-any.whldd",
        ]
    );
}

#[test]
fn dev_is_what_pipenv_calls_develop() {
    let project = Project::new(&[("Pipfile.lock", LOCK)]).ask(|question| question.groups = vec!["dev".into()]);
    assert!(project.names().contains(&"pytest".to_owned()));
    let project = Project::new(&[("Pipfile.lock", LOCK)]).ask(|question| question.groups = vec!["docs".into()]);
    assert_eq!(project.refused(), "`Pipfile.lock` has no group `docs`\nit has `develop`");
}

#[test]
fn a_pipfile_that_has_moved_on_is_noticed() {
    let pipfile =
        "[packages]\ndjango = '*'\nrequests = '*'\npywin32 = {version = '*', sys_platform = \"== 'win32'\"}\n";
    assert_eq!(
        Project::new(&[("Pipfile.lock", LOCK), ("Pipfile", pipfile)]).refused(),
        "`Pipfile.lock` does not fit `Pipfile`: `requests` is not in it\nrun `pipenv lock`, and commit what it writes"
    );
}

#[test]
fn what_has_no_digest_is_refused() {
    let lock = r#"{"_meta": {}, "default": {"x": {"version": "==1"}}}"#;
    assert!(Project::new(&[("Pipfile.lock", lock)]).refused().starts_with("`Pipfile.lock` has no digest for `x`\n"));
    let lock = r#"{"_meta": {}, "default": {"x": {"git": "https://h/x"}}}"#;
    assert!(Project::new(&[("Pipfile.lock", lock)]).refused().starts_with("`Pipfile.lock` names no commit for `x`\n"));
    assert!(Project::new(&[("Pipfile.lock", "{")]).refused().starts_with("`Pipfile.lock` cannot be read: EOF"));
}

#[test]
fn a_pipfile_of_another_digest_is_noticed() {
    let lock = LOCK.replace("\"django\"", "\"sqlparse\"");
    let project = |pipfile| Project::new(&[("Pipfile.lock", &lock), ("Pipfile", pipfile)]);
    assert_eq!(project("[packages]\nsqlparse = '*'\n").lines().len(), 4);
    assert_eq!(
        project("[packages]\nsqlparse = '<1'\n").refused(),
        "`Pipfile.lock` does not fit `Pipfile`, which has changed since: the lock's digest of it differs
run `pipenv lock`, and commit what it writes; to take it as it is, name it: `config = { path = \"Pipfile.lock\" }`"
    );
    let named = project("[packages]\nsqlparse = '<1'\n").ask(|question| question.path = Some("Pipfile.lock".into()));
    let answer = named.answer().expect("a lock");
    assert_eq!(answer.lock.packages.len(), 4);
    assert!(answer.notes[0].starts_with("`Pipfile.lock` does not fit `Pipfile`"), "{:?}", answer.notes);
    let lacks = project("[packages]\nrequests = '*'\n").ask(|question| question.path = Some("Pipfile.lock".into()));
    assert!(lacks.refused().contains("`requests` is not in it"));
}

#[test]
fn a_lock_for_another_python_is_refused() {
    let project = Project::new(&[("Pipfile.lock", LOCK)]).ask(|question| question.python = "3.12".into());
    assert_eq!(
        project.refused(),
        "`Pipfile.lock` is for Python ==3.11.*, and the pipeline says 3.12
change `[app] python`, or lock again for this Python"
    );
}
