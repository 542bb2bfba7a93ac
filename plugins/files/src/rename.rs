//! What a rename means for a path. Plain data: knows nothing of trees.

use std::collections::BTreeMap;

use pipe_sdk::{Deserialize, JsonSchema};

/// One `rename`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
pub(crate) struct Rename {
    /// A file or a directory, or a glob of files.
    pub(crate) from: String,
    /// Its new path; for a glob, the directory that the files go into under their own names.
    to: String,
}

/// A thing to move, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) rename: Rename,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Rename {
    /// Moves the file or directory at `from` to exactly `to`.
    pub(crate) fn whole(&self, from: &str) -> Move {
        Move { rename: self.clone(), from: from.to_owned(), to: self.to.trim_matches('/').to_owned() }
    }

    /// Moves the file `path`, which the glob matched, into the directory `to`.
    pub(crate) fn to_directory(&self, path: &str) -> Move {
        let name = path.rsplit('/').next().unwrap_or(path);
        let to = match self.to.trim_matches('/') {
            "" | "." => name.to_owned(),
            directory => format!("{directory}/{name}"),
        };
        Move { rename: self.clone(), from: path.to_owned(), to }
    }
}

/// Whether `pattern` is more than a path.
pub(crate) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

/// Refuses two moves of one thing, or two things to one place.
pub(crate) fn check(moves: &[Move]) -> Result<(), String> {
    let (mut sources, mut places) = (BTreeMap::new(), BTreeMap::new());
    for step in moves {
        if let Some(earlier) = sources.insert(&step.from, &step.to) {
            return Err(format!("`{}` is renamed twice, to `{earlier}` and to `{}`", step.from, step.to));
        }
        if let Some(earlier) = places.insert(&step.to, &step.from) {
            return Err(format!("`{earlier}` and `{}` are both renamed to `{}`", step.from, step.to));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(from: &str, to: &str) -> Rename {
        Rename { from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn a_path_moves_to_exactly_its_new_path() {
        let step = rename("dist", "/static/app/").whole("dist");
        assert_eq!((step.from.as_str(), step.to.as_str()), ("dist", "static/app"));
    }

    #[test]
    fn globbed_files_keep_their_names_in_the_new_directory() {
        let fonts = rename("**/*.woff2", "fonts");
        assert!(is_glob(&fonts.from));
        assert_eq!(fonts.to_directory("pkg/files/inter.woff2").to, "fonts/inter.woff2");
        assert_eq!(rename("a/*", "").to_directory("a/b").to, "b");
    }

    #[test]
    fn two_files_cannot_have_one_place() {
        let fonts = rename("**/*.woff2", "fonts");
        let clash = [fonts.to_directory("a/x.woff2"), fonts.to_directory("b/x.woff2")];
        assert_eq!(
            check(&clash).expect_err("a clash"),
            "`a/x.woff2` and `b/x.woff2` are both renamed to `fonts/x.woff2`"
        );
    }

    #[test]
    fn one_file_cannot_have_two_places() {
        let twice = [rename("a", "b").whole("a"), rename("a", "c").whole("a")];
        assert_eq!(check(&twice).expect_err("a clash"), "`a` is renamed twice, to `b` and to `c`");
    }

    #[test]
    fn names_can_be_swapped() {
        assert_eq!(check(&[rename("a", "b").whole("a"), rename("b", "a").whole("b")]), Ok(()));
    }
}
