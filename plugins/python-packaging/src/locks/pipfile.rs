//! `Pipfile.lock`: flat lists, `default` and `develop`, with digests and without names of files.

use std::collections::BTreeMap;

use crate::files::{join, parent};
use crate::lock::{Directory, File, Git, Origin, Package};
use crate::marker::Marker;
use crate::problem::Problem;
use serde::Deserialize;

use super::target::{Target, unknown};

#[derive(Deserialize)]
struct PipfileLock {
    #[serde(rename = "_meta", default)]
    meta: Meta,
    #[serde(flatten)]
    categories: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    hash: Hash,
    requires: Requires,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Hash {
    sha256: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requires {
    python_version: Option<String>,
    python_full_version: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    version: Option<String>,
    #[serde(default)]
    hashes: Vec<String>,
    markers: Option<String>,
    git: Option<String>,
    r#ref: Option<String>,
    subdirectory: Option<String>,
    path: Option<String>,
    file: Option<String>,
}

/// What a `Pipfile.lock` says: the packages, and of what it was made.
pub(crate) struct Read {
    /// The packages of the environment.
    pub(crate) packages: Vec<Package>,
    /// The digest of the `Pipfile`.
    pub(crate) hash: Option<String>,
}

/// Reads the `Pipfile.lock` at `path`. Its categories are the groups: `develop` is Pipenv's name for `dev`.
pub(crate) fn read(path: &str, text: &str, target: &Target) -> Result<Read, Problem> {
    let mut lock: PipfileLock = serde_json::from_str(text).map_err(|error| super::damaged(path, &error))?;
    target.check_python(path, lock.meta.requires.range().as_deref())?;
    let mut entries = lock.categories.remove("default").unwrap_or_default();
    for group in target.groups() {
        let category = if group == "dev" { "develop" } else { group };
        match lock.categories.remove(category) {
            Some(mut more) => {
                more.append(&mut entries);
                entries = more;
            }
            None => return Err(unknown("group", group, path, lock.categories.keys().map(String::as_str))),
        }
    }
    let mut packages = Vec::new();
    for (name, entry) in entries {
        let marker =
            entry.markers.as_deref().map(str::parse::<Marker>).transpose().map_err(|problem| problem.at(path))?;
        let itself = entry.path.as_deref() == Some(".") && !target.install_project;
        if crate::marker::holds(marker.as_ref(), &target.environment) && !itself {
            let version = entry.version.as_ref().map(|version| version.trim_start_matches('=').to_owned());
            let origin = entry.origin(&name, path)?;
            packages.push(Package::new(name, version, origin));
        }
    }
    Ok(Read { packages, hash: lock.meta.hash.sha256 })
}

impl Requires {
    /// The one Python that the lock was made for; any of its patch releases will do.
    fn range(&self) -> Option<String> {
        let version = self.python_full_version.as_ref().or(self.python_version.as_ref())?;
        let mut numbers = version.split('.').filter(|number| *number != "*");
        match (numbers.next()?, numbers.next()) {
            (major, Some(minor)) => Some(format!("=={major}.{minor}.*")),
            (major, None) => Some(format!("=={major}.*")),
        }
    }
}

impl Entry {
    fn origin(&self, name: &str, lock: &str) -> Result<Origin, Problem> {
        if let Some(url) = &self.git {
            let commit = self.r#ref.clone().ok_or_else(|| {
                Problem::new(format!("`{lock}` names no commit for `{name}`")).hint("run `pipenv lock`")
            })?;
            let url = url.strip_prefix("git+").unwrap_or(url).to_owned();
            return Ok(Origin::Git(Git { url, commit, subdirectory: self.subdirectory.clone() }));
        }
        if let Some(local) = &self.path {
            let outside = || {
                Problem::new(format!("`{lock}` takes `{name}` from `{local}`, outside of the project"))
                    .hint("let `[source] path` name a directory that holds both")
            };
            return Ok(Origin::Directory(Directory { path: join(parent(lock), local).ok_or_else(outside)? }));
        }
        let unhashed = || {
            Problem::new(format!("`{lock}` has no digest for `{name}`"))
                .hint("run `pipenv lock` with an index that publishes digests")
        };
        if let Some(url) = &self.file {
            let sha256 = self.hashes.iter().find_map(|hash| hash.strip_prefix("sha256:")).ok_or_else(unhashed)?;
            let name = File::name_of(url);
            let file =
                File { name, url: url.clone(), sha256: sha256.to_owned(), subdirectory: self.subdirectory.clone() };
            return Ok(Origin::of(file));
        }
        if self.hashes.is_empty() { Err(unhashed()) } else { Ok(Origin::Hashes(self.hashes.clone())) }
    }
}
