//! Which packages an environment would hold: as `python-lock` reads the lock, or else by the texts that name them.

use std::path::Path;

use python_packaging::lock::{Origin, Package};
use python_packaging::locks::Question;
use python_packaging::requirement::Requirement;

/// What is known of an environment before it is made.
#[derive(Debug)]
pub(super) enum Held {
    /// Each package of a lock, for the wanted groups and extras.
    Exactly(Vec<Package>),
    /// What names packages, where versions are left open or the lock is refused.
    Named(Vec<String>),
}

impl Held {
    /// What the lock of a project gives, or else its texts.
    pub(super) fn of(dir: &Path, question: &Question, texts: &[String]) -> Self {
        crate::lock::locked(dir, question).map_or_else(|| Self::Named(texts.to_vec()), Self::Exactly)
    }

    /// Whether a package is there.
    pub(super) fn has(&self, package: &str) -> bool {
        match self {
            Self::Exactly(packages) => packages.iter().any(|held| held.name == package),
            Self::Named(texts) => texts.iter().any(|text| names_package(text, package)),
        }
    }

    /// Whether one of some packages is there.
    pub(super) fn has_any(&self, packages: &[&str]) -> bool {
        packages.iter().any(|package| self.has(package))
    }

    /// Whether a package is surely there in a version that a requirement allows.
    pub(super) fn has_version(&self, requirement: &str) -> bool {
        let (Self::Exactly(packages), Ok(wanted)) = (self, requirement.parse::<Requirement>()) else { return false };
        let is_wanted = |version: &String| version.parse().is_ok_and(|version| wanted.versions.contains(&version));
        packages.iter().any(|held| held.name == wanted.name && held.version.as_ref().is_some_and(is_wanted))
    }

    /// Whether a package is surely built of its sources.
    pub(super) fn has_sources(&self) -> bool {
        match self {
            Self::Exactly(packages) => packages.iter().any(|held| matches!(held.origin, Origin::Sdist(_))),
            Self::Named(_) => false,
        }
    }

    /// Whether a package is a commit of a repository.
    pub(super) fn has_commit(&self) -> bool {
        match self {
            Self::Exactly(packages) => packages.iter().any(|held| matches!(held.origin, Origin::Git(_))),
            Self::Named(texts) => {
                let marks = ["git+", "git = \"", "\"git\":", "type = \"git\""];
                texts.iter().any(|text| marks.iter().any(|mark| text.contains(mark)))
            }
        }
    }
}

/// Whether a lock or a list of requirements names a package, in whatever format.
fn names_package(text: &str, package: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim().to_lowercase().replace('_', "-");
        let line = line.strip_prefix("name = ").unwrap_or(&line).trim_start_matches(['"', '\'', '-', ' ']);
        line.strip_prefix(package).is_some_and(|rest| {
            !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || matches!(next, '-' | '.'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_found_in_every_format() {
        let texts = [
            "[[package]]\nname = \"gunicorn\"\nversion",
            "gunicorn==23.0 \\\n  --hash",
            "  \"gunicorn\": {",
            "Gunicorn[gevent]>=20",
            "    \"gunicorn>=23\",",
            "gunicorn",
        ];
        for text in texts {
            assert!(names_package(text, "gunicorn"), "{text}");
        }
        for text in ["gunicorn-color==1", "# gunicorn", "my-gunicorn", "# via gunicorn"] {
            assert!(!names_package(text, "gunicorn"), "{text}");
        }
        assert!(!names_package("psycopg2-binary==2.9", "psycopg2"));
    }
}
