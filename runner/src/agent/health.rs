//! Whether a web process answers, asked the way the public would: over redirects, to the page at their end. Knows nothing of
//! what follows from the answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hyper::{StatusCode, header};
use reqwest::Url;
use tokio::net::TcpStream;

use super::family::Workers;
use super::front::{Scheme, get};
use super::instance::Exit;
use super::listening;
use super::process::Process;

/// How long a process may listen elsewhere alone: some that serve figures of theirs do so before they have loaded the rest.
const ELSEWHERE: Duration = Duration::from_secs(15);

/// How often it is looked where a process listens that does not answer.
const LOOK: Duration = Duration::from_secs(1);

/// How long what serves may take to answer beside another.
const BESIDE: Duration = Duration::from_secs(10);

/// How often an answer may be an error before that is the answer.
const ERRORS: u32 = 3;

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// How a process answered that is up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Healthy {
    /// The host name that it was asked for.
    pub(crate) host: String,
    /// The path at the end of all redirects.
    pub(crate) path: String,
    pub(crate) status: StatusCode,
    pub(crate) tls: Tls,
}

/// Whether the application wants its pages to be asked for over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    NotWanted,
    /// It does, and believes who says that they were.
    Believed,
    /// It does, and redirects to `https://` whatever is said.
    Disbelieved,
}

/// Why a process is not up.
#[derive(Debug)]
pub(crate) enum Unhealthy {
    /// It is gone.
    Ended(Exit),
    /// It answers with an error.
    Error(Healthy),
    /// It runs, and listens only where nobody asks.
    Elsewhere(Vec<SocketAddr>),
    /// It runs, and the workers that it starts end again and again.
    Restarting,
    /// It runs, and does not answer.
    Silent,
}

/// Asks for a page until it comes, under each of some host names: the first that is not refused counts.
pub(crate) async fn until_healthy(
    process: &Process,
    path: &str,
    hosts: &[String],
    patience: Duration,
) -> Result<Healthy, Unhealthy> {
    tokio::select! {
        exit = process.ended() => Err(Unhealthy::Ended(exit.unwrap_or(Exit::Lost))),
        addresses = elsewhere(process) => Err(Unhealthy::Elsewhere(addresses)),
        () = restarting(process) => Err(Unhealthy::Restarting),
        outcome = ask(process.port, path, hosts, patience) => outcome,
    }
}

/// Comes back once a process has listened for long, and only where nobody asks.
async fn elsewhere(process: &Process) -> Vec<SocketAddr> {
    let mut since: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let (shim, port) = (process.shim(), process.port);
        let look = tokio::task::spawn_blocking(move || shim.map(listening::addresses).unwrap_or_default());
        let found = look.await.unwrap_or_default();
        if found.is_empty() || found.iter().any(|address| reaches(*address, port)) {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= ELSEWHERE {
            return found;
        }
    }
}

/// Comes back once the workers of a process have ended again and again: some servers start others for ever.
async fn restarting(process: &Process) {
    let mut workers = Workers::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shim) = process.shim() else { continue };
        let look = tokio::task::spawn_blocking(move || {
            let again = workers.look(shim);
            (workers, again)
        });
        let Ok((looked, again)) = look.await else { return std::future::pending().await };
        if again {
            return;
        }
        workers = looked;
    }
}

/// Whether who listens there gets what is sent to a port of 127.0.0.1.
fn reaches(address: SocketAddr, port: u16) -> bool {
    let ip = address.ip().to_canonical();
    address.port() == port && (ip.is_unspecified() || ip.is_ipv4() && ip.is_loopback())
}

async fn ask(port: u16, path: &str, hosts: &[String], patience: Duration) -> Result<Healthy, Unhealthy> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(20);
    let mut errors = 0;
    let mut last = Unhealthy::Silent;
    while began.elapsed() < patience {
        match ask_once(port, path, hosts, patience.saturating_sub(began.elapsed())).await {
            Some(healthy) if !healthy.status.is_server_error() => return Ok(healthy),
            Some(healthy) => {
                // These say themselves that it may pass.
                let passing = matches!(healthy.status.as_u16(), 502..=504);
                errors += u32::from(!passing);
                last = Unhealthy::Error(healthy);
                if errors >= ERRORS {
                    break;
                }
            }
            None => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(300));
    }
    Err(last)
}

/// One answer: the first that refuses nothing, else the first. There is none where a name gets none: it may be the one that is taken.
async fn ask_once(port: u16, path: &str, hosts: &[String], patience: Duration) -> Option<Healthy> {
    let mut first = None;
    for host in hosts {
        let healthy = tokio::time::timeout(patience, visit(port, path, host)).await.ok().flatten()?;
        if !healthy.status.is_client_error() && !healthy.status.is_server_error() {
            return Some(healthy);
        }
        first.get_or_insert(healthy);
    }
    first
}

/// What a browser would come to at a page; nothing where there is no answer.
async fn visit(port: u16, path: &str, host: &str) -> Option<Healthy> {
    let mut healthy =
        Healthy { host: host.to_owned(), path: path.to_owned(), status: StatusCode::OK, tls: Tls::NotWanted };
    for _ in 0..=REDIRECTS {
        let scheme = if healthy.tls == Tls::Believed { Scheme::Https } else { Scheme::Http };
        let response = get(port, &healthy.path, host, scheme).await.ok()?;
        healthy.status = response.status();
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let Some(to) = location.filter(|_| healthy.status.is_redirection()).and_then(|to| beside(&healthy, to)) else {
            break;
        };
        let goes_to_tls = to.scheme() == "https";
        let same_page = path_of(&to) == healthy.path;
        match healthy.tls {
            Tls::NotWanted if goes_to_tls => healthy.tls = Tls::Believed,
            // Asked over TLS for this very page, it asks for TLS.
            Tls::Believed if goes_to_tls && same_page => {
                healthy.tls = Tls::Disbelieved;
                break;
            }
            _ => {}
        }
        healthy.path = path_of(&to);
    }
    Some(healthy)
}

/// Where a redirect leads, as long as that is the same host.
fn beside(from: &Healthy, location: &str) -> Option<Url> {
    let here = Url::parse(&format!("http://{}{}", from.host, from.path)).ok()?;
    let there = here.join(location).ok()?;
    (matches!(there.scheme(), "http" | "https") && there.host() == here.host()).then_some(there)
}

fn path_of(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// What a process answers now, where it answers soon.
pub(super) async fn now(port: u16, path: &str, hosts: &[String]) -> Option<StatusCode> {
    ask_once(port, path, hosts, BESIDE).await.map(|healthy| healthy.status)
}

/// The page by the first of some names by which it comes, where it comes soon.
pub(super) async fn by_name(port: u16, path: &str, names: &[String]) -> Option<Healthy> {
    let is_page = |page: &Healthy| !page.status.is_client_error() && !page.status.is_server_error();
    ask_once(port, path, names, BESIDE).await.filter(is_page)
}

/// What there is of an answer by now, by the name that is not refused.
pub(super) async fn so_far(port: u16, path: &str, hosts: &[String]) -> String {
    let mut told = String::new();
    for host in hosts {
        let (answer, is_refused) = of_one(port, path, host).await;
        if told.is_empty() || !is_refused {
            told = answer;
        }
        if !is_refused {
            break;
        }
    }
    told
}

async fn of_one(port: u16, path: &str, host: &str) -> (String, bool) {
    let answer = match tokio::time::timeout(LOOK, get(port, path, host, Scheme::Http)).await {
        Ok(Ok(response)) => {
            let status = response.status();
            return (format!("it answers `GET {path}` with {status}"), status.is_client_error());
        }
        Ok(Err(error)) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => "nothing listens on its port".to_owned(),
            _ => format!("it takes `GET {path}`, and does not answer: {error}"),
        },
        Err(_) => format!("it takes `GET {path}`, and does not answer"),
    };
    (answer, false)
}

/// Whether somebody listens at a port, whatever becomes of a request there.
pub(super) async fn listens(port: u16) -> bool {
    matches!(tokio::time::timeout(LOOK, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await, Ok(Ok(_)))
}

/// Whether a process gives any answer at all in time.
pub(super) async fn answers(port: u16, path: &str, host: &str, patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, get(port, path, host, Scheme::Https)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers with what `answer` says of a request's path and of whether it came over TLS: a status, and a place to
    /// go to.
    async fn server(answer: fn(&str, bool) -> (u16, &'static str)) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a request"));
                }
                let head = String::from_utf8(head).expect("a text").to_lowercase();
                let path = head.split(' ').nth(1).expect("a path");
                let (status, location) = answer(path, head.contains("x-forwarded-proto: https\r\n"));
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: {location}\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn visited(answer: fn(&str, bool) -> (u16, &'static str)) -> (u16, String, Tls) {
        let healthy = visit(server(answer).await, "/", "demo.test:8000").await.expect("an answer");
        (healthy.status.as_u16(), healthy.path, healthy.tls)
    }

    #[tokio::test]
    async fn the_page_at_the_end_of_redirects_counts() {
        let broken = visited(|path, _| match path {
            "/" => (302, "/en/?next=/"),
            "/en/?next=/" => (301, "http://demo.test:8000/home"),
            "/home" => (500, ""),
            _ => (404, ""),
        });
        assert_eq!(broken.await, (500, "/home".into(), Tls::NotWanted));
        let elsewhere = visited(|_, _| (302, "https://sso.test/login"));
        assert_eq!(elsewhere.await, (302, "/".into(), Tls::NotWanted));
        assert_eq!(visited(|_, _| (302, "/")).await, (302, "/".into(), Tls::NotWanted), "not for ever");
    }

    #[tokio::test]
    async fn who_wants_tls_is_told_that_it_is() {
        let wants = |path: &str, tls: bool| match (path, tls) {
            (_, false) => (301, "https://demo.test:8000/"),
            ("/", true) => (302, "/login"),
            _ => (200, ""),
        };
        assert_eq!(visited(wants).await, (200, "/login".into(), Tls::Believed));
        let broken = |_: &str, tls: bool| if tls { (500, "") } else { (301, "https://demo.test/") };
        assert_eq!(visited(broken).await, (500, "/".into(), Tls::Believed));
        let deaf = visited(|_, _| (301, "https://demo.test:8000/")).await;
        assert_eq!(deaf, (301, "/".into(), Tls::Disbelieved));
    }

    #[tokio::test]
    async fn a_name_that_gets_no_answer_is_not_taken_for_one_that_is_refused() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = [0; 1000];
                let len = stream.read(&mut head).await.expect("a request");
                if String::from_utf8_lossy(&head[..len]).contains("host: taken") {
                    held.push(stream);
                } else {
                    let _ = stream.write_all(b"HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        });
        let asked = async |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let answer = ask_once(port, "/", &hosts, LOOK).await.map(|healthy| healthy.status.as_u16());
            (answer, so_far(port, "/", &hosts).await)
        };
        let silent = "it takes `GET /`, and does not answer".to_owned();
        assert_eq!(asked(&["refused", "taken"]).await, (None, silent.clone()));
        assert_eq!(asked(&["taken", "refused"]).await, (None, silent));
        let refused = "it answers `GET /` with 400 Bad Request".to_owned();
        assert_eq!(asked(&["refused", "refused.too"]).await, (Some(400), refused));
    }

    #[tokio::test]
    async fn what_keeps_an_answer_from_coming_is_told() {
        let hosts = ["demo.test".to_owned()];
        let told = |port| so_far(port, "/", &hosts);
        assert_eq!(told(server(|_, _| (503, "")).await).await, "it answers `GET /` with 503 Service Unavailable");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert_eq!(told(port).await, "it takes `GET /`, and does not answer");
        drop(listener);
        assert_eq!(told(port).await, "nothing listens on its port");
    }

    #[test]
    fn only_what_127_0_0_1_comes_to_is_reached() {
        let reached = |address: &str| reaches(address.parse().expect("an address"), 80);
        assert!(reached("0.0.0.0:80") && reached("127.0.0.1:80") && reached("[::]:80"));
        assert!(!reached("127.0.0.1:81") && !reached("[::1]:80") && !reached("192.0.2.1:80"));
    }
}
