//! Ways through a stored tree: one path, all paths, and the part that globs name.

use globset::{ErrorKind, GlobBuilder, GlobSet, GlobSetBuilder};

use super::extent::MOST;
use super::{Store, StoreError, Until};
use crate::digest::Digest;
use crate::tree::{DEEPEST, Entry, Tree};

/// Something found in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path from the tree's root, `/`-separated.
    pub path: String,
    /// What it is.
    pub entry: Entry,
}

/// Which part of a tree is meant: what `include` matches and `exclude` does not. `*` stays within a directory, `**` does not,
/// and a glob that matches a directory means all that is in it.
#[derive(Debug)]
pub struct Globs {
    include: GlobSet,
    exclude: GlobSet,
    /// For each glob of `include` the directory that all it matches is in, or is.
    within: Vec<String>,
}

/// Why nothing can be looked for with globs.
#[derive(Debug, thiserror::Error)]
pub enum GlobError {
    /// One of them is none.
    #[error(transparent)]
    Wrong(globset::Error),
    /// Each of them is one, and together they are more than an automaton may have.
    #[error("too much to look for at once (globs: {count}; the longest, of {length} bytes, begins with `{start}`)")]
    TooLarge {
        /// How many there are.
        count: usize,
        /// The bytes of the longest.
        length: usize,
        /// What it begins with.
        start: String,
    },
}

impl GlobError {
    fn of(error: globset::Error, globs: &[String]) -> Self {
        if !matches!(error.kind(), ErrorKind::Regex(_)) {
            return Self::Wrong(error);
        }
        let longest = globs.iter().max_by_key(|glob| glob.len()).map_or("", String::as_str);
        Self::TooLarge { count: globs.len(), length: longest.len(), start: longest.chars().take(40).collect() }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "a `\\` before a character makes it stand for itself",
            Self::TooLarge { .. } => "name the directories that hold it, or look for a part of it at a time",
        }
    }
}

impl Globs {
    /// Reads globs.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        let within = include.iter().map(|glob| literal(plain(glob))).collect();
        Ok(Self { include: glob_set(include)?, exclude: glob_set(exclude)?, within })
    }

    /// Whether something below a directory may be meant that is not meant as a part of it.
    fn reach(&self, dir: &str) -> bool {
        let is_below = |path: &str, dir: &str| {
            path.strip_prefix(dir).is_some_and(|rest| dir.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        self.within.iter().any(|within| is_below(within, dir) || is_below(dir, within))
    }

    /// Whether a path is of the part that they mean.
    pub fn mean(&self, path: &str) -> bool {
        let ways = path.match_indices('/').map(|(end, _)| &path[..end]).chain([path]);
        let mut included = false;
        for way in ways {
            if self.exclude.is_match(way) {
                return false;
            }
            included = self.includes(way, included);
        }
        included
    }

    /// Whether these globs mean a path whose parent is, or is not, included already.
    fn includes(&self, path: &str, parent: bool) -> bool {
        parent || self.include.is_match(path)
    }
}

fn glob_set(globs: &[String]) -> Result<GlobSet, GlobError> {
    let read = || {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(GlobBuilder::new(plain(glob)).literal_separator(true).build()?);
        }
        set.build()
    };
    read().map_err(|error| GlobError::of(error, globs))
}

fn plain(glob: &str) -> &str {
    glob.strip_prefix("./").unwrap_or(glob).trim_end_matches('/')
}

/// The names that a glob starts with, up to the first that has a special character.
fn literal(glob: &str) -> String {
    let names = glob.split('/').take_while(|name| !name.contains(['*', '?', '[', ']', '{', '}', ',', '!', '\\']));
    names.collect::<Vec<_>>().join("/")
}

/// The path of `name` in the directory `dir`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("", path) | (path, "") => path.to_owned(),
        (dir, name) => format!("{dir}/{name}"),
    }
}

/// The names of a path of a tree; `""` is the tree itself.
pub(crate) fn names(path: &str) -> Result<Vec<&str>, StoreError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.iter().any(|name| matches!(*name, "" | "." | "..")) || path.contains('\0') {
        return Err(StoreError::Path { path: path.to_owned(), why: "it is not relative and normalised".to_owned() });
    }
    if names.len() > DEEPEST {
        return Err(StoreError::TooDeep);
    }
    Ok(names)
}

/// Globs, and how much may still be held against them.
struct Seen<'a> {
    globs: &'a Globs,
    left: u64,
    /// How many bytes of paths may still be found.
    room: usize,
    until: &'a Until,
}

/// The most bytes in the paths that globs find.
pub(super) const LONGEST: usize = 256 << 20;

impl<'a> Seen<'a> {
    fn by(globs: &'a Globs, store: &'a Store) -> Self {
        Self { globs, left: MOST, room: LONGEST, until: store.until() }
    }

    fn count(&mut self) -> Result<(), StoreError> {
        self.left = self.left.checked_sub(1).ok_or(StoreError::TooLarge)?;
        self.until.look()
    }
}

impl Store {
    /// What is at a path of a tree; links on the way are not followed.
    pub fn lookup(&self, root: &Digest, path: &str) -> Result<Option<Entry>, StoreError> {
        let mut at = Entry::Tree { digest: *root };
        for name in names(path)? {
            let Entry::Tree { digest } = &at else { return Ok(None) };
            match self.tree(digest)?.get(name) {
                Some(entry) => at = entry.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// All files, links and empty directories of a tree, in order of the directories' names.
    pub fn walk(&self, root: &Digest) -> Result<Vec<Found>, StoreError> {
        self.check_extent(root)?;
        let mut found = Vec::new();
        self.walk_into(root, "", &mut |path, entry| {
            found.push(Found { path: path.to_owned(), entry: entry.clone() });
        })?;
        Ok(found)
    }

    fn walk_into(&self, dir: &Digest, at: &str, visit: &mut impl FnMut(&str, &Entry)) -> Result<(), StoreError> {
        for (name, entry) in self.tree(dir)?.entries() {
            let path = join(at, name);
            match entry {
                Entry::Tree { digest } if !self.tree(digest)?.is_empty() => self.walk_into(digest, &path, visit)?,
                _ => visit(&path, entry),
            }
        }
        Ok(())
    }

    /// The paths of the files and links that globs mean, in bytewise order.
    pub fn glob(&self, root: &Digest, globs: &Globs) -> Result<Vec<String>, StoreError> {
        let mut paths = Vec::new();
        self.glob_into(root, "", &mut Seen::by(globs, self), false, &mut paths)?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn glob_into(
        &self,
        dir: &Digest,
        at: &str,
        seen: &mut Seen<'_>,
        parent: bool,
        paths: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let globs = seen.globs;
        for (name, entry) in self.tree(dir)?.entries() {
            seen.count()?;
            let path = join(at, name);
            if globs.exclude.is_match(&path) {
                continue;
            }
            let included = globs.includes(&path, parent);
            match entry {
                Entry::Tree { .. } if !included && !globs.reach(&path) => {}
                Entry::Tree { digest } => self.glob_into(digest, &path, seen, included, paths)?,
                _ if included => {
                    seen.room = seen.room.checked_sub(path.len()).ok_or(StoreError::TooManyPaths)?;
                    paths.push(path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The part of a tree that globs mean, as a tree.
    pub fn select(&self, root: &Digest, globs: &Globs) -> Result<Digest, StoreError> {
        match self.select_in(root, "", &mut Seen::by(globs, self), false)? {
            Some(digest) => Ok(digest),
            None => self.put_tree(&Tree::default()),
        }
    }

    /// None where nothing of the directory is meant.
    fn select_in(
        &self,
        dir: &Digest,
        at: &str,
        seen: &mut Seen<'_>,
        parent: bool,
    ) -> Result<Option<Digest>, StoreError> {
        let globs = seen.globs;
        let whole = self.tree(dir)?;
        if parent && (globs.exclude.is_empty() || whole.is_empty()) {
            return Ok(Some(*dir));
        }
        let mut part = Tree::default();
        for (name, entry) in whole.entries() {
            seen.count()?;
            let path = join(at, name);
            if globs.exclude.is_match(&path) {
                continue;
            }
            let included = globs.includes(&path, parent);
            let kept = match entry {
                Entry::Tree { .. } if !included && !globs.reach(&path) => None,
                Entry::Tree { digest } => {
                    self.select_in(digest, &path, seen, included)?.map(|digest| Entry::Tree { digest })
                }
                _ => included.then(|| entry.clone()),
            };
            if let Some(entry) = kept {
                part.insert(name, entry).map_err(|source| StoreError::NotATree { digest: *dir, source })?;
            }
        }
        if part.is_empty() { Ok(None) } else { self.put_tree(&part).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories that no glob leads into are not looked at; all others are.
    #[test]
    fn globs_reach_the_directories_on_their_way() {
        let globs = |glob: &str| Globs::new(&[glob.to_owned()], &[]).expect("a glob");
        for (glob, reached, not_reached) in [
            ("./a/b/c", &["a", "a/b", "a/b/c", "a/b/c/d"][..], &["b", "a/bb", "a/b/cc", "a/b/d"][..]),
            ("a/*/c", &["a", "a/x", "a/x/y"], &["b", "aa"]),
            ("a/{b,c}/d/", &["a", "a/b", "a/x"], &["b"]),
            ("**/c", &["a", "a/b"], &[]),
            ("*.py", &["a"], &[]),
        ] {
            assert!(reached.iter().all(|dir| globs(glob).reach(dir)), "{glob}");
            assert!(!not_reached.iter().any(|dir| globs(glob).reach(dir)), "{glob}");
        }
    }

    /// A step may look at the whole of a directory that it took as a value: `""` there is the directory's own place.
    #[test]
    fn nothing_below_a_place_is_the_place_itself() {
        assert_eq!([join("", ""), join("", "b"), join("a", ""), join("a/b", "c")], ["", "b", "a", "a/b/c"]);
        for path in [join("", ""), join("a", ""), join("a/b", "c")] {
            names(&path).expect("a path of a tree");
        }
    }
}
