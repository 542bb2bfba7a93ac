//! Releases of `pipe` itself, made as CI makes them and served by a real nginx: what is installed, what takes an older one's place,
//! and what does not.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pipe_tests::{Outcome, Project, needs};

use super::small::{eventually, free_port};

const NGINX: &str = "/usr/sbin/nginx";

/// A release address, and a `pipe` that looks there.
struct Releases {
    project: Project,
    port: u16,
    nginx: Child,
}

impl Releases {
    fn new() -> Self {
        needs(NGINX);
        let (project, port) = (Project::new(), free_port());
        let at = |name: &str| project.path().join(name);
        for directory in ["served", "bin"] {
            fs::create_dir(at(directory)).expect("a directory");
        }
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nevents {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path {tmp};\n  \
             proxy_temp_path {tmp};\n  fastcgi_temp_path {tmp};\n  uwsgi_temp_path {tmp};\n  scgi_temp_path {tmp};\n  \
             server {{ listen 127.0.0.1:{port}; root {}; }}\n}}\n",
            at("nginx.pid").display(),
            at("served").display(),
            tmp = at("tmp").display()
        );
        fs::write(at("nginx.conf"), config).expect("written");
        let mut nginx = Command::new(NGINX);
        nginx.arg("-c").arg(at("nginx.conf")).args(["-e", "stderr"]).stdin(Stdio::null()).stderr(Stdio::null());
        let nginx = nginx.spawn().expect("nginx starts");
        eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let releases = Self { project, port, nginx };
        releases.new_key("key");
        fs::copy(releases.project.command().get_program(), releases.program()).expect("copied");
        fs::set_permissions(releases.program(), fs::Permissions::from_mode(0o751)).expect("a mode");
        releases
    }

    fn at(&self, name: &str) -> PathBuf {
        self.project.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.at("bin/pipe")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A key to sign with, and beside it what it is known by.
    fn new_key(&self, name: &str) {
        let openssl = |args: &[&str]| {
            let done =
                Command::new("openssl").args(args).current_dir(self.project.path()).output().expect("openssl runs");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", name]);
        openssl(&["pkey", "-in", name, "-pubout", "-out", &format!("{name}.pub")]);
    }

    /// Makes a release of a program that says this.
    fn release(&self, says: &str) {
        let program = self.at("program");
        fs::write(&program, format!("#!/bin/sh\necho '{says}'\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/release");
        let mut release = Command::new(script);
        release.arg(self.at("key")).arg(self.url()).arg(self.at("served")).arg(program);
        drop(Outcome::of(release).success());
    }

    fn update(&self, args: &[&str]) -> Outcome {
        let plain = self.project.command();
        let mut command = Command::new(self.program());
        command.arg("update").args(args).current_dir(self.project.path()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PIPE_RELEASES", self.url());
        Outcome::of(command)
    }

    /// Nothing is replaced, and nothing is left beside the program.
    #[track_caller]
    fn refused(&self, args: &[&str], code: i32, parts: &[&str]) {
        let before = fs::read(self.program()).expect("a program");
        let said = self.update(args).code(code).stderr;
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(before == fs::read(self.program()).expect("a program"), "{args:?} has replaced it");
        self.nothing_is_left();
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        let names =
            fs::read_dir(self.at("bin")).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["pipe"]);
    }

    fn says(&self) -> String {
        let output = Command::new(self.program()).arg("--version").output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The line that the README has for who has no `pipe` yet.
    fn install(&self) -> Outcome {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("curl -fsSL {}/install.sh | sh", self.url())]);
        Outcome::of({
            shell.env("PIPE_BIN", self.at("elsewhere"));
            shell
        })
    }
}

impl Drop for Releases {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

#[test]
fn an_older_pipe_becomes_the_newest_one_that_is_signed() {
    let releases = Releases::new();
    releases.release("pipe 98.0.0");
    releases.release("pipe 99.1.0");
    let own = releases.says();
    let said = releases.update(&["--key", "key.pub", "--check"]).success().stdout;
    assert!(said.starts_with("pipe 99.1.0 is there, and this is "), "{said}");
    assert_eq!(releases.says(), own);
    let said = releases.update(&["--key", "key.pub"]).success().stdout;
    assert!(said.contains("bin/pipe is pipe 99.1.0 now; it was "), "{said}");
    assert_eq!(releases.says(), "pipe 99.1.0");
    assert_eq!(fs::metadata(releases.program()).expect("a program").permissions().mode() & 0o7777, 0o751);
    releases.nothing_is_left();
}

#[test]
fn what_is_older_has_to_be_asked_for() {
    let releases = Releases::new();
    releases.release("pipe 0.0.2");
    releases.release("pipe 0.0.1");
    releases.refused(&["--key", "key.pub"], 2, &["version 0.0.1 is the newest there", "`--to 0.0.1` goes back to it"]);
    releases.refused(&["--key", "key.pub", "--to", "0.0.3"], 5, &["404"]);
    releases.refused(&["--key", "key.pub", "--to", "old"], 2, &["`old` is no version"]);
    let own = releases.says();
    let current = own.strip_prefix("pipe ").expect("a version");
    releases.release(&own);
    assert!(releases.update(&["--key", "key.pub"]).success().stdout.contains("already"));
    assert!(releases.update(&["--key", "key.pub", "--to", current]).success().stdout.contains("already"));
    drop(releases.update(&["--key", "key.pub", "--to", "0.0.2"]).success());
    assert_eq!(releases.says(), "pipe 0.0.2");
}

#[test]
fn what_is_not_signed_or_damaged_or_does_not_run_replaces_nothing() {
    let releases = Releases::new();
    releases.release("pipe 99.0.0");
    releases.new_key("other");
    releases.refused(&["--key", "other.pub"], 5, &["is not to be believed", "not one of the key that is known"]);
    releases.refused(&["--key", "key"], 2, &["it is a private key"]);
    releases.refused(&[], 2, &["no key is known", "`--key`"]);
    releases.refused(&["--key", "key.pub", "--from", "http://127.0.0.1:1"], 5, &["cannot fetch"]);

    let manifest = releases.at("served/pipe.release");
    let signed = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, signed.replace("99.0.0", "99.0.1")).expect("written");
    releases.refused(&["--key", "key.pub"], 5, &["is not to be believed"]);
    fs::write(&manifest, signed).expect("written");
    // One that was signed, and is another than it is asked for as.
    fs::create_dir(releases.at("served/98.0.0")).expect("a directory");
    fs::copy(&manifest, releases.at("served/98.0.0/pipe.release")).expect("copied");
    releases.refused(&["--key", "key.pub", "--to", "98.0.0"], 5, &["gives version 99.0.0 as 98.0.0"]);

    let packed = releases.at(&format!("served/99.0.0/pipe-linux-{}.gz", std::env::consts::ARCH));
    let mut bytes = fs::read(&packed).expect("a program");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&packed, bytes).expect("written");
    releases.refused(&["--key", "key.pub"], 5, &["gives other bytes than were signed"]);
    assert!(releases.install().code(1).stderr.contains("gives other bytes"));
    assert!(!releases.at("elsewhere/pipe").exists());

    // One that says that it is another where it is not tried out.
    releases.release("pipe 99.2.0");
    let program =
        "#!/bin/sh\n[ \"$0\" = \"${0%.pipe-*}\" ] || { echo no such library >&2; exit 127; }\necho 'pipe 99.3.0'\n";
    fs::write(releases.at("program"), program).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/release");
    let mut release = Command::new(script);
    release.arg(releases.at("key")).arg(releases.url()).arg(releases.at("served")).arg(releases.at("program"));
    drop(Outcome::of(release).success());
    releases.refused(&["--key", "key.pub"], 5, &["version 99.3.0 does not run here", "no such library"]);
}

#[test]
fn one_line_installs_it() {
    let releases = Releases::new();
    releases.release("pipe 99.0.0");
    let said = releases.install().success().stdout;
    assert!(said.contains("pipe 99.0.0 is in ") && said.contains("is not in PATH yet"), "{said}");
    let program = releases.at("elsewhere/pipe");
    let output = Command::new(&program).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pipe 99.0.0\n");
    assert_eq!(fs::read_dir(releases.at("elsewhere")).expect("a directory").count(), 1);

    fs::remove_file(&program).expect("removed");
    let script = fs::read_to_string(releases.at("served/install.sh")).expect("a script");
    let elsewhere = script.replace(std::env::consts::ARCH, "riscv64");
    fs::write(releases.at("served/install.sh"), elsewhere).expect("written");
    assert!(releases.install().code(1).stderr.contains("there is no pipe 99.0.0 for linux-"));
    assert!(!program.exists());
}
