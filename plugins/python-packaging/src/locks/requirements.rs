//! Files of requirements that pin every version and name every digest.

use crate::lock::{Directory, File, Git, Origin, Package};
use crate::marker;
use crate::problem::Problem;
use crate::requirement::Requirement;
use crate::requirements::{Entry, Requirements, Target as Required, commit, is_archive};

use super::target::{Target, sha256};

/// The packages of requirements that are locked.
pub(crate) fn read(requirements: &Requirements, target: &Target) -> Result<Vec<Package>, Problem> {
    let mut packages = Vec::new();
    for entry in &requirements.entries {
        match &entry.target {
            Required::Project(requirement) if marker::holds(requirement.marker.as_ref(), &target.environment) => {
                let formats = requirements.formats(&requirement.name);
                packages.push(Package { formats, ..project(requirement, entry)? });
            }
            Required::Project(_) => {}
            Required::Path { path, .. } => packages.extend(local(path, entry, target)?),
        }
    }
    Ok(packages)
}

fn project(requirement: &Requirement, entry: &Entry) -> Result<Package, Problem> {
    let package = |version, origin| Package::new(&requirement.name, version, origin);
    let Some(url) = &requirement.url else {
        for hash in &entry.hashes {
            if !["sha256:", "sha384:", "sha512:"].iter().any(|known| hash.starts_with(known)) {
                return Err(Problem::new(format!(
                    "{}: `{hash}` is not a digest of a strength that counts",
                    entry.place
                ))
                .hint("use sha256"));
            }
        }
        return Ok(package(requirement.pinned(), Origin::Hashes(entry.hashes.clone())));
    };
    let (address, fragment) = url.split_once('#').unwrap_or((url, ""));
    let parameter =
        |name: &str| fragment.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    if let Some(repository) = address.strip_prefix("git+") {
        let commit = commit(address).unwrap_or_default();
        let url = repository.strip_suffix(commit).and_then(|url| url.strip_suffix('@')).unwrap_or(repository);
        let git = Git { url: url.to_owned(), commit: commit.to_owned(), subdirectory: parameter("subdirectory") };
        return Ok(package(None, Origin::Git(git)));
    }
    let digest = parameter("sha256").map(|hex| format!("sha256:{hex}"));
    let digest =
        digest.as_deref().or_else(|| entry.hashes.iter().map(String::as_str).find(|hash| hash.starts_with("sha256:")));
    let file = File {
        name: File::name_of(address),
        url: address.to_owned(),
        sha256: sha256(&requirement.name, digest)?,
        subdirectory: parameter("subdirectory"),
    };
    Ok(package(None, Origin::of(file)))
}

/// A wheel, an archive or a directory of the project. The project itself (`-e .`) is installed only when asked.
fn local(path: &str, entry: &Entry, target: &Target) -> Result<Option<Package>, Problem> {
    if !is_archive(path) {
        let itself = path.is_empty() && !target.install_project;
        let name = path.rsplit('/').next().unwrap_or(path);
        let directory = Directory { path: path.to_owned() };
        return Ok((!itself).then(|| Package::new(name, None, Origin::Directory(directory))));
    }
    let name = File::name_of(path);
    let digest = entry.hashes.iter().map(String::as_str).find(|hash| hash.starts_with("sha256:"));
    let file = File { name: name.clone(), url: path.to_owned(), sha256: sha256(&name, digest)?, subdirectory: None };
    let project = name.split('-').next().unwrap_or(&name).to_owned();
    Ok(Some(Package::new(project, None, Origin::of(file))))
}
