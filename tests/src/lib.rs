//! A project in a directory of its own, and `pipe` run on it as a user would: the real binary, a `PIPE_HOME` of its own, and
//! nothing of this process's environment that could be felt.
//!
//! ```no_run
//! use pipe_tests::Project;
//!
//! let project = Project::new().file("a.txt", "hello").pipeline("[app]\nname = \"hello\"\n");
//! project.run(["run", "--no-release"]).success();
//! ```

mod browser;
mod machine;
mod network;
mod port;
mod sshd;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use browser::Browser;
pub use machine::Machine;
pub use port::free_port;
pub use sshd::Sshd;

/// A project and a home for `pipe`, both gone when it is dropped.
pub struct Project {
    scratch: TempDir,
}

/// What `pipe` ended with. It says nothing until it is asked whether that was right.
#[must_use = "say whether this was to succeed or to fail"]
pub struct Outcome {
    command: String,
    output: Output,
}

/// What `pipe` wrote, once its exit code was as wanted.
pub struct Said {
    /// On standard output.
    pub stdout: String,
    /// On standard error.
    pub stderr: String,
}

impl Project {
    /// An empty project.
    #[expect(clippy::new_without_default, reason = "a test's project is never one by default")]
    pub fn new() -> Self {
        install();
        let scratch = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir(scratch.path().join("project")).expect("a project directory");
        Self { scratch }
    }

    /// The application in `pipelines/`, with its pipeline.
    pub fn example() -> Self {
        let project = Self::new();
        let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
        let copied = Command::new("cp").arg("-a").arg(pipelines.join(".")).arg(project.path()).status();
        assert!(copied.expect("cp runs").success());
        project
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, content: &str) -> Self {
        self.write(path, content);
        self
    }

    /// Adds the pipeline.
    #[must_use]
    pub fn pipeline(self, text: &str) -> Self {
        self.file("release.pipeline", text)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a path in the project")).expect("a directory");
        fs::write(path, content).expect("a file is written");
    }

    /// Replaces a part of a file, which must be there.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path().join(path)).expect("a file to edit");
        assert!(text.contains(from), "`{path}` holds no `{from}`");
        self.write(path, &text.replace(from, to));
    }

    /// The project's directory.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("project")
    }

    /// The directory with pipe's data.
    pub fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    /// Runs `pipe` in the project.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.run_in("", args)
    }

    /// Runs `pipe` in a directory of the project.
    pub fn run_in<A: AsRef<OsStr>>(&self, directory: &str, args: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = self.command();
        command.current_dir(self.path().join(directory)).args(args);
        Outcome::of(command)
    }

    /// Runs `pipe` in the project with more in its environment.
    pub fn run_with<A: AsRef<OsStr>>(&self, variables: &[(&str, &str)], args: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = self.command();
        command.envs(variables.iter().copied()).args(args);
        Outcome::of(command)
    }

    /// `pipe` with nothing of this process's environment but what finds programs and registries.
    pub fn command(&self) -> Command {
        let mut command = Command::new(pipe());
        command.current_dir(self.path()).env_clear().env("PIPE_HOME", self.home()).env("HOME", self.scratch.path());
        let kept = |name: &str| {
            let registry = ["PIP_", "UV_", "SSL_", "npm_config_"].iter().any(|start| name.starts_with(start));
            registry || name == "PATH" || name.to_ascii_lowercase().ends_with("_proxy")
        };
        command.envs(std::env::vars().filter(|(name, _)| kept(name)));
        command
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.home().join("agent").exists() {
            // The test has ended, well or not; what it started must not outlive it.
            let _ = self.command().args(["stop", "--all"]).output();
        }
    }
}

/// The binary that was built beside these tests.
fn pipe() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("tests are two levels below the profile's directory").join("pipe")
}

impl Outcome {
    /// Of a command that is run to its end.
    pub fn of(mut command: Command) -> Self {
        let output = command.output().expect("`make build` has built pipe");
        Self { command: format!("{command:?}"), output }
    }

    /// It did what it was asked to.
    pub fn success(self) -> Said {
        self.code(0)
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&self.output.stdout), text(&self.output.stderr));
        let ended = self.output.status.code();
        assert_eq!(ended, Some(code), "{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.command);
        Said { stdout, stderr }
    }
}

impl Said {
    /// The events of a run with `--json`.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }

    /// The last event of a run with `--json`.
    pub fn end(&self) -> Value {
        self.events().pop().expect("a run has a last event")
    }

    /// The steps of a run with `--json` that ended so, in order of their names.
    pub fn steps(&self, outcome: &str) -> Vec<String> {
        let mut steps: Vec<String> = self
            .events()
            .iter()
            .filter(|event| event["event"] == "step-finished" && event["outcome"] == outcome)
            .map(|event| event["step"].as_str().unwrap_or_default().to_owned())
            .collect();
        steps.sort();
        steps
    }
}

/// The programs of others that tests start, and Debian's packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("/usr/sbin/sshd", "openssh-server openssh-client"),
    ("/usr/sbin/nginx", "nginx-light"),
    ("/usr/sbin/cron", "cron"),
    ("/usr/bin/pebble", "pebble"),
    ("/usr/bin/wrk", "wrk"),
    ("/usr/bin/chromedriver", "chromium chromium-driver"),
    ("/usr/sbin/ip", "iproute2"),
];

/// The same, of `make torture` only.
const OF_TORTURE: [(&str, &str); 1] = [(machine::PROGRAM, "systemd-container libpam-systemd dbus")];

/// Installs the programs that are not there, in a container, by who is root or becomes it without being asked; elsewhere that is for
/// whoever the machine belongs to. All of them before any test begins: programs that come to the machine make another runtime.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let of_torture = OF_TORTURE.iter().filter(|_| std::env::var_os("PIPE_TORTURE").is_some());
        let missing: Vec<&str> = PROGRAMS
            .iter()
            .chain(of_torture)
            .filter(|(program, _)| !Path::new(program).exists())
            .map(|(_, packages)| *packages)
            .collect();
        let is_container = !Path::new("/run/systemd/system").exists();
        if !missing.is_empty() && is_container {
            let script = format!(
                "apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
                 --no-install-recommends {}",
                missing.join(" ")
            );
            let as_root = if is_root() { &["sh", "-c"][..] } else { &["sudo", "-n", "sh", "-c"] };
            let _ = Command::new(as_root[0]).args(&as_root[1..]).arg(script).stdout(Stdio::null()).status();
        }
    });
}

/// Whether the tests are root's.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Waits until something is so; only a test that fails waits for long.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says what to install where a program that a test needs is not there.
pub fn needs(program: &str) {
    install();
    let mut known = PROGRAMS.iter().chain(&OF_TORTURE);
    let packages = known.find(|(known, _)| *known == program).map_or(program, |(_, packages)| packages);
    assert!(Path::new(program).exists(), "install what the test needs: `apt-get install {packages}`");
}
