//! What a rename means for a path. Plain data: knows nothing of trees.

use std::collections::BTreeMap;

use pipe_sdk::{Deserialize, JsonSchema};

/// One `rename`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
pub(crate) struct Rename {
    /// A file or a directory, or a glob of files.
    #[schemars(extend("if" = { "pattern": r"[*?\[{]" }, "then" = { "format": "glob" }))]
    pub(crate) from: String,
    /// Its new path; for a glob, the directory that the files go under, as they are below the part without wildcards.
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

    /// Moves `path`, which the glob matched, under `to`; it keeps what follows the part of the glob that is a plain path.
    pub(crate) fn below(&self, path: &str) -> Move {
        let fixed = self.from.trim_matches('/').split('/').take_while(|part| !is_glob(part)).count();
        let parts = path.split('/').skip(fixed);
        let to: Vec<&str> = self.to.split('/').filter(|part| !part.is_empty()).chain(parts).collect();
        Move { rename: self.clone(), from: path.to_owned(), to: to.join("/") }
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
    fn globbed_files_stay_as_they_are_below_the_plain_part() {
        let fonts = rename("pkg/files/**/*.woff2", "/fonts/");
        assert!(is_glob(&fonts.from));
        assert_eq!(fonts.below("pkg/files/inter.woff2").to, "fonts/inter.woff2");
        assert_eq!(fonts.below("pkg/files/a/inter.woff2").to, "fonts/a/inter.woff2");
        assert_eq!(rename("a/*", "").below("a/b").to, "b");
        assert_eq!(rename("*.css", "css").below("a.css").to, "css/a.css");
    }

    #[test]
    fn two_files_cannot_have_one_place() {
        let clash = [rename("a/*", "fonts").below("a/x.woff2"), rename("b/*", "fonts").below("b/x.woff2")];
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
