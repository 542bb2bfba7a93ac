//! The step `python-lock`: whatever locks a Python project becomes one normalised lock for one Python and one platform.
//!
//! [`Question`] does the work; here is what it needs of a step: settings, and files that are in the store.

use pipe_sdk::{Description, Failure, Inputs, Kind, Outputs, Port, Step, Tree, context};
use python_packaging::files::Files;
use python_packaging::locks::Question;
use python_packaging::problem::Problem;

struct PythonLock;

/// What to lock, and for what. An empty config is right for a project with one lock.
#[derive(pipe_sdk::Deserialize, pipe_sdk::JsonSchema, Default)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// The directory of the Python project, where it is not the top: `backend`.
    root: Option<String>,
    /// The file to read, relative to `root`: `requirements/production.txt`. Needed where several would do.
    path: Option<String>,
    /// Dependency groups (Pipenv: categories) to install beside the project's own dependencies.
    groups: Vec<String>,
    /// Extras of the project to install.
    extras: Vec<String>,
    /// Installs the group `dev` too.
    dev: bool,
    /// The member of a uv workspace, where it is not the project at the top.
    package: Option<String>,
    /// Installs the project itself, as a package. By default it is not: an application runs from `/app/src`.
    install_project: bool,
    /// The Python to lock for, where it is not the pipeline's: `3.11`.
    python: Option<String>,
    /// The platform to lock for, where it is not the pipeline's: `linux-x86_64-gnu2.31` names an older glibc.
    platform: Option<String>,
}

impl Step for PythonLock {
    type Config = Config;

    fn describe() -> Description {
        Description::new(
            "python-lock",
            env!("CARGO_PKG_VERSION"),
            "Turns whatever locks a Python project into one normalised lock",
        )
        .input(Port::tree("project", "the project, with its lock"))
        .output(Port::blob("lock", "one file, commit or directory a package, as JSON"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let project = Project(inputs.tree("project")?);
        let setting = |own: Option<String>, name: &str, default: &str| {
            own.or_else(|| context::get(name)).unwrap_or_else(|| default.to_owned())
        };
        let mut groups = config.groups;
        groups.extend(config.dev.then(|| "dev".to_owned()));
        let question = Question {
            root: config.root.unwrap_or_default(),
            path: config.path,
            python: setting(config.python, "app.python", "3.11"),
            platform: setting(config.platform, "platform", "linux-x86_64-gnu"),
            groups,
            extras: config.extras,
            package: config.package,
            install_project: config.install_project,
        };
        let answer = question.answer(&project)?;
        for note in &answer.notes {
            pipe_sdk::warn(note);
        }
        Ok(Outputs::new().blob("lock", pipe_sdk::blob(&answer.lock.to_json())?))
    }
}

pipe_sdk::step!(PythonLock);

/// The project in the store: each call is an observation.
struct Project<'a>(&'a Tree);

/// What stops this step: the project, or the runner.
enum Stop {
    Problem(Problem),
    Failure(Failure),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failure(failure) => failure,
            Stop::Problem(Problem { message, hint }) => Self { hint, ..Self::invalid(message) },
        }
    }
}

impl Files for Project<'_> {
    type Error = Stop;

    fn read(&self, path: &str) -> Result<Option<String>, Stop> {
        let blob = self.0.open(path)?;
        Ok(blob.map(|blob| pipe_sdk::read_to_string(&blob, path)).transpose()?)
    }

    fn digest(&self, path: &str) -> Result<Option<String>, Stop> {
        Ok(self.0.open(path)?.map(|blob| blob.digest()))
    }

    fn exists(&self, path: &str) -> Result<bool, Stop> {
        Ok(matches!(self.0.kind(path)?, Some(Kind::File | Kind::Executable)))
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, Stop> {
        Ok(self.0.entries(directory)?.unwrap_or_default().into_iter().map(|entry| entry.name).collect())
    }
}
