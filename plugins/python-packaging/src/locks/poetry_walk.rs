//! The walk from a `pyproject.toml` through a `poetry.lock` of before 2.1, which does not say what a package is there for.

use std::collections::{BTreeMap, BTreeSet};

use crate::marker::{Environment, Marker};
use crate::name::normalise;
use crate::pep440::{Version, VersionSpecifiers};
use crate::poetry::range;
use crate::problem::Problem;
use crate::requirement::Requirement;
use serde::Deserialize;

use super::poetry::{Detail, Entry, PoetryLock, Spec};
use super::target::{Target, unknown};

/// `[tool.poetry]`, as far as it says what is required.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Poetry {
    dependencies: BTreeMap<String, Spec>,
    dev_dependencies: BTreeMap<String, Spec>,
    group: BTreeMap<String, Group>,
    extras: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Group {
    dependencies: BTreeMap<String, Spec>,
}

/// The packages that are reached.
pub(crate) fn walk<'a>(
    lock: &'a PoetryLock,
    path: &str,
    pyproject: Option<&toml::Table>,
    target: &Target,
) -> Result<Vec<&'a Entry>, Problem> {
    let table = pyproject.and_then(|table| table.get("tool")?.get("poetry")).cloned().ok_or_else(|| {
        let version = lock.version();
        Problem::new(format!("`{path}`, of version {version}, cannot be read without its `pyproject.toml`"))
            .hint("keep the `pyproject.toml` with its `[tool.poetry]` beside the lock")
    })?;
    let poetry: Poetry = table.try_into().map_err(|error: toml::de::Error| super::damaged("pyproject.toml", &error))?;
    let mut walk = Walk { lock, path, environment: &target.environment, seen: BTreeSet::new() };

    let mut chosen = Vec::new();
    for extra in target.extras() {
        let known = poetry.extras.iter().find(|(name, _)| normalise(name) == *extra);
        let Some((_, names)) = known else {
            return Err(unknown("extra", extra, "pyproject.toml", poetry.extras.keys().map(String::as_str)));
        };
        chosen.extend(names.iter().map(|name| normalise(name)));
    }
    walk.follow(&poetry.dependencies, &chosen, target.extras())?;
    for group in target.groups() {
        let known =
            poetry.group.iter().find(|(name, _)| normalise(name) == *group).map(|(_, group)| &group.dependencies);
        match known {
            Some(dependencies) => walk.follow(dependencies, &[], &BTreeSet::new())?,
            None if group == "dev" => walk.follow(&poetry.dev_dependencies, &[], &BTreeSet::new())?,
            None => return Err(unknown("group", group, "pyproject.toml", poetry.group.keys().map(String::as_str))),
        }
    }
    let reached: BTreeSet<usize> = walk.seen.into_iter().map(|(index, _)| index).collect();
    Ok(reached.into_iter().map(|index| &lock.packages[index]).collect())
}

struct Walk<'a> {
    lock: &'a PoetryLock,
    path: &'a str,
    environment: &'a Environment,
    seen: BTreeSet<(usize, Vec<String>)>,
}

impl Walk<'_> {
    /// Follows dependencies; optional ones only if they are `chosen`, by the extras in whose name they are asked.
    fn follow(
        &mut self,
        dependencies: &BTreeMap<String, Spec>,
        chosen: &[String],
        extras: &BTreeSet<String>,
    ) -> Result<(), Problem> {
        let environment = self.environment.with_extras(extras);
        for (name, spec) in dependencies {
            let name = normalise(name);
            for detail in spec.details() {
                let wanted = !detail.optional || chosen.contains(&name);
                if name != "python" && wanted && detail.holds(&environment, self.path)? {
                    self.reach(&name, &detail)?;
                }
            }
        }
        Ok(())
    }

    fn reach(&mut self, name: &str, detail: &Detail) -> Result<(), Problem> {
        let lock = self.lock;
        let versions = detail.version.as_deref().map(alternatives).unwrap_or_default();
        let named = || (0..lock.packages.len()).filter(|index| normalise(&lock.packages[*index].name) == name);
        let fits = |index: &usize| {
            let version = lock.packages[*index].version.parse::<Version>();
            versions.is_empty() || version.is_ok_and(|version| versions.iter().any(|range| range.contains(&version)))
        };
        let only = || named().next().filter(|_| named().count() == 1);
        let index = named().find(fits).or_else(only).ok_or_else(|| {
            Problem::new(format!("`{}` does not hold `{name}`, which the project needs", self.path))
                .hint("run `poetry lock`")
        })?;
        let extras: BTreeSet<String> = detail.extras.iter().map(|extra| normalise(extra)).collect();
        if !self.seen.insert((index, extras.iter().cloned().collect())) {
            return Ok(());
        }
        let entry = &lock.packages[index];
        let named = entry.extras.iter().filter(|(name, _)| extras.contains(&normalise(name)));
        let chosen: Vec<String> = named
            .flat_map(|(_, requirements)| requirements)
            .filter_map(|requirement| requirement.parse::<Requirement>().ok())
            .map(|requirement| requirement.name)
            .collect();
        self.follow(&entry.dependencies, &chosen, &extras)
    }
}

impl Spec {
    /// The table form of each alternative.
    fn details(&self) -> Vec<Detail> {
        match self {
            Self::Range(range) => vec![Detail {
                version: Some(range.clone()),
                markers: None,
                python: None,
                platform: None,
                extras: Vec::new(),
                optional: false,
            }],
            Self::Table(detail) => vec![(**detail).clone()],
            Self::Several(specs) => specs.iter().flat_map(Self::details).collect(),
        }
    }

    /// Whether it is required always and everywhere.
    pub(crate) fn is_unconditional(&self) -> bool {
        let always = |detail: &Detail| {
            !detail.optional && detail.markers.is_none() && detail.python.is_none() && detail.platform.is_none()
        };
        self.details().iter().all(always)
    }
}

impl Detail {
    fn holds(&self, environment: &Environment, path: &str) -> Result<bool, Problem> {
        let marker =
            self.markers.as_deref().map(str::parse::<Marker>).transpose().map_err(|problem| problem.at(path))?;
        let python = environment.python().parse::<Version>().ok();
        let fits = |range: &String| {
            python.as_ref().is_none_or(|python| alternatives(range).iter().any(|r| r.contains(python)))
        };
        Ok(crate::marker::holds(marker.as_ref(), environment)
            && self.python.as_ref().is_none_or(fits)
            && self.platform.as_deref().is_none_or(|platform| platform.starts_with("linux")))
    }
}

/// The ranges of `^1.2 || ^2.0`, one of which must hold; one that cannot be read admits everything.
fn alternatives(text: &str) -> Vec<VersionSpecifiers> {
    text.split("||").map(|one| range(one).parse().unwrap_or_default()).collect()
}
