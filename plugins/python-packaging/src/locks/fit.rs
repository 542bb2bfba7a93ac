//! Whether a lock still fits the `pyproject.toml` or `Pipfile` that it was made from.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::Package;
use crate::marker;
use crate::name::normalise;
use crate::pep440::{Operator, Version, VersionSpecifier, VersionSpecifiers};
use crate::problem::Problem;
use crate::requirement::Requirement;

use super::poetry::Spec;
use super::target::Target;

/// A requirement as a lock remembers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requires {
    /// Normalised.
    pub(crate) name: String,
    /// The range; none where the package comes from elsewhere than an index.
    pub(crate) specifier: Option<String>,
}

/// Checks that what `[project]` requires is what the lock believes it does.
pub(crate) fn same(lock: &str, place: &str, pyproject: &toml::Table, locked: &[Requires]) -> Result<(), Problem> {
    let Some(required) = requirements(pyproject, place)? else { return Ok(()) };
    let ranges = |name: &str| locked.iter().filter(|entry| entry.name == name).collect::<Vec<_>>();
    let mut differences = BTreeSet::new();
    for requirement in &required {
        let ranges = ranges(&requirement.name);
        let same = |entry: &&Requires| {
            requirement.url.is_some()
                || entry
                    .specifier
                    .as_ref()
                    .is_none_or(|text| text.parse().is_ok_and(|range| same_range(&range, &requirement.versions)))
        };
        if ranges.is_empty() {
            differences.insert(format!("`{}` is not in it", requirement.name));
        } else if !ranges.iter().any(same) {
            differences.insert(format!("`{}` is now `{}`", requirement.name, requirement.versions));
        }
    }
    let gone = locked.iter().filter(|entry| !required.iter().any(|requirement| requirement.name == entry.name));
    differences.extend(gone.map(|entry| format!("`{}` is no longer required", entry.name)));
    refuse(lock, place, &differences, "uv lock")
}

/// Checks that all that `[project]` and `[tool.poetry]` require is among `packages`, in a version that will do.
pub(crate) fn covers(
    lock: &str,
    place: &str,
    pyproject: &toml::Table,
    packages: &[Package],
    target: &Target,
    command: &str,
) -> Result<(), Problem> {
    let find = |name: &str| packages.iter().find(|package| normalise(&package.name) == name);
    let mut differences = BTreeSet::new();
    let plain = target.environment.with_extras::<&str>([]);
    for requirement in requirements(pyproject, place)?.unwrap_or_default() {
        if !marker::holds(requirement.marker.as_ref(), &plain) {
            continue;
        }
        let Some(package) = find(&requirement.name) else {
            differences.insert(format!("`{}` is not in it", requirement.name));
            continue;
        };
        let version = package.version.as_deref().and_then(|version| version.parse::<Version>().ok());
        if let Some(version) = version.filter(|version| !requirement.versions.contains(version)) {
            let (name, range) = (&requirement.name, &requirement.versions);
            differences.insert(format!("`{name}` is {version} in it, and `{range}` is required"));
        }
    }
    let poetry = pyproject.get("tool").and_then(|tool| tool.get("poetry")?.get("dependencies")).cloned();
    let poetry: BTreeMap<String, Spec> = poetry.and_then(|table| table.try_into().ok()).unwrap_or_default();
    for (name, _) in poetry.iter().filter(|(name, spec)| *name != "python" && spec.is_unconditional()) {
        if find(&normalise(name)).is_none() {
            differences.insert(format!("`{name}` is not in it"));
        }
    }
    refuse(lock, place, &differences, command)
}

/// Checks that all that a `Pipfile` requires is among `packages`.
pub(crate) fn covers_pipfile(
    lock: &str,
    place: &str,
    pipfile: &toml::Table,
    packages: &[Package],
) -> Result<(), Problem> {
    let required = pipfile.get("packages").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let unconditional = |value: &toml::Value| {
        let conditions = ["markers", "sys_platform", "platform_machine", "python_version", "os_name", "path"];
        value.as_table().is_none_or(|table| !conditions.iter().any(|key| table.contains_key(*key)))
    };
    let missing = required.iter().filter(|(_, value)| unconditional(value)).filter(|(name, _)| {
        let name = normalise(name);
        !packages.iter().any(|package| normalise(&package.name) == name)
    });
    let differences = missing.map(|(name, _)| format!("`{name}` is not in it")).collect();
    refuse(lock, place, &differences, "pipenv lock")
}

/// The problem of a lock that has every package, and was made from something else.
pub(crate) fn changed(lock: &str, place: &str, command: &str) -> Problem {
    let name = lock.rsplit('/').next().unwrap_or(lock);
    Problem::new(format!("`{lock}` does not fit `{place}`, which has changed since: the lock's digest of it differs"))
        .hint(format!(
            "run `{command}`, and commit what it writes; to take it as it is, name it: `config = {{ path = \"{name}\" }}`"
        ))
}

fn refuse(lock: &str, place: &str, differences: &BTreeSet<String>, command: &str) -> Result<(), Problem> {
    if differences.is_empty() {
        return Ok(());
    }
    let differences = differences.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    Err(Problem::new(format!("`{lock}` does not fit `{place}`: {differences}"))
        .hint(format!("run `{command}`, and commit what it writes")))
}

/// `[project]` `dependencies` and `optional-dependencies`; none where there is no such table or a build computes them.
fn requirements(pyproject: &toml::Table, place: &str) -> Result<Option<Vec<Requirement>>, Problem> {
    let Some(project) = pyproject.get("project").and_then(toml::Value::as_table) else { return Ok(None) };
    let dynamic = project.get("dynamic").and_then(toml::Value::as_array).into_iter().flatten();
    if dynamic.filter_map(toml::Value::as_str).any(|key| key.ends_with("dependencies")) {
        return Ok(None);
    }
    let mut required = Vec::new();
    let own = project.get("dependencies").into_iter().map(|list| (None, list));
    let extras = project.get("optional-dependencies").and_then(toml::Value::as_table).into_iter().flatten();
    for (extra, list) in own.chain(extras.map(|(extra, list)| (Some(extra), list))) {
        for text in list.as_array().into_iter().flatten().filter_map(toml::Value::as_str) {
            let mut requirement: Requirement = text.parse().map_err(|problem: Problem| problem.at(place))?;
            if let Some(extra) = extra {
                let condition = format!("extra == '{extra}'").parse().map_err(|problem: Problem| problem.at(place))?;
                requirement.marker = Some(match requirement.marker.take() {
                    Some(marker) => marker::Marker::All(vec![marker, condition]),
                    None => condition,
                });
            }
            required.push(requirement);
        }
    }
    Ok(Some(required))
}

/// Whether two ranges are the same, whatever the order and the trailing zeros that they were written with. After `~=` a zero
/// means something.
fn same_range(one: &VersionSpecifiers, other: &VersionSpecifiers) -> bool {
    let same = |a: &VersionSpecifier, b: &VersionSpecifier| {
        a.operator() == b.operator()
            && a.version() == b.version()
            && (*a.operator() != Operator::TildeEqual || a.to_string() == b.to_string())
    };
    let within = |a: &VersionSpecifiers, b: &VersionSpecifiers| a.iter().all(|a| b.iter().any(|b| same(a, b)));
    within(one, other) && within(other, one)
}
