//! The normalised lock: what one environment on one platform consists of, one file, commit or directory a package.
//!
//! Every lock format becomes this, and an environment is made of nothing else. Knows nothing of the formats.

use serde::{Deserialize, Serialize};

use crate::name::normalise;
use crate::wheel::is_wheel;

/// The version of the encoding.
pub const VERSION: u32 = 1;

/// All that an environment holds, for one Python and one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// The language's version: `3.11`.
    pub python: String,
    /// The platform: `linux-x86_64-gnu`.
    pub platform: String,
    /// The file that it was read from, relative to the project.
    pub source: String,
    /// Sorted by name, one of a name.
    pub packages: Vec<Package>,
}

/// One package of a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Normalised.
    pub name: String,
    /// None where only building it tells (a commit, a directory, an archive at an address).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which kinds of files its origin may be looked for among; it says nothing where the origin is one file.
    #[serde(default, skip_serializing_if = "Formats::is_any")]
    pub formats: Formats,
    /// Where its content comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Kinds of distributions that may be installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Formats {
    /// A wheel if one fits, else sources.
    #[default]
    Any,
    /// Never sources: `--only-binary`.
    Wheels,
    /// Never a wheel: `--no-binary`.
    Sources,
}

/// Where a package's content comes from. In JSON the variant is the key: `"wheel": {…}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A built distribution that fits the platform.
    Wheel(File),
    /// A source distribution, to be built.
    Sdist(File),
    /// A commit, to be built.
    Git(Git),
    /// A directory of the project, to be built.
    Directory(Directory),
    /// Digests of files (`sha256:<hex>`, sorted), of which the index knows the names: all files of this version, of which
    /// the one that fits best is taken.
    Hashes(Vec<String>),
}

/// A file named by its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
    /// The file's name.
    pub name: String,
    /// Where it was seen; empty where the lock does not say. Relative: a path in the project.
    #[serde(default)]
    pub url: String,
    /// 64 hex digits.
    pub sha256: String,
    /// The directory inside of an archive of sources that holds the project, where that is not the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Git {
    /// The repository's address, without `git+`.
    pub url: String,
    /// The full hash.
    pub commit: String,
    /// The directory that holds the project, where that is not the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
}

/// A directory of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Directory {
    /// Relative to the top of the project, normalised; empty for the top itself.
    pub path: String,
}

/// A text that is not a normalised lock.
#[derive(Debug)]
pub enum LockError {
    /// Not JSON of this shape.
    Shape(serde_json::Error),
    /// Of another version.
    Version(u32),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(_) => f.write_str("not a normalised lock"),
            Self::Version(version) => write!(f, "a normalised lock of version {version}; this step reads {VERSION}"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shape(error) => Some(error),
            Self::Version(_) => None,
        }
    }
}

impl Formats {
    /// Whether nothing is said.
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether a wheel will do.
    pub fn admits_wheels(self) -> bool {
        self != Self::Sources
    }

    /// Whether sources will do.
    pub fn admits_sources(self) -> bool {
        self != Self::Wheels
    }
}

impl Package {
    /// A package of any kind of file.
    pub fn new(name: impl Into<String>, version: Option<String>, origin: Origin) -> Self {
        Self { name: name.into(), version, formats: Formats::Any, origin }
    }
}

impl File {
    /// The name of the file at an address or a path.
    pub fn name_of(place: &str) -> String {
        let end = place.find(['#', '?']).unwrap_or(place.len());
        let name = place[..end].rsplit('/').next().unwrap_or(place);
        // Only `+` (in local versions) is escaped in the names of distributions.
        name.replace("%2B", "+").replace("%2b", "+")
    }
}

impl Origin {
    /// A file as what its name says that it is: a wheel, else sources.
    pub fn of(file: File) -> Self {
        if is_wheel(&file.name) { Self::Wheel(file) } else { Self::Sdist(file) }
    }
}

impl Lock {
    /// A lock in its canonical order: names normalised, packages and hashes sorted.
    pub fn new(python: &str, platform: &str, source: &str, mut packages: Vec<Package>) -> Self {
        for package in &mut packages {
            package.name = normalise(&package.name);
            if let Origin::Hashes(hashes) = &mut package.origin {
                hashes.sort();
                hashes.dedup();
            }
        }
        packages.sort();
        Self {
            version: VERSION,
            python: python.to_owned(),
            platform: platform.to_owned(),
            source: source.to_owned(),
            packages,
        }
    }

    /// The canonical bytes: the same lock is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings and lists always serialise");
        json.push(b'\n');
        json
    }

    /// Reads a lock back.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LockError> {
        let lock: Self = serde_json::from_slice(bytes).map_err(LockError::Shape)?;
        if lock.version == VERSION { Ok(lock) } else { Err(LockError::Version(lock.version)) }
    }

    /// The package of a name, normalised or not.
    pub fn package(&self, name: &str) -> Option<&Package> {
        let name = normalise(name);
        self.packages.iter().find(|package| package.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let wheel = File {
            name: "django-5.2.1-py3-none-any.whl".into(),
            url: "https://files.example/django-5.2.1-py3-none-any.whl".into(),
            sha256: "0a".repeat(32),
            subdirectory: None,
        };
        let hashes = vec!["sha256:bb".into(), "sha256:aa".into(), "sha256:bb".into()];
        let packages = vec![
            Package::new("SQLParse", Some("0.5".into()), Origin::Hashes(hashes)),
            Package::new("Django", Some("5.2.1".into()), Origin::Wheel(wheel)),
            Package::new("app", None, Origin::Directory(Directory { path: "libs/app".into() })),
            Package {
                formats: Formats::Sources,
                ..Package::new("uwsgi", Some("2.0".into()), Origin::Hashes(vec!["sha256:cc".into()]))
            },
        ];
        Lock::new("3.11", "linux-x86_64-gnu", "uv.lock", packages)
    }

    /// The encoding is a contract between two steps that may be of different ages.
    #[test]
    fn the_encoding_is_pinned() {
        let expected = concat!(
            r#"{"version":1,"python":"3.11","platform":"linux-x86_64-gnu","source":"uv.lock","packages":["#,
            r#"{"name":"app","directory":{"path":"libs/app"}},"#,
            r#"{"name":"django","version":"5.2.1","wheel":{"name":"django-5.2.1-py3-none-any.whl","#,
            r#""url":"https://files.example/django-5.2.1-py3-none-any.whl","#,
            r#""sha256":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"}},"#,
            r#"{"name":"sqlparse","version":"0.5","hashes":["sha256:aa","sha256:bb"]},"#,
            r#"{"name":"uwsgi","version":"2.0","formats":"sources","hashes":["sha256:cc"]}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(sample().to_json()).expect("UTF-8"), expected);
    }

    #[test]
    fn a_lock_survives_its_text() {
        assert_eq!(Lock::from_json(&sample().to_json()).expect("a lock"), sample());
    }

    #[test]
    fn another_version_is_refused() {
        let mut lock = sample();
        lock.version = 2;
        assert!(matches!(Lock::from_json(&lock.to_json()), Err(LockError::Version(2))));
    }
}
