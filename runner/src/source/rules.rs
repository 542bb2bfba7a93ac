//! What of a source directory is left out. From the strongest rule to the weakest; within each the last pattern that
//! matches decides, and a pattern that starts with `!` keeps:
//!
//! 1. `.git`, `.hg` and `.svn`: always left out.
//! 2. The patterns of the pipeline's `exclude`.
//! 3. `.pipeignore`, that of the nearest directory first.
//! 4. `.gitignore`, likewise, up to the root of the repository; what git tracks is kept all the same. A repository within, a
//!    submodule or not, has its own.
//! 5. `__pycache__`, and directories that are a virtual environment: left out.
//!
//! As with git, nothing inside a directory that is left out can be kept. The user's own excludes for git (`core.excludesFile`,
//! `.git/info/exclude`) have no say: they are this machine's, and a snapshot is the same on every machine. Where a project
//! was unpacked from an archive and there is no repository, what was committed in spite of `.gitignore` is kept by a line
//! with `!`. A `.env` that no rule names is a file like any other: settings that read it find it at build and in production
//! alike.

use std::ffi::OsStr;
use std::fs;
use std::iter::successors;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::SourceError;
use super::tracked::{Tracked, is_repository, repository};
use crate::digest::Digest;
use crate::key::{Fields as _, KeyBuilder};

const VERSION_CONTROL: &[&str] = &[".git", ".hg", ".svn"];

/// What the rules say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It is left out.
    LeaveOut,
    /// A pattern keeps it, or git tracks it.
    Keep,
    /// `.gitignore` leaves the directory out, and git tracks something in it.
    KeepTracked,
    /// It stays, unless it is a virtual environment.
    Nothing,
}

/// The rules that hold in one directory.
pub(super) struct Rules<'a> {
    outer: Option<&'a Rules<'a>>,
    exclude: Gitignore,
    pipeignore: Gitignore,
    /// From the weakest to the strongest.
    gitignore: Vec<Gitignore>,
    tracked: Arc<Tracked>,
    /// Whether git's rules begin here: those around it have no say.
    is_root: bool,
    /// Whether git leaves out whatever is here and not tracked.
    is_ignored: bool,
    /// Of all lines that have a say.
    digest: Digest,
}

impl<'a> Rules<'a> {
    /// The rules of the source directory itself.
    pub(super) fn new(dir: &Path, exclude: &[String], tracked: Arc<Tracked>) -> Result<Self, SourceError> {
        let mut key = KeyBuilder::new("rules").field("tracked", tracked.digest().as_bytes());
        let mut builder = GitignoreBuilder::new(dir);
        let pattern = |source| SourceError::Pattern { path: dir.to_owned(), source };
        for line in exclude {
            key.add("exclude", line.as_bytes());
            builder.add_line(None, line).map_err(pattern)?;
        }
        let exclude = builder.build().map_err(pattern)?;
        let pipeignore = pipeignore(dir, &mut key)?;
        let gitignore = outer_gitignores(dir, &mut key);
        let digest = key.finish();
        Ok(Self { outer: None, exclude, pipeignore, gitignore, tracked, is_root: true, is_ignored: false, digest })
    }

    /// The rules of a directory within, of which these ones have said something.
    pub(super) fn within(&'a self, dir: &Path, said: Said) -> Result<Self, SourceError> {
        let before = KeyBuilder::new("rules").field("outer", self.digest.as_bytes());
        let mut key = before.clone();
        let pipeignore = pipeignore(dir, &mut key)?;
        let gitignore = vec![gitignore(dir, &mut key)];
        let is_root = is_repository(dir);
        let tracked = if is_root { Arc::new(Tracked::around(dir)?) } else { Arc::clone(&self.tracked) };
        if is_root {
            key.add("tracked", tracked.digest().as_bytes());
        }
        let is_ignored = !is_root && (said == Said::KeepTracked || self.is_ignored && said != Said::Keep);
        if is_ignored != self.is_ignored {
            key.add("ignored", &[u8::from(is_ignored)]);
        }
        let digest = if key == before { self.digest } else { key.finish() };
        let exclude = Gitignore::empty();
        Ok(Self { outer: Some(self), exclude, pipeignore, gitignore, tracked, is_root, is_ignored, digest })
    }

    /// Where this is the same, the same is kept of the same names.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// What becomes of a path of this directory, by its name.
    pub(super) fn say(&self, path: &Path, name: &OsStr, is_dir: bool) -> Said {
        if VERSION_CONTROL.iter().any(|known| name == *known) {
            return Said::LeaveOut;
        }
        let exclude = nearest(self.around().map(|rules| rules.exclude.matched(path, is_dir).map(|_| ())));
        let pipeignore = || nearest(self.around().map(|rules| rules.pipeignore.matched(path, is_dir).map(|_| ())));
        let by_git = || nearest(self.in_repository().map(|rules| rules.by_git(path, is_dir)));
        let own = exclude.or_else(pipeignore);
        match own.or_else(|| if self.is_ignored { Some(true) } else { by_git() }) {
            Some(true) if own.is_some() || !self.tracked.has(path, is_dir) => Said::LeaveOut,
            Some(true) if is_dir => Said::KeepTracked,
            Some(_) => Said::Keep,
            None if is_dir && name == "__pycache__" => Said::LeaveOut,
            None => Said::Nothing,
        }
    }

    /// From these rules outwards.
    fn around(&self) -> impl Iterator<Item = &Rules<'a>> {
        successors(Some(self), |rules| rules.outer)
    }

    /// The same as far as the root of the repository.
    fn in_repository(&self) -> impl Iterator<Item = &Rules<'a>> {
        successors(Some(self), |rules| rules.outer.filter(|_| !rules.is_root))
    }

    fn by_git(&self, path: &Path, is_dir: bool) -> Match<()> {
        let mut found = self.gitignore.iter().rev().map(|rules| rules.matched(path, is_dir).map(|_| ()));
        found.find(|found| !found.is_none()).unwrap_or(Match::None)
    }
}

/// What the nearest directory that has a say says: whether to leave out.
fn nearest(mut said: impl Iterator<Item = Match<()>>) -> Option<bool> {
    said.find(|said| !said.is_none()).map(|said| said.is_ignore())
}

/// A `.pipeignore`; a pattern that cannot be read is an error.
fn pipeignore(dir: &Path, key: &mut KeyBuilder) -> Result<Gitignore, SourceError> {
    match patterns(dir, ".pipeignore", key) {
        (rules, None) => Ok(rules),
        (_, Some(source)) => Err(SourceError::Pattern { path: dir.join(".pipeignore"), source }),
    }
}

/// A `.gitignore`; a pattern that cannot be read is passed over, as git does.
fn gitignore(dir: &Path, key: &mut KeyBuilder) -> Gitignore {
    patterns(dir, ".gitignore", key).0
}

/// The patterns of a file, none where it is none, and what is wrong with the first line that is no pattern.
fn patterns(dir: &Path, name: &str, key: &mut KeyBuilder) -> (Gitignore, Option<ignore::Error>) {
    let path = dir.join(name);
    if path.symlink_metadata().is_err() {
        return (Gitignore::empty(), None);
    }
    let bytes = if path.is_file() { fs::read(&path) } else { Ok(Vec::new()) };
    // What has no say now may have one the next time: a link to nothing, a file that cannot be read.
    key.add(&path.to_string_lossy(), bytes.as_deref().unwrap_or_default());
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return (Gitignore::empty(), Some(error.into())),
    };
    let mut builder = GitignoreBuilder::new(dir);
    let mut wrong = None;
    for (number, line) in (1..).zip(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').lines()) {
        if let Err(error) = builder.add_line(Some(path.clone()), line) {
            wrong = wrong.or(Some(ignore::Error::WithLineNumber { line: number, err: Box::new(error) }));
        }
    }
    match builder.build() {
        Ok(rules) => (rules, wrong),
        Err(error) => (Gitignore::empty(), Some(error)),
    }
}

/// The `.gitignore` of a directory and of those around it, up to the root of its repository, from there on down.
fn outer_gitignores(dir: &Path, key: &mut KeyBuilder) -> Vec<Gitignore> {
    let root = repository(dir).unwrap_or(dir);
    let within = dir.ancestors().take_while(|dir| dir.starts_with(root));
    let mut found: Vec<Gitignore> = within.map(|dir| gitignore(dir, key)).collect();
    found.reverse();
    found
}
