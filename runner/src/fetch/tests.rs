//! Fetches from a real server on the loopback, which fails in the ways that servers do.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::*;

/// Answers each request by a function of its path, its headers, and how often that path was asked for before.
struct Server {
    address: String,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

type Answer = Box<dyn Fn(&str, &str, usize) -> Vec<u8> + Send + Sync>;

impl Server {
    fn new(answer: impl Fn(&str, &str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = (20_000..30_000)
            .filter(|port| port % 97 == 0)
            .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            .expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (log, answer) = (Arc::clone(&asked), Arc::new(Box::new(answer) as Answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &answer));
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("a log").get(path).copied().unwrap_or(0)
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<HashMap<String, usize>>, answer: &Answer) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    while reader.read_line(&mut head).is_ok_and(|len| len > 2) {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let times = {
        let mut log = log.lock().expect("a log");
        let times = log.entry(path.clone()).or_default();
        *times += 1;
        *times - 1
    };
    // A client that was refused hangs up, which is no fault of the server.
    let _ = stream.write_all(&answer(&path, &head.to_lowercase(), times));
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Vec<u8> {
    reply("200 OK", "", body)
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Function::Sha256);
    hasher.update(bytes);
    hasher.finish().to_string()
}

fn request(url: &str, bytes: &[u8]) -> Request {
    let name = "a-1-py3-none-any.whl".to_owned();
    Request { source: "index".to_owned(), url: url.to_owned(), name, digest: sha256(bytes) }
}

struct Home {
    _directory: tempfile::TempDir,
    store: Store,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        Self { _directory: directory, store }
    }

    fn fetcher(&self, index: &str) -> Fetcher {
        self.with(|config| config.index = index.to_owned())
    }

    fn with(&self, change: impl FnOnce(&mut FetchConfig)) -> Fetcher {
        let mut config = FetchConfig { retry_after: Duration::from_millis(1), ..FetchConfig::default() };
        config.index = "http://127.0.0.1:1/simple".to_owned();
        change(&mut config);
        Fetcher::new(config, self.store.clone()).expect("a fetcher")
    }
}

#[test]
fn a_file_is_fetched_once_and_many_come_in_order() {
    let server = Server::new(|path, _, _| ok(path.as_bytes()));
    let home = Home::new();
    let paths: Vec<String> = (0..40).map(|n| format!("/{n}")).collect();
    let requests: Vec<Request> = paths.iter().map(|path| request(&server.url(path), path.as_bytes())).collect();
    let blobs = home.fetcher(&server.address).get(&requests).expect("all");
    for (blob, path) in blobs.iter().zip(&paths) {
        assert_eq!(home.store.get(blob).expect("a blob"), path.as_bytes());
    }
    let offline = home.with(|config| config.offline = true);
    assert_eq!(offline.get(&requests).expect("remembered"), blobs);
    assert!(paths.iter().all(|path| server.asked(path) == 1));
    assert!(matches!(offline.get(&[request(&server.url("/0"), b"other")]), Err(FetchError::Offline { .. })));
}

#[test]
fn other_bytes_are_refused_and_not_kept() {
    let server = Server::new(|_, _, _| ok(b"evil"));
    let home = Home::new();
    let error = home.fetcher(&server.address).get(&[request(&server.url("/a"), b"good")]).expect_err("refused");
    let expected =
        format!("`a-1-py3-none-any.whl`: {} gave {}, not {}", server.url("/a"), sha256(b"evil"), sha256(b"good"));
    assert_eq!(error.to_string(), expected);
    assert!(!home.store.contains(&Digest::of(b"evil")));
    assert_eq!(server.asked("/a"), 1, "a wrong file is not asked for again");
}

#[test]
fn passing_faults_are_retried() {
    let server = Server::new(|path, _, times| match (path, times) {
        ("/busy", 0) => reply("503 Service Unavailable", "Retry-After: 0\r\n", b""),
        ("/cut", 0) => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhal".to_vec(),
        ("/shut", 0 | 1) => Vec::new(),
        _ => ok(b"whole"),
    });
    let home = Home::new();
    for path in ["/busy", "/cut", "/shut"] {
        let blobs = Home::new().fetcher(&server.address).get(&[request(&server.url(path), b"whole")]).expect(path);
        assert_eq!(blobs, [Digest::of(b"whole")]);
    }
    let broken = Server::new(|_, _, _| b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhal".to_vec());
    let direct = Request { source: "https".to_owned(), ..request(&broken.url("/cut"), b"whole") };
    let error = home.fetcher(&server.address).get(&[direct]).expect_err("cut off for good");
    assert_eq!(error.to_string(), format!("`a-1-py3-none-any.whl`: cannot fetch {}", broken.url("/cut")));
    assert!(error.transient());
}

#[test]
fn a_file_that_is_gone_is_found_by_name_on_an_index() {
    let server = Server::new(|path, headers, _| match path {
        "/simple/a/" if headers.contains("application/vnd.pypi.simple.v1+json") => {
            let json = br#"{"files":[{"filename":"a-1-py3-none-any.whl","url":"/files/a","hashes":{}}]}"#;
            reply("200 OK", "Content-Type: application/vnd.pypi.simple.v1+json\r\n", json)
        }
        "/html/a/" => reply("200 OK", "Content-Type: text/html\r\n", b"<a href='/files/a-1-py3-none-any.whl'>a</a>"),
        "/files/a" | "/files/a-1-py3-none-any.whl" => ok(b"wheel"),
        _ => reply("404 Not Found", "", b""),
    });
    for index in ["/simple", "/html", "/simple/"] {
        for url in ["", "/gone"] {
            let url = if url.is_empty() { String::new() } else { server.url(url) };
            let home = Home::new();
            let fetcher = home.fetcher(&server.url(index));
            assert_eq!(fetcher.get(&[request(&url, b"wheel")]).expect(index), [Digest::of(b"wheel")]);
        }
    }
    let home = Home::new();
    let none = home.fetcher(&server.url("/none"));
    let error = none.get(&[request(&server.url("/gone"), b"wheel")]).expect_err("nowhere");
    assert_eq!(error.to_string(), format!("`a-1-py3-none-any.whl`: {} answered 404 Not Found", server.url("/gone")));
    let error = none.get(&[request("", b"wheel")]).expect_err("nowhere");
    assert_eq!(error.to_string(), format!("`a-1-py3-none-any.whl` is not on {}/", server.url("/none")));
}

#[test]
fn files_are_found_by_their_digests_once_and_for_all() {
    let digest = sha256(b"wheel");
    let hex = digest.trim_start_matches("sha256:").to_owned();
    let server = Server::new(move |path, _, _| match path {
        "/simple/a-b/" => {
            let page = format!("<a href='/f/a_b-1.whl#sha256={hex}'>x</a><a href='/f/a_b-2.whl#sha256=00'>y</a>");
            reply("200 OK", "Content-Type: text/html\r\n", page.as_bytes())
        }
        _ => reply("404 Not Found", "", b""),
    });
    let home = Home::new();
    let wanted = [digest.clone()];
    let found = home.fetcher(&server.url("/simple")).find("index", "A.B", &wanted).expect("found");
    assert_eq!(found, [Found { name: "a_b-1.whl".into(), url: server.url("/f/a_b-1.whl"), digest }]);
    assert_eq!(home.fetcher(&server.url("/simple")).find("index", "A.B", &wanted).expect("remembered"), found);
    assert_eq!(server.asked("/simple/a-b/"), 1);
    assert_eq!(home.fetcher(&server.url("/x")).find("index", "A.B", &wanted).expect("an answer"), []);
}

#[test]
fn a_directory_is_asked_first_and_the_machines_other_files_never() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a-1-py3-none-any.whl");
    std::fs::write(&path, b"wheel").expect("a file");
    let home = Home::new();
    let fetcher = home.with(|config| config.find_links = vec![directory.path().to_owned()]);
    let found = fetcher.find("index", "a", &[sha256(b"wheel")]).expect("found");
    assert_eq!((found[0].name.as_str(), found[0].url.as_str()), ("a-1-py3-none-any.whl", ""));
    assert_eq!(fetcher.get(&[request("", b"wheel")]).expect("a file"), [Digest::of(b"wheel")]);

    let empty = Home::new();
    let other = empty.with(|_| {});
    let url = Url::from_file_path(&path).expect("an address");
    let outside = Request { source: "https".to_owned(), ..request(url.as_str(), b"wheel") };
    assert!(matches!(other.get(&[outside]), Err(FetchError::Address { .. })));
    let named = Request { name: "../a".to_owned(), ..request("", b"wheel") };
    assert_eq!(other.get(&[named]).expect_err("refused").to_string(), "`../a` is not the name of a file");
}

#[test]
fn redirects_go_only_where_files_come_from() {
    let server = Server::new(|path, headers, _| match path {
        "/moved" => reply("302 Found", "Location: /here\r\n", b""),
        "/local" => reply("302 Found", "Location: file:///etc/passwd\r\n", b""),
        "/round" => reply("302 Found", "Location: /round\r\n", b""),
        _ if headers.contains("authorization") => ok(b"secret"),
        _ => ok(b"wheel"),
    });
    let fetch = |path: &str| {
        let direct = Request { source: "https".to_owned(), ..request(&server.url(path), b"wheel") };
        Home::new().fetcher(&server.address).get(&[direct])
    };
    assert_eq!(fetch("/moved").expect("moved"), [Digest::of(b"wheel")]);
    let error = fetch("/local").expect_err("refused");
    let expected = format!("{} is refused: it redirects to what is neither http nor https", server.url("/local"));
    assert_eq!(error.to_string(), expected);
    assert!(fetch("/round").expect_err("refused").to_string().ends_with("it redirects without end"));
}

#[test]
fn a_private_index_gets_its_password_and_no_message_has_it() {
    let server = Server::new(|_, headers, _| {
        // The base64 of `me:s3cret`, in lower case like all headers here.
        if headers.contains("authorization: basic bwu6cznjcmv0") {
            ok(b"wheel")
        } else {
            reply("401 Unauthorized", "", b"")
        }
    });
    let with_password = server.address.replace("http://", "http://me:s3cret@");
    let home = Home::new();
    let fetcher = home.fetcher(&with_password);
    assert_eq!(fetcher.get(&[request(&server.url("/a"), b"wheel")]).expect("let in"), [Digest::of(b"wheel")]);
    let error = fetcher.get(&[request(&format!("{with_password}/a?token=s3cret"), b"x")]).expect_err("wrong");
    assert!(!format!("{error} {error:?} {fetcher:?}").contains("s3cret"), "{error:?}");

    let direct = Request { source: "https".to_owned(), ..request(&server.url("/a"), b"wheel") };
    let error = Home::new().fetcher("http://127.0.0.1:1/").get(&[direct]).expect_err("kept out");
    let hint = "give a name and a password for `127.0.0.1`: in ~/.netrc, or as PIPE_INDEX_127_0_0_1=name:password";
    assert_eq!(error.hint().as_deref(), Some(hint));
}

#[test]
fn a_body_without_end_is_cut() {
    let server = Server::new(|_, _, _| ok(&[0; 4096]));
    let home = Home::new();
    let fetcher = home.with(|config| config.max_size = 1000);
    let direct = Request { source: "https".to_owned(), ..request(&server.url("/a"), b"wheel") };
    let error = fetcher.get(&[direct]).expect_err("too large");
    assert_eq!(error.to_string(), format!("`a-1-py3-none-any.whl`: {} gives more than 1000 bytes", server.url("/a")));
}

#[test]
fn npm_files_come_from_the_configured_registry() {
    let server = Server::new(|path, _, _| ok(path.as_bytes()));
    let home = Home::new();
    let fetcher = home.with(|config| config.npm = server.url("/npm"));
    let url = "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz";
    let npm = Request { source: "npm".to_owned(), ..request(url, b"/npm/left-pad/-/left-pad-1.3.0.tgz") };
    fetcher.get(&[npm]).expect("a file");
}

#[test]
fn a_commit_is_fetched_by_its_full_hash_without_git_itself() {
    let repository = tempfile::tempdir().expect("a directory");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
        let output = command.current_dir(repository.path()).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    git(&["init", "--quiet"]);
    std::fs::write(repository.path().join("setup.py"), "one").expect("a file");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let first = git(&["rev-parse", "HEAD"]);
    std::fs::write(repository.path().join("setup.py"), "two").expect("a file");
    git(&["commit", "--quiet", "-am", "two"]);

    let home = Home::new();
    let fetcher = home.with(|_| {});
    let url = format!("file://{}", repository.path().display());
    let tree = fetcher.git(&url, &first).expect("a tree");
    let names: Vec<String> =
        home.store.tree(&tree).expect("a tree").entries().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["setup.py"]);
    drop(repository);
    assert_eq!(fetcher.git(&url, &first).expect("remembered"), tree);
    assert!(matches!(fetcher.git(&url, "main"), Err(FetchError::Commit(_))));
    assert!(matches!(fetcher.git("ext::sh -c true", &"0".repeat(40)), Err(FetchError::Git { .. })));
}
