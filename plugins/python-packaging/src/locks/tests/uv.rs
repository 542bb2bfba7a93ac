//! `uv.lock`.

use super::Project;

/// A project with an extra, a group, two members, a fork by platform and every kind of source.
const LOCK: &str = r#"
version = 1
revision = 3
requires-python = ">=3.10"
resolution-markers = ["sys_platform == 'linux'", "sys_platform != 'linux'"]

[manifest]
members = ["site", "shared"]

[[package]]
name = "site"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "django" },
    { name = "pywin32", marker = "sys_platform == 'win32'" },
    { name = "numpy", version = "1.26.0", source = { registry = "https://pypi.org/simple" }, marker = "sys_platform != 'linux'" },
    { name = "numpy", version = "2.0.0", source = { registry = "https://pypi.org/simple" }, marker = "sys_platform == 'linux'" },
    { name = "psycopg", extra = ["binary", "nothing"] },
    { name = "shared" },
    { name = "forked" },
    { name = "archive" },
    { name = "local" },
]

[package.optional-dependencies]
s3 = [{ name = "boto3" }]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[package.metadata]
requires-dist = [
    { name = "django", specifier = ">=5,<6" },
    { name = "forked", git = "https://host/forked.git?rev=main" },
    { name = "boto3", marker = "extra == 's3'", specifier = ">=1" },
]

[[package]]
name = "django"
version = "5.2.1"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://files/django-5.2.1.tar.gz", hash = "sha256:a0", size = 1 }
wheels = [{ url = "https://files/django-5.2.1-py3-none-any.whl", hash = "sha256:a1", size = 1 }]

[[package]]
name = "numpy"
version = "1.26.0"
source = { registry = "https://pypi.org/simple" }
wheels = []

[[package]]
name = "numpy"
version = "2.0.0"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://files/numpy-2.0.0.tar.gz", hash = "sha256:b0" }
wheels = [
    { url = "https://files/numpy-2.0.0-cp311-cp311-macosx_11_0_arm64.whl", hash = "sha256:b1" },
    { url = "https://files/numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", hash = "sha256:b2" },
    { url = "https://files/numpy-2.0.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", hash = "sha256:b3" },
]

[[package]]
name = "psycopg"
version = "3.2"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://files/psycopg-3.2-py3-none-any.whl", hash = "sha256:c1" }]

[package.optional-dependencies]
binary = [{ name = "psycopg-binary", marker = "implementation_name != 'pypy'" }]

[[package]]
name = "psycopg-binary"
version = "3.2"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://files/psycopg_binary-3.2-cp311-cp311-manylinux_2_34_x86_64.whl", hash = "sha256:c2" }]

[[package]]
name = "shared"
version = "0.1.0"
source = { editable = "packages/shared" }
dependencies = [{ name = "django" }]

[[package]]
name = "forked"
version = "1.0"
source = { git = "https://host/forked.git?subdirectory=py&rev=main#0123456789012345678901234567890123456789" }

[[package]]
name = "archive"
version = "1.0"
source = { url = "https://host/archive-1.0.zip" }
sdist = { hash = "sha256:d0" }

[[package]]
name = "local"
version = "1.0"
source = { registry = "wheels" }
wheels = [{ path = "local-1.0-py3-none-any.whl", hash = "sha256:e0" }]

[[package]]
name = "boto3"
version = "1.0"
source = { registry = "https://private/simple" }
wheels = [{ url = "https://private/boto3-1.0%2Bours-py3-none-any.whl", hash = "sha256:f0" }]

[[package]]
name = "pytest"
version = "8.0"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://files/pytest-8.0-py3-none-any.whl", hash = "sha256:f1" }]
"#;

const PYPROJECT: &str = r#"
[project]
name = "site"
dependencies = ["Django<6,>=5.0,", "forked"]
optional-dependencies = { s3 = ["boto3>=1"] }
"#;

#[test]
fn the_project_is_walked_along_the_edges_that_hold() {
    assert_eq!(
        Project::new(&[("uv.lock", LOCK)]).lines(),
        [
            "archive 1.0 sdist archive-1.0.zip https://host/archive-1.0.zipd0",
            "django 5.2.1 wheel django-5.2.1-py3-none-any.whl https://files/django-5.2.1-py3-none-any.whla1",
            "forked 1.0 git https://host/forked.git 0123 in py",
            "local 1.0 wheel local-1.0-py3-none-any.whl wheels/local-1.0-py3-none-any.whle0",
            "numpy 2.0.0 wheel numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl \
             https://files/numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whlb2",
            "psycopg 3.2 wheel psycopg-3.2-py3-none-any.whl https://files/psycopg-3.2-py3-none-any.whlc1",
            "psycopg-binary 3.2 wheel psycopg_binary-3.2-cp311-cp311-manylinux_2_34_x86_64.whl \
             https://files/psycopg_binary-3.2-cp311-cp311-manylinux_2_34_x86_64.whlc2",
            "shared 0.1.0 directory \"packages/shared\"",
        ]
    );
}

#[test]
fn extras_and_groups_are_added_when_asked() {
    let project = Project::new(&[("uv.lock", LOCK)]).ask(|question| {
        question.extras = vec!["S3".into()];
        question.groups = vec!["dev".into()];
    });
    let lines = project.lines();
    let boto3 = "boto3 1.0 wheel boto3-1.0+ours-py3-none-any.whl https://private/boto3-1.0%2Bours-py3-none-any.whlf0";
    assert!(lines.iter().any(|line| line == boto3), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("pytest ")));
    let project = Project::new(&[("uv.lock", LOCK)]).ask(|question| question.extras = vec!["s4".into()]);
    assert_eq!(project.refused(), "`uv.lock` has no extra `s4`\nit has `s3`");
    let project = Project::new(&[("uv.lock", LOCK)]).ask(|question| question.groups = vec!["docs".into()]);
    assert_eq!(project.refused(), "`uv.lock` has no group `docs`\nit has `dev`");
}

#[test]
fn a_member_may_be_what_is_wanted() {
    let project = Project::new(&[("uv.lock", LOCK)]).ask(|question| question.package = Some("shared".into()));
    assert_eq!(project.names(), ["django"]);
    let project = Project::new(&[("uv.lock", LOCK)]).ask(|question| question.package = Some("shard".into()));
    assert_eq!(project.refused(), "`uv.lock` has no member `shard`\nit has `site`, `shared`");
    let rootless = LOCK.replace("{ virtual = \".\" }", "{ virtual = \"site\" }");
    assert!(Project::new(&[("uv.lock", &rootless)]).refused().ends_with("it has `site`, `shared`"));
}

#[test]
fn a_project_that_has_moved_on_is_noticed() {
    let refused = |pyproject: &str| Project::new(&[("uv.lock", LOCK), ("pyproject.toml", pyproject)]).refused();
    Project::new(&[("uv.lock", LOCK), ("pyproject.toml", PYPROJECT)]).lines();
    Project::new(&[("uv.lock", LOCK), ("pyproject.toml", "[project]\ndynamic = ['dependencies']")]).lines();
    assert_eq!(
        refused("[project]\ndependencies = ['django>=5.1,<6', 'forked', 'celery']"),
        "`uv.lock` does not fit `pyproject.toml`: `boto3` is no longer required; `celery` is not in it; \
         `django` is now `>=5.1, <6`\nrun `uv lock`, and commit what it writes"
    );
}

#[test]
fn extras_that_exclude_each_other_are_told_apart() {
    let lock = r#"
version = 1
conflicts = [[{ package = "site", extra = "cpu" }, { package = "site", extra = "gpu" }]]
[[package]]
name = "site"
source = { virtual = "." }
dependencies = [{ name = "torch", version = "2.0", marker = "extra == 'extra-4-site-gpu'" },
                { name = "torch", version = "2.0+cpu", marker = "extra == 'extra-4-site-cpu' or extra != 'extra-4-site-gpu'" }]
[package.optional-dependencies]
cpu = []
gpu = []
[[package]]
name = "torch"
version = "2.0"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://files/torch-2.0-py3-none-any.whl", hash = "sha256:a1" }]
[[package]]
name = "torch"
version = "2.0+cpu"
source = { registry = "https://cpu/simple" }
wheels = [{ url = "https://files/torch-2.0%2Bcpu-py3-none-any.whl", hash = "sha256:a2" }]
"#;
    let torch = |extra: &str| {
        let project = Project::new(&[("uv.lock", lock)]).ask(|question| question.extras = vec![extra.into()]);
        project.lines().remove(0)
    };
    assert!(torch("cpu").starts_with("torch 2.0+cpu "));
    assert!(torch("gpu").starts_with("torch 2.0 "));
}

#[test]
fn what_cannot_be_installed_is_explained() {
    let refused = |from: &str, to: &str| Project::new(&[("uv.lock", &LOCK.replace(from, to))]).refused();
    let only_windows = refused("cp311-cp311-manylinux_2_34_x86_64", "cp311-cp311-win_amd64");
    assert!(only_windows.starts_with(
        "no file of `psycopg-binary` fits Python 3.11 on `linux-x86_64-gnu` (such as `cp311-cp311-manylinux_2_36_x86_64`): \
         there is only `cp311-cp311-win_amd64`\nlock a version of `psycopg-binary`"
    ), "{only_windows}");
    assert!(refused(">=3.10", ">=3.12").starts_with("`uv.lock` is for Python >=3.12, and the pipeline says 3.11\n"));
    assert!(refused("version = 1\nrevision", "version = 2\nrevision").starts_with("`uv.lock` is of version 2"));
    assert!(refused("hash = \"sha256:e0\"", "size = 1").starts_with("the lock has no sha256 of a file of `local`\n"));
    assert!(
        refused("{ name = \"forked\" }", "{ name = \"gone\" }")
            .starts_with("`uv.lock` needs `gone` and does not hold it\n")
    );
    assert!(refused("packages/shared", "../shared").starts_with("`uv.lock` takes `shared` from `../shared`, outside"));
    assert_eq!(
        refused("[manifest]", "[manifest"),
        "`uv.lock` cannot be read: TOML parse error at line 7, column 10: unclosed table, expected `]`\n\
         write it anew with the tool that it is from"
    );
}

#[test]
fn the_project_itself_is_installed_only_when_asked() {
    let lock = LOCK.replace("{ virtual = \".\" }", "{ editable = \".\" }");
    assert!(!Project::new(&[("uv.lock", &lock)]).names().contains(&"site".to_owned()));
    let project = Project::new(&[("uv.lock", &lock)]).ask(|question| question.install_project = true);
    assert!(project.lines().contains(&"site 0.1.0 directory \"\"".to_owned()));
}
