//! Pins: versions for what a step asks for by range, resolved once and kept in `pipe.lock`.
//!
//! ```toml
//! [[python]]
//! requirements = ["gunicorn"]
//! python = "3.11"
//! platform = "linux-x86_64-gnu"
//! packages = [{ name = "gunicorn", version = "23.0.0", files = [{ name = "…", url = "…", sha256 = "…" }] }]
//! ```

use python_packaging::marker::{Environment, Marker, holds};
use python_packaging::pylock::{Distribution, Entry, Pylock};
use python_packaging::record::Wanted;
use python_packaging::requirement::Requirement;
use serde::{Deserialize, Serialize};

use super::uv::{Input, Resolution, Uv};
use super::{LockError, Resolver};
use crate::event::Events;
use crate::lockfile::{LockFile, LockFileError};

/// The table of `pipe.lock`.
const TABLE: &str = "python";

/// The versions that answer one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    requirements: Vec<String>,
    python: String,
    platform: String,
    packages: Vec<Package>,
}

/// A version, with all of its wheels for the platform; with its sources where it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Package {
    name: String,
    version: String,
    files: Vec<File>,
}

/// A wheel, or sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    url: String,
    sha256: String,
}

/// Versions for `requirements` within `constraints`: what stands in `pipe.lock`, else what uv finds, which then stands there.
/// Gives JSON, sorted by name: `[{"name","version","files":[{"name","url","sha256"}]}]`.
pub fn pin(
    requirements: &[String],
    constraints: &[String],
    resolver: &Resolver,
    lock: &LockFile,
    locked: bool,
    events: &Events,
) -> Result<String, LockError> {
    let question = Question { requirements: sorted(requirements), constraints, resolver };
    if let Some(pin) = question.find(&lock.read(TABLE)?) {
        return Ok(pin.json());
    }
    if locked {
        return Err(LockError::Unpinned(question.requirements.join("`, `")));
    }
    let found = question.resolve(events)?;
    let mut answer = found.clone();
    lock.update(TABLE, |mut pins: Vec<Pin>| {
        // Another run may have answered in the meantime: the first answer is the one that stands.
        match question.find(&pins) {
            Some(pin) => answer = pin.clone(),
            None => pins.push(found),
        }
        // Stable: of two answers to the same question, under different constraints, the older stays first.
        pins.sort_by(|a, b| (&a.requirements, &a.python, &a.platform).cmp(&(&b.requirements, &b.python, &b.platform)));
        Ok::<_, LockFileError>(pins)
    })?;
    Ok(answer.json())
}

/// What stands in `pipe.lock`; none where nothing does.
pub fn pinned(requirements: &[String], constraints: &[String], resolver: &Resolver, lock: &LockFile) -> Option<String> {
    let question = Question { requirements: sorted(requirements), constraints, resolver };
    question.find(&lock.read(TABLE).ok()?).map(Pin::json)
}

fn sorted(requirements: &[String]) -> Vec<String> {
    let mut sorted: Vec<String> = requirements.iter().map(|text| text.trim().to_owned()).collect();
    sorted.sort();
    sorted.dedup();
    sorted
}

struct Question<'a> {
    requirements: Vec<String>,
    constraints: &'a [String],
    resolver: &'a Resolver,
}

impl Question<'_> {
    /// The first answer that the constraints allow. They are not part of the question as it is kept, because they are a
    /// whole lock and most of it has no say.
    fn find<'a>(&self, pins: &'a [Pin]) -> Option<&'a Pin> {
        let constraints: Vec<Requirement> = self.constraints.iter().filter_map(|text| text.parse().ok()).collect();
        pins.iter().find(|pin| {
            pin.requirements == self.requirements
                && pin.python == self.resolver.python
                && pin.platform == self.resolver.platform
                && pin.packages.iter().all(|package| package.is_within(&constraints))
        })
    }

    fn resolve(&self, events: &Events) -> Result<Pin, LockError> {
        let Resolver { python, platform, .. } = self.resolver;
        let directory = std::env::temp_dir();
        let uv = Uv::find(self.resolver, &directory, events)?;
        let compile = |only_wheels| {
            uv.compile(&Resolution {
                input: Input::Lines(self.requirements.clone()),
                output: None,
                directory: &directory,
                wanted: &Wanted::new(python, platform, &[], &[]),
                upgraded: &[],
                constraints: self.constraints,
                only_wheels,
            })
        };
        let text = match compile(true) {
            // Old ones have none: those are built as well.
            Err(LockError::Unresolvable { offline: false, .. }) => compile(false)?,
            answer => answer?,
        };
        let packages = packages(&text, python, platform)?;
        Ok(Pin {
            requirements: self.requirements.clone(),
            python: python.clone(),
            platform: platform.clone(),
            packages,
        })
    }
}

impl Pin {
    fn json(&self) -> String {
        let files = |package: &Package| -> Vec<_> {
            let file = |file: &File| serde_json::json!({"name": file.name, "url": file.url, "sha256": file.sha256});
            package.files.iter().map(file).collect()
        };
        let package = |package: &Package| serde_json::json!({"name": package.name, "version": package.version, "files": files(package)});
        serde_json::Value::Array(self.packages.iter().map(package).collect()).to_string()
    }
}

impl Package {
    fn is_within(&self, constraints: &[Requirement]) -> bool {
        let Ok(version) = self.version.parse() else { return true };
        constraints.iter().all(|constraint| constraint.name != self.name || constraint.versions.contains(&version))
    }
}

fn packages(pylock: &str, python: &str, platform: &str) -> Result<Vec<Package>, LockError> {
    let answer: Pylock = toml::from_str(pylock).map_err(LockError::Answer)?;
    let environment = platform.parse().and_then(|platform| Environment::new(python, platform)).ok();
    let wanted = |entry: &Entry| {
        let marker = entry.marker.as_deref().and_then(|marker| marker.parse::<Marker>().ok());
        environment.as_ref().is_none_or(|environment| holds(marker.as_ref(), environment))
    };
    let mut packages: Vec<Package> = answer.packages.into_iter().filter(wanted).map(Package::from).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

impl From<Entry> for Package {
    fn from(entry: Entry) -> Self {
        let mut files: Vec<File> = entry.wheels.into_iter().map(File::from).collect();
        if files.is_empty() {
            files.extend(entry.sdist.map(File::from));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Self { name: entry.name, version: entry.version.unwrap_or_default(), files }
    }
}

impl From<Distribution> for File {
    fn from(mut file: Distribution) -> Self {
        let name = file.file_name();
        // A file of this machine is found again by its name and digest.
        let url = file.url.filter(|url| !url.starts_with("file:")).unwrap_or_default();
        Self { name, url, sha256: file.hashes.remove("sha256").unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_as_names_and_digests() {
        let pylock = r#"
lock-version = "1.0"
[[packages]]
name = "packaging"
version = "26.0"
wheels = [{ url = "file:///home/me/wheels/packaging-26.0%2Bx-py3-none-any.whl", hashes = { sha256 = "aa" } }]
[[packages]]
name = "colorama"
version = "0.4"
marker = "sys_platform == 'win32'"
[[packages]]
name = "versiontools"
version = "1.9.1"
sdist = { url = "https://files/versiontools-1.9.1.tar.gz", hashes = { sha256 = "dd" } }
[[packages]]
name = "gunicorn"
version = "23.0.0"
sdist = { url = "https://files/gunicorn-23.0.0.tar.gz", hashes = { sha256 = "ee" } }
wheels = [
    { url = "https://files/gunicorn-23.0.0-py3-none-manylinux1_x86_64.whl", hashes = { sha256 = "cc" } },
    { url = "https://files/gunicorn-23.0.0-py3-none-any.whl", hashes = { sha256 = "bb" } },
]
"#;
        let packages = packages(pylock, "3.11", "linux-x86_64-gnu").expect("an answer");
        let pin = Pin { requirements: Vec::new(), python: String::new(), platform: String::new(), packages };
        assert_eq!(
            pin.json(),
            concat!(
                r#"[{"name":"gunicorn","version":"23.0.0","files":["#,
                r#"{"name":"gunicorn-23.0.0-py3-none-any.whl","url":"https://files/gunicorn-23.0.0-py3-none-any.whl","sha256":"bb"},"#,
                r#"{"name":"gunicorn-23.0.0-py3-none-manylinux1_x86_64.whl","url":"https://files/gunicorn-23.0.0-py3-none-manylinux1_x86_64.whl","sha256":"cc"}]},"#,
                r#"{"name":"packaging","version":"26.0","files":[{"name":"packaging-26.0+x-py3-none-any.whl","url":"","sha256":"aa"}]},"#,
                r#"{"name":"versiontools","version":"1.9.1","files":[{"name":"versiontools-1.9.1.tar.gz","url":"https://files/versiontools-1.9.1.tar.gz","sha256":"dd"}]}]"#,
            )
        );
    }
}
