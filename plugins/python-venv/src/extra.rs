//! Packages beyond the lock: those that the config adds, and those that a build needs, pinned by the runner.

use pipe_sdk::{Deserialize, Failure, fetch};
use python_packaging::lock::{File, Lock, Origin, Package};
use python_packaging::requirement::Requirement;

use crate::layout::Interpreter;
use crate::mendable;
use crate::obtain;

/// A version that the runner pinned, with all of its wheels, or else with its sources.
#[derive(Deserialize)]
#[serde(crate = "pipe_sdk::serde")]
struct Pinned {
    name: String,
    version: String,
    files: Vec<PinnedFile>,
}

#[derive(Deserialize)]
#[serde(crate = "pipe_sdk::serde")]
struct PinnedFile {
    name: String,
    #[serde(default)]
    url: String,
    sha256: String,
}

/// The lock's packages and those that `add` asks for. What the lock has is never replaced.
pub(crate) fn with_added(lock: &Lock, add: &[String], python: &Interpreter) -> Result<Vec<Package>, Failure> {
    let mut packages = lock.packages.clone();
    let mut missing = Vec::new();
    for text in add {
        let requirement: Requirement = text.parse().map_err(mendable).map_err(in_add)?;
        match lock.package(&requirement.name) {
            Some(package) if requirement.extras.is_empty() => check_locked(package, &requirement, text)?,
            _ => missing.push(text.clone()),
        }
    }
    if missing.is_empty() {
        return Ok(packages);
    }
    let locked = |package: &Package| package.version.as_ref().map(|version| format!("{}=={version}", package.name));
    let constraints: Vec<String> = lock.packages.iter().filter_map(locked).collect();
    let added = pin(&missing, &constraints, python)?;
    packages.extend(added.into_iter().filter(|package| lock.package(&package.name).is_none()));
    Ok(packages)
}

/// Versions for requirements: wheels that fit, or sources where there is no wheel at all.
pub(crate) fn pin(
    requirements: &[String],
    constraints: &[String],
    python: &Interpreter,
) -> Result<Vec<Package>, Failure> {
    let answer = fetch::pin("index", requirements, constraints)?;
    let pinned: Vec<Pinned> = pipe_sdk::serde_json::from_str(&answer)
        .map_err(|error| Failure::failed(format!("the runner's pins cannot be read: {error}")))?;
    pinned.into_iter().map(|pinned| choose(pinned, python)).collect()
}

fn choose(pinned: Pinned, python: &Interpreter) -> Result<Package, Failure> {
    let Pinned { name, version, files } = pinned;
    let best = python.tags.best(files.iter().map(|file| file.name.as_str())).map(str::to_owned);
    let is_it =
        |file: &PinnedFile| best.as_ref().map_or_else(|| obtain::is_sdist(&file.name), |best| *best == file.name);
    let Some(file) = files.into_iter().find(is_it) else {
        return Err(Failure::failed(format!("`{name}` {version} has no wheel for {}", python.tags.wanted())).hint(
            "constrain it to a version that has one: in `build-constraints` for what a build needs, in `add` else",
        ));
    };
    let file = File { name: file.name, url: file.url, sha256: file.sha256, subdirectory: None };
    let origin = if best.is_some() { Origin::Wheel(file) } else { Origin::Sdist(file) };
    Ok(Package::new(name, Some(version), origin))
}

/// What the lock has must be what `add` asks for.
fn check_locked(package: &Package, requirement: &Requirement, text: &str) -> Result<(), Failure> {
    let version = package.version.as_deref().and_then(|version| version.parse().ok());
    if version.is_none_or(|version| requirement.versions.contains(&version)) {
        return Ok(());
    }
    let locked = package.version.as_deref().unwrap_or_default();
    Err(Failure::invalid(format!("config `add`: `{text}` does not allow {locked}, which the lock has"))
        .hint("ask for it without a version, or lock the version that you want"))
}

fn in_add(failure: Failure) -> Failure {
    Failure { message: format!("config `add`: {}", failure.message), ..failure }
}
