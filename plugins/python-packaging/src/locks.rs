//! Whatever locks a project, read into one list: find the file, read it, check it against its project, put the packages in
//! order.
//!
//! It runs nothing and fetches nothing, and reads no file but those that it needs. It never resolves: what a lock leaves
//! open is a problem that names `pipe lock`.

mod content_hash;
mod fit;
mod pipfile;
mod poetry;
mod poetry_walk;
mod pylock;
mod requirements;
mod target;
mod uv;

#[cfg(test)]
mod tests;

use crate::files::{Files, join, parent};
use crate::lock::{Lock, Package};
use crate::name::normalise;
use crate::problem::Problem;
use crate::project::{Found, Kind, Search};
use crate::record::{Record, Wanted};
use crate::requirements::Requirements;

use target::Target;

/// What is asked of a project.
#[derive(Debug, Clone)]
pub struct Question {
    /// The directory of the Python project, `""` for the top.
    pub root: String,
    /// The file to read, relative to `root`; where there is none it is found.
    pub path: Option<String>,
    /// The Python to lock for: `3.11`.
    pub python: String,
    /// The platform to lock for: `linux-x86_64-gnu`.
    pub platform: String,
    /// Dependency groups beside the project's own dependencies.
    pub groups: Vec<String>,
    /// Extras of the project.
    pub extras: Vec<String>,
    /// The member of a uv workspace, where it is not the project at the top.
    pub package: Option<String>,
    /// Whether the project itself is installed.
    pub install_project: bool,
}

/// The lock, and what a user should know of how it came about.
#[derive(Debug)]
pub struct Answer {
    /// The packages, in order of their names.
    pub lock: Lock,
    /// What is no reason to refuse.
    pub notes: Vec<String>,
}

impl Question {
    /// Finds and reads the lock.
    pub fn answer<F: Files>(&self, files: &F) -> Result<Answer, F::Error> {
        let wanted = Wanted::new(&self.python, &self.platform, &self.groups, &self.extras);
        let mut target = Target::new(&self.python, &self.platform)?;
        target.environment.extras.extend(wanted.extras.iter().cloned());
        target.environment.groups.extend(wanted.groups.iter().cloned());
        target.package.clone_from(&self.package);
        target.install_project = self.install_project;

        let root =
            join("", &self.root).ok_or_else(|| Problem::new(format!("`{}` is outside of the project", self.root)))?;
        let search = Search { root, path: self.path.clone(), wanted };
        let (path, kind) = match search.find(files)? {
            Found::Locked { path, kind } => (path, kind),
            Found::Unlocked { path, kind, pylock, stale } => return Err(unlocked(&path, kind, &pylock, stale).into()),
        };
        let mut notes = Vec::new();
        let packages = self.read(files, &path, kind, &target, &mut notes)?;
        let packages = distinct(&path, packages)?;
        Ok(Answer { lock: Lock::new(&self.python, &self.platform, &path, packages), notes })
    }

    /// The packages of a lock. One that was named and has them all is taken, even where its source is another by now.
    fn read<F: Files>(
        &self,
        files: &F,
        path: &str,
        kind: Kind,
        target: &Target,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Package>, F::Error> {
        let table = |path: &str| pyproject(files, path);
        let text = files.read(path)?.unwrap_or_default();
        match kind {
            Kind::Uv => {
                let read = uv::read(path, &text, target)?;
                if let Some(directory) = &read.directory {
                    let place = join(directory, "pyproject.toml").unwrap_or_default();
                    if let Some(table) = table(&place)? {
                        fit::same(path, &place, &table, &read.requires)?;
                    }
                }
                Ok(read.packages)
            }
            Kind::Pylock => {
                let packages = pylock::read(path, &text, target)?;
                // One that `pipe` wrote has been checked against what it came from.
                if Record::of(&text).is_none() && path.ends_with("pylock.toml") {
                    covers(files, path, &packages, target, "uv lock && uv export --format pylock.toml -o pylock.toml")?;
                }
                Ok(packages)
            }
            Kind::Poetry => {
                let place = beside(path, "pyproject.toml");
                let pyproject = table(&place)?;
                let read = poetry::read(path, &text, pyproject.as_ref(), target)?;
                covers(files, path, &read.packages, target, "poetry lock")?;
                if let (Some(pyproject), Some(hash)) = (&pyproject, &read.content_hash)
                    && !content_hash::is_poetrys(hash, pyproject)
                {
                    let changed = fit::changed(path, &place, "poetry lock");
                    if read.is_strict && self.path.is_none() {
                        return Err(changed.into());
                    }
                    notes.push(changed.message);
                }
                Ok(read.packages)
            }
            Kind::PipfileLock => {
                let read = pipfile::read(path, &text, target)?;
                let place = beside(path, "Pipfile");
                if let Some(text) = files.read(&place)? {
                    let pipfile = text.parse().map_err(|error| damaged(&place, &error))?;
                    fit::covers_pipfile(path, &place, &pipfile, &read.packages)?;
                    if read.hash.is_some_and(|hash| !content_hash::is_pipenvs(&hash, &pipfile)) {
                        let changed = fit::changed(path, &place, "pipenv lock");
                        if self.path.is_none() {
                            return Err(changed.into());
                        }
                        notes.push(changed.message);
                    }
                }
                Ok(read.packages)
            }
            Kind::Requirements => {
                let loaded = Requirements::load(files, path)?;
                let indexes =
                    loaded.options.iter().filter(|option| option.contains("://") && !option.contains("//pypi.org/"));
                notes.extend(indexes.map(|option| {
                    format!(
                        "`{option}` in `{path}` is not followed: the pipeline's `[index]` says where packages come from"
                    )
                }));
                Ok(requirements::read(&loaded, target)?)
            }
            Kind::Pyproject | Kind::Pipfile => Err(unlocked(path, kind, &beside(path, "pylock.toml"), None).into()),
        }
    }
}

fn unlocked(path: &str, kind: Kind, pylock: &str, stale: Option<String>) -> Problem {
    let problem = match (stale, kind) {
        (Some(why), _) => Problem::new(format!("`{pylock}`, made of `{path}`, is stale: {why}")),
        (None, Kind::Requirements) => {
            Problem::new(format!("`{path}` does not lock what it requires: a version or a digest is missing"))
        }
        (None, _) => Problem::new(format!("`{path}` locks nothing")),
    };
    problem.hint(format!("run `pipe lock`, which resolves it into `{pylock}`, and commit that"))
}

fn covers<F: Files>(
    files: &F,
    path: &str,
    packages: &[Package],
    target: &Target,
    command: &str,
) -> Result<(), F::Error> {
    let place = beside(path, "pyproject.toml");
    if let Some(table) = pyproject(files, &place)? {
        fit::covers(path, &place, &table, packages, target, command)?;
    }
    Ok(())
}

fn pyproject<F: Files>(files: &F, place: &str) -> Result<Option<toml::Table>, F::Error> {
    let Some(text) = files.read(place)? else { return Ok(None) };
    Ok(Some(text.parse().map_err(|error| damaged(place, &error))?))
}

fn beside(path: &str, name: &str) -> String {
    join(parent(path), name).unwrap_or_default()
}

/// Drops what is said twice, and refuses what is said twice and differently.
fn distinct(path: &str, mut packages: Vec<Package>) -> Result<Vec<Package>, Problem> {
    for package in &mut packages {
        package.name = normalise(&package.name);
    }
    packages.sort();
    packages.dedup();
    let twice = packages.windows(2).find(|pair| pair[0].name == pair[1].name);
    match twice {
        None => Ok(packages),
        Some(pair) => {
            let version =
                |package: &Package| package.version.clone().unwrap_or_else(|| "a build of its own".to_owned());
            let (first, second) = (version(&pair[0]), version(&pair[1]));
            Err(Problem::new(format!(
                "`{path}` has `{}` twice for this environment: {first} and {second}",
                pair[0].name
            ))
            .hint("lock again, or leave out one of the groups or extras that exclude each other"))
        }
    }
}

/// The problem of a file that is not what its name says.
fn damaged(path: &str, error: &dyn std::error::Error) -> Problem {
    // TOML's errors draw the place between a first line that names it and a last one that says what is wrong.
    let text = error.to_string();
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.drain(1.min(lines.len())..lines.len().saturating_sub(1).max(1));
    Problem::new(format!("`{path}` cannot be read: {}", lines.join(": ")))
        .hint("write it anew with the tool that it is from")
}
