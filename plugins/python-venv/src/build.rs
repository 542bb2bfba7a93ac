//! Building wheels of sources in the sandbox (PEP 517): each at one fixed path, in an environment of pinned requirements.
//!
//! The build is a program run like any other: what it sees is its root, so the same sources and requirements are built once.

mod backend;
mod report;

use pipe_sdk::exec::{self, Command, Outcome};
use pipe_sdk::{Failure, Kind, Tree, fetch, read, read_to_string};
use python_packaging::lock::{Origin, Package};
use python_packaging::wheel::WheelName;

use crate::build::backend::Backend;
use crate::extra;
use crate::install;
use crate::layout::{Interpreter, Layout};
use crate::merge;
use crate::obtain::{self, Source, Wheel};

/// Calls one hook of a backend.
const SCRIPT: &str = include_str!("build/hook.py");
/// Where the sources are.
const SOURCE: &str = "/build/src";
/// Where a hook leaves what it makes.
const OUT: &str = "/build/out";

/// A source and what it is built with.
struct Build<'a> {
    source: &'a Source,
    /// What tools that ask its history are told.
    version: String,
    backend: Backend,
    environment: Tree,
}

/// Builds a wheel of each source.
pub(crate) fn wheels(sources: &[Source], constraints: &[String], python: &Interpreter) -> Result<Vec<Wheel>, Failure> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let mut builds = Vec::with_capacity(sources.len());
    for source in sources {
        let backend = Backend::of(source, constraints)?;
        let environment = environment(&backend.requires, constraints, python)?;
        builds.push(Build { source, version: backend::version(source)?, backend, environment });
    }
    let mut failures = Vec::new();
    let mut ready = Vec::with_capacity(builds.len());
    let further = further_requirements(&builds)?;
    for (mut build, further) in builds.into_iter().zip(further) {
        match further {
            Ok(further) => {
                if !further.is_empty() {
                    build.backend.requires.extend(further);
                    build.environment = environment(&build.backend.requires, constraints, python)?;
                }
                ready.push(build);
            }
            Err(failure) => failures.push((build.source.name.as_str(), failure)),
        }
    }
    // What can be built is, also where something else can not: all that is wrong is said at once, and what went well is kept.
    let outcomes = exec::run_all(ready.iter().map(|build| build.command("build_wheel")).collect())?;
    let mut wheels = Vec::with_capacity(ready.len());
    for (build, outcome) in ready.iter().zip(outcomes) {
        match build.wheel(&outcome) {
            Ok(wheel) => wheels.push(wheel),
            Err(failure) => failures.push((build.source.name.as_str(), failure)),
        }
    }
    match report::together(failures) {
        Some(failure) => Err(failure),
        None => Ok(wheels),
    }
}

/// What each backend asks for beyond `build-system.requires`, if it can be asked.
fn further_requirements(builds: &[Build]) -> Result<Vec<Result<Vec<String>, Failure>>, Failure> {
    let outcomes = exec::run_all(builds.iter().map(|build| build.command("get_requires_for_build_wheel")).collect())?;
    let further = |(build, outcome): (&Build, Outcome)| {
        let made = build.check(&outcome)?;
        let Some(answer) = made.open("requires.json")? else { return Ok(Vec::new()) };
        pipe_sdk::serde_json::from_str(&read_to_string(&answer, "requires.json")?).map_err(|error| {
            Failure::failed(format!("`{}`: its backend's requirements cannot be read: {error}", build.source.name))
        })
    };
    Ok(builds.iter().zip(outcomes).map(further).collect())
}

/// An environment of pinned requirements, at its own fixed path.
fn environment(requires: &[String], constraints: &[String], python: &Interpreter) -> Result<Tree, Failure> {
    let layout = Layout::build(python);
    let packages = if requires.is_empty() { Vec::new() } else { extra::pin(requires, constraints, python)? };
    let files: Vec<_> = packages.iter().filter_map(|package| Some((package, wheel_file(package)?))).collect();
    let requests: Vec<_> = files.iter().map(|(_, file)| obtain::request(file)).collect();
    let blobs = if requests.is_empty() { Vec::new() } else { fetch::get(&requests)? };
    let mut installed = Vec::with_capacity(files.len());
    for ((package, file), blob) in files.iter().zip(&blobs) {
        let wheel = obtain::unpack_wheel(&package.name, package.version.as_deref(), &file.name, blob)?;
        installed.push(install::install(&wheel, &layout)?);
    }
    merge::environment(&layout, &installed)
}

fn wheel_file(package: &Package) -> Option<&python_packaging::lock::File> {
    match &package.origin {
        Origin::Wheel(file) => Some(file),
        _ => None,
    }
}

impl Build<'_> {
    fn command(&self, hook: &str) -> Command {
        let command = Command::new("/build/env/bin/python");
        command.arg("-c");
        command.arg(SCRIPT);
        for argument in [hook, OUT, &self.backend.object] {
            command.arg(argument);
        }
        for path in &self.backend.path {
            command.arg(&if path.is_empty() { SOURCE.to_owned() } else { format!("{SOURCE}/{path}") });
        }
        command.cwd(SOURCE);
        command.env("PATH", "/build/env/bin:/opt/python/bin:/usr/local/bin:/usr/bin:/bin");
        for (name, value) in backend::environment(&self.source.name, &self.version) {
            command.env(&name, &value);
        }
        command.mount("/build/env", &self.environment);
        command.mount(SOURCE, &self.source.tree);
        command.collect(OUT);
        command
    }

    /// What a hook made, if it ended well.
    fn check(&self, outcome: &Outcome) -> Result<Tree, Failure> {
        match outcome.tree(OUT)? {
            Some(made) if outcome.exit_code() == 0 => Ok(made),
            _ => {
                let (stdout, stderr) = (read(&outcome.stdout())?, read(&outcome.stderr())?);
                let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
                Err(Failure::failed(format!("`{}` cannot be built:\n{}", self.source.name, report::tail(&said)))
                    .hint(report::remedy(&said, &self.source.name)))
            }
        }
    }

    /// The wheel that a backend made.
    fn wheel(&self, outcome: &Outcome) -> Result<Wheel, Failure> {
        let made = self.check(outcome)?;
        let entries = made.entries("")?.unwrap_or_default();
        let file = entries.iter().find(|entry| entry.kind != Kind::Directory && WheelName::parse(&entry.name).is_ok());
        let blob = file.map(|file| made.open(&file.name)).transpose()?.flatten();
        let (Some(file), Some(blob)) = (file, blob) else {
            return Err(Failure::failed(format!("`{}`: its backend made no wheel", self.source.name))
                .hint("limit what it is built with, in `build-constraints`"));
        };
        obtain::unpack_wheel(&self.source.name, self.source.version.as_deref(), &file.name, &blob)
    }
}
