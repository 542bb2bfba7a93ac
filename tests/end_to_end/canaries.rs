//! Releases for some of the clients, as they are told of on the command line.

use super::small::{self, free_port};

#[test]
fn a_release_for_some_of_the_clients_is_begun_shown_and_finished() {
    let port = free_port();
    let project = small::project();
    small::release_to(
        &project,
        &format!("\n[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:{port}\"\n"),
    );
    project.run(["run"]).success();
    let said = project.run(["release", "staging", "--canary", "100%"]).code(2);
    assert!(said.stderr.contains("`100%` is no part of the clients, such as `10%`"), "{}", said.stderr);
    let said = project.run(["canary", "staging"]).code(2);
    assert!(said.stderr.contains("no release of `staging` is given to a part of the clients"), "{}", said.stderr);

    project.write("src/version", "two");
    project.run(["run", "--no-release"]).success();
    let said = project.run(["release", "staging", "--canary", "25%"]).success().stdout;
    assert!(said.contains("release 2 is given to 25% of the clients of `staging`"), "{said}");
    assert!(!said.contains("release 2 answers at"), "{said}");
    let shown = project.run(["canary", "staging"]).success().stdout;
    assert!(shown.starts_with("release 2 is given to 25% of the clients, release 1 to the others"), "{shown}");
    assert!(project.run(["ps"]).success().stdout.contains("25% of the clients"));
    assert!(project.run(["releases", "staging"]).success().stdout.contains("canary: 25% of the clients"));
    let said = project.run(["run"]).code(2);
    assert!(said.stderr.contains("`pipe canary staging --finish` gives it to all"), "{}", said.stderr);

    project.run(["canary", "staging", "--portion", "75%"]).success();
    assert!(project.run(["canary", "staging", "--json"]).success().stdout.contains("\"portion\": \"75%\""));
    let said = project.run(["canary", "staging", "--finish"]).success().stdout;
    assert!(said.contains("release 2 answers all clients at http://127.0.0.1:"), "{said}");
    assert_eq!(small::page(port), "two");

    project.write("src/version", "three");
    project.run(["run", "--no-release"]).success();
    project.run(["release", "staging", "--canary", "25%"]).success();
    project.run(["canary", "staging", "--abort"]).success();
    assert!(project.run(["canary", "staging", "--abort"]).code(2).stderr.contains("no release of `staging` is given"));
    let told = project.run(["releases", "staging", "--json"]).success().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let by_whom = format!("taken back by {}", told[0]["who"].as_str().expect("a name"));
    assert_eq!((&told[0]["outcome"], &told[0]["failure"]), (&"taken back".into(), &by_whom.as_str().into()));
    let told = project.run(["releases", "staging"]).success().stdout;
    assert!(told.lines().nth(1).is_some_and(|line| line.ends_with(&format!("  {by_whom}"))), "{told}");
    let said = project.run(["canary", "staging"]).code(2).stderr;
    assert!(said.contains(&format!("the last was release 3: {by_whom}")), "{said}");
    project.run(["stop", "--all"]).success();
}
