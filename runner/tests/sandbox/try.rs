//! A builder of sandboxes over the machine's `/usr`.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use runner::runtime::Runtime;
use runner::sandbox::{
    self, Directory, Ended, Found, Monitors, Mount, Network, Run, SandboxError, Scratch, Spec, Stdio,
};
use tempfile::TempDir;

/// A program to be tried.
pub(crate) struct Try {
    pub(crate) spec: Spec,
    time: Duration,
    output: Option<u64>,
    stdin: Option<std::fs::File>,
    collect: Option<&'static str>,
    scratch: TempDir,
    layers: Vec<Scratch>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) ended: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The names in the collected directory, or the text of the collected file.
    pub(crate) collected: Option<Vec<String>>,
}

impl Try {
    pub(crate) fn program(argv: &[&str]) -> Self {
        use_built_pipe();
        let mut spec = Spec::new(argv.iter().copied());
        spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
        spec.mounts.push(Mount::Bind { source: "/usr".into(), at: "/usr".into(), writable: false });
        for name in ["bin", "lib", "lib64", "sbin"] {
            spec.mounts.push(Mount::Symlink { at: format!("/{name}"), target: format!("usr/{name}") });
        }
        Self {
            spec,
            // Far more than any of them takes; what hangs shall not hang the tests.
            time: Duration::from_mins(2),
            output: None,
            stdin: None,
            collect: None,
            scratch: tempfile::tempdir().expect("a directory"),
            layers: Vec::new(),
        }
    }

    pub(crate) fn on(runtime: &Runtime, build: bool, argv: &[&str]) -> Self {
        let mut this = Self::program(argv);
        this.spec.mounts = runtime.mounts(build).to_vec();
        this.spec.env.insert("PATH".into(), runtime.path().into());
        this
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::program(&["sh", "-c", script])
    }

    pub(crate) fn python(script: &str) -> Self {
        Self::program(&["/usr/bin/python3", "-I", "-S", "-c", script])
    }

    pub(crate) fn host_network(mut self) -> Self {
        self.spec.network = Network::Host;
        self
    }

    pub(crate) fn bind(mut self, source: &Path, at: &str, writable: bool) -> Self {
        self.spec.mounts.push(Mount::Bind { source: source.into(), at: at.into(), writable });
        self
    }

    pub(crate) fn overlay(mut self, lower: &Path, at: &str) -> Self {
        let layer = Scratch::new_in(self.scratch.path()).expect("a scratch directory");
        let scratch = layer.path().to_owned();
        self.layers.push(layer);
        self.spec.mounts.push(Mount::Overlay { lower: vec![lower.into()], at: at.into(), scratch });
        self
    }

    pub(crate) fn collect(mut self, path: &'static str) -> Self {
        self.collect = Some(path);
        self
    }

    pub(crate) fn stdin(mut self, file: std::fs::File) -> Self {
        self.stdin = Some(file);
        self
    }

    pub(crate) fn time(mut self, limit: Duration) -> Self {
        self.time = limit;
        self
    }

    pub(crate) fn output(mut self, limit: u64) -> Self {
        self.output = Some(limit);
        self
    }

    pub(crate) fn try_run(self, cancel: Option<&AtomicBool>) -> Result<Tried, SandboxError> {
        self.try_run_by(&Monitors::default(), cancel)
    }

    /// As one of the programs that the same monitors hold.
    pub(crate) fn try_run_by(self, monitors: &Monitors, cancel: Option<&AtomicBool>) -> Result<Tried, SandboxError> {
        let run = Run {
            stdin: self.stdin,
            time_limit: Some(self.time),
            output_limit: self.output,
            layer_limit: None,
            cancel,
            written: self.layers,
        };
        let collect = |root: &sandbox::Root| match root.open(self.collect?).unwrap_or(Found::Nothing) {
            Found::Nothing => None,
            Found::File { file, .. } => Some(vec![std::io::read_to_string(file).expect("a text")]),
            Found::Directory(directory) => Some(names(&directory)),
        };
        let outcome = sandbox::run(monitors, &self.spec, run, |_, _| {}, |root, _| collect(root))?;
        Ok(Tried {
            ended: outcome.ended,
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            collected: outcome.collected.flatten(),
        })
    }

    pub(crate) fn run(self) -> Tried {
        self.try_run(None).unwrap_or_else(|error| panic!("{error}; {:?}", error.hint()))
    }

    /// Starts it and gives what it writes to standard output.
    pub(crate) fn spawn(&self) -> (sandbox::Child, std::io::PipeReader) {
        let null = || std::fs::File::options().read(true).write(true).open("/dev/null").expect("a device");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let stdio = Stdio { stdin: null().into(), stdout: writer.into(), stderr: null().into() };
        (sandbox::spawn(&self.spec, stdio).expect("a sandbox"), reader)
    }
}

/// Every name below a directory that was collected, in order.
fn names(directory: &Directory) -> Vec<String> {
    let mut names = Vec::new();
    let mut todo: Vec<PathBuf> = vec![directory.path().to_owned()];
    while let Some(path) = todo.pop() {
        for entry in std::fs::read_dir(&path).expect("a listing") {
            let entry = entry.expect("an entry");
            let name = entry.path().strip_prefix(directory.path()).expect("below").display().to_string();
            names.push(name);
            if entry.file_type().expect("a type").is_dir() {
                todo.push(entry.path());
            }
        }
    }
    names.sort();
    names
}

/// The inside of a sandbox is `pipe`, and these tests are not.
fn use_built_pipe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("PIPE_EXE").is_none() {
            #[expect(unsafe_code, reason = "the one place where these tests change the environment, behind a lock")]
            // SAFETY: see above; other threads of these tests are here too, or have not started anything yet.
            unsafe {
                std::env::set_var("PIPE_EXE", env!("CARGO_BIN_EXE_pipe"));
            }
        }
    });
}
