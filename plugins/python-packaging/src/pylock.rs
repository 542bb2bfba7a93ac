//! The shape of a `pylock.toml` (PEP 751): a list of packages, each under a marker. Knows nothing of what is made of it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::lock::File;

/// A `pylock.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pylock {
    /// The version of the format.
    pub lock_version: String,
    /// The Pythons that it is for.
    pub requires_python: Option<String>,
    /// The environments that it is for, as markers; any where there are none.
    #[serde(default)]
    pub environments: Vec<String>,
    /// The extras that markers may ask about; none where it was made for some.
    pub extras: Option<Vec<String>>,
    /// The groups that markers may ask about; none where it was made for some.
    pub dependency_groups: Option<Vec<String>>,
    /// The groups that are installed without a word.
    #[serde(default)]
    pub default_groups: Vec<String>,
    /// Every package of every environment.
    #[serde(default)]
    pub packages: Vec<Entry>,
}

/// A package, from one of the places that it may come from.
#[derive(Debug, Deserialize)]
pub struct Entry {
    /// As written.
    pub name: String,
    /// None where only building it tells.
    pub version: Option<String>,
    /// When it is installed.
    pub marker: Option<String>,
    /// A commit.
    pub vcs: Option<Vcs>,
    /// A directory beside the lock.
    pub directory: Option<Local>,
    /// An archive at an address or a path.
    pub archive: Option<Distribution>,
    /// The sources on an index.
    pub sdist: Option<Distribution>,
    /// The wheels on an index.
    #[serde(default)]
    pub wheels: Vec<Distribution>,
}

/// A commit of a repository.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vcs {
    /// `git`, or another.
    pub r#type: String,
    /// Where the repository is.
    pub url: Option<String>,
    /// The full hash.
    pub commit_id: String,
    /// The directory that holds the project.
    pub subdirectory: Option<String>,
}

/// A directory.
#[derive(Debug, Deserialize)]
pub struct Local {
    /// Relative to the lock.
    pub path: String,
    /// The directory in it that holds the project.
    pub subdirectory: Option<String>,
}

/// A file.
#[derive(Debug, Deserialize)]
pub struct Distribution {
    /// Where the address does not say it.
    pub name: Option<String>,
    /// Its address.
    pub url: Option<String>,
    /// Its path, relative to the lock.
    pub path: Option<String>,
    /// Its digests, by the name of the function.
    #[serde(default)]
    pub hashes: BTreeMap<String, String>,
    /// The directory in it that holds the project.
    pub subdirectory: Option<String>,
}

impl Distribution {
    /// The file's name.
    pub fn file_name(&self) -> String {
        let place = || self.url.as_deref().or(self.path.as_deref()).unwrap_or_default();
        self.name.clone().unwrap_or_else(|| File::name_of(place()))
    }
}
