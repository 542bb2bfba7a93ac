//! `pylock.toml`.

use super::Project;

const LOCK: &str = r#"
lock-version = "1.0"
created-by = "by-hand"
requires-python = ">=3.10"
environments = ["sys_platform == 'linux'"]
extras = ["s3"]
dependency-groups = ["site", "dev"]
default-groups = ["site"]

[[packages]]
name = "Django"
version = "5.2.1"
wheels = [{ name = "django-5.2.1-py3-none-any.whl", url = "https://files/x", hashes = { sha256 = "a1" } }]

[[packages]]
name = "colorama"
version = "0.4"
marker = "sys_platform == 'win32'"
sdist = { url = "https://files/colorama-0.4.tar.gz", hashes = { sha256 = "b0" } }

[[packages]]
name = "gunicorn"
version = "23"
marker = "'site' in dependency_groups"
sdist = { url = "https://files/gunicorn-23.tar.gz", hashes = { sha256 = "c0" } }

[[packages]]
name = "boto3"
version = "1.0"
marker = "'s3' in extras"
wheels = [{ path = "wheels/boto3-1.0-py3-none-any.whl", hashes = { sha256 = "d0" } }]

[[packages]]
name = "pytest"
marker = "'dev' in dependency_groups"
archive = { url = "https://host/pytest.zip", subdirectory = "src", hashes = { sha256 = "e0" } }

[[packages]]
name = "forked"
vcs = { type = "git", url = "https://host/forked.git", commit-id = "0123456789012345678901234567890123456789", subdirectory = "py" }

[[packages]]
name = "shared"
directory = { path = "packages/shared", editable = true }
"#;

#[test]
fn every_kind_of_package_is_read() {
    assert_eq!(
        Project::new(&[("pylock.toml", LOCK)]).lines(),
        [
            "django 5.2.1 wheel django-5.2.1-py3-none-any.whl https://files/xa1",
            "forked ? git https://host/forked.git 0123 in py",
            "gunicorn 23 sdist gunicorn-23.tar.gz https://files/gunicorn-23.tar.gzc0",
            "shared ? directory \"packages/shared\"",
        ]
    );
}

#[test]
fn extras_and_groups_are_added_when_asked() {
    let project = Project::new(&[("backend/pylock.prod.toml", LOCK)]).ask(|question| {
        question.root = "backend".into();
        question.path = Some("pylock.prod.toml".into());
        question.extras = vec!["s3".into()];
        question.groups = vec!["dev".into()];
    });
    let lines = project.lines();
    let boto3 = "boto3 1.0 wheel boto3-1.0-py3-none-any.whl backend/wheels/boto3-1.0-py3-none-any.whld0";
    assert_eq!(lines[0], boto3);
    assert!(lines.contains(&"pytest ? sdist pytest.zip https://host/pytest.zipe0 in src".to_owned()), "{lines:#?}");
    let project = Project::new(&[("pylock.toml", LOCK)]).ask(|question| question.groups = vec!["docs".into()]);
    assert_eq!(project.refused(), "`pylock.toml` has no group `docs`\nit has `site`, `dev`");
}

#[test]
fn a_lock_for_elsewhere_is_refused() {
    let refused = |from: &str, to: &str| Project::new(&[("pylock.toml", &LOCK.replace(from, to))]).refused();
    assert!(refused("[\"sys_platform == 'linux'\"]", "[\"sys_platform == 'darwin'\"]").starts_with(
        "`pylock.toml` is not for Python 3.11 on `linux-x86_64-gnu`, only for `sys_platform == 'darwin'`\n"
    ));
    assert!(refused("\"1.0\"", "\"2.0\"").starts_with("`pylock.toml` is of version 2.0"));
    assert!(
        refused("type = \"git\"", "type = \"hg\"").starts_with("`pylock.toml` takes `forked` from hg, and only git")
    );
}

#[test]
fn a_project_that_has_moved_on_is_noticed() {
    let pyproject = "[project]\ndependencies = ['django>=5.3', 'celery', 'pywin32; sys_platform == \"win32\"']";
    assert!(Project::new(&[("pylock.toml", LOCK), ("pyproject.toml", pyproject)]).refused().starts_with(
        "`pylock.toml` does not fit `pyproject.toml`: `celery` is not in it; `django` is 5.2.1 in it, and `>=5.3` is required\n"
    ));
}
