//! Releases of small slugs made by hand: what comes up, what does not, and what goes on serving.

#[path = "release/canary.rs"]
mod canary;
#[path = "release/config.rs"]
mod config;
#[path = "release/cron.rs"]
mod cron;
#[path = "release/domains.rs"]
mod domains;
#[path = "release/exec.rs"]
mod exec;
#[path = "release/front.rs"]
mod front;
#[path = "release/host.rs"]
mod host;
#[path = "release/load.rs"]
mod load;
#[path = "release/returns.rs"]
mod returns;
#[path = "release/scale.rs"]
mod scale;
#[path = "release/written.rs"]
mod written;

use std::time::Duration;

use host::{Host, Said, Slug, eventually, page, request};
use runner::event::Event;
use runner::release::{self, History, How, ProcessState, ReleaseError, Settings, Stage, Target};

#[test]
fn a_slug_comes_up_and_goes_on_after_the_command() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.env.insert("COLOUR".into(), "green".into());
    let released = host.release(&target, &Slug::new("one")).up();
    assert_eq!(released.number, 1);
    assert_eq!(released.url, format!("http://{}/", target.settings.address.expect("an address")));
    assert_eq!(page(&target, "/"), "one");
    let env = page(&target, "/env");
    assert!(env.contains("COLOUR=green\n") && env.contains("HOME=/tmp/home\n"), "{env}");

    let status = release::status(&host.place()).expect("a status");
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].processes[0].state, ProcessState::Running);
    assert_eq!(status[0].processes[0].restarts, 0);
}

#[test]
fn of_targets_that_are_named_only_those_are_shown() {
    let host = Host::new();
    for name in ["staging", "production", "third"] {
        host.release(&host.target(name), &Slug::new("one")).up();
    }
    let ps = |names: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.arg("ps").args(names).env("PIPE_HOME", host.home.path());
        let output = command.output().expect("pipe runs");
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    assert_eq!(ps(&[]).1.lines().count(), 4);
    let (_, text) = ps(&["staging", "demo/third", "staging"]);
    let shown: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(shown, ["demo/staging", "demo/third"], "{text}");
    let (_, json) = ps(&["--json", "production"]);
    assert!(json.contains("\"production\"") && !json.contains("\"staging\""), "{json}");
    let (code, text) = ps(&["production", "stagin"]);
    assert!(code == Some(2) && text.contains("did you mean `staging`?"), "{text}");
}

#[test]
fn a_run_that_changes_nothing_makes_no_release() {
    let host = Host::new();
    let mut target = host.target("staging");
    let slug = Slug::new("one");
    let first = host.release(&target, &slug).up();
    let pid = page(&target, "/pid");
    assert_eq!(host.release(&target, &slug).up(), first);
    assert_eq!(page(&target, "/pid"), pid, "the same process answers");

    target.settings.env.insert("COLOUR".into(), "green".into());
    assert_eq!(host.release(&target, &slug).up().number, 2, "another setting");
    host.release(&target, &Slug::new("two")).up();
    host.rollback(&target, None).up();
    assert_eq!(host.release(&target, &slug).up().number, 4, "what was rolled back to is what the run gives");

    eventually("it keeps ending", || {
        let _ = request(&target, "/exit", "");
        let status = release::status(&host.place()).expect("a status");
        let process = &status[0].processes[0];
        process.state != ProcessState::Running && process.restarts >= 3
    });
    assert_eq!(host.release(&target, &slug).up().number, 5, "a process of it had ended");
    release::stop(&host.place(), None).expect("stopped");
    assert_eq!(host.release(&target, &slug).up().number, 6, "it was stopped");
}

#[test]
fn a_slug_that_ends_at_once_is_shown_and_the_old_one_goes_on() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let failing = r#"echo "ModuleNotFoundError: No module named 'celery'" >&2; exit 3"#;
    let said = host.release(&target, &Slug::web("two", failing));
    assert!(said.output.contains("No module named 'celery'"), "{}", said.output);
    let error = said.refused();
    assert_eq!(error.to_string(), "process `web` ended with status 3");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("no package of the lock has the module `celery`")));
    assert_eq!(page(&target, "/"), "one");

    let history = History::open(host.home.path()).expect("a history");
    let releases = history.releases("demo", "staging").expect("releases");
    assert_eq!(releases.iter().map(|release| release.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(releases[1].stage, Stage::Failed);
    assert!(releases[0].current && !releases[1].current);
    eventually("the old release alone is there", || host.instances().len() == 1);
}

#[test]
fn a_slug_that_answers_with_errors_is_not_healthy() {
    let host = Host::new();
    let target = host.target("staging");
    let failing = "exec python3 -c \"import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_error(500)
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()\"";
    let said = host.release(&target, &Slug::web("one", failing));
    assert!(said.output.contains("GET / HTTP/1.1\" 500"), "{}", said.output);
    let error = said.refused();
    assert_eq!(error.to_string(), "`GET /` is answered with 500 Internal Server Error");
    assert!(error.hint().is_some_and(|hint| hint.contains("logging.StreamHandler")), "{:?}", error.hint());
    assert_eq!(request(&target, "/", ""), None);
}

/// An application that redirects as `redirects` says, in Python: a function of the path and of the scheme that was said.
fn redirecting(redirects: &str) -> &'static str {
    let app = format!(
        "exec python3 -c \"import http.server, os
def to(path, scheme, host):
{redirects}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, place = to(self.path, self.headers['X-Forwarded-Proto'], self.headers['Host'])
        self.send_response(status)
        if place: self.send_header('Location', place)
        self.end_headers()
        self.wfile.write(('page of ' + self.headers.get('Origin', 'nowhere')).encode())
    do_POST = do_GET
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()\""
    );
    Box::leak(app.into_boxed_str())
}

#[test]
fn a_redirect_to_a_page_that_is_broken_is_not_healthy() {
    let host = Host::new();
    let target = host.target("staging");
    let app = redirecting("    return (302, '/en/') if path == '/' else (500, None)");
    let error = host.release(&target, &Slug::web("one", app)).refused();
    assert_eq!(error.to_string(), "`GET /` leads to `/en/`, which is answered with 500 Internal Server Error");
    let app = redirecting("    return (500, None) if scheme == 'https' else (301, 'https://' + host + path)");
    let error = host.release(&target, &Slug::web("one", app)).refused();
    assert_eq!(error.to_string(), "`GET /` is answered with 500 Internal Server Error");
}

#[test]
fn a_page_that_wants_tls_is_seen_at_the_address_that_is_printed() {
    let host = Host::new();
    let target = host.target("staging");
    let app = redirecting(
        "    if scheme != 'https': return 301, 'https://' + host + path
    return (302, 'https://' + host + '/home') if path == '/' else (200, None)",
    );
    let said = host.release(&target, &Slug::web("one", app));
    assert_eq!(said.warnings, "");
    let url = said.up().url;
    let first = request(&target, "/", "").expect("an answer");
    assert!(first.contains(" 302 ") && first.contains(&format!("location: {url}home\r\n")), "{first}");
    let origin = format!("Origin: {}\r\n", url.trim_end_matches('/'));
    let home = request(&target, "/home", &origin).expect("an answer");
    assert!(home.contains(" 200 ") && home.contains("page of https://127.0.0.1:"), "{home}");
    // A server before it that speaks for others says what is true.
    let plain = request(&target, "/home", "X-Forwarded-Proto: http\r\n").expect("an answer");
    assert!(plain.contains(" 301 ") && plain.contains("location: https://127.0.0.1:"), "{plain}");
}

#[test]
fn a_page_that_has_another_name_is_seen_at_the_address_that_is_printed() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.host = Some("polls.test".into());
    let app = redirecting(
        "    if host != 'polls.test': return 400, None
    if scheme != 'https': return 301, 'https://polls.test' + path
    return (302, 'https://polls.test/home') if path == '/' else (200, None)",
    );
    let said = host.release(&target, &Slug::web("one", app));
    assert_eq!(said.warnings, "");
    let url = said.up().url;
    for path in ["/", "/"] {
        let answer = request(&target, path, "").expect("an answer");
        assert!(answer.contains(" 302 ") && answer.contains(&format!("location: {url}home\r\n")), "{answer}");
    }
    let origin = format!("Origin: {}\r\n", url.trim_end_matches('/'));
    let home = request(&target, "/home", &origin).expect("an answer");
    assert!(home.contains(" 200 ") && home.contains("page of https://polls.test"), "{home}");
    let elsewhere = request(&target, "/home", "X-Forwarded-For: 192.0.2.1\r\n").expect("an answer");
    assert!(elsewhere.contains(" 400 "), "{elsewhere}");
}

#[test]
fn an_application_that_redirects_to_tls_for_ever_is_up_with_a_warning() {
    let host = Host::new();
    let target = host.target("staging");
    let app = redirecting("    return 301, 'https://' + host + path");
    let said = host.release(&target, &Slug::web("one", app));
    assert!(said.warnings.contains("SECURE_PROXY_SSL_HEADER"), "{}", said.warnings);
    said.up();
    assert!(request(&target, "/", "").expect("an answer").contains("location: https://"));
}

#[test]
fn a_process_that_listens_elsewhere_is_told_where_it_should() {
    let host = Host::new();
    let target = host.target("staging");
    let elsewhere = "exec python3 -m http.server --bind 127.0.0.1 $((PORT - 10000))";
    let error = host.release(&target, &Slug::web("one", elsewhere)).refused();
    let message = error.to_string();
    assert!(message.starts_with("process `web` listens on `127.0.0.1:"), "{message}");
    assert!(message.contains("`, and not on 127.0.0.1:"), "{message}");
    assert!(error.hint().expect("a hint").contains("$PORT"));
}

#[test]
fn a_process_that_others_reach_past_the_front_is_told_once() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let two = |address: &str| {
        let web = format!("exec python3 -m http.server --bind {address} $PORT");
        let said = host.release(&target, &Slug::web("two", Box::leak(web.into_boxed_str())));
        let warnings = said.warnings.clone();
        said.up();
        warnings
    };
    host.scale(&target, &["web=2"]).up();
    let warnings = two("0.0.0.0");
    assert_eq!(warnings.matches("listens on 0.0.0.0:").count(), 1, "{warnings}");
    assert!(
        warnings.contains("past the front") && warnings.contains("listen on `127.0.0.1:$PORT` alone"),
        "{warnings}"
    );
    assert_eq!(two("127.0.0.1"), "");
}

#[test]
fn a_server_whose_workers_end_again_and_again_is_not_waited_for() {
    let host = Host::new();
    let target = host.target("staging");
    // As uvicorn does it: the parent listens, and lives.
    let parent = r#"exec python3 -c '
import os, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    subprocess.run(["python3", "-c", "import time; time.sleep(1.2); raise ImportError(\"no module here\")"])
'"#;
    let said = host.release(&target, &Slug::web("one", parent));
    assert!(said.output.contains("ImportError: no module here"), "{}", said.output);
    assert_eq!(said.refused().to_string(), "process `web` starts workers that end again and again");
}

#[test]
fn a_worker_that_ends_at_once_fails_the_release_that_serves() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let said = host.release(&target, &Slug { worker: Some("echo no module >&2; exit 3"), ..Slug::new("two") });
    assert!(said.output.contains("no module"), "{}", said.output);
    let error = said.refused();
    let message = "process `worker` ended with status 3; it is started again, and release 2 answers requests";
    assert_eq!(error.to_string(), message);
    assert!(error.hint().expect("a hint").contains("pipe rollback staging"));
    assert!(matches!(&error, ReleaseError::NotReleased(failure) if failure.serves.is_some()), "{error}");
    assert_eq!(page(&target, "/"), "two");

    let production = host.target("production");
    let error = host.promote("staging", &production).refused();
    assert_eq!(error.to_string(), "release 2 of `staging` serves, but process `worker` ended with status 3");
    assert!(error.hint().expect("a hint").contains("`pipe promote staging@2 production`"));
    let said = host.promote_release(("staging", Some(2)), &production);
    assert!(said.warnings.contains("serves, but process `worker` ended"), "{}", said.warnings);

    host.release(&target, &Slug { worker: Some("exec sleep 613"), ..Slug::new("three") }).up();
    host.promote("staging", &production).up();
}

#[test]
fn a_release_whose_worker_runs_by_the_next_run_counts_as_whole() {
    let host = Host::new();
    let mut target = host.target("staging");
    let worker =
        Some("[ -e /app/src/kept/again -o -n \"$STAYS\" ] && exec sleep 613; touch /app/src/kept/again; exit 3");
    let slug = Slug { worker, ..Slug::new("one") };
    target.settings.data = vec!["kept".into()];
    let mut production = host.target("production");
    production.settings.env.insert("STAYS".into(), "1".into());
    host.release(&target, &slug).refused();
    host.promote("staging", &production).refused();
    eventually("it runs", || {
        let status = release::status(&host.place()).expect("a status");
        status[0].processes.iter().all(|process| process.state == ProcessState::Running)
    });
    assert_eq!(host.release(&target, &slug).up().number, 1);
    host.promote("staging", &production).up();
}

#[test]
fn a_process_that_takes_more_memory_than_it_may_is_ended() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.limits.memory = Some(100 << 20);
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/run/cat%20/proc/self/oom_score_adj").trim(), "200");

    let much = "exec python3 -c 'held = bytearray(300 << 20); import time; time.sleep(1000)'";
    let error = host.release(&target, &Slug::web("two", much)).refused();
    // By the kernel where the machine has control groups for us, else by Python.
    let told = format!("{error} {:?} {:?}", error.hint(), error.output());
    let is_told = told.contains("ran out of memory") && told.contains("`memory` in the target's `limits`");
    assert!(is_told || told.contains("MemoryError"), "{told}");
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn what_the_kernel_ends_for_want_of_memory_is_told_in_the_log_and_by_ps() {
    if !runner::sandbox::limits_memory_together() {
        return;
    }
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.limits.memory = Some(100 << 20);
    host.release(&target, &Slug::new("one")).up();
    let web = || release::status(&host.place()).expect("a status")[0].processes[0].clone();
    assert_eq!(web().out_of_memory, None);
    let log = || runner::agent::log::tail(&host.home.path().join("targets/demo/staging/logs/1-web.log"), 99).join("\n");
    let is_told =
        |what: &str| log().contains(&format!("[pipe: the kernel has ended {what} for want of memory; give it"));

    // Something that the process has started, and not the process.
    let eat = "/run/python3%20-c%20'held%20=%20bytearray(314572800)'";
    page(&target, eat);
    eventually("it is told", || is_told("something that this process has started"));
    assert!(web().out_of_memory.is_some() && web().restarts == 0);
    let mut ps = std::process::Command::new(env!("CARGO_BIN_EXE_pipe"));
    let shown = ps.arg("ps").env("PIPE_HOME", host.home.path()).output().expect("pipe runs").stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(shown.contains("`web` of demo/staging ran out of memory") && shown.contains("`memory` in"), "{shown}");

    let much = "exec python3 -c 'import os, time; time.sleep(4); held = bytearray(300 << 20)'";
    host.release(&target, &Slug { worker: Some(much), ..Slug::new("two") }).up();
    let log =
        || runner::agent::log::tail(&host.home.path().join("targets/demo/staging/logs/2-worker.log"), 99).join("\n");
    eventually("it is told", || log().contains("[pipe: the kernel has ended this process for want of memory; give it"));
}

#[test]
fn a_page_that_is_refused_is_up_with_a_warning() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.host = Some("forbidden.example.org".into());
    let said = host.release(&target, &Slug::new("one"));
    assert!(said.warnings.contains("400 Bad Request"), "{}", said.warnings);
    assert!(said.warnings.contains("ALLOWED_HOSTS"), "{}", said.warnings);
    said.up();
}

#[test]
fn a_name_that_is_refused_in_whatever_way_is_told_with_one_that_is_not() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.domains = vec!["static.test".into(), "www.test".into()];
    target.settings.http = Some(host.address("http"));
    let refusing = |status: u16| {
        let code = format!(
            "import http.server as h, os; H = h.BaseHTTPRequestHandler; \
             H.do_GET = lambda s: s.send_error(200 if s.headers['host'] == 'www.test' else {status}); \
             h.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()"
        );
        Slug::web("one", Box::leak(format!("exec python3 -c \"{code}\"").into_boxed_str()))
    };
    let told = |text: &str| {
        text.contains(
            "the name `static.test`, and 200 OK the one to `www.test`: set the target's `host = \"www.test\"`",
        )
    };
    let error = host.release(&target, &refusing(500)).refused();
    assert_eq!(error.to_string(), "`GET /` is answered with 500 Internal Server Error");
    assert!(error.hint().is_some_and(|hint| told(&hint)), "{:?}", error.hint());
    let said = host.release(&target, &refusing(404));
    assert!(said.warnings.contains("404 Not Found") && told(&said.warnings), "{}", said.warnings);
    said.up();

    // From this machine it is asked by its own name then.
    target.settings.host = Some("www.test".into());
    for status in [404, 500] {
        let said = host.release(&target, &refusing(status));
        assert_eq!(said.warnings, "");
        said.up();
        let answer = request(&target, "/", "").expect("an answer");
        assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    }
}

#[test]
fn a_release_that_refuses_names_that_are_answered_now_does_not_come_up() {
    let host = Host::new();
    let target = host.target("staging");
    let refusing = "exec python3 -c \"import http.server as h, os; H = h.BaseHTTPRequestHandler; \
                    H.do_GET = lambda s: s.send_error(400); \
                    h.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\"";
    host.release(&target, &Slug::new("one")).up();
    let error = host.release(&target, &Slug::web("two", refusing)).refused();
    assert_eq!(error.to_string(), "`GET /` is answered with 400 Bad Request, and by what serves with 200 OK");
    assert!(error.hint().is_some_and(|hint| hint.contains("ALLOWED_HOSTS")), "{:?}", error.hint());
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn what_the_slug_needs_and_the_target_lacks_is_refused_before_anything() {
    let host = Host::new();
    let target = host.target("staging");
    let slug = Slug { environment: vec!["SECRET_KEY".into(), "PORT".into()], ..Slug::new("one") };
    let error = host.release(&target, &slug).refused();
    assert_eq!(error.to_string(), "the slug needs what the target does not give: `SECRET_KEY`");
    assert!(error.hint().expect("a hint").contains("env-file"));
    let history = History::open(host.home.path()).expect("a history");
    assert!(history.releases("demo", "staging").expect("releases").is_empty());
}

#[test]
fn release_commands_run_once_before_the_switch_and_see_the_data() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["media".into(), "db.sqlite3".into()];
    let sql = "import sqlite3; sqlite3.connect('db.sqlite3').execute('create table if not exists t (n)')";
    target.settings.release_commands =
        vec![format!("python3 -c \"{sql}\""), "echo migrated; echo x >> media/log".into()];
    let said = host.release(&target, &Slug::new("one"));
    assert!(said.output.contains("migrated"), "{}", said.output);
    said.up();
    assert_eq!(page(&target, "/write/media/log"), "3");
    let tables = "/run/python3%20-c%20%22import%20sqlite3;print(sqlite3.connect('db.sqlite3').execute('select%20name%20from%20sqlite_master').fetchall())%22";
    assert_eq!(page(&target, tables), "[('t',)]\n");

    target.settings.release_commands = vec!["echo broken >&2; exit 1".into()];
    let said = host.release(&target, &Slug::new("two"));
    assert!(said.output.contains("broken"), "{}", said.output);
    assert!(said.refused().to_string().contains("ended with status 1"));
    assert_eq!(page(&target, "/"), "one");
    assert_eq!(page(&target, "/write/media/log"), "4");
}

#[test]
fn a_directory_of_data_and_a_database_are_kept_apart_whatever_they_are_called() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.release_commands = vec!["echo kept > db.sqlite3; echo kept > /app/data/own.db".into()];
    for data in [["/app/data", "db.sqlite3"], ["db.sqlite3", "/app/data"]] {
        target.settings.data = data.map(str::to_owned).into();
        host.release(&target, &Slug::new("one")).up();
        assert_eq!(page(&target, "/run/ls%20/app/data;cat%20db.sqlite3"), "own.db\nkept\n");
    }
    target.settings.data.push("/app/data/own.db".into());
    let error = host.release(&target, &Slug::new("one")).refused();
    assert!(error.to_string().ends_with("a file of that name is in `/app/data`, which it keeps already"), "{error}");
    assert_eq!(page(&target, "/run/cat%20/app/data/own.db"), "kept\n");
}

#[test]
fn a_migration_that_fails_half_way_says_that_a_part_of_it_stays() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.release_commands = vec!["echo migrate: OK; exit 1".into()];
    let error = host.release(&target, &Slug::new("one")).refused();
    assert!(error.hint().is_some_and(|hint| hint.contains("may have been applied")), "{:?}", error.hint());
    target.settings.release_commands = vec!["echo \"KeyError: 'DATABASE_PASSWORD'\"; echo migrate; exit 1".into()];
    let error = host.release(&target, &Slug::new("one")).refused();
    assert!(error.hint().is_some_and(|hint| hint.contains("set `DATABASE_PASSWORD`")), "{:?}", error.hint());
    target.settings.release_commands = vec!["exit 1".into()];
    assert_eq!(host.release(&target, &Slug::new("one")).refused().hint(), None);
}

#[test]
fn a_release_command_that_takes_too_long_is_stopped_and_the_old_release_goes_on() {
    let host = Host::new();
    let mut target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    target.settings.release_commands = vec!["echo begun; sleep 613".into()];
    target.settings.limits.release = Duration::from_secs(1);
    let said = host.release(&target, &Slug::new("two"));
    assert!(said.output.contains("begun"), "{}", said.output);
    let error = said.refused();
    let message = "release command `echo begun; sleep 613` took longer than its limit of 1 s, and was stopped";
    assert_eq!(error.to_string(), message);
    assert!(error.hint().expect("a hint").contains("`limits`"));
    assert_eq!(page(&target, "/"), "one");
    eventually("the old release alone is there", || host.instances().len() == 1);
}

#[test]
fn static_files_are_seen_below_data_and_are_no_data_themselves() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["var/".into()];
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/run/cat%20var/static/version"), "one");
    assert_eq!(page(&target, "/write/var/log"), "1");
    host.release(&target, &Slug::new("two")).up();
    assert_eq!(page(&target, "/run/cat%20var/static/version"), "two");
    assert_eq!(page(&target, "/write/var/log"), "2");
    for path in ["var/static", "var/static/uploads"] {
        target.settings.data = vec![path.into()];
        let error = host.release(&target, &Slug::new("three")).refused();
        assert!(error.to_string().contains(&format!("would keep `{path}` as its data")), "{error}");
    }
    assert_eq!(page(&target, "/"), "two");
}

#[test]
fn files_of_the_slug_that_data_hides_are_told_once() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["var".into(), "uploads".into()];
    let said = host.release(&target, &Slug::new("one"));
    assert!(!said.warnings.contains("of the slug"), "{}", said.warnings);
    said.up();
    target.settings.data.push("samples/".into());
    let said = host.release(&target, &Slug::new("one"));
    let told = "`samples/` holds 2 files of the slug, which processes do not see: it is kept as `data`";
    assert!(said.warnings.contains(told), "{}", said.warnings);
    said.up();
    assert_eq!(page(&target, "/run/ls%20samples"), "");
    let hides = "the slug has `samples/views.py`, and the target hides it by keeping `samples/` as its data: ";
    for (failing, remedy) in [
        ("echo \"ModuleNotFoundError: No module named 'samples.views'\"; exit 1", "take that out of `data`"),
        ("echo \"TemplateDoesNotExist: samples/views.py\"; exit 1", "take that out of `data`"),
        ("exit 1", "if that is what is missing, take it out of `data`"),
        ("echo \"KeyError: 'API_KEY'\"; exit 1", "set `API_KEY` in"),
    ] {
        let hint = host.release(&target, &Slug::web("one", failing)).refused().hint().expect("a hint");
        let of_data = hint.strip_prefix(hides).unwrap_or(&hint);
        assert!(of_data.starts_with(remedy) && (of_data == hint) == remedy.starts_with("set"), "{failing}: {hint}");
    }
    let whole =
        Target { settings: Settings { data: vec!["/app/src".into()], ..target.settings.clone() }, ..target.clone() };
    let migrate = |target: &Target| {
        let settings = Settings { release_commands: vec!["python3 migrate.py".into()], ..target.settings.clone() };
        let target = Target { settings, ..target.clone() };
        host.release(&target, &Slug::new("two")).refused().hint().expect("a hint")
    };
    assert!(migrate(&target).starts_with(hides), "and not with what of the migrations may have been done");
    let hint = host.release(&whole, &Slug::new("one")).refused().hint().expect("a hint");
    assert!(
        hint.starts_with("the slug has `app.py`, and the target hides it by keeping `/app/src` as its data: "),
        "{hint}"
    );
    let said = host.release(&target, &Slug::new("two"));
    assert!(!said.warnings.contains("of the slug"), "{}", said.warnings);
    said.up();
}

#[test]
fn writes_beside_the_code_work_and_do_not_last() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/write/nested/log"), "1");
    assert_eq!(page(&target, "/write/new"), "1");
    assert_eq!(page(&target, "/run/id%20-u"), "1000\n");
    host.release(&target, &Slug::new("two")).up();
    assert_eq!(page(&target, "/write/nested/log"), "1");
}

#[test]
fn a_database_that_is_migrated_in_vain_is_told() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["kept.sqlite3".into()];
    let make =
        |name: &str| format!("python3 -c \"import sqlite3; sqlite3.connect('{name}').execute('create table t (n)')\"");
    target.settings.release_commands = ["kept.sqlite3", "lost.sqlite3", "plain"].map(make).into();
    let said = host.release(&target, &Slug::new("one"));
    for warning in ["`lost.sqlite3` beside the code", "`data = [\"lost.sqlite3\"]`", "`plain` beside the code"] {
        assert!(said.warnings.contains(warning), "{}", said.warnings);
    }
    assert!(!said.warnings.contains("kept.sqlite3` beside"), "{}", said.warnings);
    said.up();
}

#[test]
fn a_migration_is_told_of_until_it_was_applied_and_is_why_its_table_is_missing() {
    let host = Host::new();
    let mut target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    target.settings.release_commands = vec!["echo '  Applying polls.0002_more... OK'".into()];
    let web = "echo 'django.db.utils.OperationalError: no such table: polls_vote'; exit 1";
    let drops = Slug { migration: Some("operations = [migrations.DeleteModel(name='Vote')]"), ..Slug::web("two", web) };
    let tells = |target: &Target| {
        let said = host.release(target, &drops);
        let told = said.warnings.contains("polls.0002_more deletes `Vote`");
        let hint = said.refused().hint().expect("a hint");
        assert!(hint.starts_with("the migration `polls.0002_more`, which this release brings, takes"), "{hint}");
        told
    };
    assert_eq!([tells(&target), tells(&target)], [true, false]);
    target.settings.env.insert("DATABASE_URL".into(), "another".into());
    assert!(tells(&target));
}

#[test]
fn what_an_earlier_release_ran_is_promoted_where_that_was_healthy() {
    let host = Host::new();
    let staging = host.target("staging");
    let production = host.target("production");
    host.release(&staging, &Slug::new("one")).up();
    host.release(&staging, &Slug::web("two", "exit 1")).refused();
    host.release(&staging, &Slug::new("three")).up();
    let promoted = |number| host.promote_release(("staging", Some(number)), &production);
    let error = promoted(2).refused();
    assert!(matches!(error, ReleaseError::NeverHealthy { number: 2, .. }), "{error}");
    let error = promoted(4).refused();
    assert!(matches!(error, ReleaseError::NoSuchRelease { number: 4, .. }), "{error}");
    promoted(1).up();
    assert_eq!((page(&staging, "/"), page(&production, "/")), ("three".into(), "one".into()));
    let history = History::open(host.home.path()).expect("a history");
    let current = history.current("demo", "production").expect("a release").expect("a release");
    assert_eq!(current.how, How::Promote { from: "staging".into(), number: 1 });
}

#[test]
fn promotion_is_identical_or_refused() {
    let host = Host::new();
    let staging = host.target("staging");
    let production = host.target("production");
    let error = host.promote("staging", &production).refused();
    assert!(matches!(error, ReleaseError::NothingToPromote { .. }), "{error}");

    host.release(&staging, &Slug::new("one")).up();
    host.promote("staging", &production).up();
    assert_eq!(page(&production, "/"), "one");
    let history = History::open(host.home.path()).expect("a history");
    let current = |target: &str| history.current("demo", target).expect("a release").expect("a release");
    assert_eq!(current("staging").slug, current("production").slug);

    // One byte of what is about to run is another than the one that staging has run.
    host.release(&staging, &Slug::new("two")).up();
    host.damage("version", "tWo");
    let said = host.promote("staging", &production);
    assert!(said.warnings.contains("version` has other bytes; it was made anew"), "{}", said.warnings);
    said.up();
    assert_eq!(page(&production, "/"), "two");

    // And now there is no other copy.
    host.release(&staging, &Slug::new("three")).up();
    host.damage("app.py", "print('something else')");
    host.damage_store("import http.server, os, sys, time");
    let error = host.promote("staging", &production).refused();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(page(&production, "/"), "two");
}

#[test]
fn a_rollback_brings_slug_and_settings_back() {
    let host = Host::new();
    let mut target = host.target("staging");
    for (version, colour) in [("one", "red"), ("two", "green"), ("three", "blue")] {
        target.settings.env.insert("COLOUR".into(), colour.into());
        host.release(&target, &Slug::new(version)).up();
    }
    assert_eq!(host.rollback(&target, None).up().number, 4);
    assert_eq!(page(&target, "/"), "two");
    assert!(page(&target, "/env").contains("COLOUR=green\n"));
    host.rollback(&target, None).up();
    assert_eq!(page(&target, "/"), "one");
    host.rollback(&target, Some(3)).up();
    assert_eq!(page(&target, "/"), "three");
    assert!(matches!(host.rollback(&target, Some(9)).refused(), ReleaseError::NoSuchRelease { .. }));
}

#[test]
fn no_request_is_lost_while_releases_come_and_go() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for path in ["/", "/slow"] {
            let (target, stop, asked) = (&target, &stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = request(target, path, "").expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in ["two", "three", "four"] {
            host.release(&target, &Slug::new(version)).up();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 3);
    assert_eq!(page(&target, "/"), "four");
}

#[test]
fn processes_survive_a_killed_agent_and_the_next_one_comes_by_itself_and_takes_them_over() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/write/new"), "1");
    let killed = host.agent().expect("an agent");
    kill(killed);
    // Nobody has to ask for it.
    eventually("another agent is there", || host.agent().is_some_and(|agent| agent != killed));
    eventually("its front answers", || request(&target, "/", "").is_some());
    let status = release::status(&host.place()).expect("a status");
    assert_eq!(status[0].processes[0].restarts, 0);
    // The same process: what it wrote beside its code is still there.
    assert_eq!(page(&target, "/write/new"), "2");
    host.release(&target, &Slug::new("two")).up();
    assert_eq!(page(&target, "/"), "two");
}

#[test]
fn data_that_is_no_longer_named_is_told_and_nothing_empty_takes_its_place() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.data = vec!["data/x.sqlite3".into(), "media".into()];
    target.settings.release_commands = vec!["mkdir -p data media; echo 1 >>data/x.sqlite3; echo 1 >media/x".into()];
    host.release(&target, &Slug::new("one")).up();
    let kept = target.settings.data.clone();
    target.settings.data = vec!["data".into(), "media".into()];
    let error = host.release(&target, &Slug::new("two")).refused();
    assert!(error.to_string().contains("has kept `data/x.sqlite3` by itself so far"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("data%2Fx.sqlite3")), "{error:?}");
    assert_eq!(page(&target, "/"), "one");
    target.settings.data = kept[..1].to_vec();
    let said = host.release(&target, &Slug::new("two"));
    assert!(said.warnings.contains("`media` was kept as data so far"), "{}", said.warnings);
    said.up();
    target.settings.data = kept;
    let said = host.release(&target, &Slug::new("three"));
    assert!(!said.warnings.contains("was kept as data"), "{}", said.warnings);
    said.up();
}

#[test]
fn a_process_that_ends_is_started_again() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let _ = request(&target, "/exit", "");
    eventually("it answers again", || page(&target, "/") == "one");
    let status = release::status(&host.place()).expect("a status");
    assert_eq!(status[0].processes[0].restarts, 1);
    let log = || runner::agent::log::tail(&host.home.path().join("targets/demo/staging/logs/1-web.log"), 99).join("\n");
    assert!(!log().contains("[pipe: "), "it has ended by itself: {}", log());
    let _ = request(&target, "/run/kill%20-9%20$PPID", "");
    eventually("its end is told", || log().contains("[pipe: this process was killed by SIGKILL]"));
    eventually("it answers again", || page(&target, "/") == "one");
}

#[test]
fn a_process_that_is_started_again_has_the_files_of_its_slug() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.damage("app.py", "broken (");
    for tree in std::fs::read_dir(host.home.path().join("store/pool/trees")).expect("listed") {
        if let Ok(file) = std::fs::File::open(tree.expect("a tree").path().join("app.py")) {
            file.set_modified(std::time::SystemTime::now()).expect("a time");
        }
    }
    let _ = request(&target, "/exit", "");
    eventually("it answers again", || request(&target, "/", "").is_some_and(|answer| answer.ends_with("one")));
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let agent = host.agent().expect("an agent");
    let stopped = release::stop(&host.place(), None).expect("stopped");
    assert_eq!(stopped, ["demo/staging"]);
    assert_eq!(request(&target, "/", ""), None);
    assert!(host.instances().is_empty());
    eventually("the agent ends", || !is_alive(agent));
    // What it was is known, and can be had again.
    host.rollback(&target, Some(1)).up();
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn the_front_serves_static_files_and_says_who_asks() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let style = request(&target, "/static/css/base.0123456789ab.css", "").expect("an answer");
    assert!(style.ends_with("\r\n\r\nbody {}"), "{style}");
    assert!(style.contains("content-type: text/css"), "{style}");
    assert!(style.contains("immutable"), "{style}");
    // What is not there is the application's to answer.
    assert_eq!(page(&target, "/static/none.css"), "one");

    let headers = page(&target, "/headers");
    assert!(headers.contains("x-forwarded-for: 127.0.0.1\n"), "{headers}");
    assert!(headers.contains("x-forwarded-proto: http\n"), "{headers}");
    let host_header = format!("host: {}\n", target.settings.address.expect("an address"));
    assert!(headers.contains(&host_header), "{headers}");
    let behind_tls = request(&target, "/headers", "X-Forwarded-Proto: https\r\n").expect("an answer");
    assert!(behind_tls.contains("x-forwarded-proto: https\n"), "{behind_tls}");
}

#[test]
fn static_files_come_whole_in_part_or_not_again() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let style = |headers| request(&target, "/static/css/base.0123456789ab.css", headers).expect("an answer");
    let part = style("Range: bytes=5-\r\n");
    assert!(part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\n{}"), "{part}");
    assert!(part.contains("content-range: bytes 5-6/7\r\n"), "{part}");
    assert!(style("Range: bytes=7-\r\n").starts_with("HTTP/1.1 416 "));

    let zipped = style("Accept-Encoding: gzip, br\r\n");
    assert!(zipped.ends_with("\r\n\r\nzipped") && zipped.contains("content-encoding: gzip\r\n"), "{zipped}");
    assert!(zipped.contains("content-type: text/css"), "{zipped}");
    let plain = style("");
    assert!(plain.contains("vary: accept-encoding\r\n") && plain.ends_with("\r\n\r\nbody {}"), "{plain}");
    let tag =
        |answer: &str| answer.split_once("etag: ").expect("a tag").1.split_once('\r').expect("a line").0.to_owned();
    assert_ne!(tag(&zipped), tag(&plain));
    let known = style(&format!("If-None-Match: {}\r\n", tag(&plain)));
    assert!(known.starts_with("HTTP/1.1 304 ") && known.ends_with("\r\n\r\n"), "{known}");
}

#[test]
fn a_page_of_an_earlier_release_still_finds_its_hashed_files() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.release(&target, &Slug::new("two")).up();
    assert!(request(&target, "/static/one.ba9876543210.js", "").expect("an answer").ends_with("\r\n\r\none"));
    // The application's to answer: no such file in what serves, and its name says nothing of its content.
    assert_eq!(page(&target, "/static/version"), "two");
    let killed = host.agent().expect("an agent");
    kill(killed);
    eventually("another agent is there", || host.agent().is_some_and(|agent| agent != killed));
    eventually("its front answers", || request(&target, "/", "").is_some());
    assert!(request(&target, "/static/one.ba9876543210.js", "").expect("an answer").ends_with("\r\n\r\none"));
}

#[test]
fn a_release_that_nobody_wants_any_more_is_taken_back() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let at =
        |wanted: Stage| move |event: &Event| matches!(event, Event::ReleaseStage { stage, .. } if *stage == wanted);
    let said = host.release_until(&target, &Slug::web("two", "sleep 1000"), at(Stage::Starting));
    assert!(matches!(said.refused(), ReleaseError::Cancelled));
    let mut slow = target.clone();
    slow.settings.release_commands = vec!["sleep 1000".into()];
    let said = host.release_until(&slow, &Slug::new("three"), at(Stage::ReleasePhase));
    assert!(matches!(said.refused(), ReleaseError::Cancelled));
    assert_eq!(page(&target, "/"), "one");
    assert_eq!(host.instances().len(), 1);
    let history = History::open(host.home.path()).expect("a history");
    let releases = history.releases("demo", "staging").expect("releases");
    assert_eq!(releases.iter().map(|release| release.stage == Stage::Failed).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn what_is_waited_for_is_told_and_what_nobody_wants_any_more_is_not_waited_for() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let deaf = Slug::web("two", "trap 'echo told to end' TERM; echo reads much; while :; do sleep 0.1; done");
    let note = "`web` is not up after 10 s: nothing listens on its port; it wrote last: reads much";
    let is_told = |event: &Event| matches!(event, Event::Note { message } if message == note);
    let said = host.release_until(&target, &deaf, is_told);
    assert!(matches!(said.refused(), ReleaseError::Cancelled));
    let log = runner::agent::log::tail(&host.home.path().join("targets/demo/staging/logs/2-web.log"), 9);
    assert_eq!(log.len(), 1, "it has nobody to answer any more, and is not asked to finish that: {log:?}");
    assert_eq!((host.instances().len(), page(&target, "/")), (1, "one".into()));
}

#[test]
fn a_release_whose_agent_is_killed_says_what_became_of_it() {
    let host = Host::new();
    let mut target = host.target("staging");
    let killed_at = |target: &Target, slug: &Slug, is_time: &(dyn Fn(&Event) -> bool + Sync)| {
        host.release_until(target, slug, |event| {
            if is_time(event) {
                kill(host.agent().expect("an agent"));
            }
            false
        })
    };
    let undone = |number: u64, said: Said| {
        let error = said.refused();
        assert_eq!(error.to_string(), format!("release {number} of `staging` is undone: interrupted"));
        let hint = "nothing of it runs; what its release commands have done stays: try it again";
        assert_eq!(error.hint().as_deref(), Some(hint));
        let history = History::open(host.home.path()).expect("a history");
        assert_eq!(
            history.releases("demo", "staging").expect("releases").last().map(|last| last.stage),
            Some(Stage::Failed)
        );
    };
    let stage =
        |wanted: Stage| move |event: &Event| matches!(event, Event::ReleaseStage { stage, .. } if *stage == wanted);
    // The first one too, before which nothing served.
    undone(1, killed_at(&target, &Slug::web("one", "sleep 617"), &stage(Stage::Starting)));
    host.release(&target, &Slug::new("one")).up();
    target.settings.release_commands = vec!["sleep 617".into()];
    undone(3, killed_at(&target, &Slug::new("two"), &stage(Stage::ReleasePhase)));
    assert_eq!(page(&target, "/"), "one");
    // Whoever does not wait for that is told where to look.
    let said = host.release_until(&target, &Slug::new("two"), |event| {
        let is_time = stage(Stage::ReleasePhase)(event);
        if is_time {
            kill(host.agent().expect("an agent"));
        }
        is_time
    });
    let error = said.refused();
    assert_eq!(error.to_string(), "nobody says what became of release 4 of `staging`");
    let hint = "what was not switched is undone: `pipe releases staging` says what became of it";
    assert_eq!(error.hint().as_deref(), Some(hint));
    target.settings.release_commands.clear();
    // What has been switched already is finished; its worker is still watched then.
    let slug = Slug { worker: Some("exec sleep 617"), ..Slug::new("two") };
    let released = killed_at(&target, &slug, &stage(Stage::Switched)).up();
    let address = target.settings.address.expect("an address");
    assert_eq!((released.number, released.url), (5, format!("http://{address}/")));
    assert_eq!(page(&target, "/"), "two");
}

#[test]
fn a_target_keeps_its_address_when_the_agent_comes_back() {
    let host = Host::new();
    let target = host.target("staging");
    let app = redirecting("    return (200 if host.startswith('localhost') else 400, None)");
    let released = host.release(&target, &Slug::web("one", app)).up();
    assert!(released.url.starts_with("http://localhost:"), "{}", released.url);
    let agent = host.agent().expect("an agent");
    kill(agent);
    eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
    let url = || release::status(&host.place()).expect("a status")[0].url.clone();
    assert_eq!(url(), released.url);
    assert_eq!(host.scale(&target, &["web=2"]).up().url, released.url);
    assert_eq!(url(), released.url);
}

fn kill(process: u32) {
    let pid = nix::unistd::Pid::from_raw(process.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
}

/// Whether a process is there and no zombie.
fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
