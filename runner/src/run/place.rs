//! Which line of the pipeline file a failure stems from, where it is one that the file's author can change.

use std::ops::Range;
use std::path::Path;

use super::{Project, RunError};
use crate::event::Location;
use crate::fetch::FetchError;
use crate::lock::LockError;
use crate::pipeline::{Pipeline, PluginRef, Runtime, Spanned, Step};
use crate::runtime::RuntimeError;
use crate::source::SourceError;

impl Project {
    /// The place of the pipeline file that an error stems from; none where there is no such place, or no such file.
    pub fn place_of(&self, error: &RunError) -> Option<Location> {
        let document = &self.pipeline.document;
        // The pipeline of a project that has none is in no file.
        let is_there = Path::new(&document.name).is_file();
        Some(Location::of(document, span(&self.pipeline, error).filter(|_| is_there)?.start))
    }
}

fn span(pipeline: &Pipeline, error: &RunError) -> Option<Range<usize>> {
    match error {
        RunError::Runtime(error) => of_runtime(pipeline, error),
        RunError::Lock(error) => of_lock(pipeline, error),
        RunError::Fetch(error) => of_fetch(pipeline, error),
        // What it keeps of the source is the store's, wherever that is.
        RunError::Source(SourceError::Store(_)) => None,
        RunError::Source(_) => written(&pipeline.source.path),
        _ => None,
    }
}

fn of_runtime(pipeline: &Pipeline, error: &RuntimeError) -> Option<Range<usize>> {
    let version = pipeline.app.python.as_ref().and_then(written);
    match (error, &pipeline.runtime) {
        (RuntimeError::Tool { name, .. }, _) => pipeline.tools.get(name).and_then(written),
        (RuntimeError::Python { .. } | RuntimeError::NoPython { .. }, Runtime::Host { python }) => {
            python.as_ref().and_then(written).or(version)
        }
        (RuntimeError::Python { .. }, _) => version,
        (RuntimeError::NoPackage { name, wanted_by, .. }, Runtime::Packages { system, build_system, suite, .. }) => {
            let named = system.iter().chain(build_system).find(|package| ***package == *name && wanted_by.is_none());
            let suite = || suite.as_ref().and_then(written);
            let version = || version.filter(|_| name.starts_with("python"));
            named.and_then(written).or_else(version).or_else(suite)
        }
        (RuntimeError::Mirror { .. }, Runtime::Packages { mirror, suite, .. }) => {
            mirror.as_ref().or(suite.as_ref()).and_then(written)
        }
        (RuntimeError::Fetch(FetchError::Mismatch { .. }), Runtime::Archive { sha256, .. }) => written(sha256),
        (RuntimeError::Fetch(_), Runtime::Archive { url, .. }) => written(url),
        _ => None,
    }
}

fn of_lock(pipeline: &Pipeline, error: &LockError) -> Option<Range<usize>> {
    let is_lock = |step: &&Step| matches!(&*step.plugin, PluginRef::BuiltIn(name) if name == "python-lock");
    let mut locks = pipeline.steps.iter().filter(is_lock);
    let step = match error {
        LockError::Project { step, .. } => pipeline.step(step),
        LockError::Locked { .. } | LockError::Unresolvable { offline: false, .. } => {
            locks.next().filter(|_| locks.next().is_none())
        }
        LockError::Fetch(error) => return of_fetch(pipeline, error),
        LockError::Unresolvable { output, .. } => {
            let mut addresses = addresses(pipeline);
            return addresses.find(|address| output.contains(address.trim_end_matches('/'))).and_then(written);
        }
        _ => None,
    }?;
    let named = ["/path", "/root"].into_iter().find(|pointer| step.config.value().pointer(pointer).is_some());
    named.and_then(|pointer| step.config.span(pointer)).or_else(|| written(&step.plugin))
}

/// The address that something was to be fetched from, where the file names it.
fn of_fetch(pipeline: &Pipeline, error: &FetchError) -> Option<Range<usize>> {
    let (FetchError::Address { url, .. }
    | FetchError::Status { url, .. }
    | FetchError::Transport { url, .. }
    | FetchError::Page { url, .. }) = error
    else {
        return None;
    };
    addresses(pipeline).find(|address| url.starts_with(address.trim_end_matches('/'))).and_then(written)
}

/// The addresses that the file names to fetch from.
fn addresses(pipeline: &Pipeline) -> impl Iterator<Item = &Spanned<String>> {
    let index = &pipeline.index;
    index.url.iter().chain(&index.extra).chain(&pipeline.npm.registry)
}

/// The place of what the file says itself.
fn written<T>(value: &Spanned<T>) -> Option<Range<usize>> {
    Some(value.span()).filter(|span| !span.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::parse;

    const HEAD: &str = "[app]\nname = \"a\"\npython = \"3.11\"\n";

    /// The text at the place of an error.
    fn at(text: &str, error: impl Into<RunError>) -> Option<String> {
        let text = format!("{HEAD}{text}");
        let pipeline = parse("release.pipeline".as_ref(), &text).expect("a pipeline");
        span(&pipeline, &error.into()).map(|span| text[span].to_owned())
    }

    fn no_package(name: &str) -> RuntimeError {
        RuntimeError::NoPackage { name: name.into(), suite: "bookworm".into(), wanted_by: None }
    }

    #[test]
    fn a_runtime_that_is_not_there_stems_from_the_line_that_asks_for_it() {
        let no_python = || RuntimeError::NoPython { name: "python3.11".into() };
        assert_eq!(at("", no_python()).as_deref(), Some("\"3.11\""));
        let path = || RuntimeError::Python { path: "/py".into(), why: "it is none".into() };
        assert_eq!(at("[runtime]\npython = \"/py\"\n", path()).as_deref(), Some("\"/py\""));
        let packages = "[runtime]\nkind = \"packages\"\nsystem = [\"libpq5\", \"libqp5\"]\nsuite = \"bookwurm\"\n";
        assert_eq!(at(packages, no_package("libqp5")).as_deref(), Some("\"libqp5\""));
        assert_eq!(at(packages, no_package("python3.11")).as_deref(), Some("\"3.11\""));
        assert_eq!(at(packages, no_package("zlib1g")).as_deref(), Some("\"bookwurm\""));
        let tool = RuntimeError::Tool { name: "node".into(), path: "/node".into() };
        assert_eq!(at("[tools]\nnode = \"/node\"\n", tool).as_deref(), Some("\"/node\""));
    }

    #[test]
    fn a_lock_that_cannot_be_had_stems_from_its_step() {
        let step = |config: &str| {
            format!("[steps.lock]\nplugin = \"python-lock\"\ninputs = {{ project = \"source\" }}\n{config}")
        };
        let locked = || LockError::Locked { path: "r.txt".into(), pylock: "pylock.toml".into(), stale: None };
        assert_eq!(at(&step(""), locked()).as_deref(), Some("\"python-lock\""));
        assert_eq!(at(&step("config = { path = \"r.txt\" }\n"), locked()).as_deref(), Some("\"r.txt\""));
        let two = step("") + &step("").replace("steps.lock", "steps.other");
        assert_eq!(at(&two, locked()), None, "it may be either");
    }

    #[test]
    fn an_index_that_does_not_answer_stems_from_its_address() {
        let url = "https://index.test/simple/django/".to_owned();
        let page = LockError::Fetch(FetchError::Page { url, why: "it is empty".into() });
        let index = "[index]\nurl = \"https://index.test/simple/\"\n";
        assert_eq!(at(index, page).as_deref(), Some("\"https://index.test/simple/\""));
        let output = "Failed to fetch: https://index.test/simple/django/".to_owned();
        let offline = || LockError::Unresolvable { what: "r.txt".into(), output: output.clone(), offline: true };
        assert_eq!(at(index, offline()).as_deref(), Some("\"https://index.test/simple/\""));
        assert_eq!(at("", offline()), None, "it is none of the file's");
    }
}
