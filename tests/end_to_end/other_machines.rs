//! Targets on a host that is reached over SSH, with a real sshd: what gets there, what does not, and what goes on over there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pipe_tests::{Outcome, Project, Said, Sshd, is_root};
use serde_json::Value;

use super::small::{self, eventually, free_port, page};

/// A project with a target here and one on a host.
pub(super) struct Two {
    pub(super) project: Project,
    pub(super) sshd: Sshd,
    pub(super) port: u16,
}

impl Two {
    /// The host is set up, and nothing was released.
    pub(super) fn new() -> Self {
        let two = Self::without_setup();
        two.run(["target", "add", "production", &two.address(), "--no-boot"]).success();
        two
    }

    fn without_setup() -> Self {
        Self::with(Sshd::start())
    }

    fn with(sshd: Sshd) -> Self {
        let two = Self { project: small::project(), sshd, port: free_port() };
        let targets = format!(
            r#"
[targets.staging]
driver = "local"
release = "slug"
address = "127.0.0.1:{}"

[targets.production]
driver = "ssh"
server = "{}"
promote = "staging"
address = "127.0.0.1:{}"
"#,
            free_port(),
            two.address(),
            two.port
        );
        small::release_to(&two.project, &targets);
        two
    }

    /// Where the host keeps pipe's data.
    pub(super) fn home(&self) -> PathBuf {
        self.project.path().join("../host")
    }

    pub(super) fn address(&self) -> String {
        self.sshd.address(&self.project.path().parent().expect("a directory").join("host"))
    }

    pub(super) fn run<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.project.run_with(&[("PIPE_SSH", &self.sshd.client())], args)
    }

    /// Builds the version of the source, runs it here, and promotes it to the host.
    pub(super) fn promote(&self) -> Said {
        self.run(["run", "--json"]).success();
        self.run(["promote", "staging", "production", "--json"]).success()
    }

    pub(super) fn page(&self) -> String {
        page(self.port)
    }

    pub(super) fn releases(&self) -> Vec<Value> {
        let said = self.run(["releases", "production", "--json"]).success();
        serde_json::from_str(&said.stdout).expect("JSON")
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        // The test has ended, well or not; what runs at the host must not outlive it.
        let _ = self.project.command().env("PIPE_HOME", self.home()).args(["stop", "--all"]).output();
    }
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn sent(said: &Said) -> u64 {
    let events = said.events();
    let event = events.iter().find(|event| event["event"] == "slug-sent").expect("a slug was sent");
    event["bytes"].as_u64().expect("a number")
}

#[test]
fn a_host_is_set_up_with_one_command_and_takes_releases_like_this_machine() {
    let two = Two::without_setup();
    let said = two.run(["target", "add", "production", &two.address(), "--no-boot"]).success();
    assert!(said.stdout.contains("is set up: Linux"), "{}", said.stdout);
    assert!(said.stdout.contains("SHA256:"), "the key by which the host is known: {}", said.stdout);
    let known = two.run(["target", "list"]).success().stdout;
    assert!(known.contains("demo/production") && known.contains("SHA256:"), "{known}");

    two.promote();
    assert_eq!(two.page(), "one");
    two.project.write("src/version", "two");
    two.promote();
    assert_eq!(two.page(), "two");
    assert!(two.run(["ps"]).success().stdout.contains("demo/production"));

    two.run(["rollback", "production"]).success();
    assert_eq!(two.page(), "one");
    let told: Vec<String> = two.releases().iter().map(|release| release["how"].to_string()).collect();
    assert_eq!(told, ["\"rolled back to 1\"", "\"promoted from staging 2\"", "\"promoted from staging 1\""]);
    assert_eq!(two.releases()[0]["outcome"], "serves");

    let logs = two.run(["logs", "production", "--release", "2"]).success().stdout;
    assert!(logs.contains("serving two"), "{logs}");

    two.run(["config", "production", "set", "COLOUR=green"]).success();
    assert_eq!(two.page(), "one green");
    assert_eq!(two.run(["config", "production", "export"]).success().stdout, "COLOUR=\"green\"\n");
    let said = two.run(["diff", "staging@1", "production"]).success().stdout;
    assert!(said.lines().any(|line| line == "  + COLOUR  set") && !said.contains("green"), "{said}");
    let said = two.run(["diff", "production@3", "production"]).success().stdout;
    assert_eq!(said, "config\n  + COLOUR  set\n", "of an earlier release it is what that had");
    two.run(["scale", "production", "web=2"]).success();
    assert!(two.run(["scale", "production"]).success().stdout.starts_with("web=2"));
    let place = two.run(["exec", "production", "--", "sh", "-c", "pwd; echo it\\'s $COLOUR; exit 3"]).code(3).stdout;
    assert_eq!(place, "/app/src\nit's green\n");

    two.run(["stop", "production"]).success();
    assert!(TcpStream::connect(("127.0.0.1", two.port)).is_err(), "it was stopped");
}

/// Only root may make such a host.
#[test]
fn a_host_in_a_network_of_its_own_serves_there_and_not_here() {
    if !is_root() {
        return;
    }
    let two = Two::with(Sshd::start_apart());
    let own = format!("address = \"{}:{}\"", two.sshd.host(), two.port);
    two.project.edit("release.pipeline", &format!("address = \"127.0.0.1:{}\"", two.port), &own);
    two.run(["target", "add", "production", &two.address(), "--no-boot"]).success();
    two.promote();
    let page = || small::page_of(two.sshd.host(), two.port);
    assert_eq!(page(), "one");
    assert!(TcpStream::connect(("127.0.0.1", two.port)).is_err(), "this machine has no such port");
    two.project.write("src/version", "two");
    two.promote();
    assert_eq!(page(), "two");
    two.run(["rollback", "production"]).success();
    assert_eq!(page(), "one");
}

#[test]
fn a_program_over_there_ends_with_the_command_here() {
    let two = Two::new();
    two.promote();
    let mut command = two.project.command();
    command.args(["exec", "production", "--", "sh", "-c", "echo up; exec sleep 61347"]);
    command.env("PIPE_SSH", two.sshd.client()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut exec = command.spawn().expect("a command");
    let mut up = [0; 3];
    exec.stdout.as_mut().expect("its output").read_exact(&mut up).expect("a line");
    let runs = || {
        let lines = fs::read_dir("/proc").expect("processes").flatten();
        lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(|line| line == b"sleep\x0061347\0")
    };
    assert_eq!(&up, b"up\n");
    eventually("it runs", runs);
    // Its input stays open: nothing but the end of the connection tells of it.
    let input = exec.stdin.take();
    exec.kill().and_then(|()| exec.wait()).expect("it ends");
    eventually("it has ended", || !runs());
    drop(input);
}

#[test]
fn a_target_that_is_removed_leaves_its_data_until_that_goes_too() {
    let two = Two::new();
    two.promote();
    let kept = two.home().join("targets/demo/production");
    assert!(kept.exists());
    let said = two.run(["target", "remove", "production"]).success().stdout;
    assert!(said.contains("demo/production is stopped"), "{said}");
    assert!(
        said.contains(&format!("in {}, 1 releases, and 0 variables", kept.canonicalize().expect("a path").display())),
        "{said}"
    );
    assert!(TcpStream::connect(("127.0.0.1", two.port)).is_err(), "it was stopped");
    assert!(!two.run(["target", "list"]).success().stdout.contains("production"));
    assert_eq!(two.releases().len(), 1);

    // It is there as it was; then all of it goes.
    two.run(["promote", "staging", "production"]).success();
    assert_eq!((two.page(), two.releases().len()), ("one".to_owned(), 2));
    let said = two.run(["target", "remove", "production", "--data"]).success().stdout;
    assert!(said.contains("are removed"), "{said}");
    let home = two.home().canonicalize().expect("a path");
    assert!(said.contains(&format!("share stays there: `pipe` and its store in {}; `rm -r", home.display())), "{said}");
    assert!(!kept.exists() && TcpStream::connect(("127.0.0.1", two.port)).is_err());
    assert_eq!(two.releases(), Vec::<Value>::new());
    two.run(["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "one");

    // A host that is gone for good.
    let mut two = two;
    two.sshd.stop();
    let said = two.run(["target", "remove", "production"]).code(5).stderr;
    assert!(said.contains("cannot be reached"), "{said}");
    let said = two.run(["target", "remove", "production", "--forget"]).success().stdout;
    assert!(said.contains("does not know any more"), "{said}");
}

#[test]
fn after_a_change_only_what_changed_is_sent() {
    let two = Two::new();
    let mut bundle = noise(1, 8 << 20);
    fs::write(two.project.path().join("src/bundle.0123.js"), &bundle).expect("written");
    let first = sent(&two.promote());
    assert!(first > 8 << 20, "all of it was sent: {first}");

    two.project.write("src/version", "two");
    let line = sent(&two.promote());
    assert!(line < 4_000, "one line was changed, and {line} bytes were sent");

    // One line more in the middle of a large file, which has another name now.
    bundle.splice(3_000_000..3_000_000, *b"one more line\n");
    fs::remove_file(two.project.path().join("src/bundle.0123.js")).expect("removed");
    fs::write(two.project.path().join("src/bundle.4567.js"), &bundle).expect("written");
    two.project.write("src/version", "three");
    let middle = sent(&two.promote());
    assert!(middle < 200_000, "one line was put in, and {middle} bytes were sent");
    assert_eq!(two.page(), "three");

    two.run(["rollback", "production"]).success();
    let again = sent(&two.promote());
    assert!(again < 2_000, "all of it was there, and {again} bytes were sent");
}

#[test]
fn what_is_damaged_over_there_is_refused_and_comes_anew() {
    let two = Two::new();
    two.promote();
    two.project.write("src/version", "another-version");
    two.run(["run"]).success();
    let mut damaged = 0;
    for segment in fs::read_dir(two.home().join("store/segments")).expect("segments") {
        let path = segment.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(12).position(|window| window == b"import http.") {
            bytes[at] ^= 1;
            fs::write(&path, bytes).expect("written");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    // The file that is laid out is whole, and so is its link in another tree; only where it has to be made anew it is missed.
    fs::remove_dir_all(two.home().join("store/pool")).expect("the pool can be thrown away");
    let said = two.run(["promote", "staging", "production"]).code(7);
    assert!(said.stderr.contains("is damaged"), "{}", said.stderr);
    assert_eq!(two.page(), "one");
    two.run(["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "another-version");
}

#[test]
fn a_connection_that_is_lost_on_the_way_leaves_no_release_and_what_came_need_not_come_again() {
    let two = Two::new();
    for number in 0..8 {
        let path = two.project.path().join(format!("src/picture{number}"));
        fs::write(path, noise(number, 2 << 20)).expect("written");
    }
    two.run(["run"]).success();
    let mut promote = two.project.command();
    promote.env("PIPE_SSH", two.sshd.client_that_stalls(10 << 20)).args(["promote", "staging", "production"]);
    let promote = promote.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pipe runs");
    let blobs = || fs::read_dir(two.home().join("store/blobs")).map_or(0, Iterator::count);
    eventually("some of it is there", || blobs() >= 2);
    two.sshd.cut();
    let output = promote.wait_with_output().expect("pipe ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("was lost"), "{said}");
    assert_eq!(two.releases(), Vec::<Value>::new());

    let rest = sent(&two.run(["promote", "staging", "production", "--json"]).success());
    // Of eight pictures of 2 MiB two need not come again, or more.
    assert!(rest < 13 << 20, "{rest}");
    assert_eq!(two.page(), "one");
}

#[test]
fn a_release_is_undone_where_nobody_wants_it_any_more_or_the_connection_is_lost() {
    let two = Two::new();
    two.promote();
    two.project.write("src/version", "two");
    let commands = "promote = \"staging\"\nrelease-commands = [\"echo begun; sleep 1000\"]";
    two.project.edit("release.pipeline", "promote = \"staging\"", commands);
    two.run(["run"]).success();
    let begin = |release: u32| {
        let mut promote = two.project.command();
        promote.env("PIPE_SSH", two.sshd.client()).args(["promote", "staging", "production"]);
        let promote = promote.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pipe runs");
        let log = two.home().join(format!("targets/demo/production/logs/{release}-release.log"));
        eventually("it has begun", || fs::read_to_string(&log).is_ok_and(|log| log.contains("begun")));
        promote
    };
    let promote = begin(2);
    let told = Command::new("sh").args(["-c", &format!("kill -INT {}", promote.id())]).status().expect("kill runs");
    assert!(told.success());
    let output = promote.wait_with_output().expect("pipe ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(two.releases()[0]["outcome"], "failed");

    let promote = begin(3);
    two.sshd.cut();
    let output = promote.wait_with_output().expect("pipe ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("release 3 of `production` is undone: cancelled"), "{said}");
    assert_eq!(two.releases()[0]["outcome"], "failed");
    assert_eq!(two.page(), "one");
    assert_eq!(two.releases()[2]["outcome"], "serves");
}

#[test]
fn a_host_that_cannot_write_says_so_and_nothing_is_released() {
    let mut two = Two::new();
    for number in 0..8 {
        let path = two.project.path().join(format!("src/film{number}"));
        fs::write(path, noise(number, 6 << 20)).expect("written");
    }
    two.run(["run"]).success();
    two.sshd.limit_files(4 << 10);
    let said = two.run(["promote", "staging", "production"]).code(5).stderr;
    assert!(said.contains("store: cannot write") && said.contains("hint: "), "{said}");
    assert_eq!(two.releases(), Vec::<Value>::new());
    two.sshd.limit_files(1 << 20);
    two.run(["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "one");
}

#[test]
fn what_is_wrong_with_a_host_is_told_with_what_to_do() {
    let mut two = Two::without_setup();
    two.run(["run"]).success();
    let promote = |two: &Two| two.run(["promote", "staging", "production"]).code(5).stderr;
    let said = promote(&two);
    assert!(said.contains("is not set up") && said.contains("pipe target add"), "{said}");

    // Connections that are there already were made before.
    two.sshd.cut();
    two.sshd.know("");
    let said = promote(&two);
    assert!(said.contains("is not known") && said.contains("ssh -p "), "{said}");
    assert!(
        two.run(["target", "add", "production", &two.address(), "--no-boot"]).code(5).stderr.contains("is not known")
    );
    two.sshd.know(&two.sshd.other_key());
    assert!(promote(&two).contains("is not the one that it had before"));
    two.sshd.know(&two.sshd.public_key());

    two.sshd.instead_of("uname", "case $1 in -s) echo Linux ;; *) echo riscv64 ;; esac");
    let said = two.run(["target", "add", "production", &two.address(), "--no-boot"]).code(5).stderr;
    assert!(said.contains("another kind of machine: it is Linux riscv64"), "{said}");
    two.sshd.instead_of("uname", "exec /usr/bin/uname \"$@\"");

    // As one of another day would answer, or one that greets.
    two.project.write("../host/bin/pipe", "#!/bin/sh\necho hello\necho pipe agent 3 0.0.9\ncat >/dev/null\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(two.home().join("bin/pipe"), mode).expect("a mode");
    let said = promote(&two);
    assert!(said.contains("of another version (3 0.0.9)") && said.contains("pipe target add"), "{said}");
    two.run(["target", "add", "production", &two.address(), "--no-boot"]).success();
    two.run(["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "one");

    two.sshd.cut();
    two.sshd.lock_out();
    let said = promote(&two);
    assert!(said.contains("does not let you in"), "{said}");
    two.sshd.stop();
    let said = promote(&two);
    assert!(said.contains("cannot be reached"), "{said}");
    // What runs here is seen all the same.
    let said = two.run(["ps"]).success();
    assert!(said.stdout.contains("demo/staging") && said.stderr.contains("cannot be reached"), "{}", said.stderr);
}

/// A file system of its own in the place of a directory, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn of(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).expect("a directory");
        let at = at.canonicalize().expect("a path");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&at).status();
        assert!(made.is_ok_and(|status| status.success()), "root may mount");
        Self(at)
    }

    /// Leaves no room.
    fn fill(&self) {
        let zeros = vec![0; 1 << 16];
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("a file");
        while ballast.write_all(&zeros).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root: `make torture`"]
fn a_host_whose_disk_is_full_serves_on_and_says_so() {
    let two = Two::without_setup();
    let disk = Disk::of(&two.home(), "512M");
    // What runs there ends before its disk goes, however the test ends.
    let two = two;
    two.run(["target", "add", "production", &two.address(), "--no-boot"]).success();
    two.promote();
    two.project.write("src/version", "two");
    // More than a host keeps back for such a day.
    fs::write(two.project.path().join("src/noise"), noise(1, 8 << 20)).expect("written");
    two.run(["run", "--json"]).success();
    disk.fill();
    let said = two.run(["promote", "staging", "production"]).code(5);
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    assert!(said.stderr.contains("on that host, free some space (`pipe store gc`"), "{}", said.stderr);
    assert_eq!(two.page(), "one");
    for look in ["ps", "logs", "releases"] {
        two.run([look, "production"]).success();
    }
    assert_eq!(two.run(["exec", "production", "--", "echo", "here"]).success().stdout, "here\n");
    two.run(["config", "production", "set", "COLOUR=green"]).code(7);
    two.run(["scale", "production", "web=2"]).code(7);
    assert_eq!((two.page(), two.releases().len()), ("one".to_owned(), 1));
    two.run(["stop", "production"]).success();

    disk.free();
    two.run(["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "two");
    two.run(["stop", "production"]).success();
}
