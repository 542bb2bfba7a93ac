//! `poetry.lock`, of every version that is met: 2.1 says of each package for which groups and under which markers it is
//! there; older ones are a graph, walked from `pyproject.toml`.

use std::collections::BTreeMap;

use crate::files::{join, parent};
use crate::lock::{Directory, File, Git, Origin, Package};
use crate::marker::Marker;
use crate::name::normalise;
use crate::problem::Problem;
use serde::Deserialize;

use super::poetry_walk;
use super::target::{Target, sha256};

#[derive(Deserialize)]
pub(crate) struct PoetryLock {
    #[serde(default, rename = "package")]
    pub(crate) packages: Vec<Entry>,
    metadata: Metadata,
    /// The extras of the project.
    #[serde(default)]
    pub(crate) extras: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    #[serde(default)]
    lock_version: String,
    python_versions: Option<String>,
    /// What the lock was made from, as a digest.
    content_hash: Option<String>,
    /// Where versions before 2.0 keep the files.
    #[serde(default)]
    files: BTreeMap<String, Vec<Listed>>,
}

#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) dependencies: BTreeMap<String, Spec>,
    #[serde(default)]
    pub(crate) extras: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    files: Vec<Listed>,
    source: Option<Source>,
    groups: Option<Vec<String>>,
    markers: Option<Markers>,
}

/// A dependency: a range, a table, or several of them under different markers.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(crate) enum Spec {
    Range(String),
    Table(Box<Detail>),
    Several(Vec<Spec>),
}

#[derive(Deserialize, Clone)]
pub(crate) struct Detail {
    pub(crate) version: Option<String>,
    pub(crate) markers: Option<String>,
    pub(crate) python: Option<String>,
    pub(crate) platform: Option<String>,
    #[serde(default)]
    pub(crate) extras: Vec<String>,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Markers {
    Same(String),
    ByGroup(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Listed {
    file: String,
    hash: String,
}

#[derive(Deserialize)]
struct Source {
    r#type: Option<String>,
    #[serde(default)]
    url: String,
    resolved_reference: Option<String>,
    subdirectory: Option<String>,
}

/// What a `poetry.lock` says: the packages, and of what it was made.
pub(crate) struct Read {
    /// The packages of the environment.
    pub(crate) packages: Vec<Package>,
    /// The digest of what Poetry read in `pyproject.toml`.
    pub(crate) content_hash: Option<String>,
    /// Whether the Poetry that wrote it refuses to install it when that digest differs. Older ones only warn.
    pub(crate) is_strict: bool,
}

/// Reads the `poetry.lock` at `path`; `pyproject` is the project's file, which older versions cannot be read without.
pub(crate) fn read(path: &str, text: &str, pyproject: Option<&toml::Table>, target: &Target) -> Result<Read, Problem> {
    let lock: PoetryLock = toml::from_str(text).map_err(|error| super::damaged(path, &error))?;
    let range = lock.metadata.python_versions.as_deref().map(crate::poetry::range);
    target.check_python(path, range.as_deref())?;
    let entries = if lock.packages.iter().any(|entry| entry.groups.is_some()) {
        select(&lock, path, target)?
    } else if lock.packages.is_empty() {
        Vec::new()
    } else {
        poetry_walk::walk(&lock, path, pyproject, target)?
    };
    let packages = entries.into_iter().map(|entry| {
        let origin = entry.origin(&lock, path, target)?;
        Ok(Package::new(normalise(&entry.name), Some(entry.version.clone()), origin))
    });
    Ok(Read {
        packages: packages.collect::<Result<_, Problem>>()?,
        is_strict: !lock.version().starts_with("1."),
        content_hash: lock.metadata.content_hash,
    })
}

/// The packages whose groups are wanted and whose markers hold.
fn select<'a>(lock: &'a PoetryLock, path: &str, target: &Target) -> Result<Vec<&'a Entry>, Problem> {
    if let Some(extra) =
        target.extras().iter().find(|extra| !lock.extras.keys().any(|known| normalise(known) == **extra))
    {
        return Err(super::target::unknown("extra", extra, path, lock.extras.keys().map(String::as_str)));
    }
    let groups_of = |entry: &'a Entry| entry.groups.iter().flatten().map(String::as_str);
    if let Some(group) = target
        .groups()
        .iter()
        .find(|group| !lock.packages.iter().flat_map(groups_of).any(|known| normalise(known) == **group))
    {
        let known: std::collections::BTreeSet<&str> = lock.packages.iter().flat_map(groups_of).collect();
        return Err(super::target::unknown("group", group, path, known));
    }
    let mut selected = Vec::new();
    for entry in &lock.packages {
        let mut wanted = false;
        for group in groups_of(entry).filter(|group| *group == "main" || target.groups().contains(&normalise(group))) {
            let marker = match &entry.markers {
                Some(Markers::Same(marker)) => Some(marker),
                Some(Markers::ByGroup(markers)) => markers.get(group),
                None => None,
            };
            let marker =
                marker.map(|marker| marker.parse::<Marker>()).transpose().map_err(|problem| problem.at(path))?;
            wanted |= crate::marker::holds(marker.as_ref(), &target.environment);
        }
        if wanted {
            selected.push(entry);
        }
    }
    Ok(selected)
}

impl Entry {
    fn origin(&self, lock: &PoetryLock, path: &str, target: &Target) -> Result<Origin, Problem> {
        let mut address = "";
        let mut subdirectory = None;
        if let Some(source) = &self.source {
            subdirectory.clone_from(&source.subdirectory);
            match source.r#type.as_deref() {
                Some("git") => return self.commit(source, path),
                Some("directory") => {
                    return Ok(Origin::Directory(Directory { path: self.inside(path, &source.url)? }));
                }
                // A file outside of every index; poetry gives its place relative to the lock.
                Some("file" | "url") => address = &source.url,
                // `legacy`: another index, that the pipeline's `[index]` must name.
                _ => {}
            }
        }
        let listed = if self.files.is_empty() { lock.files_of(&self.name) } else { &self.files };
        let mut files = Vec::new();
        for Listed { file, hash } in
            listed.iter().filter(|listed| address.is_empty() || File::name_of(address) == listed.file)
        {
            let url = if address.is_empty() || address.contains("://") {
                address.to_owned()
            } else {
                self.inside(path, address)?
            };
            let sha256 = sha256(&self.name, Some(hash))?;
            files.push(File { name: file.clone(), url, sha256, subdirectory: subdirectory.clone() });
        }
        target.choose(&self.name, &files)
    }

    fn commit(&self, source: &Source, path: &str) -> Result<Origin, Problem> {
        let commit = source.resolved_reference.clone().ok_or_else(|| {
            Problem::new(format!("`{path}` names no commit for `{}`", self.name)).hint("run `poetry lock`")
        })?;
        Ok(Origin::Git(Git { url: source.url.clone(), commit, subdirectory: source.subdirectory.clone() }))
    }

    fn inside(&self, path: &str, relative: &str) -> Result<String, Problem> {
        join(parent(path), relative).ok_or_else(|| {
            Problem::new(format!("`{path}` takes `{}` from `{relative}`, outside of the project", self.name))
                .hint("let `[source] path` name a directory that holds both")
        })
    }
}

impl PoetryLock {
    /// The version of the format, for messages.
    pub(crate) fn version(&self) -> &str {
        &self.metadata.lock_version
    }

    fn files_of(&self, name: &str) -> &[Listed] {
        let wanted = normalise(name);
        self.metadata
            .files
            .iter()
            .find(|(name, _)| normalise(name) == wanted)
            .map_or(&[], |(_, files)| files.as_slice())
    }
}
