//! Releases under load, and while things are killed: no request is lost by the one, and nothing is left half by the other. Short
//! here; `make torture` goes on for long.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::event::Events;
use runner::release::{self, CanaryWish, History, How, Place, ProcessState, SlugRef, Stage, Target};

use super::host::{Host, Slug, eventually, page, request};
use super::scale::parent;

/// What is to be released by the process in whose environment it is.
const ORDER: &str = "PIPE_TEST_ORDER";

/// How many times something is tried.
fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("PIPE_TORTURE").is_some() { long } else { short }
}

/// A connection that is kept open.
struct Open {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Open {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// Asks for a page, and gives its status and its body.
    fn get(&mut self, headers: &str) -> io::Result<(String, String)> {
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        self.stream.get_mut().write_all(head.as_bytes())?;
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Makes a websocket of it, as far as a proxy can tell, and says words over it that come back.
    fn chat(mut self) -> io::Result<()> {
        self.get("Connection: Upgrade\r\nUpgrade: websocket\r\n")?;
        for number in 0..20 {
            let word = format!("word {number}");
            self.stream.get_mut().write_all(word.as_bytes())?;
            let mut back = vec![0; word.len()];
            self.stream.read_exact(&mut back)?;
            if back != word.as_bytes() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A load generator, which asks over connections that stay open.
struct Load(Child);

impl Load {
    const PROGRAM: &str = "/usr/bin/wrk";

    fn begin(address: SocketAddr) -> Self {
        pipe_tests::needs(Self::PROGRAM);
        let wrk = Command::new(Self::PROGRAM)
            .args(["-t", "1", "-c", "8", "-d", "1h", "--timeout", "60s", &format!("http://{address}/")])
            .stdout(Stdio::piped())
            .spawn();
        Self(wrk.expect("wrk starts"))
    }

    /// How many requests were answered, where all were, and as they should be.
    fn end(mut self) -> Result<usize, String> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).expect("it is told to end");
        let mut said = String::new();
        self.0.stdout.take().expect("a pipe").read_to_string(&mut said).expect("wrk ends");
        let answered = said.lines().find_map(|line| line.split_once(" requests in "));
        match answered.and_then(|(count, _)| count.trim().parse().ok()) {
            Some(answered) if !said.contains("Socket errors") && !said.contains("Non-2xx") => Ok(answered),
            _ => Err(said),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_page(answer: io::Result<(String, String)>) -> Result<(), String> {
    match answer {
        Ok((status, body)) if status.starts_with("HTTP/1.1 200 ") && ["one", "two"].contains(&body.as_str()) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn no_request_fails_while_releases_come_and_go() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let address = target.settings.address.expect("an address");
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || !done.load(Ordering::SeqCst);
    let count = |outcome: Result<(), String>| {
        asked.fetch_add(1, Ordering::SeqCst);
        outcome
    };
    let load = Load::begin(address);
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(scope.spawn(move || -> Result<(), String> {
                let mut open = Open::new(address).map_err(|error| error.to_string())?;
                while goes_on() {
                    count(is_page(open.get("")))?;
                }
                Ok(())
            }));
            clients.push(scope.spawn(move || -> Result<(), String> {
                while goes_on() {
                    let answer = Open::new(address).and_then(|mut open| open.get("Connection: close\r\n"));
                    count(is_page(answer))?;
                }
                Ok(())
            }));
        }
        clients.push(scope.spawn(move || -> Result<(), String> {
            while goes_on() {
                count(Open::new(address).and_then(Open::chat).map_err(|error| format!("websocket: {error}")))?;
            }
            Ok(())
        }));
        for _ in 0..times(2, 25) {
            host.release(&target, &Slug::new("two")).up();
            host.scale(&target, &["web=3"]).up();
            host.rollback(&target, Some(1)).up();
            host.scale(&target, &["web=2"]).up();
            host.scale(&target, &["web=1"]).up();
            for wish in [CanaryWish::Abort, CanaryWish::Finish] {
                host.try_out(&target, &Slug::new("two"), "50%").up();
                host.canary(&target, wish).expect("it is there");
            }
        }
        done.store(true, Ordering::SeqCst);
        for client in clients {
            assert_eq!(client.join().expect("no panic"), Ok(()));
        }
    });
    assert!(load.end().expect("no request of wrk fails") > 100);
    assert!(asked.load(Ordering::SeqCst) > 100);
}

#[test]
fn whoever_connects_while_a_killed_agent_comes_back_waits_and_is_answered() {
    let host = Host::new();
    let mut target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let address = target.settings.address.expect("an address");
    let kill_agent = || {
        let agent = host.agent().expect("an agent");
        kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).expect("killed");
        eventually("another agent is there", || host.agent().is_some_and(|other| other != agent));
        thread::sleep(Duration::from_millis(500));
    };
    let (clients, kills) = (3, times(4, 60));
    let (done, cut, longest) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Duration::ZERO));
    let ask = || {
        while !done.load(Ordering::SeqCst) {
            let began = Instant::now();
            let mut open = Open::new(address).expect("nobody is refused");
            match open.get("Connection: close\r\n") {
                Ok(answer) => is_page(Ok(answer)).expect("a page"),
                // The agent that was killed had it.
                Err(_) => drop(cut.fetch_add(1, Ordering::SeqCst)),
            }
            let mut longest = longest.lock().expect("no panic");
            *longest = began.elapsed().max(*longest);
        }
    };
    thread::scope(|scope| {
        let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        for round in 0..kills {
            if round == kills / 2 {
                kill(Pid::from_raw(parent(host.agent().expect("an agent"))), Signal::SIGKILL).expect("killed");
                // Until there is another keeper.
                thread::sleep(Duration::from_secs(2));
            }
            kill_agent();
        }
        done.store(true, Ordering::SeqCst);
        for client in asking {
            client.join().expect("all are answered");
        }
    });
    let (cut, longest) = (cut.into_inner(), longest.into_inner().expect("no panic"));
    assert!(cut <= clients * kills, "those alone that are being answered are cut off: {cut}");
    assert!(longest < Duration::from_secs(20), "nobody waits for long: {longest:?}");

    // Whatever is not listened at any more is nobody's.
    target.settings.address = Some(host.address("elsewhere"));
    host.release(&target, &Slug::new("two")).up();
    let is_free = || TcpListener::bind(address).is_ok();
    eventually("the keeper lets go of it", is_free);
    kill_agent();
    assert!(is_free(), "the next agent does not come back to it");
    assert_eq!(page(&target, "/"), "two");
}

#[test]
fn whatever_is_killed_nothing_is_left_half() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    host.scale(&target, &["web=2"]).up();
    let mut random: u64 = 42;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for round in 0..times(8, 120) {
        let (after, victim) = (Duration::from_millis(below(900)), below(4));
        let slug = Slug::new(if round % 2 == 0 { "two" } else { "one" });
        if victim == 3 {
            let mut client = client(&host, &target, &slug);
            thread::sleep(after);
            let _ = client.kill();
            client.wait().expect("it has ended");
        } else {
            thread::scope(|scope| {
                let releasing = scope.spawn(|| host.release(&target, &slug));
                thread::sleep(after);
                let found = if victim < 2 { host.agent() } else { shims(&host).pop() };
                if let Some(pid) = found.and_then(|pid| i32::try_from(pid).ok()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                // It may have come before, or be told that the agent is gone.
                let _ = releasing.join().expect("no panic").result;
            });
        }
        let about = format!("round {round}: {victim} after {after:?}");
        // An agent that is killed may have taken a connection with it.
        eventually(&about, || {
            let answer = request(&target, "/", "");
            answer.is_some_and(|answer| answer.ends_with("\r\n\r\none") || answer.ends_with("\r\n\r\ntwo"))
        });
        eventually(&about, || {
            let status = release::status(&host.place()).expect("a status");
            let running = |target: &release::TargetStatus| {
                target.processes.len() == 2
                    && target.processes.iter().all(|process| process.state == ProcessState::Running)
            };
            status.len() == 1 && status.iter().all(running)
        });
        eventually(&about, || {
            let releases = History::open(host.home.path()).and_then(|history| history.releases("demo", "staging"));
            let releases = releases.expect("releases");
            let ended = releases.iter().all(|release| matches!(release.stage, Stage::Drained | Stage::Failed));
            ended && releases.iter().filter(|release| release.current).count() == 1 && host.instances().len() == 2
        });
    }
}

/// A command that releases, in a process of its own: this very program, which then does no more than the test below.
fn client(host: &Host, target: &Target, slug: &Slug) -> Child {
    let order = serde_json::to_string(&(host.home.path(), target, host.slug(slug))).expect("plain data");
    Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "load::the_client_that_is_killed", "--include-ignored"])
        .env(ORDER, order)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[test]
#[ignore = "a part of the test above"]
fn the_client_that_is_killed() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (home, target, slug): (PathBuf, Target, SlugRef) = serde_json::from_str(&order).expect("an order");
    let (events, _read) = Events::channel();
    let _ = release::release(&Place::here(&home), &target, &slug, &How::Run, &events, &AtomicBool::new(false));
}

/// The processes that hold others.
fn shims(host: &Host) -> Vec<u32> {
    let pid = |directory: &std::path::PathBuf| std::fs::read_to_string(directory.join("pid")).ok()?.trim().parse().ok();
    host.instances().iter().filter_map(pid).collect()
}
