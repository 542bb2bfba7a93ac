//! What operators set at a target, and no slug holds.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use runner::release::{self, ConfigChange, History, ReleaseError, Target};

use super::host::{Host, Slug, page};

/// Whether a text stands in a file below a directory; sockets hold none, nor does what the kernel closes to all but root while an
/// overlay is mounted.
fn holds(directory: &Path, text: &str) -> bool {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && directory.ends_with("work/work") => return false,
        entries => entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())),
    };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return holds(&path, text);
        }
        fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    })
}

#[test]
fn each_change_is_a_release_that_has_it() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.env.insert("COLOUR".into(), "green".into());
    host.release(&target, &Slug::new("one")).up();

    let released = host.configure(&target, &[("COLOUR", Some("blue")), ("SIZE", Some("7"))]).expect("a release");
    assert_eq!(released.number, 2);
    let env = page(&target, "/env");
    assert!(env.contains("COLOUR=blue\n") && env.contains("SIZE=7\n"), "{env}");

    assert_eq!(host.configure(&target, &[("SIZE", Some("7"))]), None, "nothing changes");
    host.configure(&target, &[("COLOUR", None)]).expect("a release");
    assert!(page(&target, "/env").contains("COLOUR=green\n"), "what the pipeline file says is there again");

    host.release(&target, &Slug::new("two")).up();
    assert!(page(&target, "/env").contains("SIZE=7\n"), "it stays from release to release");
    host.rollback(&target, Some(1)).up();
    assert!(!page(&target, "/env").contains("SIZE="), "config goes back with its release");

    let releases = History::open(host.home.path()).expect("a state").releases("demo", "staging").expect("releases");
    let told: Vec<String> = releases.iter().map(|release| release.how.to_string()).collect();
    assert_eq!(told, ["run", "config COLOUR SIZE", "config unset COLOUR", "run", "rolled back to 1"]);
}

#[test]
fn what_is_set_before_the_first_release_counts_from_there_on() {
    let host = Host::new();
    let target = host.target("staging");
    assert_eq!(host.configure(&target, &[("SIZE", Some("7"))]), None);
    let needy = Slug { environment: vec!["SIZE".into()], ..Slug::new("one") };
    host.release(&target, &needy).up();
    assert!(page(&target, "/env").contains("SIZE=7\n"));
}

#[test]
fn what_a_target_is_to_make_up_is_its_own_and_stays() {
    let host = Host::new();
    let needy = Slug { environment: vec!["SECRET_KEY".into()], ..Slug::new("one") };
    let [staging, production] = ["staging", "production"].map(|name| {
        let mut target = host.target(name);
        target.settings.generate = vec!["SECRET_KEY".into(), "GIVEN".into()];
        target.settings.env.insert("GIVEN".into(), "by the pipeline".into());
        target
    });
    let key = |target: &Target| {
        let env = page(target, "/env");
        assert!(env.contains("GIVEN=by the pipeline\n"), "{env}");
        env.lines().find_map(|line| line.strip_prefix("SECRET_KEY=")).expect("a key").to_owned()
    };
    for target in [&staging, &production] {
        host.release(target, &needy).up();
        let key = key(target);
        assert!(key.len() == 64 && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{key}");
    }
    let first = key(&staging);
    assert_ne!(first, key(&production));
    // The same is no other release, and another one has the same.
    assert_eq!(host.release(&staging, &needy).up().number, 1);
    let next = Slug { version: "two", ..needy };
    host.release(&staging, &next).up();
    assert_eq!(key(&staging), first);
    release::stop(&host.place(), None).expect("stopped");
    host.release(&staging, &next).up();
    assert_eq!(key(&staging), first);
    host.configure(&staging, &[("SECRET_KEY", Some("chosen"))]).expect("a release");
    assert_eq!(key(&staging), "chosen");
    host.configure(&staging, &[("SECRET_KEY", None)]).expect("a release");
    let anew = key(&staging);
    assert!(anew.len() == 64 && anew != first, "{anew}");

    // What a release has had that came to nothing, or that was gone back from, is had again.
    let mut more = staging.clone();
    more.settings.generate.push("OTHER".into());
    let other = || page(&more, "/env").lines().find_map(|line| line.strip_prefix("OTHER=").map(str::to_owned));
    host.release(&more, &next).up();
    let had = other().expect("a value");
    host.rollback(&more, None).up();
    assert_eq!(other(), None);
    host.release(&more, &next).up();
    assert_eq!(other(), Some(had));
}

/// Refuses a change of config, and says why.
fn refused(host: &Host, name: &str, value: Option<&str>) -> ReleaseError {
    let values = [(name.to_owned(), value.map(str::to_owned))].into();
    let change = ConfigChange { values, is_import: false };
    let (events, _read) = runner::event::Events::channel();
    let never = std::sync::atomic::AtomicBool::new(false);
    let changed = runner::release::configure(&host.place(), "demo", "staging", change, &events, &never);
    changed.expect_err("refused")
}

#[test]
fn a_change_that_does_not_come_up_is_not_kept() {
    let host = Host::new();
    let target = host.target("staging");
    host.configure(&target, &[("NEEDED", Some("1"))]);
    let web = "[ \"$SIZE\" != 9 ] || { echo \"KeyError: 'OTHER'\"; exit 3; }; exec python3 app.py";
    let picky = Slug { environment: vec!["NEEDED".into()], ..Slug::web("one", web) };
    host.release(&target, &picky).up();
    for _ in 0..2 {
        // One is refused before there is a release, the other is one that failed.
        assert!(refused(&host, "NEEDED", None).to_string().contains("NEEDED"));
        let error = refused(&host, "SIZE", Some("9"));
        assert_eq!(error.to_string(), "process `web` ended with status 3");
        let changed = "look at what was changed, which is the config alone: `SIZE` is set";
        let is_told = |hint: &String| hint.starts_with("set `OTHER`") && hint.ends_with(changed);
        assert!(error.hint().as_ref().is_some_and(is_told), "{:?}", error.hint());
        assert!(!page(&target, "/env").contains("SIZE="));
        host.release(&target, &picky).up();
        // What runs says which config is next; where nothing does any more, what was refused still has no say.
        release::stop(&host.place(), None).expect("stopped");
        host.release(&target, &picky).up();
        let env = page(&target, "/env");
        assert!(env.contains("NEEDED=1\n") && !env.contains("SIZE="), "{env}");
    }
}

#[test]
fn secrets_are_sealed_where_the_state_is_kept() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.env.insert("FROM_FILE".into(), "hunter2-in-the-file".into());
    let web = "echo up; exec python3 app.py";
    host.release(&target, &Slug::web("one", web)).up();
    host.configure(&target, &[("SECRET_KEY", Some("hunter2-in-the-config"))]).expect("a release");
    assert!(page(&target, "/env").contains("SECRET_KEY=hunter2-in-the-config\n"));
    // While the process that has them runs.
    assert!(!holds(&host.home.path().join("agent"), "hunter2"));
    assert!(!holds(&host.home.path().join("targets"), "hunter2"));
}
