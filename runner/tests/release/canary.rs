//! Releases that some of the clients are given: who gets them, what becomes of them, and what is left alone meanwhile.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release::{self, CanaryWish, History, Release, Stage, Target};

use super::host::{Host, Slug, eventually, page, request};

/// Answers with an error to all but the first page.
const BROKEN: &str = "exec python3 -c \"import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == '/' else 500)
        self.end_headers()
        self.wfile.write(b'broken')
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()\"";

/// What a client without cookies is answered, and what it is to keep.
fn first(target: &Target) -> (String, String) {
    let answer = request(target, "/", "").expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_default();
    (body.to_owned(), cookie.split(';').next().unwrap_or_default().to_owned())
}

/// What many clients without cookies are answered.
fn all(target: &Target) -> BTreeSet<String> {
    (0..40).map(|_| page(target, "/")).collect()
}

fn versions(versions: &[&str]) -> BTreeSet<String> {
    versions.iter().map(|version| (*version).to_owned()).collect()
}

fn releases(host: &Host) -> Vec<Release> {
    History::open(host.home.path()).expect("a state").releases("demo", "staging").expect("releases")
}

fn ended(release: &Release) -> bool {
    matches!(release.stage, Stage::Drained | Stage::Failed)
}

#[test]
fn some_clients_are_given_a_release_and_stay_with_it_until_all_are() {
    let host = Host::new();
    let target = host.target("staging");
    let error = host.try_out(&target, &Slug::new("one"), "10%").refused();
    assert_eq!(error.to_string(), "`staging` serves nobody whom a canary could be held against");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(first(&target), ("one".into(), String::new()));

    let released = host.try_out(&target, &Slug::new("two"), "50%").up();
    assert_eq!(released.number, 2);
    assert_eq!(all(&target), versions(&["one", "two"]));
    for _ in 0..10 {
        let (body, cookie) = first(&target);
        assert!(cookie.starts_with("pipe-canary=2."), "{cookie}");
        for _ in 0..3 {
            let again = request(&target, "/", &format!("Cookie: {cookie}\r\n")).expect("an answer");
            assert!(again.ends_with(&format!("\r\n\r\n{body}")) && !again.contains("set-cookie"), "{again}");
        }
    }
    // Files of the new pages are found by whoever asks for them, and those of the old ones.
    for _ in 0..10 {
        assert_eq!(page(&target, "/static/two.ba9876543210.js"), "two");
        assert_eq!(page(&target, "/static/one.ba9876543210.js"), "one");
    }
    let status = release::status(&host.place()).expect("a status").remove(0);
    let canary = status.canary.expect("a canary");
    assert_eq!((status.release, canary.release, canary.portion.to_string().as_str()), (1, 2, "50%"));
    assert!(canary.new.answers > 0 && canary.old.answers > 0 && canary.new.errors == 0, "{canary:?}");
    assert_eq!(status.processes.iter().map(|process| process.release).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(releases(&host)[1].stage, Stage::Canary);

    let wish = CanaryWish::Portion("99.99%".parse().expect("a part"));
    host.canary(&target, wish).expect("more of them").expect("a release");
    assert!((0..20).any(|_| page(&target, "/") == "two"));

    let released = host.canary(&target, CanaryWish::Finish).expect("all of them").expect("a release");
    assert_eq!(released.number, 2);
    assert_eq!(all(&target), versions(&["two"]));
    assert_eq!(first(&target).1, "", "nothing is to be kept any more");
    eventually("the old one is gone", || host.instances().len() == 1 && releases(&host).iter().all(ended));
    assert!(releases(&host)[1].current);
    host.rollback(&target, None).up();
    assert_eq!(all(&target), versions(&["one"]));
}

#[test]
fn a_canary_that_does_worse_is_taken_back_by_itself() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.try_out(&target, &Slug::web("two", BROKEN), "50%").up();
    eventually("it is taken back", || {
        let _ = page(&target, "/other");
        releases(&host)[1].stage == Stage::Failed
    });
    let failure = releases(&host)[1].failure.clone().expect("a reason");
    assert!(failure.starts_with("taken back: ") && failure.contains(" answers were errors, and 0 of "), "{failure}");
    assert_eq!((0..20).map(|_| page(&target, "/other")).collect::<BTreeSet<_>>(), versions(&["one"]));
    eventually("nothing of it is left", || host.instances().len() == 1);
    assert!(release::status(&host.place()).expect("a status")[0].canary.is_none());
    assert!(releases(&host)[0].current);
}

#[test]
fn a_canary_that_keeps_ending_is_taken_back_by_itself() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.try_out(&target, &Slug::new("two"), "0.01%").up();
    let ports: Vec<u16> = {
        let state = rusqlite::Connection::open(host.home.path().join("agent/state.db")).expect("a state");
        let mut rows = state.prepare("SELECT port FROM processes ORDER BY release").expect("a table");
        rows.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("ports")
    };
    eventually("it is taken back", || {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports[1]));
        let of_canary = Target {
            settings: release::Settings { address: Some(address), ..target.settings.clone() },
            ..target.clone()
        };
        let _ = request(&of_canary, "/exit", "");
        releases(&host)[1].stage == Stage::Failed
    });
    assert_eq!(releases(&host)[1].failure.as_deref(), Some("taken back: its process `web` keeps ending"));
    assert_eq!(all(&target), versions(&["one"]));
}

#[test]
fn while_some_clients_have_a_canary_nothing_else_is_changed() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    for wish in [CanaryWish::Finish, CanaryWish::Abort] {
        let error = host.canary(&target, wish).expect_err("there is none");
        assert_eq!(error.to_string(), "no release of `staging` is given to a part of the clients");
        assert!(error.hint().expect("a hint").contains("--canary 10%"));
    }
    host.try_out(&target, &Slug::new("two"), "10%").up();
    for said in [
        host.release(&target, &Slug::new("three")),
        host.scale(&target, &["web=2"]),
        host.rollback(&target, Some(1)),
        host.try_out(&target, &Slug::new("three"), "10%"),
    ] {
        let error = said.refused();
        assert_eq!(error.to_string(), "release 2 of `staging` is given to 10% of the clients");
        assert!(error.hint().expect("a hint").contains("`pipe canary staging --finish`"));
    }
    assert!(host.canary(&target, CanaryWish::Abort).expect("taken back").is_none());
    assert_eq!(all(&target), versions(&["one"]));
    let taken_back = &releases(&host)[1];
    assert!(taken_back.is_taken_back());
    assert_eq!(taken_back.failure, Some(format!("taken back by {}", taken_back.who)));
    let error = host.rollback(&target, Some(2)).refused();
    assert_eq!(error.to_string(), "release 2 of `staging` was given to some of the clients only, and taken back");
    host.try_out(&target, &Slug::new("two"), "10%").up();
    release::stop(&host.place(), None).expect("stopped");
    assert!(releases(&host).iter().all(|release| ended(release) && !release.current));
    assert!(host.instances().is_empty());
}

#[test]
fn whatever_is_killed_a_canary_goes_on_or_is_gone() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.try_out(&target, &Slug::new("two"), "50%").up();
    let (body, cookie) = first(&target);
    let kill_agent = || {
        let agent = host.agent().expect("an agent");
        kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).expect("killed");
        eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
    };
    kill_agent();
    eventually("clients have what they had", || {
        let again = request(&target, "/", &format!("Cookie: {cookie}\r\n"));
        again.is_some_and(|again| again.ends_with(&format!("\r\n\r\n{body}")) && !again.contains("set-cookie"))
    });
    assert_eq!(all(&target), versions(&["one", "two"]));
    assert_eq!(host.instances().len(), 2);
    assert_eq!(
        release::status(&host.place()).expect("a status")[0].canary.as_ref().map(|canary| canary.release),
        Some(2)
    );

    for (round, wish) in [CanaryWish::Abort, CanaryWish::Finish, CanaryWish::Abort].into_iter().enumerate() {
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let _ = host.canary(&target, wish);
                let _ = host.try_out(&target, &Slug::new("two"), "50%").result;
            });
            thread::sleep(Duration::from_millis(250 * (round as u64 + 1)));
            kill_agent();
            changing.join().expect("no panic");
        });
        eventually("nothing is half", || {
            let releases = releases(&host);
            let canaries = releases.iter().filter(|release| release.stage == Stage::Canary).count();
            let current = releases.iter().filter(|release| release.current).count();
            let rest = releases.iter().filter(|release| release.stage != Stage::Canary);
            current == 1 && canaries <= 1 && rest.clone().all(ended) && host.instances().len() == 1 + canaries
        });
        eventually("it answers", || request(&target, "/", "").is_some());
        let answered = all(&target);
        assert!(answered.is_subset(&versions(&["one", "two"])), "{answered:?}");
    }
}
