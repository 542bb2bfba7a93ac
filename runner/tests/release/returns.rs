//! What comes back when an agent begins anew, and what can do so only later.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release;

use super::host::{Host, Slug, eventually, page, request};

#[test]
fn a_target_whose_address_is_not_there_yet_comes_back_once_it_is() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let other = host.target("other");
    host.release(&other, &Slug::new("two")).up();
    let agent = host.agent().expect("an agent");
    // Somebody else is there before the next agent: whoever takes the address while nobody has it.
    let _ = kill(Pid::from_raw(parent(agent)), Signal::SIGKILL);
    let _ = kill(Pid::from_raw(i32::try_from(agent).expect("an id")), Signal::SIGKILL);
    let address = target.settings.address.expect("an address");
    let mut taken = None;
    eventually("the address is free", || {
        taken = TcpListener::bind(address).ok();
        taken.is_some()
    });
    // A command starts the next one, which has time enough for the other.
    assert_eq!(release::status(&host.place()).expect("a status").len(), 1);
    assert_eq!(page(&other, "/"), "two");
    drop(taken);
    eventually("it comes back", || request(&target, "/", "").is_some_and(|answer| answer.ends_with("\r\n\r\none")));
    assert_eq!(release::status(&host.place()).expect("a status").len(), 2);
}

#[test]
fn an_agent_that_begins_answers_nobody_before_it_knows_where_requests_go() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ask = || {
            while !done.load(Ordering::SeqCst) {
                // While nobody listens there is no answer, and whoever was being answered gets half of one.
                if let Some(answer) = request(&target, "/", "").filter(|answer| answer.contains("\r\n\r\n")) {
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let clients = [scope.spawn(ask), scope.spawn(ask), scope.spawn(ask)];
        for _ in 0..5 {
            let agent = host.agent().and_then(|agent| i32::try_from(agent).ok()).expect("an agent");
            let before = answered.load(Ordering::SeqCst);
            kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it is there");
            eventually("it comes back", || answered.load(Ordering::SeqCst) > before + 20);
        }
        done.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("only pages");
        }
    });
}

#[test]
fn an_agent_with_nothing_to_do_still_answers_whoever_has_come() {
    let host = Host::new();
    host.release(&host.target("staging"), &Slug::new("one")).up();
    let mut command = UnixStream::connect(host.home.path().join("agent/agent.sock")).expect("it listens");
    release::stop(&host.place(), None).expect("it stops");
    thread::sleep(Duration::from_millis(200));
    writeln!(command, r#"{{"request":"hello"}}"#).expect("it is still there");
    let mut answer = String::new();
    BufReader::new(&command).read_line(&mut answer).expect("an answer");
    assert!(answer.contains("hello"), "{answer}");
    eventually("then it ends", || host.agent().is_none());
}

#[test]
fn an_agent_of_old_that_cannot_hand_over_makes_way_without() {
    let host = Host::new();
    let directory = host.home.path().join("agent");
    std::fs::create_dir_all(&directory).expect("a directory");
    let lock = File::create(directory.join("lock")).expect("a lock");
    lock.try_lock().expect("it is free");
    let listener = UnixListener::bind(directory.join("agent.sock")).expect("a socket");
    let old = thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.expect("a command");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a request");
            let answer = match line.trim() {
                r#"{"request":"hello"}"# => r#"{"reply":"answer","value":{"hello":{"protocol":6,"build":"old"}}}"#,
                r#"{"request":"retire"}"# => r#"{"reply":"answer","value":"retiring"}"#,
                // What it does not understand it does not answer.
                _ => "",
            };
            writeln!(&stream, "{answer}").expect("an answer");
            asked.push(line);
            if answer.contains("retiring") {
                break;
            }
        }
        drop(lock);
        asked
    });
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    assert_eq!(page(&target, "/"), "one");
    let asked = old.join().expect("it has ended");
    assert!(asked.iter().any(|asked| asked.contains("succeed")), "{asked:?}");
}

fn parent(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit_once(") ").expect("fields").1;
    fields.split(' ').nth(1).and_then(|parent| parent.parse().ok()).expect("a parent")
}
