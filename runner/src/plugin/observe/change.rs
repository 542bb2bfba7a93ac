//! What has become of one thing that a step saw: which files, and how. For people; whether a step has to run is decided without.
//!
//! Of an input as it was the store may have no more than its directories, or nothing. Then less is told.

use super::{Observation, Place, kind_name};
use crate::digest::Digest;
use crate::plugin::Value;
use crate::store::{Globs, Store, StoreError, join};
use crate::tree::{Entry, Tree};

/// The most differences that are told of one thing.
const MOST: usize = 100;

/// Something in an input that is no longer as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where in the input; `""` is the input itself.
    pub path: String,
    /// What became of it.
    pub how: How,
}

/// What became of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It holds something else.
    Changed,
    /// Whether it may be executed now, and nothing else is different.
    Executable(bool),
    /// It is something else.
    Kind {
        /// What it was.
        before: String,
        /// What it is.
        now: String,
    },
    /// It leads elsewhere.
    Link {
        /// Where it led.
        before: String,
        /// Where it leads.
        now: String,
    },
}

/// How closely two trees are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closely {
    /// Names and kinds of one directory.
    Names,
    /// All that is below.
    All,
}

impl Observation {
    /// What is different at the place of this observation, which no longer holds. `before` is the input, a tree or a blob, as it
    /// was; `now` as it is.
    pub(crate) fn changed(
        &self,
        store: &Store,
        before: Option<&Digest>,
        now: Option<&Value>,
    ) -> Result<Vec<Changed>, StoreError> {
        let (at, globs, closely) = match self {
            Self::Kind { at, kind } => return Ok(vec![kind_changed(store, at, kind.as_deref(), now)?]),
            Self::Entries { at, .. } => (at, None, Closely::Names),
            Self::Content { at, .. } | Self::Link { at, .. } => (at, None, Closely::All),
            Self::Glob { at, include, exclude, .. } | Self::Select { at, include, exclude, .. } => {
                (at, Globs::new(include, exclude).ok(), Closely::All)
            }
            Self::Context { .. } | Self::Secret { .. } | Self::Pin { .. } => return Ok(Vec::new()),
        };
        let whole = || vec![Changed { path: at.path.clone(), how: How::Changed }];
        let Some(Value::Tree(now)) = now else { return Ok(whole()) };
        let found = store.lookup(now, &at.path)?;
        // What was passed on is mostly part of an output, and kept with it.
        let passed_on = match self {
            Self::Select { part: digest, .. } | Self::Content { digest, .. } => {
                store.recall(digest).map(|_| Entry::Tree { digest: *digest })
            }
            _ => None,
        };
        let (before, now, meant) = match (passed_on, before, &globs, found) {
            (Some(before), _, Some(globs), Some(Entry::Tree { digest })) => {
                (Some(before), Some(Entry::Tree { digest: store.select(&digest, globs)? }), None)
            }
            (Some(before), _, _, found) => (Some(before), found, None),
            (None, Some(before), globs, found) => match recalled(store, before, &at.path) {
                Ok(before) => (before, found, globs.as_ref()),
                Err(Forgotten) => return Ok(whole()),
            },
            (None, None, ..) => return Ok(whole()),
        };
        let mut changes = Vec::new();
        match (&before, &now) {
            (Some(Entry::Tree { digest: before }), Some(Entry::Tree { digest: now })) => {
                let comparison = Comparison { store, closely, meant };
                if comparison.compare("", [before, now], &mut changes).is_none() {
                    return Ok(whole());
                }
                for change in &mut changes {
                    change.path = join(&at.path, &change.path);
                }
            }
            _ => changes.extend(entry_changed(&at.path, before.as_ref(), now.as_ref())),
        }
        Ok(if changes.is_empty() { whole() } else { changes })
    }
}

/// Nobody knows any more what was there.
struct Forgotten;

/// What was at a path of a tree that may no longer be there.
fn recalled(store: &Store, root: &Digest, path: &str) -> Result<Option<Entry>, Forgotten> {
    let mut at = Entry::Tree { digest: *root };
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Entry::Tree { digest } = &at else { return Ok(None) };
        match store.recall(digest).ok_or(Forgotten)?.get(name) {
            Some(entry) => at = entry.clone(),
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn kind_changed(store: &Store, at: &Place, before: Option<&str>, now: Option<&Value>) -> Result<Changed, StoreError> {
    let entry = match now {
        Some(Value::Tree(root)) => store.lookup(root, &at.path)?,
        _ => None,
    };
    let how = kind_how(before, entry.as_ref().map(kind_name)).unwrap_or(How::Changed);
    Ok(Changed { path: at.path.clone(), how })
}

/// What became of something that was of one kind and is of another; none where it is of the same.
fn kind_how(before: Option<&str>, now: Option<&str>) -> Option<How> {
    Some(match (before, now) {
        (before, now) if before == now => return None,
        (None, _) => How::Added,
        (_, None) => How::Removed,
        (Some("file"), Some("executable")) => How::Executable(true),
        (Some("executable"), Some("file")) => How::Executable(false),
        (Some(before), Some(now)) => {
            let plain = |kind: &str| if kind == "executable" { "file" } else { kind }.to_owned();
            How::Kind { before: plain(before), now: plain(now) }
        }
    })
}

fn entry_changed(path: &str, before: Option<&Entry>, now: Option<&Entry>) -> Option<Changed> {
    let how = match (before, now) {
        (Some(Entry::File { digest: before, .. }), Some(Entry::File { digest: now, .. })) if before != now => {
            How::Changed
        }
        (Some(Entry::Symlink { target: before }), Some(Entry::Symlink { target: now })) if before != now => {
            How::Link { before: before.clone(), now: now.clone() }
        }
        _ => kind_how(before.map(kind_name), now.map(kind_name))?,
    };
    Some(Changed { path: path.to_owned(), how })
}

/// How two trees are compared.
struct Comparison<'s> {
    store: &'s Store,
    closely: Closely,
    /// Which part of them; none: all.
    meant: Option<&'s Globs>,
}

impl Comparison<'_> {
    /// Adds what is different between two directories, in the order of names; none where one of them is gone.
    fn compare(&self, at: &str, [before, now]: [&Digest; 2], changes: &mut Vec<Changed>) -> Option<()> {
        let (before, now) = (self.store.recall(before)?, self.store.recall(now)?);
        for name in names(&before, &now) {
            if changes.len() >= MOST {
                break;
            }
            let path = join(at, name);
            match (before.get(name), now.get(name)) {
                (Some(Entry::Tree { digest: before }), Some(Entry::Tree { digest: now })) => {
                    if self.closely == Closely::All && before != now {
                        self.compare(&path, [before, now], changes)?;
                    }
                }
                (before, now) => {
                    if self.meant.is_none_or(|globs| globs.mean(&path)) {
                        let changed = entry_changed(&path, before, now);
                        let worth_it = |changed: &Changed| self.closely == Closely::All || changed.how != How::Changed;
                        changes.extend(changed.filter(worth_it));
                    }
                }
            }
        }
        Some(())
    }
}

/// All names of two directories, in order.
fn names<'t>(one: &'t Tree, other: &'t Tree) -> Vec<&'t str> {
    let mut names: Vec<&str> = one.entries().chain(other.entries()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
}
