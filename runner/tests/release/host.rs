//! A home directory with an agent of its own, slugs made by hand, and what a browser would see.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};

use runner::digest::Digest;
use runner::event::{Event, Events};
use runner::fetch::{FetchConfig, Fetcher};
use runner::lockfile::LockFile;
use runner::release::{
    self, CanaryWish, ConfigChange, Count, How, Place, ReleaseError, Released, Settings, SlugRef, Target,
};
use runner::runtime::{Kind, Resolver, Runtime, Wish};
use runner::slug::Manifest;
use runner::store::Store;
use runner::tree::Entry;
use tempfile::TempDir;

pub(crate) use pipe_tests::eventually;

/// The application of all slugs: says its version at `/`, and more elsewhere.
const APP: &str = r#"
import http.server, os, sys, time

VERSION = open("version").read().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.answer(200, str(sum(len(piece) for piece in iter(self.piece, b""))))

    def piece(self):
        if self.headers.get("transfer-encoding") != "chunked":
            self.left = getattr(self, "left", int(self.headers.get("content-length", 0)))
            piece = self.rfile.read(min(self.left, 65536))
            self.left -= len(piece)
            return piece
        piece = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return piece

    def echo(self):
        self.close_connection = True
        self.send_response(101)
        self.send_header("Connection", "upgrade")
        self.send_header("Upgrade", self.headers["upgrade"])
        self.end_headers()
        while piece := self.rfile.read1(65536):
            self.wfile.write(piece)

    def do_GET(self):
        status, text = 200, VERSION
        if self.headers.get("upgrade"):
            return self.echo()
        if self.path == "/pid":
            text = open("/proc/self/status").read().split("NSpid:")[1].split()[0]
        elif self.path == "/headers":
            text = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items())
        elif self.path == "/env":
            text = "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items()))
        elif self.path == "/long":
            text = VERSION * 10000
        elif self.path == "/pieces":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            return time.sleep(1000)
        elif self.path == "/slow":
            time.sleep(1)
        elif self.path == "/exit":
            os._exit(7)
        elif self.path.startswith("/write/"):
            path = self.path.removeprefix("/write/")
            with open(path, "a") as file:
                file.write("x")
            text = str(len(open(path).read()))
        elif self.path.startswith("/run/"):
            import subprocess, urllib.parse
            command = urllib.parse.unquote(self.path.removeprefix("/run/"))
            text = subprocess.run(command, shell=True, capture_output=True, text=True).stdout
        if self.headers.get("host", "").startswith("forbidden"):
            status = 400
        self.answer(status, text)

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("ETag", '"%s"' % VERSION)
        self.end_headers()
        self.wfile.write(body)

print("serving", VERSION, flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// What nobody cancels.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A home directory; with the value, everything in it is stopped.
pub(crate) struct Host {
    pub(crate) home: TempDir,
    store: Store,
    runtime: Digest,
    ports: Mutex<BTreeMap<String, u16>>,
}

/// A slug to be made.
pub(crate) struct Slug {
    pub(crate) version: &'static str,
    pub(crate) web: &'static str,
    pub(crate) worker: Option<&'static str>,
    pub(crate) environment: Vec<String>,
    /// Where its pages ask for static files.
    pub(crate) static_url: &'static str,
    /// What its second migration says.
    pub(crate) migration: Option<&'static str>,
}

/// A release with what was said on the way.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) result: Result<Released, ReleaseError>,
    pub(crate) output: String,
    pub(crate) warnings: String,
}

impl Slug {
    pub(crate) fn new(version: &'static str) -> Self {
        let (web, static_url) = ("exec python3 app.py", "/static/");
        Self { version, web, worker: None, environment: Vec::new(), static_url, migration: None }
    }

    pub(crate) fn web(version: &'static str, web: &'static str) -> Self {
        Self { web, ..Self::new(version) }
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        static EXE: Once = Once::new();
        #[expect(unsafe_code, reason = "set once, before any thread of these tests reads the environment")]
        // SAFETY: see above.
        EXE.call_once(|| unsafe { std::env::set_var("PIPE_EXE", env!("CARGO_BIN_EXE_pipe")) });
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let runtime = runtime(home.path(), &store);
        Self { home, store, runtime, ports: Mutex::default() }
    }

    /// Where its targets are.
    pub(crate) fn place(&self) -> Place {
        Place::here(self.home.path())
    }

    /// A target of the application `demo` with a port of its own.
    pub(crate) fn target(&self, name: &str) -> Target {
        let settings = Settings { address: Some(self.address(name)), ..Settings::default() };
        Target { app: "demo".into(), name: name.into(), settings }
    }

    /// An address of the loopback that is always the same for a name.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let mut ports = self.ports.lock().expect("no test failed here");
        let port = *ports.entry(name.to_owned()).or_insert_with(pipe_tests::free_port);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    pub(crate) fn slug(&self, slug: &Slug) -> SlugRef {
        let work = tempfile::tempdir().expect("a directory");
        let app = work.path().join("app");
        for dir in ["src/nested", "venv", "static/css"] {
            fs::create_dir_all(app.join(dir)).expect("a directory");
        }
        fs::write(app.join("src/app.py"), APP).expect("written");
        // Where settings say that static files are collected to, below what some targets keep.
        fs::create_dir(app.join("src/var")).expect("a directory");
        std::os::unix::fs::symlink("/app/static", app.join("src/var/static")).expect("a link");
        fs::create_dir(app.join("src/samples")).expect("a directory");
        fs::write(app.join("src/samples/cat.txt"), "meow").expect("written");
        fs::write(app.join("src/samples/views.py"), "").expect("written");
        fs::write(app.join("src/version"), slug.version).expect("written");
        fs::create_dir_all(app.join("src/polls/migrations")).expect("a directory");
        fs::write(app.join("src/polls/migrations/0001_initial.py"), "").expect("written");
        if let Some(migration) = slug.migration {
            fs::write(app.join("src/polls/migrations/0002_more.py"), migration).expect("written");
        }
        fs::write(app.join("static/css/base.0123456789ab.css"), "body {}").expect("written");
        fs::write(app.join("static/css/base.0123456789ab.css.gz"), "zipped").expect("written");
        fs::write(app.join("static/version"), slug.version).expect("written");
        fs::write(app.join(format!("static/{}.ba9876543210.js", slug.version)), slug.version).expect("written");
        let trees = self.store.import(&app).expect("a tree");
        let tree = |name: &str| match self.store.lookup(&trees, name).expect("a tree") {
            Some(Entry::Tree { digest }) => digest,
            other => panic!("{other:?}"),
        };
        let manifest = Manifest {
            app: "demo".into(),
            directory: String::new(),
            environment: slug.environment.clone(),
            format: 1,
            links: Vec::new(),
            platform: "linux-x86_64-gnu".into(),
            processes: [("web", Some(slug.web)), ("worker", slug.worker)]
                .into_iter()
                .filter_map(|(name, command)| Some((name.into(), command?.into())))
                .collect(),
            python: None,
            release: None,
            runtime: self.runtime,
            static_url: Some(slug.static_url.into()),
            trees: ["src", "static", "venv"].map(|name| (name.to_owned(), tree(name))).into(),
        };
        let manifest = serde_json::to_vec(&manifest).expect("plain data");
        fs::write(work.path().join("manifest.json"), &manifest).expect("written");
        let tree = self.store.import(work.path()).expect("a tree");
        // The agent is another process: what it is to read must be promised first.
        self.store.flush().expect("flushed");
        SlugRef { id: Digest::of(&manifest), tree }
    }

    pub(crate) fn release(&self, target: &Target, slug: &Slug) -> Said {
        let slug = self.slug(slug);
        said(|events| release::release(&self.place(), target, &slug, &How::Run, events, &NEVER))
    }

    /// A release that is cancelled as soon as an event is of some kind.
    pub(crate) fn release_until(&self, target: &Target, slug: &Slug, is_time: impl Fn(&Event) -> bool + Send) -> Said {
        let slug = self.slug(slug);
        let cancel = AtomicBool::new(false);
        let (events, read) = Events::channel();
        std::thread::scope(|scope| {
            let cancel = &cancel;
            let watcher = scope.spawn(move || {
                let seen: Vec<Event> = read
                    .map(|stamped| stamped.event)
                    .inspect(|event| cancel.store(cancel.load(Ordering::SeqCst) | is_time(event), Ordering::SeqCst))
                    .collect();
                seen
            });
            let result = release::release(&self.place(), target, &slug, &How::Run, &events, cancel);
            drop(events);
            Said::of(result, watcher.join().expect("events"))
        })
    }

    /// A release for a part of the clients.
    pub(crate) fn try_out(&self, target: &Target, slug: &Slug, portion: &str) -> Said {
        let (slug, portion) = (self.slug(slug), portion.parse().expect("a part"));
        said(|events| release::try_out(&self.place(), target, &slug, (&How::Release, Some(portion)), events, &NEVER))
    }

    /// What becomes of it.
    pub(crate) fn canary(&self, target: &Target, wish: CanaryWish) -> Result<Option<Released>, ReleaseError> {
        let (events, _read) = Events::channel();
        release::canary(&self.place(), &target.app, &target.name, wish, &events, &NEVER)
    }

    pub(crate) fn promote(&self, from: &str, target: &Target) -> Said {
        self.promote_release((from, None), target)
    }

    pub(crate) fn promote_release(&self, (from, number): (&str, Option<u64>), target: &Target) -> Said {
        let place = self.place();
        said(|events| release::promote((&place, from, number), (&place, target, None), events, &NEVER))
    }

    pub(crate) fn rollback(&self, target: &Target, number: Option<u64>) -> Said {
        said(|events| release::rollback(&self.place(), &target.app, &target.name, number, events, &NEVER))
    }

    pub(crate) fn scale(&self, target: &Target, counts: &[&str]) -> Said {
        let counts: Vec<Count> = counts.iter().map(|count| count.parse().expect("a count")).collect();
        said(|events| release::scale(&self.place(), &target.app, &target.name, counts, events, &NEVER))
    }

    /// Sets names of a target's config, or unsets those without a value; whether that made a release.
    pub(crate) fn configure(&self, target: &Target, changes: &[(&str, Option<&str>)]) -> Option<Released> {
        let values = changes.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        let change = ConfigChange { values, is_import: false };
        let (events, _read) = Events::channel();
        let changed = release::configure(&self.place(), &target.app, &target.name, change, &events, &NEVER);
        changed.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
    }

    /// Changes a file of the source of the slug that was made last, where it is laid out.
    pub(crate) fn damage(&self, name: &str, content: &str) {
        let trees = self.home.path().join("store/pool/trees");
        let newest = fs::read_dir(trees)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path().join(name))
            .filter(|path| path.exists())
            .max_by_key(|path| fs::metadata(path.parent().expect("a directory")).and_then(|meta| meta.modified()).ok())
            .expect("a file");
        // As a disk does it: no time and no owner tells of it.
        let before = fs::metadata(&newest).expect("a file");
        let changed = before.modified().expect("a time");
        fs::remove_file(&newest).expect("removed");
        fs::write(&newest, content).expect("written");
        std::os::unix::fs::chown(&newest, Some(before.uid()), Some(before.gid())).expect("its owner");
        fs::File::options().write(true).open(&newest).and_then(|file| file.set_modified(changed)).expect("a time");
    }

    /// Changes a byte of a text wherever the store itself holds it.
    pub(crate) fn damage_store(&self, text: &str) {
        let mut changed = 0;
        let mut directories = vec![self.home.path().join("store")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.extend((!path.ends_with("pool")).then_some(path));
                    continue;
                }
                let mut bytes = fs::read(&path).expect("a file");
                if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
                    bytes[at] ^= 1;
                    fs::write(&path, bytes).expect("written");
                    changed += 1;
                }
            }
        }
        assert!(changed > 0, "the store holds it nowhere");
    }

    /// The id of the agent's process.
    pub(crate) fn agent(&self) -> Option<u32> {
        let locks = fs::read_to_string("/proc/locks").expect("the locks");
        let inode = {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(self.home.path().join("agent/lock")).expect("a lock").ino()
        };
        let line = locks.lines().find(|line| line.contains(&format!(":{inode} ")))?;
        line.split_whitespace().nth(4)?.parse().ok()
    }

    /// Directories of processes that are there, or were not cleared up.
    pub(crate) fn instances(&self) -> Vec<PathBuf> {
        fs::read_dir(self.home.path().join("agent/run"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }
}

/// The machine's own runtime, by its digest.
fn runtime(home: &Path, store: &Store) -> Digest {
    let wish = Wish { kind: Kind::Host { python: None }, python: Some("3.11".into()), tools: BTreeMap::new() };
    let fetcher = Fetcher::new(FetchConfig::default(), store.clone()).expect("a fetcher");
    let resolver = Resolver { store, home, fetcher: &fetcher, lock: &LockFile::beside(home), locked: false };
    Runtime::resolve(&wish, &resolver).expect("a runtime").digest()
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that has failed already is to say why by itself.
        let _ = release::stop(&self.place(), None);
    }
}

fn said(work: impl FnOnce(&Events) -> Result<Released, ReleaseError>) -> Said {
    let (events, read) = Events::channel();
    let result = work(&events);
    drop(events);
    Said::of(result, read.into_iter().map(|stamped| stamped.event))
}

impl Said {
    fn of(result: Result<Released, ReleaseError>, events: impl IntoIterator<Item = Event>) -> Self {
        let (mut output, mut warnings) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::ReleaseOutput { text, .. } => output.push(text),
                Event::Warning { message, hint } => warnings.extend([message, hint.unwrap_or_default()]),
                _ => {}
            }
        }
        Self { result, output: output.join("\n"), warnings: warnings.join("\n") }
    }

    #[track_caller]
    pub(crate) fn up(self) -> Released {
        self.result.unwrap_or_else(|error| panic!("{error}: {:?} {:?}", error.hint(), error.output()))
    }

    #[track_caller]
    pub(crate) fn refused(self) -> ReleaseError {
        match self.result {
            Ok(released) => panic!("{released:?}"),
            Err(error) => error,
        }
    }
}

/// The answer to a request, with its head; nothing where nobody listens.
pub(crate) fn request(target: &Target, path: &str, headers: &str) -> Option<String> {
    let address = target.settings.address.expect("an address");
    sent(target, path, &format!("Host: {address}\r\n{headers}"))
}

/// The answer to a request for another name.
pub(crate) fn request_of(target: &Target, path: &str, name: &str) -> Option<String> {
    sent(target, path, &format!("Host: {name}\r\n"))
}

fn sent(target: &Target, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(target.settings.address.expect("an address")).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The body of a page.
#[track_caller]
pub(crate) fn page(target: &Target, path: &str) -> String {
    let answer = request(target, path, "").expect("an answer");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
}
