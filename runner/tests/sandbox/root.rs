//! A builder of sandboxes over the machine's `/usr`.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use runner::runtime::Runtime;
use runner::sandbox::{self, Ended, Found, Mount, Network, Run, SandboxError, Scratch, Spec};
use tempfile::TempDir;

/// A program to be tried.
pub(crate) struct Try {
    pub(crate) spec: Spec,
    pub(crate) time: Option<Duration>,
    pub(crate) output: Option<u64>,
    pub(crate) collect: Option<&'static str>,
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
    pub(crate) fn on(runtime: &Runtime, argv: &[&str]) -> Self {
        let mut this = Self::build_on(runtime, argv);
        this.spec.mounts = runtime.mounts(false).to_vec();
        this
    }

    pub(crate) fn build_on(runtime: &Runtime, argv: &[&str]) -> Self {
        let mut this = Self::program(argv);
        this.spec.mounts = runtime.mounts(true).to_vec();
        this.spec.env.insert("PATH".into(), runtime.path().into());
        this
    }

    pub(crate) fn program(argv: &[&str]) -> Self {
        static EXE: Once = Once::new();
        #[expect(unsafe_code, reason = "set once, before any thread of these tests reads the environment")]
        // SAFETY: see above.
        EXE.call_once(|| unsafe { std::env::set_var("PIPE_EXE", env!("CARGO_BIN_EXE_pipe")) });
        let mut spec = Spec::new(argv.iter().copied());
        spec.env.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        spec.mounts.push(Mount::Bind { source: "/usr".into(), at: "/usr".into(), writable: false });
        for name in ["bin", "lib", "lib64", "sbin"] {
            spec.mounts.push(Mount::Symlink { at: format!("/{name}"), target: format!("usr/{name}") });
        }
        let scratch = tempfile::tempdir().expect("a directory");
        Self { spec, time: Some(Duration::from_secs(60)), output: None, collect: None, scratch, layers: Vec::new() }
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::program(&["sh", "-c", script])
    }

    pub(crate) fn python(script: &str) -> Self {
        Self::program(&["/usr/bin/python3", "-I", "-c", script])
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

    pub(crate) fn try_run(self) -> Result<Tried, SandboxError> {
        let run = Run { time_limit: self.time, output_limit: self.output, ..Run::default() };
        let outcome = sandbox::run(
            &self.spec,
            run,
            |_, _| {},
            |root| match root.open(self.collect?).expect("a root") {
                Found::Nothing => None,
                Found::File { file, .. } => Some(vec![std::io::read_to_string(file).expect("a text")]),
                Found::Directory(directory) => {
                    let entries = std::fs::read_dir(directory.path()).expect("a listing");
                    let name = |entry: std::io::Result<std::fs::DirEntry>| {
                        entry.expect("an entry").file_name().to_string_lossy().into_owned()
                    };
                    let mut names: Vec<_> = entries.map(name).collect();
                    names.sort();
                    Some(names)
                }
            },
        )?;
        Ok(Tried {
            ended: outcome.ended,
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            collected: outcome.collected.flatten(),
        })
    }

    pub(crate) fn run(self) -> Tried {
        self.try_run().expect("a sandbox")
    }
}
