//! Targets of branches: one for each, with data of its own, until its end has come.

use std::fs;
use std::process::Command;

use pipe_tests::Project;

use super::small::{self, eventually, free_port};

/// Has a branch of this name checked out where the project is.
fn check_out(project: &Project, branch: &str) {
    let git = project.path().join("src/.git");
    if !git.exists() {
        let done = Command::new("git").args(["init", "-q"]).arg(project.path().join("src")).status().expect("git runs");
        assert!(done.success());
    }
    fs::write(git.join("HEAD"), format!("ref: refs/heads/{branch}\n")).expect("written");
}

#[test]
fn each_branch_has_a_target_of_its_own_until_its_end_has_come() {
    let port = free_port();
    let project = small::project();
    small::release_to(
        &project,
        &format!(
            "
[targets.review]
driver = \"local\"
release = \"slug\"
branch = \"feature/*\"
domains = [\"{{branch}}.review.test\"]
http = \"127.0.0.1:{port}\"
expires = \"2h\"
data = [\"media\"]

[targets.main]
driver = \"local\"
release = \"slug\"
branch = \"main\"
"
        ),
    );
    check_out(&project, "feature/login");
    let said = project.run(["run"]).success().stdout;
    assert!(said.contains("note: `main` is for the branch `main`, and this is `feature/login`"), "{said}");
    assert!(said.contains(&format!("release 1 answers at http://feature-login.review.test:{port}/")), "{said}");
    project.write("src/version", "two");
    let said = project.run(["run", "--branch", "feature/sign up"]).success().stdout;
    assert!(said.contains("review-feature-sign-up-"), "{said}");
    check_out(&project, "main");
    project.run(["run"]).success();
    let said = project.run(["release", "review"]).code(2);
    assert!(said.stderr.contains("`review` is for the branch `feature/*`, and this is `main`"), "{}", said.stderr);

    let page = |name: &str| {
        let curl = Command::new("curl")
            .args(["-s", "-H", &format!("Host: {name}.review.test"), &format!("http://127.0.0.1:{port}/")])
            .output();
        String::from_utf8_lossy(&curl.expect("curl runs").stdout).into_owned()
    };
    assert_eq!(page("feature-login"), "one");
    let status: serde_json::Value =
        serde_json::from_str(&project.run(["ps", "--json"]).success().stdout).expect("JSON");
    let of = |name: &str| status.as_array().expect("a list").iter().find(|target| target["target"] == name).cloned();
    assert_eq!(of("main").expect("it runs")["until"], serde_json::Value::Null);
    assert!(of("review-feature-login").expect("it runs")["until"].is_string(), "{status}");
    assert!(project.run(["ps"]).success().stdout.contains(".review.test"), "{status}");
    check_out(&project, "feature/login");
    let releases = project.run(["releases", "review"]).success().stdout;
    assert!(releases.contains("serves"), "{releases}");

    // Another time, shorter: its end comes while the others go on.
    let pipeline = fs::read_to_string(project.path().join("release.pipeline")).expect("a pipeline");
    project.write("release.pipeline", &pipeline.replace("2h", "3s"));
    project.run(["run"]).success();
    let data = project.home().join("targets/demo/review-feature-login");
    eventually("it is removed, with its data", || !data.exists());
    eventually("nobody answers there", || page("feature-login") != "two");
    let said = project.run(["releases", "demo/review-feature-login"]).code(2);
    assert!(said.stderr.contains("no target `demo/review-feature-login`"), "{}", said.stderr);
    let left = project.run(["ps"]).success().stdout;
    assert!(left.contains("demo/main") && left.contains("demo/review-feature-sign-up-"), "{left}");
    project.run(["stop", "--all"]).success();
}
