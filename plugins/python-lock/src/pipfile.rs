//! `Pipfile.lock`: flat lists, `default` and `develop`, with digests and without names of files.

use std::collections::BTreeMap;

use python_packaging::files::{join, parent};
use python_packaging::lock::{Directory, File, Git, Origin, Package};
use python_packaging::marker::Marker;
use python_packaging::problem::Problem;
use serde::Deserialize;

use crate::target::{Target, unknown};

#[derive(Deserialize)]
struct PipfileLock {
    #[serde(rename = "_meta")]
    _meta: serde_json::Value,
    #[serde(flatten)]
    categories: BTreeMap<String, BTreeMap<String, Entry>>,
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

/// Reads the `Pipfile.lock` at `path`. Its categories are the groups: `develop` is Pipenv's name for `dev`.
pub(crate) fn read(path: &str, text: &str, target: &Target) -> Result<Vec<Package>, Problem> {
    let mut lock: PipfileLock = serde_json::from_str(text).map_err(|error| crate::damaged(path, &error))?;
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
        if python_packaging::marker::holds(marker.as_ref(), &target.environment) && !itself {
            let version = entry.version.as_ref().map(|version| version.trim_start_matches('=').to_owned());
            let origin = entry.origin(&name, path)?;
            packages.push(Package::new(name, version, origin));
        }
    }
    Ok(packages)
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
