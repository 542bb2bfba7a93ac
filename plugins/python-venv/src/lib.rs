//! `python-venv`: the Python environment that a lock describes, for `/app/venv`. The way of the data:
//!
//! ```text
//! lock ── extra (config `add`) ── obtain (files, commits, directories) ─┬─ wheels ───────────────▶ install ─ bytecode ─ merge
//!                                                                       └─ sources ── build ── wheels ─┘
//! ```
//!
//! A wheel is unpacked, installed and compiled by its content, so each is done once however many environments hold it, and an
//! environment is a merge of trees that copies no file.

mod build;
mod bytecode;
mod entry_points;
mod extra;
mod install;
mod layout;
mod merge;
mod obtain;
mod record;
mod script;

use pipe_sdk::{Description, Deserialize, Failure, Inputs, JsonSchema, Outputs, Port, Step, progress};
use python_packaging::lock::Lock;
use python_packaging::problem::Problem;

use crate::layout::{Interpreter, Layout};
use crate::obtain::Project;

/// Makes the environment that a lock describes.
struct PythonVenv;

/// What an environment holds beyond its lock, and how it is built.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// Requirements beyond the lock (PEP 508), such as a server: `["gunicorn"]`. What the lock has stays as it is; the rest
    /// is pinned in `pipe.lock`.
    #[serde(default)]
    add: Vec<String>,
    /// Limits on what source distributions are built with, such as `["setuptools<69", "Cython<3"]`.
    #[serde(default)]
    build_constraints: Vec<String>,
    /// Whether Python's bytecode is compiled. Without it every start of the application compiles anew, since an
    /// environment is read-only.
    #[serde(default = "yes")]
    bytecode: bool,
}

fn yes() -> bool {
    true
}

impl Step for PythonVenv {
    type Config = Config;

    fn describe() -> Description {
        Description::new("python-venv", env!("CARGO_PKG_VERSION"), "Makes the Python environment that a lock describes")
            .input(Port::blob("lock", "a normalised lock, as `python-lock` makes it"))
            .input(Port::tree("project", "where the lock's own directories and files are").optional())
            .output(Port::tree("venv", "the contents of `/app/venv`"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let lock = Lock::from_json(&pipe_sdk::read(inputs.blob("lock")?)?).map_err(|error| {
            Failure::invalid(format!("input `lock`: {error}")).hint("bind it to a `python-lock` step")
        })?;
        let python = Interpreter::of(&lock).map_err(mendable)?;
        let project = Project(inputs.optional_tree("project"));

        let packages = extra::with_added(&lock, &config.add, &python)?;
        let wheels = build::wheels(&packages, &project, &config.build_constraints, &python, &[])?;

        let layout = Layout::application(&python);
        let total = wheels.len() as u64;
        let mut installed = Vec::with_capacity(wheels.len());
        for (done, wheel) in wheels.iter().enumerate() {
            progress(done as u64, Some(total), "packages");
            installed.push(install::install(wheel, &layout)?);
        }
        if config.bytecode {
            installed = bytecode::compile(installed, &layout)?;
        }
        Ok(Outputs::new().tree("venv", merge::environment(&layout, &installed)?))
    }
}

/// A problem that the user can mend, as the runner wants to hear it.
fn mendable(problem: Problem) -> Failure {
    let failure = Failure::invalid(problem.message);
    match problem.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

pipe_sdk::step!(PythonVenv);
