//! An agent that makes way for one of another build, with clients of every kind that must not notice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipe_tests::{Project, Said};

use super::small::{self, eventually, free_port, page};

/// Says its version and who it is, is slow to begin or to go on where asked to, and says over a websocket what it is told.
const APP: &str = r#"
import http.server, os, time

VERSION = open("version").read().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("upgrade"):
            return self.echo()
        if self.path == "/slow":
            time.sleep(1)
        self.answer(f"{VERSION} {os.getpid()}" if self.path == "/pid" else VERSION)

    def do_POST(self):
        self.answer(str(len(self.rfile.read(int(self.headers["content-length"])))))

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.path == "/halting":
            time.sleep(0.3)
        self.wfile.write(text.encode())

    def echo(self):
        self.close_connection = True
        self.send_response(101)
        self.send_header("Connection", "upgrade")
        self.send_header("Upgrade", self.headers["upgrade"])
        self.end_headers()
        while piece := self.rfile.read1(65536):
            self.wfile.write(piece)

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100

Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Clients that never try anything again, until a file is there; they print what failed, and how often what went well.
const CLIENTS: &str = r#"
import collections, os, socket, ssl, sys, threading, time, traceback

port, https = int(sys.argv[1]), int(sys.argv[2])
done, counts, failures = "done", collections.Counter(), []

def connect(tls=False):
    stream = socket.create_connection(("127.0.0.1", https if tls else port))
    stream.settimeout(60)
    if tls:
        context = ssl.create_default_context(cafile="a.test.crt")
        stream = context.wrap_socket(stream, server_hostname="a.test")
    return stream, stream.makefile("rb")

def ask(connection, head="GET / HTTP/1.1", options="", body=b""):
    stream, file = connection
    stream.sendall(f"{head}\r\nHost: a.test\r\n{options}\r\n".encode() + body)
    return answer(file)

def answer(file):
    status, length, closes = file.readline(), 0, False
    assert status.startswith(b"HTTP/1.1 200 ") or status.startswith(b"HTTP/1.1 101 "), status
    while (line := file.readline().lower()) != b"\r\n":
        assert line, "cut off"
        if line.startswith(b"content-length:"): length = int(line.split()[1])
        if line == b"connection: close\r\n": closes = True
    body = file.read(length)
    assert len(body) == length, "cut off"
    return body, closes

def kept(name, tls=False, pause=0, **asked):
    connection = connect(tls)
    while not os.path.exists(done):
        _, closes = ask(connection, **asked)
        counts[name] += 1
        if closes: connection = connect(tls)
        time.sleep(pause)

def fresh():
    while not os.path.exists(done):
        connection = connect()
        ask(connection, options="Connection: close\r\n")
        assert connection[1].read() == b"", "it is closed then"
        counts["fresh"] += 1
        connection[0].close()

def halves():
    connection = connect()
    while not os.path.exists(done):
        connection[0].sendall(b"GET / HTT")
        time.sleep(0.3)
        connection[0].sendall(b"P/1.1\r\nHost: a.test\r\n\r\n")
        if answer(connection[1])[1]: connection = connect()
        counts["halves"] += 1

def websocket(tls):
    stream, file = connection = connect(tls)
    ask(connection, options="Connection: Upgrade\r\nUpgrade: websocket\r\n")
    while not os.path.exists(done):
        stream.sendall(b"0123456789")
        assert file.read(10) == b"0123456789", "cut off"
        counts["websocket"] += 1
        time.sleep(0.05)

def attempt(work, args):
    try: work(**args)
    except Exception: failures.append(f"{args}: {traceback.format_exc(limit=3)}")

works = [(kept, dict(name="kept")), (kept, dict(name="kept")), (kept, dict(name="idle", pause=0.4)), (fresh, {}), (fresh, {}),
    (kept, dict(name="slow", head="GET /slow HTTP/1.1")), (halves, {}),
    (kept, dict(name="post", head="POST / HTTP/1.1", options="Content-Length: 100000\r\n", body=b"x" * 100000)),
    (kept, dict(name="halting post", head="POST /halting HTTP/1.1", options="Content-Length: 9\r\n", body=b"x" * 9)),
    (kept, dict(name="tls", tls=True)), (kept, dict(name="idle over tls", tls=True, pause=0.4)),
    (kept, dict(name="slow over tls", tls=True, head="GET /slow HTTP/1.1"))]
works += [(websocket, dict(tls=tls)) for tls in (False, True) if "websockets" in sys.argv]
threads = [threading.Thread(target=attempt, args=work) for work in works]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*failures, dict(counts), sep="\n")
sys.exit(bool(failures))
"#;

/// A project whose page is served at two ports, without TLS and with it, by agents of several builds of `pipe`.
struct Served {
    project: Project,
    http: u16,
    https: u16,
}

impl Served {
    fn new() -> Self {
        let (project, http, https) = (small::project().file("src/app.py", APP), free_port(), free_port());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args([
                "-subj",
                "/CN=a.test",
                "-addext",
                "subjectAltName=DNS:a.test",
                "-out",
                "a.test.crt",
                "-keyout",
                "a.test.key",
            ])
            .current_dir(project.path())
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let target = format!(
            r#"
[targets.staging]
driver = "local"
release = "slug"
address = "127.0.0.1:{http}"
domains = ["a.test"]
tls = {{ certificate = "a.test.crt", key = "a.test.key" }}
http = "127.0.0.1:{}"
https = "127.0.0.1:{https}"
"#,
            free_port()
        );
        small::release_to(&project, &target);
        project.write("clients.py", CLIENTS);
        Self { project, http, https }
    }

    /// Another build of `pipe`, as far as one can tell from outside.
    fn build(&self, name: &str) -> PathBuf {
        let (from, to) = (self.project.command(), self.project.path().join("..").join(name));
        fs::copy(from.get_program(), &to).expect("copied");
        to
    }

    #[track_caller]
    fn run(&self, build: &Path, args: &[&str]) -> Said {
        let plain = self.project.command();
        let mut command = Command::new(build);
        command.args(args).current_dir(self.project.path()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        pipe_tests::Outcome::of(command).success()
    }

    fn clients(&self, kind: &str) -> Clients {
        let _ = fs::remove_file(self.project.path().join("done"));
        let mut command = Command::new("python3");
        command.args(["clients.py", &self.http.to_string(), &self.https.to_string(), kind]);
        command.current_dir(self.project.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let clients = Clients { child: command.spawn().expect("python runs"), done: self.project.path().join("done") };
        std::thread::sleep(Duration::from_secs(2));
        clients
    }

    /// The programs that are agents of this home, by the files that they were started from.
    fn agents(&self) -> Vec<PathBuf> {
        let home = format!("PIPE_HOME={}", self.project.home().canonicalize().expect("a home").display());
        let processes = fs::read_dir("/proc").expect("processes").filter_map(|entry| Some(entry.ok()?.path()));
        let is_agent = |path: &PathBuf| {
            let read = |name: &str| fs::read(path.join(name)).unwrap_or_default();
            let command = read("cmdline");
            let is_it =
                ["agent-serve", "agent-succeed"].iter().any(|name| command == format!("pipe\0{name}\0").as_bytes());
            is_it && read("environ").split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
        };
        processes.filter(is_agent).filter_map(|path| fs::read_link(path.join("exe")).ok()).collect()
    }

    fn pid(&self) -> String {
        small::get(self.http, "/pid").rsplit_once(' ').expect("a pid").1.to_owned()
    }
}

/// Clients that go on until they are told to end.
struct Clients {
    child: Child,
    done: PathBuf,
}

impl Clients {
    /// Whether none of them has noticed anything.
    #[track_caller]
    fn end(self) {
        std::thread::sleep(Duration::from_secs(2));
        fs::write(&self.done, "").expect("written");
        let output = self.child.wait_with_output().expect("they end");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{said}");
        for kind in ["kept", "fresh", "slow", "halves", "post", "halting post", "tls", "idle over tls"] {
            assert!(said.contains(&format!("'{kind}': ")), "{said}");
        }
    }
}

#[test]
fn an_agent_makes_way_for_one_of_another_build_and_no_client_notices() {
    let served = Served::new();
    let builds = ["one", "two"].map(|name| served.build(name));
    served.run(&builds[0], &["run"]);
    let pid = served.pid();

    // With nothing to release the agent alone changes, however often.
    let clients = served.clients("websockets");
    for round in 1..=3 {
        let build = &builds[round % 2];
        let said = served.run(build, &["run"]);
        assert!(said.stdout.contains("release 1 is this already"), "{}", said.stdout);
        eventually("the next agent is there", || served.agents().contains(&build.canonicalize().expect("a file")));
        assert_eq!(served.pid(), pid, "the process stays");
    }
    assert!(served.agents().len() > 1, "websockets keep those that they go through");
    clients.end();
    let last = builds[1].canonicalize().expect("a file");
    eventually("only the last agent stays", || served.agents() == [last.clone()]);

    // A release of the next build, of which old processes are stopped that have requests through the agent before.
    let clients = served.clients("");
    for (version, build) in [("two", &builds[0]), ("three", &builds[1])] {
        served.project.write("src/version", version);
        served.run(build, &["run"]);
        assert_eq!(page(served.http), version);
    }
    clients.end();

    // What the last agent starts again when it ends is started again by one agent alone.
    let said = served.run(&builds[1], &["ps", "--json"]);
    assert!(said.stdout.contains("\"restarts\": 0"), "{}", said.stdout);
    assert_eq!(served.run(&builds[0], &["stop", "--all"]).stdout, "demo/staging is stopped\n");
    eventually("no agent is left", || served.agents().is_empty());
}
