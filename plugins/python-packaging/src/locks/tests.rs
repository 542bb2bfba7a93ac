//! Every format and every refusal, asked as the step asks.

mod anything;
mod choice;
mod pipfile;
mod poetry;
mod pylock;
mod requirements;
mod uv;

use std::collections::BTreeMap;

use crate::files::Files;
use crate::lock::{Origin, Package};
use crate::problem::Problem;

use crate::locks::{Answer, Question};

/// Files that are held in memory; a digest is the content itself.
struct Memory(BTreeMap<String, String>);

impl Files for Memory {
    type Error = Problem;

    fn read(&self, path: &str) -> Result<Option<String>, Problem> {
        Ok(self.0.get(path).cloned())
    }

    fn digest(&self, path: &str) -> Result<Option<String>, Problem> {
        Ok(self.0.get(path).map(|text| format!("blake3:{text}")))
    }

    fn exists(&self, path: &str) -> Result<bool, Problem> {
        Ok(self.0.contains_key(path))
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, Problem> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let names = self.0.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(names.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned()).collect())
    }
}

/// A project and what is asked of it.
struct Project {
    files: Memory,
    question: Question,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let question = Question {
            root: String::new(),
            path: None,
            python: "3.11".into(),
            platform: "linux-x86_64-gnu".into(),
            groups: Vec::new(),
            extras: Vec::new(),
            package: None,
            install_project: false,
        };
        Self { files: Memory(files), question }
    }

    fn ask(mut self, change: impl FnOnce(&mut Question)) -> Self {
        change(&mut self.question);
        self
    }

    fn answer(&self) -> Result<Answer, Problem> {
        self.question.answer(&self.files)
    }

    /// The packages, one a line.
    #[track_caller]
    fn lines(&self) -> Vec<String> {
        self.answer().expect("a lock").lock.packages.iter().map(line).collect()
    }

    /// The names alone.
    #[track_caller]
    fn names(&self) -> Vec<String> {
        self.answer().expect("a lock").lock.packages.into_iter().map(|package| package.name).collect()
    }

    /// The problem and its remedy.
    #[track_caller]
    fn refused(&self) -> String {
        let Problem { message, hint } = self.answer().expect_err("a problem");
        format!("{message}\n{}", hint.expect("every problem has a remedy"))
    }
}

fn line(package: &Package) -> String {
    let version = package.version.as_deref().unwrap_or("?");
    let subdirectory = |inner: &Option<String>| inner.as_ref().map_or(String::new(), |inner| format!(" in {inner}"));
    let origin = match &package.origin {
        Origin::Wheel(file) => format!("wheel {} {}{}", file.name, file.url, &file.sha256[..2]),
        Origin::Sdist(file) => {
            format!("sdist {} {}{}{}", file.name, file.url, &file.sha256[..2], subdirectory(&file.subdirectory))
        }
        Origin::Git(git) => format!("git {} {}{}", git.url, &git.commit[..4], subdirectory(&git.subdirectory)),
        Origin::Directory(directory) => format!("directory {:?}", directory.path),
        Origin::Hashes(hashes) => format!("hashes {}", hashes.join(" ")),
    };
    let formats = if package.formats.is_any() { String::new() } else { format!(" of {:?}", package.formats) };
    format!("{} {version} {origin}{formats}", package.name)
}
