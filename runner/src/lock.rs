//! What must be resolved before anything is built: requirements without digests become a `pylock.toml`, and ranges that a
//! step asks for become pins in `pipe.lock`.
//!
//! This is the only place where "latest" means anything, and it is no step: what it finds is written down and committed,
//! and from then on it is what stands there. Resolving itself is uv's. Knows nothing of the store's values and of steps
//! beyond the settings of `python-lock`.

mod disk;
mod error;
mod pin;
mod settings;
mod translate;
mod uv;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use python_packaging::files::{Files, join, parent};
use python_packaging::lock::{File, Package};
use python_packaging::locks::Question;
use python_packaging::name::normalise;
use python_packaging::project::{Found, Kind, Search};
use python_packaging::record::{Record, Source};
use python_packaging::requirements::{Requirements, Target};

use crate::diagnostic::nearest;
use crate::event::{Event, Events};
use crate::fetch::Fetcher;
use crate::pipeline::Pipeline;
use crate::store::Store;

pub use error::LockError;
pub use pin::{pin, pinned};

use disk::Disk;
use error::at;
use settings::Settings;
use uv::{Input, Resolution, Uv};

/// What resolving needs of the rest.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// The pipeline's Python: `3.11`.
    pub python: String,
    /// The pipeline's platform: `linux-x86_64-gnu`.
    pub platform: String,
    /// What gets uv where the machine has none.
    pub fetcher: Fetcher,
    /// Where uv is unpacked from.
    pub store: Store,
    /// The directory with all of `pipe`'s data; uv and its cache are in its `cache`.
    pub home: PathBuf,
    /// The uv to use, whatever else there is: what `PIPE_UV` names.
    pub uv: Option<PathBuf>,
    indexes: uv::Indexes,
}

/// Whether, and how far, to resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Refuses to resolve.
    Locked,
    /// Resolves what is missing or stale, and keeps the versions that still do.
    Keep,
    /// Resolves all anew.
    Upgrade,
    /// Resolves anew, and keeps the versions of all but these packages.
    UpgradeOnly(Vec<String>),
}

impl Resolver {
    /// A resolver for a pipeline on `python`.
    pub fn new(pipeline: &Pipeline, python: &str, fetcher: &Fetcher, store: &Store, home: &Path) -> Self {
        Self {
            python: python.to_owned(),
            platform: pipeline.platform.to_string(),
            fetcher: fetcher.clone(),
            store: store.clone(),
            home: home.to_owned(),
            uv: std::env::var_os("PIPE_UV").map(PathBuf::from),
            indexes: uv::Indexes::of(pipeline),
        }
    }
}

/// Sees to it that each `python-lock` of the pipeline finds a lock. Cheap where all is fresh: a few small files are read.
/// Gives the paths of what it wrote.
pub fn ensure(
    pipeline: &Pipeline,
    resolver: &Resolver,
    mode: &Mode,
    events: &Events,
) -> Result<Vec<PathBuf>, LockError> {
    let mut written = Vec::new();
    for step in &pipeline.steps {
        let Some(settings) = Settings::of(step) else { continue };
        let project = Project {
            disk: Disk::new(pipeline.source_directory()),
            search: settings
                .search(resolver)
                .map_err(|problem| LockError::Project { step: step.name.to_string(), problem })?,
            resolver,
            mode,
            events,
        };
        let path = project.ensure().map_err(|error| match error {
            disk::Stop::Problem(problem) => LockError::Project { step: step.name.to_string(), problem },
            disk::Stop::Lock(error) => error,
        })?;
        written.extend(path.filter(|path| !written.contains(path)));
    }
    Ok(written)
}

/// The packages that the lock of a project in a directory holds, as `python-lock` reads it. None where nothing is locked, and
/// where the lock is refused: the step says why.
pub(crate) fn locked(directory: &Path, question: &Question) -> Option<Vec<Package>> {
    Some(question.answer(&Disk::new(directory.to_owned())).ok()?.lock.packages)
}

/// The project of one step.
struct Project<'a> {
    disk: Disk,
    search: Search,
    resolver: &'a Resolver,
    mode: &'a Mode,
    events: &'a Events,
}

impl Project<'_> {
    fn ensure(&self) -> Result<Option<PathBuf>, disk::Stop> {
        let upgrade = matches!(self.mode, Mode::Upgrade | Mode::UpgradeOnly(_));
        let (path, kind, pylock) = match self.search.find(&self.disk)? {
            Found::Locked { path, kind } if upgrade => match self.own(&path)? {
                Some((from, from_kind)) => (from, from_kind, path),
                None => {
                    self.not_ours(&path, kind);
                    return Ok(None);
                }
            },
            Found::Locked { .. } => return Ok(None),
            Found::Unlocked { path, pylock, stale, .. } if *self.mode == Mode::Locked => {
                return Err(LockError::Locked { path, pylock, stale }.into());
            }
            Found::Unlocked { path, kind, pylock, .. } => (path, kind, pylock),
        };
        self.events.send(Event::Note { message: format!("resolving `{path}` into `{pylock}`") });
        let packages = self.resolve(&path, kind, &pylock)?;
        self.strangers(&packages, &pylock);
        let count = packages.len();
        self.events.send(Event::Note {
            message: format!("`{pylock}` now locks {count} packages: commit it, it is what every later build installs"),
        });
        Ok(Some(self.disk.path(&pylock)))
    }

    /// What a `pylock.toml` was made of, if `pipe` made it.
    fn own(&self, pylock: &str) -> Result<Option<(String, Kind)>, disk::Stop> {
        let record = self.disk.read(pylock)?.as_deref().and_then(Record::of);
        Ok(record.and_then(|record| Some((record.from.clone(), Kind::of(&record.from)?))))
    }

    fn not_ours(&self, path: &str, kind: Kind) {
        let command = match kind {
            Kind::Uv => "uv lock --upgrade",
            Kind::Poetry => "poetry update",
            Kind::PipfileLock => "pipenv update",
            _ => "the tool that wrote it",
        };
        self.events.warn(format!("`{path}` is not `pipe`'s to upgrade"), Some(format!("run `{command}`")));
    }

    /// Tells of packages that were to be upgraded and are none of the project's.
    fn strangers(&self, packages: &[String], pylock: &str) {
        let Mode::UpgradeOnly(names) = self.mode else { return };
        for name in names.iter().filter(|name| !packages.contains(&normalise(name))) {
            let near = nearest(name, packages.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            self.events.warn(format!("`{pylock}` has no package `{name}` to upgrade"), hint);
        }
    }

    /// Writes the lock, and gives the names of the packages in it.
    fn resolve(&self, path: &str, kind: Kind, pylock: &str) -> Result<Vec<String>, disk::Stop> {
        let uv = Uv::find(self.resolver, &self.disk.path(parent(path)), self.events)?;
        let sources = self.sources(path, kind)?;
        let text = self.disk.read(path)?.unwrap_or_default();
        let input = match translate::requirements(path, kind, &text, &self.search.wanted)? {
            Some(lines) => Input::Lines(lines),
            None => Input::File(self.disk.path(path)),
        };
        let target = self.disk.path(pylock);
        remove_drafts(target.parent().unwrap_or(Path::new(".")));
        let draft = tempfile::Builder::new()
            .prefix(DRAFT)
            .suffix(".toml")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(target.parent().unwrap_or(Path::new(".")))
            .map_err(at("write", &target))?;
        // What stands in the output is what uv prefers to keep.
        let kept = if *self.mode == Mode::Upgrade { None } else { self.disk.read(pylock)? };
        fs::write(draft.path(), kept.as_deref().unwrap_or(EMPTY)).map_err(at("write", &target))?;
        let upgraded: &[String] = if let Mode::UpgradeOnly(names) = self.mode { names } else { &[] };
        let resolved = uv.compile(&Resolution {
            input,
            output: Some(draft.path()),
            directory: &self.disk.path(parent(path)),
            wanted: &self.search.wanted,
            upgraded,
            constraints: &[],
            only_wheels: false,
        })?;
        let record = Record { from: path.to_owned(), wanted: self.search.wanted.clone(), sources };
        // Written anew by its name: uv has put another file in the draft's place.
        fs::write(draft.path(), compose(path, &resolved, &record)).map_err(at("write", &target))?;
        draft.persist(&target).map_err(|error| at("write", &target)(error.error))?;
        Ok(names(&resolved))
    }

    /// Every file that has a say in what is resolved, by its content.
    fn sources(&self, path: &str, kind: Kind) -> Result<Vec<Source>, disk::Stop> {
        let mut paths = BTreeSet::from([path.to_owned()]);
        let mut projects = Vec::new();
        match kind {
            Kind::Requirements => {
                let loaded = Requirements::load(&self.disk, path)?;
                paths.extend(loaded.files);
                projects.extend(loaded.entries.into_iter().filter_map(|entry| match entry.target {
                    Target::Path { path, .. } => Some(path),
                    Target::Project(_) => None,
                }));
            }
            _ => projects.push(parent(path).to_owned()),
        }
        for project in projects {
            let names = ["", "pyproject.toml", "setup.py", "setup.cfg"];
            paths.extend(names.iter().filter_map(|name| join(&project, name)));
        }
        let mut sources = Vec::new();
        for path in paths {
            if let Some(digest) = self.disk.digest(&path)? {
                sources.push(Source { path, blake3: digest.trim_start_matches("blake3:").to_owned() });
            }
        }
        Ok(sources)
    }
}

/// The packages of a lock that uv wrote.
fn names(lock: &str) -> Vec<String> {
    let lock: toml::Table = lock.parse().unwrap_or_default();
    let packages = lock.get("packages").and_then(toml::Value::as_array);
    let names = packages.into_iter().flatten().filter_map(|package| package.get("name")?.as_str());
    names.map(normalise).collect()
}

/// How the name of a lock in the making begins: it has to be beside the lock, whose paths are relative to that place, and
/// uv wants a name like a lock's.
const DRAFT: &str = "pylock.draft-";

/// Removes what a `pipe` that was killed has left behind.
fn remove_drafts(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(DRAFT)) {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A lock that prefers nothing.
const EMPTY: &str = "lock-version = \"1.0\"\ncreated-by = \"pipe\"\npackages = []\n";

/// What uv wrote, without the paths of this machine, and with the record of what it came from.
fn compose(path: &str, resolved: &str, record: &Record) -> String {
    let header = format!(
        "# Resolved by `pipe lock` from `{path}`. Commit this file. `pipe lock --upgrade` brings newer versions.\n"
    );
    let mut text = header + &portable(resolved);
    text.push_str("\n[tool.pipe]\n");
    let body = toml::to_string(record).expect("strings and lists always serialise");
    text.push_str(&body.replace("[[sources]]", "[[tool.pipe.sources]]"));
    text
}

/// Files of a local directory are named, and found again by their digest in whatever directory the pipeline names.
fn portable(pylock: &str) -> String {
    const LOCAL: &str = "url = \"file://";
    let mut text = String::with_capacity(pylock.len());
    let mut rest = pylock;
    while let Some((before, after)) = rest.split_once(LOCAL) {
        let (path, after) = after.split_once('"').unwrap_or((after, ""));
        let name = File::name_of(path);
        text.extend([before, "name = \"", &name, "\""]);
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
