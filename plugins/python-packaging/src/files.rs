//! A project's files, wherever they are: in a tree of the store or on a disk.

use crate::problem::Problem;

/// The files of a project. Paths are relative to its top, `/`-separated and normalised.
pub trait Files {
    /// What goes wrong while reading.
    type Error: From<Problem>;

    /// The text at `path`; none where there is no file.
    fn read(&self, path: &str) -> Result<Option<String>, Self::Error>;

    /// The digest of the file at `path` (`blake3:<hex>`); none where there is no file.
    fn digest(&self, path: &str) -> Result<Option<String>, Self::Error>;

    /// Whether there is a file at `path`.
    fn exists(&self, path: &str) -> Result<bool, Self::Error>;

    /// The names in a directory, for the help in an error.
    fn names(&self, directory: &str) -> Result<Vec<String>, Self::Error>;
}

/// The path that `relative` means in `directory`; none where it is absolute or leaves the project.
pub fn join(directory: &str, relative: &str) -> Option<String> {
    if relative.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(relative.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The directory that holds `path`.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The problem of a file that is not there, with the nearest names that are.
pub fn missing<F: Files>(files: &F, path: &str) -> Result<Problem, F::Error> {
    let directory = parent(path);
    let near = nearest(path.rsplit('/').next().unwrap_or(path), files.names(directory)?);
    let problem = Problem::new(format!("there is no file `{path}` in the project"));
    let paths: Vec<String> =
        near.iter().filter_map(|name| join(directory, name)).map(|path| format!("`{path}`")).collect();
    Ok(if paths.is_empty() {
        problem.hint("check the spelling, and that the file is not ignored by `.gitignore` or `.pipeignore`")
    } else {
        problem.hint(format!("did you mean {}?", paths.join(" or ")))
    })
}

/// The at most three of `names` that are like `name`, the nearest first.
pub fn nearest(name: &str, names: Vec<String>) -> Vec<String> {
    let limit = (name.len() / 3).max(2);
    let mut near: Vec<(usize, String)> =
        names.into_iter().map(|other| (distance(name, &other), other)).filter(|(far, _)| *far <= limit).collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let kept = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files that are held in memory.
    pub(crate) struct Memory(pub BTreeMap<&'static str, &'static str>);

    impl Memory {
        pub(crate) fn new(files: &[(&'static str, &'static str)]) -> Self {
            Self(files.iter().copied().collect())
        }
    }

    impl Files for Memory {
        type Error = Problem;

        fn read(&self, path: &str) -> Result<Option<String>, Problem> {
            Ok(self.0.get(path).map(|text| (*text).to_owned()))
        }

        fn digest(&self, path: &str) -> Result<Option<String>, Problem> {
            Ok(self.0.get(path).map(|text| format!("blake3:{text}")))
        }

        fn exists(&self, path: &str) -> Result<bool, Problem> {
            Ok(self.0.contains_key(path))
        }

        fn names(&self, directory: &str) -> Result<Vec<String>, Problem> {
            let in_it = self.0.keys().filter(|path| parent(path) == directory);
            Ok(in_it.filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect())
        }
    }

    #[test]
    fn paths_stay_in_the_project() {
        assert_eq!(join("a/b", "../c.txt").as_deref(), Some("a/c.txt"));
        assert_eq!(join("", "./x//y").as_deref(), Some("x/y"));
        assert_eq!(join("a", "../../x"), None);
        assert_eq!(join("a", "/x"), None);
    }

    #[test]
    fn the_nearest_names_are_suggested() {
        let files = Memory::new(&[("req/prod.txt", ""), ("req/dev.txt", ""), ("prod.txt", "")]);
        let problem = missing(&files, "req/prd.txt").expect("a problem");
        assert_eq!(problem.message, "there is no file `req/prd.txt` in the project");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `req/prod.txt`?"));
    }
}
