//! What `pipe diff` tells before a promotion.

use super::small::{self, free_port};

#[test]
fn what_a_promotion_would_change_is_told_and_no_value_is() {
    let project = small::project();
    project.write("src/polls/migrations/__init__.py", "");
    let targets = format!(
        r#"
[targets.staging]
driver = "local"
release = "slug"
address = "127.0.0.1:{}"
env = {{ DEBUG = "hunter2" }}

[targets.production]
driver = "local"
promote = "staging"
address = "127.0.0.1:{}"
env = {{ DEBUG = "swordfish" }}
"#,
        free_port(),
        free_port()
    );
    small::release_to(&project, &targets);
    project.run(["run"]).success();
    project.run(["promote", "staging", "production"]).success();
    project.run(["config", "production", "set", "TOKEN=correct-horse"]).success();
    project.run(["scale", "production", "web=2"]).success();

    project.write("src/version", "two");
    project.write("src/polls/migrations/0002_more.py", "# more\n");
    project.run(["run"]).success();
    let said = project.run(["diff", "production", "staging"]).success().stdout;
    for line in ["migrations", "  + polls/migrations/0002_more.py", "source", "  ~ version", "config", "  - TOKEN  set"]
    {
        assert!(said.lines().any(|found| found.starts_with(line)), "{line} in {said}");
    }
    assert!(said.contains("  ~ DEBUG  a value → another\n"), "{said}");
    assert!(said.contains("counts\n  ~ web  2 → 1\n"), "{said}");
    for secret in ["hunter2", "swordfish", "correct-horse"] {
        assert!(!said.contains(secret), "{said}");
    }

    // Releases of one target, and slugs by their ids.
    let said = project.run(["diff", "staging@2", "staging@1"]).success().stdout;
    assert!(said.contains("  - polls/migrations/0002_more.py") && !said.contains("config"), "{said}");
    assert_eq!(project.run(["diff", "staging@1", "production@1"]).success().stdout.lines().next(), Some("config"));
    assert_eq!(project.run(["diff", "staging", "staging@2"]).success().stdout, "no difference\n");
    let slugs = project.run(["slug", "list"]).success().stdout;
    let ids: Vec<&str> = slugs.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let said = project.run(["diff", ids[1], &ids[0][..20], "--json"]).success().stdout;
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["migrations"][0]["name"], "polls/migrations/0002_more.py");

    let said = project.run(["release", "production"]).code(2).stderr;
    assert!(said.contains("`pipe promote staging production`"), "{said}");
    for (from, part) in [("staging@9", "has no release 9"), ("staging@x", "`x` is no number of a release of `staging`")]
    {
        let said = project.run(["promote", from, "production"]).code(2).stderr;
        assert!(said.contains(part) && said.contains("`pipe releases staging`"), "{said}");
    }
    project.run(["promote", "staging@1", "production"]).success();
    let told = project.run(["releases", "production"]).success().stdout;
    assert!(told.contains("promoted from staging 1"), "{told}");

    let said = project.run(["diff", "staging@9", "staging"]).code(2).stderr;
    assert!(said.contains("has no release 9") && said.contains("pipe releases staging"), "{said}");
    assert!(project.run(["diff", "stagin", "staging"]).code(2).stderr.contains("did you mean `staging`?"));
    project.run(["stop", "production"]).success();
    assert!(project.run(["diff", "production", "staging"]).code(2).stderr.contains("runs nothing"));
    project.run(["stop", "--all"]).success();
}
