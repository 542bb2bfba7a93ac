//! `uv.lock`: a graph of packages for all platforms, walked from the project along the edges whose markers hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::join;
use crate::lock::{Directory, File, Git, Origin, Package};
use crate::marker::{Environment, Marker};
use crate::name::normalise;
use crate::problem::Problem;
use serde::Deserialize;

use super::fit::Requires;
use super::target::{Target, sha256, unknown};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvLock {
    version: u32,
    requires_python: Option<String>,
    #[serde(default)]
    manifest: Manifest,
    #[serde(default)]
    package: Vec<Node>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Manifest {
    members: Vec<String>,
    dependency_groups: BTreeMap<String, Vec<Edge>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    name: String,
    version: Option<String>,
    source: Source,
    #[serde(default)]
    dependencies: Vec<Edge>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<Edge>>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, Vec<Edge>>,
    sdist: Option<Distribution>,
    #[serde(default)]
    wheels: Vec<Distribution>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(default)]
struct Source {
    registry: Option<String>,
    git: Option<String>,
    url: Option<String>,
    path: Option<String>,
    directory: Option<String>,
    editable: Option<String>,
    r#virtual: Option<String>,
    subdirectory: Option<String>,
}

#[derive(Deserialize)]
struct Edge {
    name: String,
    version: Option<String>,
    source: Option<Source>,
    #[serde(default)]
    extra: Vec<String>,
    marker: Option<String>,
}

#[derive(Deserialize)]
struct Distribution {
    url: Option<String>,
    path: Option<String>,
    filename: Option<String>,
    hash: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    requires_dist: Vec<RequiresDist>,
}

#[derive(Deserialize)]
struct RequiresDist {
    name: String,
    specifier: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

/// What a `uv.lock` says: the packages, and what it believes that the project requires.
pub(crate) struct Read {
    /// The packages of the environment.
    pub(crate) packages: Vec<Package>,
    /// The directory of the project, relative to the top.
    pub(crate) directory: Option<String>,
    /// The requirements of the project when it was locked.
    pub(crate) requires: Vec<Requires>,
}

impl Source {
    /// The directory of a project that is developed together with its lock.
    fn local(&self) -> Option<&str> {
        self.r#virtual.as_deref().or(self.editable.as_deref()).or(self.directory.as_deref())
    }
}

/// Reads the `uv.lock` at `path`.
pub(crate) fn read(path: &str, text: &str, target: &Target) -> Result<Read, Problem> {
    let lock: UvLock = toml::from_str(text).map_err(|error| super::damaged(path, &error))?;
    if lock.version != 1 {
        return Err(Problem::new(format!("`{path}` is of version {}, and version 1 is understood", lock.version))
            .hint("lock again with a uv that writes version 1, or use a newer `pipe`"));
    }
    target.check_python(path, lock.requires_python.as_deref())?;
    let mut walk = Walk { lock: &lock, path, seen: BTreeSet::new(), conflicts: target.environment.clone() };
    let root = walk.root(target)?;
    walk.start(root, target)?;
    let project = root.map(|index| &lock.package[index]);
    let mut packages = Vec::new();
    for index in walk.seen.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>() {
        let node = &lock.package[index];
        if node.source.r#virtual.is_none() && (Some(index) != root || target.install_project) {
            let origin = origin(node, path, target)?;
            packages.push(Package::new(&node.name, node.version.clone(), origin));
        }
    }
    let directory = crate::files::parent(path);
    Ok(Read {
        packages,
        directory: match project {
            Some(node) => node.source.local().and_then(|local| join(directory, local)),
            None => None,
        },
        requires: project
            .map(|node| node.metadata.requires_dist.iter().map(RequiresDist::read).collect())
            .unwrap_or_default(),
    })
}

impl RequiresDist {
    fn read(&self) -> Requires {
        let elsewhere = ["git", "url", "path", "directory", "editable", "virtual"];
        let registry = !elsewhere.iter().any(|key| self.rest.contains_key(*key));
        let specifier = registry.then(|| self.specifier.clone().unwrap_or_default());
        Requires { name: normalise(&self.name), specifier }
    }
}

/// The walk: which packages are reached, each with the extras that it is asked for.
struct Walk<'a> {
    lock: &'a UvLock,
    path: &'a str,
    seen: BTreeSet<(usize, Option<String>)>,
    /// The environment of the markers on edges. uv writes extras and groups that exclude each other into them, as
    /// `extra == 'extra-7-project-cpu'` and `extra == 'group-7-project-dev'`.
    conflicts: Environment,
}

impl Walk<'_> {
    /// The project that the lock is for; none where it has only groups.
    fn root(&self, target: &Target) -> Result<Option<usize>, Problem> {
        let local = |node: &Node| node.source.local().is_some();
        let names = || self.lock.package.iter().filter(|node| local(node)).map(|node| node.name.as_str());
        let find =
            |wanted: &dyn Fn(&Node) -> bool| self.lock.package.iter().position(|node| local(node) && wanted(node));
        if let Some(name) = &target.package {
            return match find(&|node| node.name == normalise(name)) {
                Some(index) => Ok(Some(index)),
                None => Err(unknown("member", name, self.path, names())),
            };
        }
        if let Some(index) = find(&|node| node.source.local() == Some(".")) {
            return Ok(Some(index));
        }
        match self.lock.manifest.members.as_slice() {
            [] => Ok(None),
            [only] => Ok(find(&|node| node.name == *only)),
            members => Err(Problem::new(format!("`{}` is of a workspace without a project at its top", self.path))
                .hint(format!("name the member with `config = {{ package = … }}`: it has `{}`", members.join("`, `")))),
        }
    }

    fn start(&mut self, root: Option<usize>, target: &Target) -> Result<(), Problem> {
        let lock = self.lock;
        let node = root.map(|index| &lock.package[index]);
        let name = node.map_or("", |node| node.name.as_str());
        let encode = |kind: &str, what: &str| format!("{kind}-{}-{name}-{what}", name.len());
        let encoded = target.extras().iter().map(|extra| encode("extra", extra));
        let encoded: Vec<String> = encoded.chain(target.groups().iter().map(|group| encode("group", group))).collect();
        self.conflicts = target.environment.with_extras(encoded);

        if let Some(index) = root {
            self.visit(index, None)?;
        }
        for extra in target.extras() {
            let known = node.map(|node| &node.optional_dependencies).into_iter().flatten();
            match (root, node.is_some_and(|node| node.optional_dependencies.contains_key(extra))) {
                (Some(index), true) => self.visit(index, Some(extra.clone()))?,
                _ => return Err(unknown("extra", extra, self.path, known.map(|(extra, _)| extra.as_str()))),
            }
        }
        for group in target.groups() {
            let own = node.map_or(&lock.manifest.dependency_groups, |node| &node.dev_dependencies);
            let edges = own.get(group).or_else(|| lock.manifest.dependency_groups.get(group));
            let Some(edges) = edges else {
                return Err(unknown("group", group, self.path, own.keys().map(String::as_str)));
            };
            self.follow(edges)?;
        }
        Ok(())
    }

    fn visit(&mut self, index: usize, extra: Option<String>) -> Result<(), Problem> {
        if !self.seen.insert((index, extra.clone())) {
            return Ok(());
        }
        let node = &self.lock.package[index];
        match extra {
            // uv drops extras that a version does not have, with a warning when it locks.
            Some(extra) => node.optional_dependencies.get(&extra).map_or(Ok(()), |edges| self.follow(edges)),
            None => self.follow(&node.dependencies),
        }
    }

    fn follow(&mut self, edges: &[Edge]) -> Result<(), Problem> {
        for edge in edges {
            let marker = edge.marker.as_deref().map(str::parse::<Marker>).transpose();
            let marker = marker.map_err(|problem| problem.at(self.path))?;
            if !crate::marker::holds(marker.as_ref(), &self.conflicts) {
                continue;
            }
            let meant = |node: &Node| {
                node.name == edge.name
                    && edge.version.as_ref().is_none_or(|version| node.version.as_ref() == Some(version))
                    && edge.source.as_ref().is_none_or(|source| node.source == *source)
            };
            let index = self.lock.package.iter().position(meant).ok_or_else(|| {
                Problem::new(format!("`{}` needs `{}` and does not hold it", self.path, edge.name))
                    .hint("run `uv lock`")
            })?;
            self.visit(index, None)?;
            for extra in &edge.extra {
                self.visit(index, Some(extra.clone()))?;
            }
        }
        Ok(())
    }
}

fn origin(node: &Node, path: &str, target: &Target) -> Result<Origin, Problem> {
    let directory = crate::files::parent(path);
    let inside = |relative: &str| {
        join(directory, relative).ok_or_else(|| {
            Problem::new(format!("`{path}` takes `{}` from `{relative}`, outside of the project", node.name))
                .hint("let `[source] path` name a directory that holds both")
        })
    };
    let source = &node.source;
    if let Some(git) = &source.git {
        return git_origin(git, source.subdirectory.as_deref()).ok_or_else(|| {
            Problem::new(format!("`{path}` names no commit for `{}`", node.name)).hint("run `uv lock`")
        });
    }
    if let Some(local) = source.local() {
        return Ok(Origin::Directory(Directory { path: inside(local)? }));
    }
    let mut files = Vec::new();
    for distribution in node.wheels.iter().chain(&node.sdist) {
        let place =
            distribution.url.as_ref().or(distribution.path.as_ref()).or(source.url.as_ref()).or(source.path.as_ref());
        let place = place.map_or("", String::as_str);
        // A flat index is a directory, and the files of it are named relative to that.
        let url = match (&source.registry, &distribution.path) {
            (Some(registry), Some(file)) if !registry.contains("://") => {
                // One outside of the project is in a directory that the pipeline's `[index]` names, and found there by its name.
                join(directory, &format!("{registry}/{file}")).unwrap_or_default()
            }
            _ if place.is_empty() || place.contains("://") => place.to_owned(),
            _ => inside(place)?,
        };
        files.push(File {
            name: distribution.filename.clone().unwrap_or_else(|| File::name_of(place)),
            url,
            sha256: sha256(&node.name, distribution.hash.as_deref())?,
            subdirectory: source.subdirectory.clone(),
        });
    }
    target.choose(&node.name, &files)
}

/// `https://host/x?subdirectory=y&rev=main#<commit>`
fn git_origin(address: &str, subdirectory: Option<&str>) -> Option<Origin> {
    let (address, commit) = address.split_once('#')?;
    let (url, query) = address.split_once('?').unwrap_or((address, ""));
    let inner =
        query.split('&').find_map(|pair| pair.strip_prefix("subdirectory=")).map(|path| path.replace("%2F", "/"));
    Some(Origin::Git(Git {
        url: url.to_owned(),
        commit: commit.to_owned(),
        subdirectory: inner.or_else(|| subdirectory.map(str::to_owned)),
    }))
}
