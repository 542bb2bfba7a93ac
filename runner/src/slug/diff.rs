//! What differs between two slugs, or two trees, in words that people use. Knows nothing of how either came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{Manifest, SlugError};
use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::{Entry, Tree};

/// One thing that differs: a name, and what it is on either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A path, a package, a process or a variable.
    pub name: String,
    /// What it was; none where it is new.
    pub from: Option<String>,
    /// What it is; none where it is gone.
    pub to: Option<String>,
}

/// What differs between two slugs; empty lists where nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Packages of the environment, by version.
    pub packages: Vec<Change>,
    /// Migrations of Django, of the application and of its packages.
    pub migrations: Vec<Change>,
    /// All other files at `/app/src`.
    pub source: Vec<Change>,
    /// Files at `/app/static`.
    #[serde(rename = "static")]
    pub statics: Vec<Change>,
    /// Files at `/app/venv`, where no package's version explains it.
    pub environment_files: Vec<Change>,
    /// Commands of processes, and of the release phase.
    pub processes: Vec<Change>,
    /// Variables that a target must set.
    pub environment: Vec<Change>,
    /// Runtime, platform, Python and the rest of the manifest.
    pub settings: Vec<Change>,
}

/// What differs between the slugs of two trees.
pub fn diff(store: &Store, from: &Digest, to: &Digest) -> Result<Difference, SlugError> {
    let (_, a) = Manifest::read(store, from)?;
    let (_, b) = Manifest::read(store, to)?;
    let files = |name: &str| -> Result<Vec<Change>, SlugError> {
        let empty = || store.put_tree(&Tree::default());
        let side = |manifest: &Manifest| manifest.trees.get(name).copied().map_or_else(empty, Ok);
        Ok(trees((store, &side(&a)?), (store, &side(&b)?))?)
    };
    let packages = changes(&a.packages(store)?, &b.packages(store)?);
    let (mut migrations, source) = files("src")?.into_iter().partition::<Vec<_>, _>(is_migration);
    let (of_packages, environment_files) = files("venv")?.into_iter().partition::<Vec<_>, _>(is_migration);
    migrations.extend(of_packages.into_iter().map(|change| Change { name: in_package(&change.name), ..change }));
    Ok(Difference {
        // Where a package has another version, its files have their reason.
        environment_files: if packages.is_empty() { environment_files } else { Vec::new() },
        packages,
        migrations,
        source,
        statics: files("static")?,
        processes: changes(&processes(&a), &processes(&b)),
        environment: changes(&named(&a.environment), &named(&b.environment)),
        settings: changes(&settings(&a), &settings(&b)),
    })
}

/// The files, links and empty directories that differ between two trees, each of a store of its own, in order of paths.
pub fn trees(from: (&Store, &Digest), to: (&Store, &Digest)) -> Result<Vec<Change>, StoreError> {
    let mut found = Vec::new();
    compare(from, to, "", &mut |change| {
        found.push(change);
        true
    })?;
    Ok(found)
}

/// The first of [`trees`].
pub fn first_difference(from: (&Store, &Digest), to: (&Store, &Digest)) -> Result<Option<Change>, StoreError> {
    let mut found = None;
    compare(from, to, "", &mut |change| {
        found = Some(change);
        false
    })?;
    Ok(found)
}

/// Reports what differs, until `report` says that it is enough; says whether it never did.
fn compare(
    from: (&Store, &Digest),
    to: (&Store, &Digest),
    at: &str,
    report: &mut impl FnMut(Change) -> bool,
) -> Result<bool, StoreError> {
    if from.1 == to.1 {
        return Ok(true);
    }
    let (a, b) = (from.0.tree(from.1)?, to.0.tree(to.1)?);
    let names: BTreeSet<&str> = a.entries().chain(b.entries()).map(|(name, _)| name).collect();
    for name in names {
        let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
        let more = match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) if a == b => true,
            (Some(Entry::Tree { digest: a }), Some(Entry::Tree { digest: b })) => {
                compare((from.0, a), (to.0, b), &path, report)?
            }
            (a, b) => report(Change { name: path, from: a.map(describe), to: b.map(describe) }),
        };
        if !more {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file is a migration: Django finds them by where they are, and calls them by a number itself.
fn is_migration(change: &Change) -> bool {
    let mut parts = change.name.rsplit('/');
    let (file, folder) = (parts.next().unwrap_or_default(), parts.next());
    folder == Some("migrations") && file.strip_suffix(".py").is_some_and(|name| name != "__init__")
}

/// A path in an environment as one from where packages are.
fn in_package(path: &str) -> String {
    path.split_once("site-packages/").map_or(path, |(_, rest)| rest).to_owned()
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::File { digest, executable: false } => format!("file {}", digest.short()),
        Entry::File { digest, executable: true } => format!("executable {}", digest.short()),
        Entry::Symlink { target } => format!("link to {target}"),
        Entry::Tree { .. } => "directory".to_owned(),
    }
}

/// What differs between two lists of names and values.
pub(crate) fn changes(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| Change { name: name.clone(), from: from.get(name).cloned(), to: to.get(name).cloned() })
        .collect()
}

fn processes(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut processes = manifest.processes.clone();
    processes.extend(manifest.release.clone().map(|command| ("release".to_owned(), command)));
    processes
}

fn named(names: &[String]) -> BTreeMap<String, String> {
    names.iter().map(|name| (name.clone(), "required".to_owned())).collect()
}

fn settings(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("app".to_owned(), manifest.app.clone()),
        ("directory".to_owned(), manifest.directory.clone()),
        ("platform".to_owned(), manifest.platform.clone()),
        ("runtime".to_owned(), manifest.runtime.to_string()),
    ]);
    settings.extend(manifest.python.clone().map(|python| ("python".to_owned(), python)));
    settings.extend(manifest.static_url.clone().map(|url| ("static url".to_owned(), url)));
    settings.extend(manifest.links.iter().map(|link| (format!("link {}", link.path), link.target.clone())));
    settings
}

impl Difference {
    /// Whether the slugs are the same.
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|(_, changes)| changes.is_empty())
    }

    /// The lists by what they are of, in the order in which people ask.
    pub fn parts(&self) -> [(&'static str, &[Change]); 8] {
        [
            ("packages", &self.packages),
            ("migrations", &self.migrations),
            ("source", &self.source),
            ("static files", &self.statics),
            ("environment files", &self.environment_files),
            ("processes", &self.processes),
            ("environment", &self.environment),
            ("settings", &self.settings),
        ]
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (None, Some(to)) => write!(f, "+ {}  {to}", self.name),
            (Some(from), None) => write!(f, "- {}  {from}", self.name),
            (from, to) => {
                let side = |side: &Option<String>| side.clone().unwrap_or_default();
                write!(f, "~ {}  {} → {}", self.name, side(from), side(to))
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, changes) in self.parts().into_iter().filter(|(_, changes)| !changes.is_empty()) {
            writeln!(f, "{part}")?;
            for change in changes {
                writeln!(f, "  {change}")?;
            }
        }
        Ok(())
    }
}
