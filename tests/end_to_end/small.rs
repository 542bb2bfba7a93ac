//! A project that is no more than a page, for tests of where it is served; and what asks for it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use pipe_tests::Project;
pub(super) use pipe_tests::{eventually, free_port};

/// Says its version.
const APP: &str = r#"
import http.server, os

VERSION = open("version").read().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (VERSION + " " + os.environ.get("COLOUR", "")).strip().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("serving", VERSION, flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// How its slug is built.
const STEPS: &str = r#"
[app]
name = "demo"

[source]
path = "src"

[steps.venv]
plugin = "files"
inputs = { trees = "source" }
config = { include = ["bin/**"], empty = true }

[steps.slug]
plugin = "slug"
inputs = { project = "source", venv = "venv" }
config = { processes = { web = "exec python3 app.py" } }
"#;

/// The project, whose page says `one`.
pub(super) fn project() -> Project {
    Project::new().file("src/app.py", APP).file("src/version", "one")
}

/// Gives the project its pipeline, with these targets.
pub(super) fn release_to(project: &Project, targets: &str) {
    project.write("release.pipeline", &format!("{STEPS}{targets}"));
}

/// What a page answers: its status line, and all that follows.
pub(super) fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("something listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")
        .expect("a request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer comes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The body of the page.
pub(super) fn page(port: u16) -> String {
    get(port, "/").split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
}

/// The body of the page of another host; nothing where it does not answer.
pub(super) fn page_of(host: Ipv4Addr, port: u16) -> String {
    let url = format!("http://{host}:{port}/");
    let asked = Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "5", &url]).output().expect("curl");
    String::from_utf8(asked.stdout).expect("text")
}
