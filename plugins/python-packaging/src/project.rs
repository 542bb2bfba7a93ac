//! Which file of a project says what its environment is, and whether that leaves anything to choose.

use serde::{Deserialize, Serialize};

use crate::files::{Files, join, missing};
use crate::problem::Problem;
use crate::record::{Record, Wanted};
use crate::requirements::Requirements;

/// A format, named after who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `uv.lock`
    Uv,
    /// `pylock.toml`, `pylock.NAME.toml` (PEP 751)
    Pylock,
    /// `poetry.lock`
    Poetry,
    /// `Pipfile.lock`
    PipfileLock,
    /// `requirements.txt` and the like
    Requirements,
    /// `pyproject.toml`, which locks nothing
    Pyproject,
    /// `Pipfile`, which locks nothing
    Pipfile,
}

/// The locks that are looked for, in the order in which messages name them.
const LOCKS: [(&str, Kind); 4] = [
    ("uv.lock", Kind::Uv),
    ("poetry.lock", Kind::Poetry),
    ("Pipfile.lock", Kind::PipfileLock),
    ("requirements.txt", Kind::Requirements),
];
/// What is resolved where there is no lock.
const UNLOCKED: [(&str, Kind); 2] = [("Pipfile", Kind::Pipfile), ("pyproject.toml", Kind::Pyproject)];

impl Kind {
    /// What the name of a file stands for.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let fixed = LOCKS.iter().chain(&UNLOCKED).find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        fixed.or_else(|| {
            let parts: Vec<&str> = name.split('.').collect();
            match parts.as_slice() {
                ["pylock", "toml"] | ["pylock", _, "toml"] => Some(Self::Pylock),
                [.., "txt" | "in"] => Some(Self::Requirements),
                _ => None,
            }
        })
    }
}

/// Where to look, and for what.
#[derive(Debug, Clone)]
pub struct Search {
    /// The directory that holds the Python project, relative to the top; empty for the top itself.
    pub root: String,
    /// The file that the pipeline names, relative to `root`.
    pub path: Option<String>,
    /// What the environment is for.
    pub wanted: Wanted,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file that leaves nothing to choose.
    Locked {
        /// Where it is.
        path: String,
        /// What it is.
        kind: Kind,
    },
    /// A file that must be resolved first.
    Unlocked {
        /// Where it is.
        path: String,
        /// What it is.
        kind: Kind,
        /// Where the resolved lock belongs.
        pylock: String,
        /// Why the lock that is there does not do; none where there is none.
        stale: Option<String>,
    },
}

impl Search {
    /// Finds the file: the one that the pipeline names; else a `pylock.toml` that `pipe` wrote; else the only candidate.
    pub fn find<F: Files>(&self, files: &F) -> Result<Found, F::Error> {
        if let Some(path) = &self.path {
            let full = self.within(path)?;
            if !files.exists(&full)? {
                return Err(missing(files, &full)?.into());
            }
            let kind = Kind::of(&full).ok_or_else(|| {
                Problem::new(format!("`{full}` is no lock that `pipe` knows"))
                    .hint("it reads `uv.lock`, `pylock.toml`, `poetry.lock`, `Pipfile.lock` and requirements in a `.txt` file")
            })?;
            return self.settle(files, full, kind);
        }
        let pylock = self.within("pylock.toml")?;
        let own = files.read(&pylock)?;
        if let Some(record) = own.as_deref().and_then(Record::of) {
            return match Kind::of(&record.from) {
                Some(kind) if files.exists(&record.from)? => self.settle(files, record.from, kind),
                _ => Err(Problem::new(format!("`{pylock}` was made of `{}`, which is gone", record.from))
                    .hint(format!("delete `{pylock}`, or bring `{}` back", record.from))
                    .into()),
            };
        }
        let mut candidates = if own.is_some() { vec![(pylock, Kind::Pylock)] } else { Vec::new() };
        candidates.extend(self.present(files, &LOCKS)?);
        if candidates.is_empty() {
            candidates = self.present(files, &UNLOCKED)?;
            candidates.truncate(1);
        }
        match <[_; 1]>::try_from(candidates) {
            Ok([(path, kind)]) => self.settle(files, path, kind),
            Err(none) if none.is_empty() => Err(self.nothing(files)?.into()),
            Err(several) => {
                let names: Vec<String> = several.iter().map(|(path, _)| format!("`{path}`")).collect();
                let (first, _) = &several[0];
                let first = first.strip_prefix(&format!("{}/", self.root)).unwrap_or(first);
                let problem = Problem::new(format!("several files lock this project: {}", names.join(", ")));
                Err(problem.hint(format!("name the one that counts: `config = {{ path = \"{first}\" }}`")).into())
            }
        }
    }

    /// Says whether a file is a lock; if not, whether `pipe` has resolved it.
    fn settle<F: Files>(&self, files: &F, path: String, kind: Kind) -> Result<Found, F::Error> {
        let locked = match kind {
            Kind::Pyproject | Kind::Pipfile => false,
            Kind::Requirements => Requirements::load(files, &path)?.is_locked(),
            Kind::Uv | Kind::Pylock | Kind::Poetry | Kind::PipfileLock => true,
        };
        if locked {
            return Ok(Found::Locked { path, kind });
        }
        for name in ["pylock.toml".to_owned(), format!("pylock.{}.toml", stem(&path))] {
            let pylock = self.within(&name)?;
            let Some(text) = files.read(&pylock)? else {
                return Ok(Found::Unlocked { path, kind, pylock, stale: None });
            };
            // What `pipe` did not write, or wrote for another file, is left alone: the next name is tried.
            let Some(record) = Record::of(&text).filter(|record| record.from == path) else { continue };
            return Ok(match record.stale(files, &self.wanted)? {
                None => Found::Locked { path: pylock, kind: Kind::Pylock },
                stale => Found::Unlocked { path, kind, pylock, stale },
            });
        }
        let taken = format!("pylock.{}.toml", stem(&path));
        Err(Problem::new(format!(
            "`{path}` must be resolved, and `pylock.toml` and `{taken}` are not `pipe`'s to write"
        ))
        .hint(format!("delete or rename `{taken}`, or let `config = {{ path = … }}` name the lock that counts"))
        .into())
    }

    fn present<F: Files>(&self, files: &F, names: &[(&str, Kind)]) -> Result<Vec<(String, Kind)>, F::Error> {
        let mut present = Vec::new();
        for (name, kind) in names {
            let path = self.within(name)?;
            if files.exists(&path)? {
                present.push((path, *kind));
            }
        }
        Ok(present)
    }

    fn nothing<F: Files>(&self, files: &F) -> Result<Problem, F::Error> {
        let place = if self.root.is_empty() { "the project".to_owned() } else { format!("`{}`", self.root) };
        let mut like = Vec::new();
        for directory in ["", "requirements"] {
            let names = files.names(&self.within(directory)?)?;
            let names = names.iter().filter(|name| {
                Kind::of(name) == Some(Kind::Requirements) && (!directory.is_empty() || name.contains("requirement"))
            });
            like.extend(names.filter_map(|name| join(directory, name)));
        }
        like.sort();
        let problem = Problem::new(format!(
            "nothing in {place} says which packages it needs: no `uv.lock`, `pylock.toml`, `poetry.lock`, `Pipfile.lock`, \
             `requirements.txt`, `Pipfile` or `pyproject.toml`"
        ));
        Ok(match like.first() {
            Some(_) => problem.hint(format!(
                "name the file: `config = {{ path = … }}` with one of {}",
                like.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
            )),
            None => problem.hint("name the file with `config = { path = … }`, or its directory with `root = …`"),
        })
    }

    fn within(&self, path: &str) -> Result<String, Problem> {
        join(&self.root, path).ok_or_else(|| {
            Problem::new(format!("`{path}` is outside of the project"))
                .hint("write it relative to the project's directory")
        })
    }
}

/// The name of a file without its last suffix, as PEP 751 allows it in the name of a lock.
fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Memory;

    const LOCKED: &str = "django==5.2 --hash=sha256:00";

    fn search(path: Option<&str>) -> Search {
        let wanted = Wanted {
            python: "3.11".into(),
            platform: "linux-x86_64-gnu".into(),
            groups: Vec::new(),
            extras: Vec::new(),
        };
        Search { root: String::new(), path: path.map(str::to_owned), wanted }
    }

    fn find(path: Option<&str>, files: &[(&'static str, &'static str)]) -> Result<Found, Problem> {
        search(path).find(&Memory::new(files))
    }

    fn found(path: Option<&str>, files: &[(&'static str, &'static str)]) -> Found {
        find(path, files).expect("a file")
    }

    fn locked(path: &str, kind: Kind) -> Found {
        Found::Locked { path: path.into(), kind }
    }

    fn unlocked(path: &str, kind: Kind, pylock: &str, stale: Option<&str>) -> Found {
        Found::Unlocked { path: path.into(), kind, pylock: pylock.into(), stale: stale.map(str::to_owned) }
    }

    /// What `pipe` would have written for a `requirements.txt` that says `django`: [`Memory`]'s digests are the contents.
    const OWN: &str = "[tool.pipe]\nfrom = 'requirements.txt'\npython = '3.11'\nplatform = 'linux-x86_64-gnu'\n\
                       sources = [{ path = 'requirements.txt', blake3 = 'django' }]\n";

    #[test]
    fn the_only_candidate_is_taken() {
        assert_eq!(found(None, &[("uv.lock", ""), ("pyproject.toml", "")]), locked("uv.lock", Kind::Uv));
        assert_eq!(found(None, &[("pylock.toml", "")]), locked("pylock.toml", Kind::Pylock));
        assert_eq!(found(None, &[("requirements.txt", LOCKED)]), locked("requirements.txt", Kind::Requirements));
    }

    #[test]
    fn what_is_not_locked_wants_a_pylock_beside_it() {
        let files = [("requirements.txt", "django")];
        assert_eq!(found(None, &files), unlocked("requirements.txt", Kind::Requirements, "pylock.toml", None));
        let files = [("pyproject.toml", ""), ("req/prod.txt", "-r base.txt"), ("req/base.txt", "django")];
        assert_eq!(found(None, &files), unlocked("pyproject.toml", Kind::Pyproject, "pylock.toml", None));
        assert_eq!(
            found(Some("req/prod.txt"), &files),
            unlocked("req/prod.txt", Kind::Requirements, "pylock.toml", None)
        );
    }

    #[test]
    fn a_pylock_of_our_own_wins_while_it_fits() {
        let files = [("pylock.toml", OWN), ("requirements.txt", "django"), ("uv.lock", "")];
        assert_eq!(found(None, &files), locked("pylock.toml", Kind::Pylock));
        assert_eq!(found(Some("uv.lock"), &files), locked("uv.lock", Kind::Uv));
        let files = [("pylock.toml", OWN), ("requirements.txt", "django>5")];
        let why = Some("`requirements.txt` has changed since");
        assert_eq!(found(None, &files), unlocked("requirements.txt", Kind::Requirements, "pylock.toml", why));
    }

    #[test]
    fn a_pylock_for_another_python_is_stale() {
        let mut search = search(None);
        search.wanted.python = "3.12".into();
        let found = search.find(&Memory::new(&[("pylock.toml", OWN), ("requirements.txt", "django")])).expect("found");
        let Found::Unlocked { stale, .. } = found else { panic!("it is stale") };
        assert_eq!(stale.as_deref(), Some("it was made for Python `3.11`, and `3.12` is wanted"));
    }

    #[test]
    fn a_pylock_of_somebody_else_is_never_taken_over() {
        let files = [("pylock.toml", "lock-version = '1.0'"), ("requirements/dev.txt", "django")];
        let expected = unlocked("requirements/dev.txt", Kind::Requirements, "pylock.dev.toml", None);
        assert_eq!(found(Some("requirements/dev.txt"), &files), expected);
        let files = [("pylock.toml", ""), ("pylock.dev.toml", ""), ("dev.txt", "django")];
        let problem = find(Some("dev.txt"), &files).expect_err("taken");
        assert!(problem.message.contains("`pylock.dev.toml` are not `pipe`'s"), "{problem}");
    }

    #[test]
    fn several_candidates_are_named() {
        let problem =
            find(None, &[("uv.lock", ""), ("requirements.txt", ""), ("pylock.toml", "")]).expect_err("several");
        assert_eq!(problem.message, "several files lock this project: `pylock.toml`, `uv.lock`, `requirements.txt`");
        assert_eq!(problem.hint.as_deref(), Some("name the one that counts: `config = { path = \"pylock.toml\" }`"));
    }

    #[test]
    fn a_misspelt_file_is_met_with_the_nearest_names() {
        let problem = find(Some("requirments.txt"), &[("requirements.txt", "")]).expect_err("missing");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `requirements.txt`?"));
        let problem = find(Some("setup.cfg"), &[("setup.cfg", "")]).expect_err("unknown");
        assert_eq!(problem.message, "`setup.cfg` is no lock that `pipe` knows");
    }

    #[test]
    fn a_project_that_says_nothing_is_told_what_would_do() {
        let problem = find(None, &[("requirements/base.txt", ""), ("requirements-dev.txt", "")]).expect_err("nothing");
        assert_eq!(
            problem.hint.as_deref(),
            Some("name the file: `config = { path = … }` with one of `requirements-dev.txt`, `requirements/base.txt`")
        );
    }
}
