//! What a step saw: every read, every failed look-up, every listing, and every value that it passed on.
//!
//! A later run with other inputs gives the same outputs if all of this still holds, since a step sees nothing else.

mod change;
mod ground;

use serde::{Deserialize, Serialize};

use super::run::Value;
use crate::digest::Digest;
use crate::secret::Secrets;
use crate::store::{Globs, Store, StoreError};
use crate::tree::Entry;

pub use change::{Changed, How};
pub use ground::Grounds;

/// A path in one of a step's inputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Which input, in the order of the bindings.
    pub input: usize,
    /// Where in its tree; `""` is the input itself.
    pub path: String,
}

/// One thing that a step saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Observation {
    /// Whether something is there, and of which kind.
    Kind {
        /// Where it looked.
        at: Place,
        /// `file`, `executable`, `symlink` or `directory`; none where there was nothing.
        kind: Option<String>,
    },
    /// The names and kinds in a directory.
    Entries {
        /// Where it looked.
        at: Place,
        /// The digest of the listing; none where there was no directory.
        listing: Option<Digest>,
    },
    /// What is there, whole: bytes that were read, or a value that was passed on.
    Content {
        /// Where it was taken from.
        at: Place,
        /// The digest of the blob or the tree.
        digest: Digest,
    },
    /// Where a link points to.
    Link {
        /// Where it looked.
        at: Place,
        /// The target; none where there was no link.
        target: Option<String>,
    },
    /// The names that globs mean.
    Glob {
        /// Where it looked.
        at: Place,
        /// The globs that name.
        include: Vec<String>,
        /// The globs that leave out.
        exclude: Vec<String>,
        /// The digest of the list.
        names: Digest,
    },
    /// The part of a tree that globs mean.
    Select {
        /// Where it was taken from.
        at: Place,
        /// The globs that name.
        include: Vec<String>,
        /// The globs that leave out.
        exclude: Vec<String>,
        /// The digest of the part.
        part: Digest,
    },
    /// What the pipeline says about the whole run.
    Context {
        /// What was asked.
        name: String,
        /// What was answered.
        value: Option<String>,
    },
    /// A secret that its programs could read.
    Secret {
        /// Its name.
        name: String,
        /// The keyed hash of its text.
        mac: Digest,
    },
    /// Versions that stand in `pipe.lock`.
    Pin {
        /// Which index.
        source: String,
        /// What was asked for.
        requirements: Vec<String>,
        /// Within what.
        constraints: Vec<String>,
        /// The digest of the answer.
        answer: Digest,
    },
}

impl Observation {
    /// About how many bytes of memory it takes in a set of them.
    pub(super) fn size(&self) -> usize {
        let all = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let texts = match self {
            Self::Kind { at, .. } | Self::Entries { at, .. } | Self::Content { at, .. } => at.path.len(),
            Self::Link { at, target } => at.path.len() + target.as_ref().map_or(0, String::len),
            Self::Glob { at, include, exclude, .. } | Self::Select { at, include, exclude, .. } => {
                at.path.len() + all(include) + all(exclude)
            }
            Self::Context { name, value } => name.len() + value.as_ref().map_or(0, String::len),
            Self::Secret { name, .. } => name.len(),
            Self::Pin { source, requirements, constraints, .. } => source.len() + all(requirements) + all(constraints),
        };
        // A set that has just grown has room for twice as many.
        texts + 2 * size_of::<Self>()
    }
}

/// The kind of an entry, as plugins and observations call it.
pub(super) const fn kind_name(entry: &Entry) -> &'static str {
    match entry {
        Entry::File { executable: false, .. } => "file",
        Entry::File { executable: true, .. } => "executable",
        Entry::Symlink { .. } => "symlink",
        Entry::Tree { .. } => "directory",
    }
}

/// The digest of a directory's names and kinds.
pub(super) fn listing(store: &Store, tree: &Digest) -> Result<Digest, StoreError> {
    let mut listed = Vec::new();
    for (name, entry) in store.tree(tree)?.entries() {
        for part in [name, kind_name(entry)] {
            listed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            listed.extend_from_slice(part.as_bytes());
        }
    }
    Ok(Digest::of(&listed))
}

/// The digest of a list of names.
pub(super) fn names_digest(names: &[String]) -> Digest {
    Digest::of(names.join("\0").as_bytes())
}

/// What is at a place of the inputs.
pub(super) fn entry_at(store: &Store, inputs: &[Value], at: &Place) -> Result<Option<Entry>, StoreError> {
    match inputs.get(at.input) {
        Some(Value::Tree(root)) => store.lookup(root, &at.path),
        Some(Value::Blob(digest)) if at.path.is_empty() => Ok(Some(Entry::File { digest: *digest, executable: false })),
        _ => Ok(None),
    }
}

/// Answers from `pipe.lock` for a source, requirements and constraints; none where nothing stands there.
pub type Pinned = dyn Fn(&str, &[String], &[String]) -> Option<String> + Send + Sync;

/// What the world outside of the inputs answers now.
pub struct World<'a> {
    /// The answers of [`Observation::Context`].
    pub context: &'a dyn Fn(&str) -> Option<String>,
    /// The secrets of [`Observation::Secret`].
    pub secrets: &'a Secrets,
    /// The answers of [`Observation::Pin`]; none where nothing stands in `pipe.lock`.
    pub pin: &'a Pinned,
}

impl Observation {
    /// Whether a step that looked now would see the same.
    pub fn holds(&self, store: &Store, inputs: &[Value], world: &World<'_>) -> Result<bool, StoreError> {
        let tree_at = |at: &Place| -> Result<Option<Digest>, StoreError> {
            Ok(match entry_at(store, inputs, at)? {
                Some(Entry::Tree { digest }) => Some(digest),
                _ => None,
            })
        };
        let globs = |include: &[String], exclude: &[String]| Globs::new(include, exclude).ok();
        Ok(match self {
            Self::Kind { at, kind } => entry_at(store, inputs, at)?.as_ref().map(kind_name) == kind.as_deref(),
            Self::Entries { at, listing: seen } => match tree_at(at)? {
                Some(tree) => Some(listing(store, &tree)?) == *seen,
                None => seen.is_none(),
            },
            Self::Content { at, digest: seen } => match entry_at(store, inputs, at)? {
                Some(Entry::File { digest, .. } | Entry::Tree { digest }) => digest == *seen,
                _ => false,
            },
            Self::Link { at, target: seen } => match entry_at(store, inputs, at)? {
                Some(Entry::Symlink { target }) => Some(&target) == seen.as_ref(),
                _ => seen.is_none(),
            },
            Self::Glob { at, include, exclude, names } => match (tree_at(at)?, globs(include, exclude)) {
                (Some(tree), Some(globs)) => names_digest(&store.glob(&tree, &globs)?) == *names,
                _ => false,
            },
            Self::Select { at, include, exclude, part } => match (tree_at(at)?, globs(include, exclude)) {
                (Some(tree), Some(globs)) => store.select(&tree, &globs)? == *part,
                _ => false,
            },
            Self::Context { name, value } => (world.context)(name) == *value,
            Self::Secret { name, mac } => world.secrets.get(name).is_some_and(|secret| secret.mac() == mac),
            Self::Pin { source, requirements, constraints, answer } => (world.pin)(source, requirements, constraints)
                .is_some_and(|text| Digest::of(text.as_bytes()) == *answer),
        })
    }

    /// The place of an input that this is about, and whether it may be about more than is there itself: a directory, with what is
    /// in it.
    fn place(&self) -> Option<(&Place, bool)> {
        match self {
            Self::Kind { at, kind } => Some((at, kind.as_deref() == Some("directory"))),
            Self::Entries { at, .. } | Self::Glob { at, .. } | Self::Select { at, .. } => Some((at, true)),
            Self::Content { at, .. } | Self::Link { at, .. } => Some((at, false)),
            Self::Context { .. } | Self::Secret { .. } | Self::Pin { .. } => None,
        }
    }

    /// Whether this is about what is not an input, and so not in the step's full key.
    pub const fn is_outside(&self) -> bool {
        matches!(self, Self::Pin { .. })
    }
}
