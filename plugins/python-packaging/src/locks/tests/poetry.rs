//! `poetry.lock`, of the versions 1.1, 2.0 and 2.1.

use super::Project;

const PYPROJECT: &str = r#"
[tool.poetry.dependencies]
python = "^3.10"
Django = "^5.2"
celery = { version = "^5.0", extras = ["redis"] }
boto3 = { version = "*", optional = true }
pywin32 = { version = "*", markers = "sys_platform == 'win32'" }
numpy = [{ version = "^1", python = "<3.11" }, { version = "^2", python = ">=3.11" }]
[tool.poetry.extras]
s3 = ["boto3"]
[tool.poetry.group.dev.dependencies]
pytest = "*"
"#;

/// Poetry 1.5 to 1.8: the files beside each package, and no word of groups.
const GRAPH: &str = r#"
[[package]]
name = "django"
version = "5.2.1"
optional = false
python-versions = ">=3.10"
files = [
    { file = "django-5.2.1.tar.gz", hash = "sha256:a0" },
    { file = "Django-5.2.1-py3-none-any.whl", hash = "sha256:a1" },
]
[package.dependencies]
sqlparse = ">=0.3"
tzdata = { version = "*", markers = "sys_platform == \"win32\"" }

[[package]]
name = "sqlparse"
version = "0.5"
files = [{ file = "sqlparse-0.5-py3-none-any.whl", hash = "sha256:a2" }]

[[package]]
name = "tzdata"
version = "2025"
files = [{ file = "tzdata-2025-py3-none-any.whl", hash = "sha256:a3" }]

[[package]]
name = "celery"
version = "5.3"
files = [{ file = "celery-5.3.tar.gz", hash = "sha256:b0" }]
[package.dependencies]
redis = { version = ">=4.5,<6 || >6", optional = true, markers = "extra == \"redis\"" }
boto3 = { version = ">=1", optional = true, markers = "extra == \"s3\"" }
[package.extras]
redis = ["redis (>=4.5.2,!=4.5.5)"]
s3 = ["boto3 (>=1.26)"]

[[package]]
name = "redis"
version = "5.0"
files = [{ file = "redis-5.0-py3-none-any.whl", hash = "sha256:b1" }]

[[package]]
name = "boto3"
version = "1.0"
optional = true
files = [{ file = "boto3-1.0-py3-none-any.whl", hash = "sha256:b2" }]

[[package]]
name = "numpy"
version = "1.26"
files = [{ file = "numpy-1.26-py3-none-any.whl", hash = "sha256:c1" }]

[[package]]
name = "numpy"
version = "2.0"
files = [{ file = "numpy-2.0-py3-none-any.whl", hash = "sha256:c2" }]

[[package]]
name = "pytest"
version = "8.0"
[package.source]
type = "git"
url = "https://host/pytest.git"
reference = "main"
resolved_reference = "0123456789012345678901234567890123456789"

[extras]
s3 = ["boto3"]

[metadata]
lock-version = "2.0"
python-versions = "^3.10"
content-hash = "6fa41dc126eef360c8a959b31f65874391aa99f7bb9befdf67d74943175649b1"
"#;

const GROUPS: &str = r#"
[[package]]
name = "django"
version = "5.2.1"
groups = ["main"]
files = [{ file = "django-5.2.1-py3-none-any.whl", hash = "sha256:a1" }]

[[package]]
name = "colorama"
version = "0.4"
groups = ["main", "dev"]
markers = {main = "sys_platform == \"win32\"", dev = "python_version >= \"3\""}
files = [{ file = "colorama-0.4-py3-none-any.whl", hash = "sha256:a2" }]

[[package]]
name = "boto3"
version = "1.0"
optional = true
groups = ["main"]
markers = "extra == \"s3\""
files = [{ file = "boto3-1.0-py3-none-any.whl", hash = "sha256:a3" }]

[[package]]
name = "shared"
version = "0.1"
groups = ["main"]
files = []
[package.source]
type = "directory"
url = "packages/shared"

[[package]]
name = "ours"
version = "1.0"
groups = ["main"]
files = [{ file = "ours-1.0-py3-none-any.whl", hash = "sha256:a4" }]
[package.source]
type = "url"
url = "https://host/ours-1.0-py3-none-any.whl"

[extras]
s3 = ["boto3"]

[metadata]
lock-version = "2.1"
python-versions = ">=3.10,<4.0"
content-hash = "00"
"#;

fn graph() -> Project {
    Project::new(&[("poetry.lock", GRAPH), ("pyproject.toml", PYPROJECT)])
}

#[test]
fn an_older_lock_is_walked_from_the_project() {
    assert_eq!(
        graph().lines(),
        [
            "celery 5.3 sdist celery-5.3.tar.gz b0",
            "django 5.2.1 wheel Django-5.2.1-py3-none-any.whl a1",
            "numpy 2.0 wheel numpy-2.0-py3-none-any.whl c2",
            "redis 5.0 wheel redis-5.0-py3-none-any.whl b1",
            "sqlparse 0.5 wheel sqlparse-0.5-py3-none-any.whl a2",
        ]
    );
    let project = graph().ask(|question| {
        question.extras = vec!["s3".into()];
        question.groups = vec!["dev".into()];
    });
    let lines = project.lines();
    assert!(lines.contains(&"boto3 1.0 wheel boto3-1.0-py3-none-any.whl b2".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"pytest 8.0 git https://host/pytest.git 0123".to_owned()), "{lines:#?}");
}

#[test]
fn the_oldest_keep_their_files_elsewhere() {
    let lock = r#"
[[package]]
name = "Django"
version = "5.2.1"
category = "main"
optional = false
[metadata]
lock-version = "1.1"
python-versions = "^3.10"
[metadata.files]
django = [{ file = "Django-5.2.1-py3-none-any.whl", hash = "sha256:a1" }]
"#;
    let pyproject = "[tool.poetry.dependencies]\ndjango = '*'\n";
    let project = Project::new(&[("poetry.lock", lock), ("pyproject.toml", pyproject)]);
    assert_eq!(project.lines(), ["django 5.2.1 wheel Django-5.2.1-py3-none-any.whl a1"]);
}

#[test]
fn a_newer_lock_says_what_is_wanted() {
    let project = || Project::new(&[("poetry.lock", GROUPS)]);
    assert_eq!(
        project().lines(),
        [
            "django 5.2.1 wheel django-5.2.1-py3-none-any.whl a1",
            "ours 1.0 wheel ours-1.0-py3-none-any.whl https://host/ours-1.0-py3-none-any.whla4",
            "shared 0.1 directory \"packages/shared\"",
        ]
    );
    let more = project().ask(|question| {
        question.extras = vec!["s3".into()];
        question.groups = vec!["dev".into()];
    });
    assert_eq!(more.names(), ["boto3", "colorama", "django", "ours", "shared"]);
}

#[test]
fn unknown_names_are_refused() {
    let extra = |project: Project| project.ask(|question| question.extras = vec!["s4".into()]).refused();
    let group = |project: Project| project.ask(|question| question.groups = vec!["docs".into()]).refused();
    let newer = || Project::new(&[("poetry.lock", GROUPS)]);
    assert_eq!(extra(graph()), "`pyproject.toml` has no extra `s4`\nit has `s3`");
    assert_eq!(extra(newer()), "`poetry.lock` has no extra `s4`\nit has `s3`");
    assert_eq!(group(graph()), "`pyproject.toml` has no group `docs`\nit has `dev`");
    assert_eq!(group(newer()), "`poetry.lock` has no group `docs`\nit has `dev`, `main`");
}

#[test]
fn a_project_that_has_moved_on_is_noticed() {
    let pyproject = PYPROJECT.replace("Django =", "requests = '*'\nDjango =");
    assert_eq!(
        Project::new(&[("poetry.lock", GRAPH), ("pyproject.toml", &pyproject)]).refused(),
        "`poetry.lock` does not hold `requests`, which the project needs\nrun `poetry lock`"
    );
    let pyproject = "[project]\ndependencies = ['django (>=5.2,<6)', 'requests']";
    assert_eq!(
        Project::new(&[("poetry.lock", GROUPS), ("pyproject.toml", pyproject)]).refused(),
        "`poetry.lock` does not fit `pyproject.toml`: `requests` is not in it\nrun `poetry lock`, and commit what it writes"
    );
    assert!(
        Project::new(&[("poetry.lock", GRAPH)])
            .refused()
            .starts_with("`poetry.lock`, of version 2.0, cannot be read without")
    );
    let older = GROUPS.replace(">=3.10,<4.0", "~3.12");
    assert!(
        Project::new(&[("poetry.lock", &older)]).refused().starts_with("`poetry.lock` is for Python >=3.12, <3.13")
    );
}

#[test]
fn a_project_of_another_digest_is_noticed() {
    let pyproject = PYPROJECT.replace("Django = \"^5.2\"", "Django = \"^5.1\"");
    let said = "`poetry.lock` does not fit `pyproject.toml`, which has changed since: the lock's digest of it differs";
    assert_eq!(
        Project::new(&[("poetry.lock", GRAPH), ("pyproject.toml", &pyproject)]).refused(),
        format!(
            "{said}\nrun `poetry lock`, and commit what it writes; to take it as it is, name it: \
             `config = {{ path = \"poetry.lock\" }}`"
        )
    );
    let named = Project::new(&[("poetry.lock", GRAPH), ("pyproject.toml", &pyproject)])
        .ask(|question| question.path = Some("poetry.lock".into()));
    assert_eq!(named.answer().expect("a lock").notes, [said]);
    // As Poetry itself did, when it wrote that version.
    let older = GRAPH.replace("lock-version = \"2.0\"", "lock-version = \"1.1\"");
    let answer = Project::new(&[("poetry.lock", &older), ("pyproject.toml", &pyproject)]).answer().expect("a lock");
    assert_eq!(answer.notes, [said]);
}
