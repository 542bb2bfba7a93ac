//! What the front makes of requests and answers on their way: smaller, whole, in time, or refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use runner::release::{Limits, Target};

use super::host::{Host, Slug, page, request};

/// A server that has time for one request at once.
const ONE_BY_ONE: &str = "sed -i s/ThreadingHTTPServer/HTTPServer/ app.py; exec python3 app.py";

fn connect(target: &Target) -> TcpStream {
    TcpStream::connect(target.settings.address.expect("an address")).expect("a connection")
}

/// The answer to a request that is sent as it is, with its head.
fn sent(target: &Target, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(target);
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

/// The head of an answer, and its body without what tells the length of its pieces.
fn taken_apart(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a text").to_ascii_lowercase();
    let mut rest = &answer[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return (head, rest.to_vec());
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let length = std::str::from_utf8(&rest[..line]).expect("a text");
        let length = usize::from_str_radix(length, 16).expect("a length").min(rest.len() - line - 2);
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
    (head, body)
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

#[test]
fn pages_are_smaller_for_who_reads_that() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let expected = "one".repeat(10_000).into_bytes();
    for encoding in ["gzip", "zstd"] {
        let answer = sent(&target, &get("/long", &format!("Accept-Encoding: br;q=0, {encoding}\r\n")));
        let (head, body) = taken_apart(&answer);
        assert!(head.contains(&format!("content-encoding: {encoding}")), "{head}");
        assert!(head.contains("vary: accept-encoding") && head.contains("etag: w/\"one\""), "{head}");
        assert!(!head.contains("content-length") && body.len() < 1000, "{head}");
        let mut plain = Vec::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).map(drop),
            _ => zstd::stream::copy_decode(&body[..], &mut plain),
        }
        .expect("a page");
        assert!(plain == expected, "{encoding}");
    }
    let (head, body) = taken_apart(&sent(&target, &get("/long", "")));
    assert!(head.contains("vary: accept-encoding") && !head.contains("content-encoding"), "{head}");
    assert!(body == expected);
    // What is small is not worth it.
    let (head, body) = taken_apart(&sent(&target, &get("/", "Accept-Encoding: gzip\r\n")));
    assert!(!head.contains("content-encoding") && body == b"one", "{head}");
}

#[test]
fn what_comes_in_pieces_is_not_held_back() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::new("one")).up();
    let mut stream = connect(&target);
    stream.write_all(&get("/pieces", "Accept-Encoding: gzip\r\n")).expect("sent");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a socket");
    let mut answer = Vec::new();
    let mut plain = Vec::new();
    while plain != b"first" {
        let mut piece = [0; 1000];
        let length = stream.read(&mut piece).expect("the first piece, while the second is waited for");
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..length]);
        let (head, body) = taken_apart(&answer);
        assert!(head.contains("content-encoding: gzip"), "{head}");
        plain.clear();
        // It has no end yet.
        let _ = flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain);
    }
}

#[test]
fn bodies_arrive_whole_with_their_length_and_are_refused_where_they_are_too_long() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.limits.body = 1_000_000;
    host.release(&target, &Slug::new("one")).up();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let plain = |length: usize| {
        let body = vec![b'x'; length];
        [format!("{head}Content-Length: {length}\r\n\r\n").as_bytes(), &body].concat()
    };
    let chunked = |length: usize| {
        let body = vec![b'x'; length];
        [format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
    };
    for length in [0, 5, 65_536, 65_537, 1_000_000] {
        for request in [plain(length), chunked(length)] {
            let (head, body) = taken_apart(&sent(&target, &request));
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert_eq!(String::from_utf8_lossy(&body), length.to_string());
        }
    }
    for request in [plain(1_000_001), chunked(1_000_001), plain(20_000_000)] {
        let (head, body) = taken_apart(&sent(&target, &request));
        assert!(head.starts_with("http/1.1 413 "), "{head}");
        let told = String::from_utf8_lossy(&body);
        assert!(told.contains("1000000 bytes") && told.contains("limits"), "{told}");
    }
    // Who asks before it sends anything is told before it does.
    let (head, _) = taken_apart(&sent(
        &target,
        format!("{head}Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n").as_bytes(),
    ));
    assert!(head.starts_with("http/1.1 413 "), "{head}");
    assert_eq!(page(&target, "/"), "one");
}

#[test]
fn a_client_that_is_slow_keeps_nobody_waiting() {
    let host = Host::new();
    let target = host.target("staging");
    host.release(&target, &Slug::web("one", ONE_BY_ONE)).up();
    let mut slow = connect(&target);
    slow.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab")
        .expect("sent");
    assert_eq!(page(&target, "/"), "one", "the process has time for others");
    host.release(&target, &Slug::new("two")).up();
    slow.write_all(b"cde").expect("sent");
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).expect("an answer");
    assert_eq!(taken_apart(&answer).1, b"5", "the release that serves by now has answered");
}

#[test]
fn an_application_that_takes_too_long_is_not_waited_for() {
    let host = Host::new();
    let mut target = host.target("staging");
    target.settings.limits = Limits { answer: Duration::from_millis(300), ..Limits::default() };
    host.release(&target, &Slug::new("one")).up();
    let late = request(&target, "/slow", "").expect("an answer");
    assert!(late.starts_with("HTTP/1.1 504 ") && late.contains("`answer` in the target's `limits`"), "{late}");
    assert_eq!(page(&target, "/"), "one");

    // Nor is one whose page takes longer than it may when it starts.
    target.settings.limits.start = Duration::from_millis(500);
    let error = host.release(&target, &Slug::web("two", "exec sleep 617")).refused();
    assert!(error.to_string().ends_with("runs, and does not answer `GET /`"), "{error}");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("$PORT") && hint.ends_with("longer than 500ms")),
        "{error:?}"
    );
    assert_eq!(page(&target, "/"), "one");
}
