//! The pipeline of a project that has none: what `pipe init` writes, and what `pipe run` uses where there is no file.
//!
//! It is found out by reading the project's files, never by running them. What it says of a project is a best guess, written
//! down where the user can see and change it.

mod configurations;
mod frontend;
mod held;
mod ignored;
mod machine;
mod messages;
mod packages;
mod procfile;
mod project;
mod python;
mod scripts;
mod settings;
mod taken_over;
mod variables;
mod write;

use std::path::{Path, PathBuf};

use machine::Machine;
use project::Project;

/// Why there is no pipeline for a directory.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// No Django project.
    #[error("no `manage.py` of Django in `{}`", .0.display())]
    NotDjango(PathBuf),
    /// More than one, none nearer to the top than the others.
    #[error("several Django projects in `{}`: {}", .dir.display(), crate::diagnostic::quoted(.found.iter().map(String::as_str)))]
    Several {
        /// Where they were looked for.
        dir: PathBuf,
        /// Each `manage.py`.
        found: Vec<String>,
    },
}

impl InitError {
    /// What a user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotDjango(_) => {
                "run it in the directory of a Django project, or write a pipeline file and name it: `pipe run FILE`"
                    .to_owned()
            }
            Self::Several { .. } => "run it in the directory of one of them".to_owned(),
        }
    }
}

/// The text of a pipeline for the Django project in a directory, with staging and production on this machine.
pub fn default_for(dir: &Path) -> Result<String, InitError> {
    default_on(dir, &Machine::this())
}

fn default_on(dir: &Path, machine: &Machine) -> Result<String, InitError> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    Ok(write::text(&Project::find(&dir, machine)?))
}

#[cfg(test)]
mod tests;
