//! Building wheels of sources in the sandbox (PEP 517): each at one fixed path, in an environment of pinned requirements.
//! The project's own directories are installed in place (PEP 660).
//!
//! The build is a program run like any other: what it sees is its root, so the same sources and requirements are built once.

mod backend;
mod in_place;
mod report;

use pipe_sdk::exec::{self, Command, Outcome};
use pipe_sdk::{Failure, Kind, Tree, read, read_to_string};
use python_packaging::lock::Package;
use python_packaging::wheel::WheelName;

use crate::build::backend::Backend;
use crate::extra;
use crate::install;
use crate::layout::{Interpreter, Layout};
use crate::merge;
use crate::obtain::{self, Content, Project, Source, Wheel};

/// Calls one hook of a backend.
const SCRIPT: &str = include_str!("build/hook.py");
/// Where the sources are.
const SOURCE: &str = "/build/src";
/// Where the project is, in every root and in the slug.
const PROJECT: &str = "/app/src";
/// Where a hook leaves what it makes.
const OUT: &str = "/build/out";

/// How a source becomes a wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The sources are in the wheel.
    Whole,
    /// The wheel leads to them (PEP 660).
    InPlace,
}

/// A source and what it is built with.
struct Build<'a> {
    source: &'a Source,
    manner: Manner,
    /// What tools that ask its history are told.
    version: String,
    backend: Backend,
    environment: Tree,
}

/// The wheels of packages, in order of names: as they come, or built of their sources. `within` are the sources whose builds wait for
/// them.
pub(crate) fn wheels(
    packages: &[Package],
    project: &Project,
    constraints: &[String],
    python: &Interpreter,
    within: &[&str],
) -> Result<Vec<Wheel>, Failure> {
    let mut wheels = Vec::with_capacity(packages.len());
    let mut sources = Vec::new();
    for content in obtain::obtain(packages, python, project)? {
        match content {
            Content::Wheel(wheel) => wheels.push(wheel),
            Content::Source(source) => sources.push(source),
        }
    }
    if let Some(source) = sources.iter().find(|source| within.contains(&source.name.as_str())) {
        return Err(Failure::failed(format!("`{}` cannot be built: it is needed to build itself", source.name))
            .hint("limit what needs it to a version that has a wheel, in `build-constraints`"));
    }
    wheels.extend(built(&sources, constraints, python, within)?);
    wheels.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(wheels)
}

/// Builds a wheel of each source. Directories of the project are installed in place where their backend can do that: they
/// are at `/app/src` in every root and in the slug, and an edit to them is no other environment.
fn built(
    sources: &[Source],
    constraints: &[String],
    python: &Interpreter,
    within: &[&str],
) -> Result<Vec<Wheel>, Failure> {
    let (own, mut others): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(|source| source.place.is_some());
    let parts = own.iter().map(|source| in_place::part(source)).collect::<Result<Vec<_>, _>>()?;
    let mut wheels = Vec::with_capacity(sources.len());
    let made = attempt(&parts.iter().collect::<Vec<_>>(), Manner::InPlace, constraints, python, within)?;
    for (source, made) in own.into_iter().zip(made) {
        match made {
            Ok(wheel) => wheels.push(wheel),
            Err(failure) => {
                pipe_sdk::debug(&failure.message);
                let name = &source.name;
                pipe_sdk::info(&format!(
                    "`{name}` cannot be installed in place: an edit to it makes a new environment"
                ));
                others.push(source);
            }
        }
    }
    let mut failures = Vec::new();
    for (source, made) in others.iter().zip(attempt(&others, Manner::Whole, constraints, python, within)?) {
        match made {
            Ok(wheel) => wheels.push(wheel),
            Err(failure) => failures.push((source.name.as_str(), failure)),
        }
    }
    match report::together(failures) {
        Some(failure) => Err(failure),
        None => Ok(wheels),
    }
}

/// The wheel of each source, or why there is none. What can be built is, also where something else can not: all that is
/// wrong is said at once, and what went well is kept.
fn attempt(
    sources: &[&Source],
    manner: Manner,
    constraints: &[String],
    python: &Interpreter,
    within: &[&str],
) -> Result<Vec<Result<Wheel, Failure>>, Failure> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let environment = |source: &Source, requires: &[String]| {
        environment(requires, constraints, python, &[within, &[source.name.as_str()]].concat())
    };
    let mut builds = Vec::with_capacity(sources.len());
    for source in sources {
        let backend = Backend::of(source, constraints)?;
        let environment = environment(source, &backend.requires)?;
        builds.push(Build { source, manner, version: backend::version(source)?, backend, environment });
    }
    let mut ready = Vec::with_capacity(builds.len());
    let further = further_requirements(&builds)?;
    for (mut build, further) in builds.into_iter().zip(further) {
        ready.push(match further {
            Ok(further) => {
                if !further.is_empty() {
                    build.backend.requires.extend(further);
                    build.environment = environment(build.source, &build.backend.requires)?;
                }
                Ok(build)
            }
            Err(failure) => Err(failure),
        });
    }
    let commands = ready.iter().flatten().map(|build| build.command(build.manner.hook())).collect();
    let mut outcomes = exec::run_all(commands)?.into_iter();
    let wheels = ready.into_iter().map(|build| {
        let build = build?;
        let outcome = outcomes.next().ok_or_else(|| Failure::failed("a build has no outcome"))?;
        build.wheel(&outcome)
    });
    Ok(wheels.collect())
}

/// What each backend asks for beyond `build-system.requires`, if it can be asked.
fn further_requirements(builds: &[Build]) -> Result<Vec<Result<Vec<String>, Failure>>, Failure> {
    let outcomes = exec::run_all(builds.iter().map(|build| build.command(build.manner.requires_hook())).collect())?;
    let further = |(build, outcome): (&Build, Outcome)| {
        let made = build.check(&outcome)?;
        let Some(answer) = made.open("requires.json")? else { return Ok(Vec::new()) };
        pipe_sdk::serde_json::from_str(&read_to_string(&answer, "requires.json")?).map_err(|error| {
            Failure::failed(format!("`{}`: its backend's requirements cannot be read: {error}", build.source.name))
        })
    };
    Ok(builds.iter().zip(outcomes).map(further).collect())
}

/// An environment of pinned requirements, at its own fixed path. Those that have no wheel are built themselves.
fn environment(
    requires: &[String],
    constraints: &[String],
    python: &Interpreter,
    within: &[&str],
) -> Result<Tree, Failure> {
    let layout = Layout::build(python);
    let packages = if requires.is_empty() { Vec::new() } else { extra::pin(requires, constraints, python)? };
    let wheels = wheels(&packages, &Project(None), constraints, python, within)?;
    let installed = wheels.iter().map(|wheel| install::install(wheel, &layout)).collect::<Result<Vec<_>, _>>()?;
    merge::environment(&layout, &installed)
}

impl Manner {
    fn hook(self) -> &'static str {
        match self {
            Self::Whole => "build_wheel",
            Self::InPlace => "build_editable",
        }
    }

    fn requires_hook(self) -> &'static str {
        match self {
            Self::Whole => "get_requires_for_build_wheel",
            Self::InPlace => "get_requires_for_build_editable",
        }
    }
}

impl Build<'_> {
    /// Where the sources are while they are built; what is built in place finds them there ever after.
    fn place(&self) -> String {
        match (self.manner, self.source.place.as_deref()) {
            (Manner::InPlace, Some("")) => PROJECT.to_owned(),
            (Manner::InPlace, Some(place)) => format!("{PROJECT}/{place}"),
            _ => SOURCE.to_owned(),
        }
    }

    fn command(&self, hook: &str) -> Command {
        let command = Command::new("/build/env/bin/python");
        command.arg("-c");
        command.arg(SCRIPT);
        for argument in [hook, OUT, &self.backend.object] {
            command.arg(argument);
        }
        let place = self.place();
        for path in &self.backend.path {
            command.arg(&if path.is_empty() { place.clone() } else { format!("{place}/{path}") });
        }
        command.cwd(&place);
        command.env("PATH", "/build/env/bin:/opt/python/bin:/usr/local/bin:/usr/bin:/bin");
        for (name, value) in backend::environment(&self.source.name, &self.version) {
            command.env(&name, &value);
        }
        command.mount("/build/env", &self.environment);
        command.mount(&place, &self.source.tree);
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
        if self.manner == Manner::InPlace && !in_place::is_pure(&file.name) {
            return Err(Failure::failed(format!("`{}` has parts that are built", self.source.name)));
        }
        obtain::unpack_wheel(&self.source.name, self.source.version.as_deref(), &file.name, &blob)
    }
}
