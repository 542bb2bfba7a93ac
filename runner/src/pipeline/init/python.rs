//! Which version of Python a project runs on: what its files allow, and what this machine has.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

use super::packages::is_of_a_run;
use super::project::{directories, join, pyproject};
use super::settings::is_for_production;

/// What is taken where a project says nothing and the machine has nothing.
const DEFAULT: u64 = 11;
/// Where images are built that are not built at the top, and how far below.
const IMAGES: [&str; 3] = ["compose", "docker", "deploy"];
const DEPTH_OF_IMAGES: usize = 3;
/// The minor versions that are looked at.
pub(super) const MINORS: std::ops::RangeInclusive<u64> = 8..=15;

/// A version of Python and why it is this one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Python {
    /// Such as `3.11`.
    pub(super) version: String,
    /// Where it is from, for a comment.
    pub(super) reason: Option<String>,
    /// Whether the machine has it.
    pub(super) is_here: bool,
}

/// The releases of Debian, with the Python of each; the last is the one to come.
const SUITES: &[(&str, &str)] = &[("3.11", "bookworm"), ("3.13", "trixie"), ("3.14", "forky")];

impl Python {
    /// The release of Debian that has it.
    pub(super) fn suite(&self) -> Option<&'static str> {
        suite_of(&self.version)
    }
}

/// The release of Debian that has a version.
fn suite_of(version: &str) -> Option<&'static str> {
    SUITES.iter().find(|(has, _)| *has == version).map(|(_, suite)| *suite)
}

/// What a project's packages say of the minor version of Python 3.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OfPackages {
    /// The least that they run on, where that is known.
    pub(super) least: Option<u64>,
    /// That for which the requirements were compiled: for an older one they may lack packages, and the code is of its time.
    pub(super) compiled: Option<u64>,
}

/// The version for the project in `root` of `dir`.
pub(super) fn find(dir: &Path, root: &str, packages: OfPackages, installed: &[u64]) -> Python {
    choose(&[dir.join(root), dir.to_owned()], packages, installed)
}

/// The minor version for which requirements were compiled, as the program that did so has noted on top.
pub(super) fn compiled_for(requirements: &str) -> Option<u64> {
    let mut notes = requirements.lines().take_while(|line| line.starts_with('#'));
    let marks = ["pip-compile with Python 3.", "--python-version 3.", "--python-version=3."];
    let version = notes.find_map(|note| marks.iter().find_map(|mark| Some(note.split_once(mark)?.1)))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn choose(dirs: &[impl AsRef<Path>], packages: OfPackages, installed: &[u64]) -> Python {
    let dirs = || dirs.iter().map(AsRef::as_ref);
    if let Some((minor, file)) = dirs().find_map(pinned) {
        let is_here = installed.contains(&minor);
        return Python { version: format!("3.{minor}"), reason: Some(format!("from {file}")), is_here };
    }
    let range = dirs().find_map(range);
    let least = packages.least.max(packages.compiled);
    let allows = |minor: &u64| {
        range.as_ref().is_none_or(|(range, _)| allows(range, *minor)) && least.is_none_or(|least| *minor >= least)
    };
    let compiled = packages.compiled.map(|minor| (minor, "the requirements, which were compiled for it".to_owned()));
    let mut named = dirs().find_map(container).into_iter().chain(compiled);
    let can_be_had = |minor: &u64| installed.contains(minor) || suite_of(&format!("3.{minor}")).is_some();
    if let Some((minor, file)) = named.find(|(minor, _)| allows(minor) && can_be_had(minor)) {
        let is_here = installed.contains(&minor);
        return Python { version: format!("3.{minor}"), reason: Some(format!("as in {file}")), is_here };
    }
    let here = installed.iter().copied().find(allows);
    let minor = here.or_else(|| [DEFAULT].into_iter().chain(MINORS).find(allows)).unwrap_or(DEFAULT);
    let reason = range
        .map(|(range, file)| format!("{file} asks for {range}"))
        .or_else(|| Some(format!("the requirements were compiled for 3.{}", packages.compiled?)));
    Python { version: format!("3.{minor}"), reason, is_here: here.is_some() }
}

/// The one version that a file names, and that file.
fn pinned(dir: &Path) -> Option<(u64, &'static str)> {
    [".python-version", "runtime.txt", ".tool-versions"].into_iter().find_map(|file| {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let line = match file {
            ".tool-versions" => lines.find(|line| line.starts_with("python "))?,
            _ => lines.find(|line| !line.is_empty())?,
        };
        let version = line.trim_start_matches(|c: char| !c.is_ascii_digit());
        let minor = version.strip_prefix("3.")?.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((minor.parse().ok()?, file))
    })
}

/// The version of the image that a container of the project starts from, and the file that says so.
fn container(dir: &Path) -> Option<(u64, String)> {
    let usual = ["Dockerfile", "docker/Dockerfile", "Dockerfile.prod", "Dockerfile.production"].map(str::to_owned);
    usual.into_iter().chain(images(dir)).find_map(|file| {
        let text = fs::read_to_string(dir.join(&file)).ok()?;
        let images = text.lines().filter_map(|line| line.trim_start().strip_prefix("FROM "));
        let mut versions = images.filter_map(|image| {
            let name = image.trim_start().trim_start_matches("docker.io/").trim_start_matches("library/");
            name.strip_prefix("python:3.")
        });
        Some((versions.next()?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?, file))
    })
}

/// What builds images below the directories where people keep that, for production first.
fn images(dir: &Path) -> Vec<String> {
    let mut level = IMAGES.map(str::to_owned).to_vec();
    let mut found = Vec::new();
    for _ in 0..DEPTH_OF_IMAGES {
        let files = level.iter().map(|place| join(place, "Dockerfile")).filter(|file| dir.join(file).is_file());
        found.extend(files);
        level = level.iter().flat_map(|place| directories(dir, place)).collect();
    }
    found.sort_by_key(|file| !file.split('/').any(is_for_production));
    found
}

/// The range that a file asks for, and that file.
fn range(dir: &Path) -> Option<(VersionSpecifiers, &'static str)> {
    let at = |value: &toml::Value, path: &[&str]| {
        path.iter().try_fold(value, |value, key| value.get(key)).and_then(toml::Value::as_str).map(str::to_owned)
    };
    let toml = |file: &str| {
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        toml::Value::Table(text.parse().unwrap_or_default())
    };
    let project = pyproject(dir);
    let asked = |file: &str| match file {
        "pyproject.toml" => at(&project, &["project", "requires-python"])
            .or_else(|| at(&project, &["tool", "poetry", "dependencies", "python"])),
        "Pipfile" => at(&toml(file), &["requires", "python_version"]).map(|version| format!("=={version}.*")),
        file => at(&toml(file), &["requires-python"]),
    };
    ["pyproject.toml", "uv.lock", "pylock.toml", "Pipfile"]
        .into_iter()
        .filter(|file| !is_of_a_run(&dir.join(file)))
        .find_map(|file| Some((specifiers(&asked(file)?)?, file)))
}

/// Reads a range as pyproject.toml or Poetry write one: Poetry's `^3.11` and `~3.11` too.
fn specifiers(text: &str) -> Option<VersionSpecifiers> {
    let parts = text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
    let parts = parts.map(|part| match part.strip_prefix('^') {
        Some(version) => format!(">={version},<4"),
        None => match part.strip_prefix('~').filter(|version| !version.starts_with('=')) {
            Some(version) => {
                let release: Vec<&str> = version.split('.').take(2).collect();
                format!(">={version},=={}.*", release.join("."))
            }
            None if part.starts_with(|first: char| first.is_ascii_digit()) => format!("=={part}"),
            None => part.to_owned(),
        },
    });
    VersionSpecifiers::from_str(&parts.collect::<Vec<_>>().join(",")).ok()
}

/// Whether some release of `3.minor` is in a range.
fn allows(range: &VersionSpecifiers, minor: u64) -> bool {
    (0..=30).any(|patch| range.contains(&Version::new([3, minor, patch])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(files: &[(&str, &str)], installed: &[u64]) -> Python {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        choose(&[dir.path()], OfPackages::default(), installed)
    }

    #[test]
    fn a_pinned_version_is_taken_whether_it_is_here_or_not() {
        assert_eq!(version(&[(".python-version", "3.12.4\n")], &[11]).version, "3.12");
        assert!(!version(&[(".python-version", "3.12.4\n")], &[11]).is_here);
        assert_eq!(version(&[("runtime.txt", "python-3.10.2")], &[11]).version, "3.10");
    }

    #[test]
    fn of_a_range_what_the_machine_has_is_taken() {
        let files = [("pyproject.toml", "[project]\nrequires-python = '>=3.12'\n")];
        assert_eq!(version(&files, &[11, 13, 12]).version, "3.13");
        assert_eq!(
            version(&files, &[11]),
            Python {
                version: "3.12".to_owned(),
                reason: Some("pyproject.toml asks for >=3.12".to_owned()),
                is_here: false,
            }
        );
    }

    #[test]
    fn the_ranges_of_poetry_and_pipenv_are_read() {
        let poetry = |range: &str| format!("[tool.poetry.dependencies]\npython = \"{range}\"\n");
        for (range, expected) in [("^3.10", "3.11"), ("~3.12", "3.12"), (">=3.9,<3.11", "3.10"), ("3.12.*", "3.12")] {
            let found = version(&[("pyproject.toml", &poetry(range))], &[11, 13, 12, 10]);
            assert_eq!(found.version, expected, "{range}");
        }
        assert_eq!(version(&[("Pipfile", "[requires]\npython_version = '3.13'\n")], &[11, 13]).version, "3.13");
    }

    #[test]
    fn the_container_of_a_project_counts_where_its_python_can_be_had() {
        let files = [("Dockerfile", "FROM node:24 AS ui\nFROM python:3.12.4-slim AS app\n")];
        assert_eq!(version(&files, &[11, 13, 12]).version, "3.12");
        assert_eq!(version(&files, &[11, 13]).version, "3.11");
        let of_debian = version(&[("Dockerfile", "FROM docker.io/library/python:3.13-slim\n")], &[11]);
        assert_eq!((of_debian.version.as_str(), of_debian.is_here), ("3.13", false));
    }

    #[test]
    fn the_container_for_production_is_found_where_people_keep_several() {
        let dir = tempfile::tempdir().expect("a directory");
        for (place, minor) in [("compose/local/django", 12), ("compose/production/django", 13)] {
            fs::create_dir_all(dir.path().join(place)).expect("a directory");
            let text = format!("FROM docker.io/python:3.{minor}-slim-bookworm AS python\n");
            fs::write(dir.path().join(place).join("Dockerfile"), text).expect("a file");
        }
        let found = choose(&[dir.path()], OfPackages::default(), &[11, 13, 12]);
        assert_eq!(found.version, "3.13");
        assert_eq!(found.reason.as_deref(), Some("as in compose/production/django/Dockerfile"));
    }

    #[test]
    fn what_the_packages_need_is_the_least() {
        let nothing: [&Path; 0] = [];
        let of = |least, compiled| OfPackages { least, compiled };
        assert_eq!(choose(&nothing, of(Some(12), None), &[11, 13, 12]).version, "3.13");
        assert_eq!(choose(&nothing, of(Some(12), None), &[11]).version, "3.12");
    }

    #[test]
    fn requirements_that_were_compiled_say_for_which_version() {
        let pip =
            "#\n# This file is autogenerated by pip-compile with Python 3.12\n# by the following command:\n#\nx==1\n";
        let uv = "# This file was autogenerated by uv via the following command:\n#    uv pip compile --python-version 3.12 a.in\n";
        assert_eq!((compiled_for(pip), compiled_for(uv)), (Some(12), Some(12)));
        assert_eq!(compiled_for("x==1\n# pip-compile with Python 3.12\n"), None);
        let nothing: [&Path; 0] = [];
        let version =
            |installed: &[u64]| choose(&nothing, OfPackages { least: None, compiled: Some(12) }, installed).version;
        assert_eq!(version(&[11, 13, 12]), "3.12");
        assert_eq!(version(&[11, 13]), "3.13");
        assert_eq!(version(&[11]), "3.12");
    }

    #[test]
    fn without_a_word_it_is_the_machines_own() {
        assert_eq!(version(&[], &[12, 13]), Python { version: "3.12".to_owned(), reason: None, is_here: true });
        assert_eq!(version(&[], &[]).version, "3.11");
    }
}
