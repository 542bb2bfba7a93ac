//! What processes write below the static files while they run: whose it is, who sees it, and how long.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;

use super::host::{Host, Slug, eventually, page, request};

const MADE: &str = "/static/css/made.0123456789ab.css";

#[test]
fn what_is_written_below_the_static_files_is_served_as_long_as_pages_ask_for_it() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, MADE), "one", "not there, so it is the application's to answer");
    assert_eq!(page(&target, "/write//app/static/css/made.0123456789ab.css"), "1");
    page(&target, "/run/mkdir%20/app/static/fresh");
    assert_eq!(page(&target, "/write//app/static/fresh/plain.css"), "1");
    let made = request(&target, MADE, "").expect("an answer");
    assert!(made.ends_with("\r\n\r\nx") && made.contains("immutable") && made.contains("text/css"), "{made}");
    assert_eq!(page(&target, "/static/fresh/plain.css"), "x");
    let tag = made.split_once("etag: ").expect("a tag").1.split_once('\r').expect("a line").0;
    let known = request(&target, MADE, &format!("If-None-Match: {tag}\r\n")).expect("an answer");
    assert!(known.starts_with("HTTP/1.1 304 "), "{known}");

    // It stays when the process is started again, and is no part of what the slug holds.
    let _ = request(&target, "/exit", "");
    eventually("it answers again", || page(&target, "/") == "one");
    assert_eq!(page(&target, "/write//app/static/css/made.0123456789ab.css"), "2");
    page(&target, "/run/echo%20other%20%3E%20/app/static/version");
    assert_eq!(page(&target, "/run/cat%20/app/static/version"), "other\n");
    assert_eq!(page(&target, "/static/version"), "one");

    host.release(&target, &Slug::new("two")).up();
    assert_eq!(page(&target, "/run/ls%20/app/static/css"), "base.0123456789ab.css\nbase.0123456789ab.css.gz\n");
    assert_eq!(page(&target, MADE), "xx", "pages that are still open ask for it");
    assert_eq!(page(&target, "/static/fresh/plain.css"), "two", "its name says nothing of its content");
    let written = host.home.path().join("targets/demo/staging/written");
    for number in 3..8 {
        assert!(written.join("1").is_dir(), "{number}");
        host.release(&target, &Slug::new(if number % 2 == 0 { "two" } else { "three" })).up();
    }
    eventually("what is of no more use is gone", || !written.join("1").exists());
    runner::release::stop(&host.place(), None).expect("stopped");
    assert_eq!(fs::read_dir(&written).expect("a directory").count(), 0);
}

#[test]
fn a_process_that_still_has_a_request_keeps_what_it_has_written_however_quickly_releases_come() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/write//app/static/css/made.0123456789ab.css"), "1");
    let mut websocket = TcpStream::connect(target.settings.address.expect("an address")).expect("it listens");
    websocket
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .expect("sent");
    let runs = |number: u64| {
        let log = format!("/logs/{number}-web.log");
        let job = |instance: PathBuf| fs::read_to_string(instance.join("job.json")).unwrap_or_default();
        host.instances().into_iter().any(|instance| job(instance).contains(&log))
    };
    let written = host.home.path().join("targets/demo/staging/written/1");
    for number in 2..9 {
        host.release(&target, &Slug::new(if number % 2 == 0 { "two" } else { "three" })).up();
        if number > 2 {
            eventually("the one before has ended", || !runs(number - 1));
        }
        let exists = written.exists();
        // On a slow machine its time may be over before all releases have come.
        assert!(exists || !runs(1), "{number}");
    }
    drop(websocket);
}

#[test]
fn the_front_finds_what_any_process_has_written() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["var/".into()];
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/write/var/static/first.css"), "1", "by another path to the same place");
    host.scale(&target, &["web=3"]).up();
    let write = "/run/cd%20/app/static;%20echo%20$PORT%20%3E%20$PORT.css;%20echo%20$PORT";
    let ports: BTreeSet<String> = (0..12).map(|_| page(&target, write)).collect();
    assert_eq!(ports.len(), 3);
    for port in &ports {
        assert_eq!(page(&target, &format!("/static/{}.css", port.trim())), *port);
    }
    assert_eq!(page(&target, "/static/first.css"), "x");
}

#[test]
fn a_link_that_a_process_makes_leads_nowhere() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    page(&target, "/run/ln%20-s%20/etc/passwd%20/app/static/users.css;%20ln%20-s%20/etc%20/app/static/etc");
    assert!(page(&target, "/run/cat%20/app/static/users.css").starts_with("app:"));
    assert_eq!(page(&target, "/static/users.css"), "one");
    assert_eq!(page(&target, "/static/etc/passwd"), "one");
}

#[test]
fn what_a_release_command_would_write_for_nobody_is_refused_and_a_failed_release_leaves_nothing() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.release_commands = vec!["echo x > /app/static/made.css".into()];
    let said = host.release(&target, &Slug::new("one"));
    assert!(said.output.contains("Read-only file system"), "{}", said.output);
    said.refused();
    target.settings.release_commands.clear();
    host.release(&target, &Slug::web("two", "echo x > /app/static/made.css; exit 1")).refused();
    let written = host.home.path().join("targets/demo/staging/written");
    assert_eq!(fs::read_dir(&written).map_or(0, Iterator::count), 0);
}
