//! Secrets: programs that are granted one see it, and nobody else ever does.

use std::fs;
use std::path::Path;

use pipe_tests::Project;

const TOKEN: &str = "tok-5f9a1c77e0";

fn pipeline(script: &str) -> String {
    format!(
        "[app]\nname = \"secretive\"\n\n[secrets]\ntoken = {{ env = \"TOKEN\" }}\nother = {{ file = \"other.txt\" }}\n\n\
         [steps.use]\nplugin = \"command\"\nconfig = {{ run = '''{script}''', collect = \"/out\", directories = [\"/out\"] }}\n\
         grants = {{ exec = [\"sh\"], secrets = [\"token\"] }}\n"
    )
}

/// Every file below a directory that holds the token.
fn holding(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path));
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("a file");
            if bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

const BUILD: [&str; 3] = ["run", "--no-release", "--json"];

#[test]
fn a_program_reads_its_secret_and_nobody_else_does() {
    let script = "cat /run/secrets/token; printf %s tok-; sleep 0.2; echo 5f9a1c77e0; cat /run/secrets/token >&2
        ls /run/secrets; rm -f /run/secrets/token && exit 9; echo > /run/secrets/new && exit 9
        wc -c < /run/secrets/token > /out/length";
    let project = Project::new().pipeline(&pipeline(script));
    let said = project.run_with(&[("TOKEN", TOKEN)], BUILD).success();
    assert_eq!(said.steps("ran"), ["use"]);
    let all = said.stdout + &said.stderr;
    assert!(!all.contains(TOKEN), "{all}");
    assert!(all.contains("***") && !all.contains("other"), "only what is granted is there: {all}");
    assert_eq!(holding(&project.home()), [""; 0], "nothing of it is kept");

    let again = project.run_with(&[("TOKEN", TOKEN)], BUILD).success();
    assert_eq!(again.steps("cached"), ["use"]);
    let why = project.run_with(&[("TOKEN", "tok-another-one")], ["why", "use"]).success();
    assert_eq!(why.stdout, "`use` runs: the secret `token` has changed\n");
    assert_eq!(project.run_with(&[("TOKEN", "tok-another-one")], BUILD).success().steps("ran"), ["use"]);
    assert_eq!(project.run_with(&[("TOKEN", TOKEN)], BUILD).success().steps("cached"), ["use"]);
}

#[test]
fn a_key_that_is_shared_carries_results_to_another_machine() {
    let project = Project::new().pipeline(&pipeline("cat /run/secrets/token > /dev/null"));
    let key = "0123456789abcdef0123456789abcdef";
    let shared = [("TOKEN", TOKEN), ("PIPE_SECRETS_KEY", key)];
    project.run_with(&shared, BUILD).success();
    assert!(!project.home().join("secrets.key").exists());
    assert_eq!(project.run_with(&shared, BUILD).success().steps("cached"), ["use"]);
    let said = project.run_with(&[("TOKEN", TOKEN), ("PIPE_SECRETS_KEY", "short")], BUILD).code(5);
    assert!(said.stderr.contains("openssl rand -hex 32"), "{}", said.stderr);
    assert_eq!(project.run_with(&[("TOKEN", TOKEN)], BUILD).success().steps("ran"), ["use"], "another key");
}

#[test]
fn a_step_that_gives_its_secret_away_fails_and_keeps_nothing() {
    for (script, place) in [
        ("cp /run/secrets/token /out/x", "/out/x"),
        ("echo token=$(cat /run/secrets/token) | gzip > /out/x.gz", "/out/x.gz"),
        ("cp /run/secrets/token /tmp/t; tar -C /tmp -czf /out/x.tgz t", "/out/x.tgz"),
        ("ln -s $(cat /run/secrets/token) /out/x", "/out/x"),
        ("mkdir -p /out/a/b; touch /out/a/b/$(cat /run/secrets/token)", "/out/a/b/***"),
    ] {
        let project = Project::new().pipeline(&pipeline(script));
        let said = project.run_with(&[("TOKEN", TOKEN)], ["run", "--no-release"]).code(1);
        let all = said.stdout + &said.stderr;
        assert!(all.contains(&format!("`sh` left the secret `token` in `{place}`")), "{script}: {all}");
        assert!(!all.contains(TOKEN), "{all}");
        assert_eq!(holding(&project.home()), [""; 0], "{script}");
    }
}

#[test]
fn a_secret_with_slashes_is_found_where_it_is_a_path() {
    let script = "t=/out/$(cat /run/secrets/token); mkdir -p \"$t\"; date > \"$t/x\"";
    let project = Project::new().pipeline(&pipeline(script));
    let said = project.run_with(&[("TOKEN", "tok-5f9a/1c77e0")], ["run", "--no-release"]).code(1);
    let all = said.stdout + &said.stderr;
    assert!(all.contains("`sh` left the secret `token` in `/out/***`"), "{all}");
}

#[test]
fn a_failure_that_quotes_a_secret_is_masked() {
    let project = Project::new().pipeline(&pipeline("echo no entry with $(cat /run/secrets/token); exit 3"));
    let said = project.run_with(&[("TOKEN", TOKEN)], ["run", "--no-release"]).code(1);
    let all = said.stdout + &said.stderr;
    assert!(all.contains("no entry with ***") && !all.contains(TOKEN), "{all}");
    let runs = project.run(["runs", "show"]).success();
    assert!(runs.stdout.contains("no entry with ***"), "{}", runs.stdout);
    assert_eq!(holding(&project.home()), [""; 0]);
}

#[test]
fn a_secret_that_is_not_there_is_named_where_it_is_declared() {
    let project = Project::new().pipeline(&pipeline("true"));
    let said = project.run(BUILD).code(3);
    let expected = "release.pipeline:5:17: the secret `token` is not there: the variable `TOKEN` is not set";
    assert!(said.stderr.starts_with(expected), "{}", said.stderr);
}

#[test]
fn the_file_of_a_secret_is_no_part_of_what_is_built() {
    let text = pipeline("ls -a /app/src > /out/names").replace("env = \"TOKEN\"", "file = \"keys/token\"");
    let text = text.replace("config = {", "inputs = { project = \"source\" }\nconfig = {");
    let project = Project::new().pipeline(&text).file("keys/token", TOKEN).file("app.py", "");
    project.run(BUILD).success();
    assert_eq!(holding(&project.home()), [""; 0]);
}
