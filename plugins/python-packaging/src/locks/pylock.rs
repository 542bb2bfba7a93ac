//! `pylock.toml` (PEP 751): a list of packages, each under a marker.

use crate::files::{join, parent};
use crate::lock::{Directory, File, Git, Origin, Package};
use crate::marker::Marker;
use crate::name::normalise;
use crate::problem::Problem;
use crate::pylock::{Distribution, Entry, Pylock};

use super::target::{Target, sha256, unknown};

/// Reads the `pylock.toml` at `path`.
pub(crate) fn read(path: &str, text: &str, target: &Target) -> Result<Vec<Package>, Problem> {
    let lock: Pylock = toml::from_str(text).map_err(|error| super::damaged(path, &error))?;
    if !lock.lock_version.starts_with("1.") {
        return Err(Problem::new(format!(
            "`{path}` is of version {}, and version 1.0 is understood",
            lock.lock_version
        ))
        .hint("use a newer `pipe`, or lock again with another tool"));
    }
    target.check_python(path, lock.requires_python.as_deref())?;
    let mut environment = target.environment.clone();
    environment.groups.extend(lock.default_groups.iter().map(|group| normalise(group)));
    check_names("extra", path, lock.extras.as_deref(), target.extras())?;
    check_names("group", path, lock.dependency_groups.as_deref(), target.groups())?;
    let holds =
        |marker: &str| marker.parse::<Marker>().map(|marker| marker.holds(&environment)).map_err(|p| p.at(path));
    if !lock.environments.is_empty() {
        let mut fits = false;
        for marker in &lock.environments {
            fits |= holds(marker)?;
        }
        if !fits {
            let places = lock.environments.join("`, `");
            return Err(Problem::new(format!(
                "`{path}` is not for Python {} on `{}`, only for `{places}`",
                target.python, target.platform
            ))
            .hint("lock again for this environment, or change `[app] python` or `platform`"));
        }
    }
    let mut packages: Vec<Package> = Vec::new();
    for entry in &lock.packages {
        if let Some(marker) = &entry.marker
            && !holds(marker)?
        {
            continue;
        }
        // The project itself, that its requirements name (`-e .`).
        let itself = entry.directory.as_ref().is_some_and(|local| matches!(local.path.as_str(), "." | ""));
        if itself && !target.install_project {
            continue;
        }
        let origin = origin(entry, path, target)?;
        packages.push(Package::new(normalise(&entry.name), entry.version.clone(), origin));
    }
    Ok(packages)
}

/// Where a lock says nothing of extras or groups, it was exported for some already.
fn check_names(
    what: &str,
    path: &str,
    known: Option<&[String]>,
    wanted: &std::collections::BTreeSet<String>,
) -> Result<(), Problem> {
    let Some(known) = known else { return Ok(()) };
    match wanted.iter().find(|name| !known.iter().any(|known| normalise(known) == **name)) {
        Some(name) => Err(unknown(what, name, path, known.iter().map(String::as_str))),
        None => Ok(()),
    }
}

fn origin(entry: &Entry, lock: &str, target: &Target) -> Result<Origin, Problem> {
    let directory = parent(lock);
    if let Some(vcs) = &entry.vcs {
        let url = vcs.url.clone().filter(|_| vcs.r#type == "git").ok_or_else(|| {
            Problem::new(format!("`{lock}` takes `{}` from {}, and only git is understood", entry.name, vcs.r#type))
                .hint("publish it as a wheel, or keep it in a git repository")
        })?;
        return Ok(Origin::Git(Git { url, commit: vcs.commit_id.clone(), subdirectory: vcs.subdirectory.clone() }));
    }
    if let Some(local) = &entry.directory {
        let path = local.subdirectory.as_ref().map_or(local.path.clone(), |inner| format!("{}/{inner}", local.path));
        let path = join(directory, &path).ok_or_else(|| {
            Problem::new(format!("`{lock}` takes `{}` from `{path}`, outside of the project", entry.name))
                .hint("let `[source] path` name a directory that holds both")
        })?;
        return Ok(Origin::Directory(Directory { path }));
    }
    let files = entry.wheels.iter().chain(&entry.sdist).chain(&entry.archive);
    let files: Vec<File> = files.map(|distribution| file(entry, directory, distribution)).collect::<Result<_, _>>()?;
    target.choose(&entry.name, &files)
}

fn file(entry: &Entry, directory: &str, file: &Distribution) -> Result<File, Problem> {
    let url = match (&file.url, &file.path) {
        (Some(url), _) => url.clone(),
        // One outside of the project is in a directory that the pipeline's `[index]` names, and found there by its name.
        (None, Some(path)) => join(directory, path).unwrap_or_default(),
        (None, None) => String::new(),
    };
    let hash = file.hashes.get("sha256").map(|hex| format!("sha256:{hex}"));
    let sha256 = sha256(&entry.name, hash.as_deref())?;
    Ok(File { name: file.file_name(), url, sha256, subdirectory: file.subdirectory.clone() })
}
