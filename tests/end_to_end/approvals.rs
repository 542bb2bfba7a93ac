//! Targets to which nothing comes before somebody says so.

use super::small::{self, free_port, page};

#[test]
fn a_run_builds_for_a_target_that_wants_an_approval_and_a_release_is_one() {
    let port = free_port();
    let project = small::project();
    small::release_to(
        &project,
        &format!(
            "\n[targets.live]\ndriver = \"local\"\nrelease = \"slug\"\napproval = true\naddress = \"127.0.0.1:{port}\"\n"
        ),
    );
    for version in ["one", "two"] {
        project.write("src/version", version);
        let slug = project.run(["run", "--json"]).success().end()["slug"].clone();
        let short = &slug.as_str().expect("a slug")["blake3:".len()..][..12];
        let told = project.run(["run"]).success().stdout;
        let command = format!("`live` waits for an approval: `pipe release {short} live`");
        assert!(told.contains(&command), "{told}");
        if version == "one" {
            assert!(project.run(["releases", "live"]).code(2).stderr.contains("nothing was released"));
        } else {
            assert_eq!(page(port), "one");
        }
        project.run(["release", short, "live"]).success();
        assert_eq!(page(port), version);
    }
    project.run(["stop", "--all"]).success();
}
