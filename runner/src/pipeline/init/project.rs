//! What a Django project consists of: where its `manage.py` is, its name, and what the other modules here find out.

use std::fs;
use std::path::{Path, PathBuf};

use super::frontend::{FrontEnd, Part};
use super::machine::Machine;
use super::packages::Packages;
use super::procfile::Procfile;
use super::python::Python;
use super::settings::Settings;
use super::{InitError, frontend, ignored, messages, python};
use crate::pipeline::units;

/// Directories that hold no project of the user's own, beside hidden ones.
const FOREIGN: &[&str] = &["node_modules", "site-packages", "venv", "env", "docs", "doc", "tests", "test"];
/// How far below the top a `manage.py` is looked for.
const DEPTH: usize = 2;

/// What is known of a project. Paths are relative to its top, `""` for the top itself.
pub(super) struct Project {
    /// A name that a pipeline can carry.
    pub(super) name: String,
    /// The directory of `manage.py`.
    pub(super) directory: String,
    pub(super) python: Python,
    pub(super) packages: Packages,
    pub(super) settings: Settings,
    pub(super) front_end: Option<FrontEnd>,
    /// Where there is no front end with a lock of npm: the directory and the name of another package manager's.
    pub(super) foreign_lock: Option<(String, &'static str)>,
    /// Whether translations are to be compiled, and can be.
    pub(super) messages: Option<Messages>,
    pub(super) procfile: Procfile,
    /// Directories that `.gitignore` leaves out and that must have been committed all the same.
    pub(super) kept: Vec<String>,
    /// Python files that `.gitignore` leaves out and that are written by hand, each with its example.
    pub(super) by_hand: Vec<(String, String)>,
}

/// Where the program is that compiles translations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Messages {
    /// On this machine.
    Here,
    /// Not where a step would see it.
    Missing,
}

impl Project {
    /// Whether a step compiles translations.
    pub(super) fn compiles_messages(&self) -> bool {
        self.messages == Some(Messages::Here)
    }

    /// What of the front end the pipeline takes.
    pub(super) fn part(&self) -> Part {
        self.front_end.as_ref().map_or(Part::Nothing, |found| found.part(self.settings.uses_node_modules))
    }

    pub(super) fn find(dir: &Path, machine: &Machine) -> Result<Self, InitError> {
        let directory = manage(dir)?;
        let at = dir.join(&directory);
        let mut packages = Packages::find(dir, &directory);
        let python = python::find(dir, &packages.root, packages.python, &machine.pythons);
        packages.settle(dir, &python.version, python.suite());
        let settings = Settings::find(&at);
        let front_end = FrontEnd::find(dir, &directory, &settings.texts, &machine.node(python.is_here));
        let foreign_lock = if front_end.is_none() { frontend::foreign_lock(dir, &directory) } else { None };
        let procfile = Procfile::read(dir);
        let name = name(dir, &packages.root);
        let (kept, by_hand) = (ignored::sources(dir), ignored::by_hand(dir));
        let program = if python.is_here && machine.has_msgfmt { Messages::Here } else { Messages::Missing };
        // A package that is installed has the translations that its build gave it.
        let messages = (!packages.is_installed && messages::are_to_compile(dir)).then_some(program);
        Ok(Self {
            name,
            directory,
            python,
            packages,
            settings,
            front_end,
            foreign_lock,
            messages,
            procfile,
            kept,
            by_hand,
        })
    }
}

/// The directory of the `manage.py` that is nearest to the top.
fn manage(dir: &Path) -> Result<String, InitError> {
    let mut level = vec![String::new()];
    for _ in 0..=DEPTH {
        let is_django = |sub: &&String| {
            let script = fs::read_to_string(dir.join(sub).join("manage.py"));
            // One that only runs a module has the settings beside it.
            script.is_ok_and(|text| text.to_lowercase().contains("django") || has_settings(dir, sub))
        };
        let mut found: Vec<&String> = level.iter().filter(is_django).collect();
        match found.len() {
            0 => level = level.iter().flat_map(|sub| directories(dir, sub)).collect(),
            1 => return Ok(found.remove(0).clone()),
            _ => {
                let found = found.into_iter().map(|sub| format!("{sub}/manage.py")).collect();
                return Err(InitError::Several { dir: dir.to_owned(), found });
            }
        }
    }
    Err(InitError::NotDjango(dir.to_owned()))
}

/// Whether a package in a directory has settings.
fn has_settings(dir: &Path, sub: &str) -> bool {
    let is_there =
        |package: &String| ["settings.py", "settings"].iter().any(|name| dir.join(package).join(name).exists());
    directories(dir, sub).iter().any(is_there)
}

/// The directories in a directory that may be the project's own, in order.
pub(super) fn directories(dir: &Path, sub: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.join(sub)).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = own.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| !name.starts_with('.') && !FOREIGN.contains(&name.as_str()))
        .map(|name| join(sub, &name))
        .collect();
    names.sort();
    names
}

/// The project's own name for itself, or that of its directory.
fn name(dir: &Path, root: &str) -> String {
    let pyproject = pyproject(&dir.join(root));
    let own = |path: &[&str]| path.iter().try_fold(&pyproject, |value, key| value.get(key));
    let named = own(&["project", "name"]).or_else(|| own(&["tool", "poetry", "name"])).and_then(toml::Value::as_str);
    let directory = dir.file_name().and_then(|name| name.to_str());
    let names = named.into_iter().chain(directory);
    names.into_iter().find_map(units::as_name).unwrap_or_else(|| "app".to_owned())
}

/// `pyproject.toml`; an empty table where there is none.
pub(super) fn pyproject(dir: &Path) -> toml::Value {
    let text = fs::read_to_string(dir.join("pyproject.toml")).unwrap_or_default();
    toml::Value::Table(text.parse().unwrap_or_default())
}

/// `directory/name`, or the one of them that is not empty.
pub(super) fn join(directory: &str, name: &str) -> String {
    match (directory, name) {
        ("", name) => name.to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, name) => format!("{directory}/{name}"),
    }
}

/// Whether a file is one of Python, by its name.
pub(super) fn is_python(path: impl AsRef<Path>) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension == "py")
}

/// All Python files in a directory and below it, `depth` levels deep, in order.
pub(super) fn python_files(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') && !FOREIGN.contains(&name) {
                files.extend(python_files(&path, depth - 1));
            }
        } else if is_python(&path) {
            files.push(path);
        }
    }
    files
}
