//! Slugs: what a run has built, by the digest of a manifest that holds content only.
//!
//! Here is what a slug says of itself, and which slugs this machine knows; below are their export as a file, the difference
//! of two, and the attestation of how one came about. Builds nothing and releases nothing.

mod attestation;
mod diff;
mod export;
mod registry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

pub use attestation::{Material, Provenance, StepAccount, attest};
pub(crate) use diff::changes;
pub use diff::{Change, Difference, diff, first_difference, trees};
pub use export::{Exported, Pack, export, pack};
pub use registry::{Record, Registry};

/// The format of manifests that this runner reads.
const FORMAT: u32 = 1;
/// Where a slug's tree keeps its manifest.
const MANIFEST: &str = "manifest.json";

/// What a slug is. Its canonical JSON is written by the step that makes it; the hash of those bytes is the slug's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The application's name.
    pub app: String,
    /// Where in `/app/src` processes start.
    #[serde(default)]
    pub directory: String,
    /// Names of the variables that a target must set.
    #[serde(default)]
    pub environment: Vec<String>,
    /// The version of this shape.
    pub format: u32,
    /// Links outside of `/app` that the application counts on.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What it runs on, such as `linux-x86_64-gnu`.
    pub platform: String,
    /// Shell commands by process.
    pub processes: BTreeMap<String, String>,
    /// The version of Python, where it needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// A command to run before a release serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The runtime that it was built on, and that it runs on.
    pub runtime: Digest,
    /// Where static files are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_url: Option<String>,
    /// The trees at `/app`, by name.
    pub trees: BTreeMap<String, Digest>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it is, absolute.
    pub path: String,
    /// What it points to.
    pub target: String,
}

/// What can go wrong with a slug.
#[derive(Debug, thiserror::Error)]
pub enum SlugError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be packed.
    #[error("the slug cannot be packed")]
    Pack(#[from] crate::archive::ArchiveError),
    /// A tree that a step gave, or a file's content, is no slug.
    #[error("not a slug: {0}")]
    NotASlug(String),
    /// A file could not be written or read.
    #[error("cannot {action} `{path}`")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// No known slug has such an id.
    #[error("no slug is called `{wanted}`")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The id that looks most like it.
        nearest: Option<Digest>,
    },
    /// Several known slugs have an id that begins like this.
    #[error("`{wanted}` is the beginning of {} slugs: {}", .found.len(), list(.found))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Their ids.
        found: Vec<Digest>,
    },
}

fn list(ids: &[Digest]) -> String {
    ids.iter().map(|id| format!("`{}`", id.short())).collect::<Vec<_>>().join(", ")
}

impl SlugError {
    /// Whether it is the machine's fault: that of a disk, mostly.
    pub const fn is_environment(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Pack(_) | Self::File { .. })
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File { source, path, .. } => StoreError::remedy(source, path.as_ref()),
            Self::Unknown { nearest: Some(id), .. } => {
                Some(format!("did you mean `{}`? `pipe slug list` names all", id.short()))
            }
            Self::Unknown { nearest: None, .. } => {
                Some("`pipe run` builds one, and `pipe slug list` names all".to_owned())
            }
            Self::Ambiguous { .. } => Some("give more of the id".to_owned()),
            Self::Pack(_) | Self::NotASlug(_) => None,
        }
    }
}

impl Manifest {
    /// Reads the manifest of a slug's tree; the digest is the slug's id.
    pub fn read(store: &Store, tree: &Digest) -> Result<(Digest, Self), SlugError> {
        let Some(Entry::File { digest, .. }) = store.lookup(tree, MANIFEST)? else {
            return Err(SlugError::NotASlug(format!("it holds no `{MANIFEST}`")));
        };
        let manifest: Self = serde_json::from_slice(&store.get(&digest)?)
            .map_err(|error| SlugError::NotASlug(format!("`{MANIFEST}`: {error}")))?;
        if manifest.format != FORMAT {
            return Err(SlugError::NotASlug(format!(
                "its format is {}, and this `pipe` reads {FORMAT}",
                manifest.format
            )));
        }
        for (name, digest) in &manifest.trees {
            if store.lookup(tree, &format!("app/{name}"))? != Some(Entry::Tree { digest: *digest }) {
                return Err(SlugError::NotASlug(format!("`app/{name}` is not the tree that its manifest names")));
            }
        }
        Ok((digest, manifest))
    }

    /// The packages of the environment: name and version as their `.dist-info` directories say.
    pub fn packages(&self, store: &Store) -> Result<BTreeMap<String, String>, SlugError> {
        let mut packages = BTreeMap::new();
        let Some(venv) = self.trees.get("venv") else { return Ok(packages) };
        let Some(Entry::Tree { digest: lib }) = store.lookup(venv, "lib")? else { return Ok(packages) };
        for (python, _) in store.tree(&lib)?.entries() {
            let Some(Entry::Tree { digest }) = store.lookup(&lib, &format!("{python}/site-packages"))? else {
                continue;
            };
            packages.extend(store.tree(&digest)?.entries().filter_map(|(name, _)| {
                let (name, version) = name.strip_suffix(".dist-info")?.rsplit_once('-')?;
                Some((name.replace('_', "-").to_lowercase(), version.to_owned()))
            }));
        }
        Ok(packages)
    }
}

#[cfg(test)]
mod tests;
