//! Which file of a project locks its packages, and what those packages mean for a pipeline.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::project::{join, pyproject};

/// Locks, those that say the most first.
const LOCKS: &[&str] = &["uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "requirements.txt"];
/// Requirements under other names, those for production first.
const REQUIREMENTS: &[&str] = &[
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/deploy.txt",
    "requirements/requirements.txt",
    "requirements/base.txt",
    "requirements/common.txt",
    "requirements/main.txt",
    "requirements/default.txt",
    "requirements-prod.txt",
    "requirements-production.txt",
    "requirements_prod.txt",
    "requirements.in",
    "reqs.txt",
];
/// What is resolved where there is no lock at all.
const UNLOCKED: &[&str] = &["Pipfile", "pyproject.toml"];
/// What people call the group of packages that only production needs.
const PRODUCTION: &[&str] = &["prod", "production", "deploy", "deployment", "server"];
/// What people call the group of the project's own packages, where there is no `[project]` to hold them.
const OWN: &[&str] = &["main", "default", "base", "app", "runtime"];
/// The public index, which every pipeline uses that names no other.
const PYPI: &str = "https://pypi.org/simple";
/// What the public index was called, and what old requirements still call it.
const OLD_PYPI: &str = "https://pypi.python.org/";
/// Packages that serve an application, those of WSGI first.
const SERVERS: &[&str] = &["gunicorn", "uwsgi", "waitress", "granian", "uvicorn", "daphne", "hypercorn"];

/// What packages that are built here need of the system: the package, at run time, and beyond that to build.
const SYSTEM: &[(&str, &[&str], &[&str])] = &[
    ("psycopg2", &["libpq5"], &["gcc", "libpq-dev"]),
    ("psycopg-c", &["libpq5"], &["gcc", "libpq-dev"]),
    ("mysqlclient", &["libmariadb3"], &["gcc", "libmariadb-dev", "pkg-config"]),
    ("python-ldap", &["libldap-2.5-0", "libsasl2-2"], &["gcc", "libldap2-dev", "libsasl2-dev"]),
    ("uwsgi", &[], &["gcc"]),
    ("weasyprint", &["libpango-1.0-0", "libpangoft2-1.0-0"], &[]),
    ("python-magic", &["libmagic1"], &[]),
];

/// What is known of a project's packages.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a line of the pipeline says by itself")]
pub(super) struct Packages {
    /// The directory that the lock is in, relative to the top.
    pub(super) root: String,
    /// The lock, relative to `root`.
    pub(super) lock: Option<String>,
    /// Whether the lock is the only one, so that it need not be named.
    pub(super) is_obvious: bool,
    /// Whether the file leaves versions open, so that it is resolved on the first run.
    pub(super) is_open: bool,
    /// Whether a package is a commit of a repository.
    pub(super) has_git: bool,
    /// Groups and extras for production.
    pub(super) groups: Vec<String>,
    pub(super) extras: Vec<String>,
    /// Whether the project must be installed to be imported: its code is in `src`, beside `manage.py`.
    pub(super) is_installed: bool,
    /// A server that must be added because there is none.
    pub(super) server: Option<&'static str>,
    /// Indexes that the requirements name: the main one, and others.
    pub(super) index: Option<String>,
    pub(super) extra_indexes: Vec<String>,
    /// Packages of the system that are needed, and why.
    pub(super) system: Vec<&'static str>,
    pub(super) build_system: Vec<&'static str>,
    pub(super) because: Vec<&'static str>,
}

impl Packages {
    /// Looks at the directory of `manage.py` and at those around it, up to the top of the project.
    pub(super) fn find(dir: &Path, directory: &str) -> Self {
        let roots = Path::new(directory).ancestors().filter_map(Path::to_str);
        let roots: Vec<&str> = roots.chain((directory.is_empty()).then_some("")).collect();
        let present = |files: &[&str], root: &str| -> Vec<String> {
            files.iter().filter(|file| dir.join(root).join(file).is_file()).map(|&file| file.to_owned()).collect()
        };
        for files in [LOCKS, REQUIREMENTS, UNLOCKED] {
            for root in &roots {
                let found = present(files, root);
                if let Some(lock) = found.first() {
                    let is_obvious = found.len() == 1 && files != REQUIREMENTS;
                    return Self::of(dir, root, lock, is_obvious);
                }
            }
        }
        Self { server: Some("gunicorn"), ..Self::default() }
    }

    fn of(dir: &Path, root: &str, lock: &str, is_obvious: bool) -> Self {
        let at = dir.join(root);
        let mut texts = Vec::new();
        read_with_includes(&at.join(lock), &mut texts, &mut BTreeSet::new());
        let is_requirements = is_requirements(Path::new(lock));
        let is_open = UNLOCKED.contains(&lock) || is_requirements && !texts.iter().any(|text| text.contains("--hash="));
        let mut packages = Self {
            root: root.to_owned(),
            lock: Some(lock.to_owned()),
            is_obvious,
            is_open,
            has_git: texts
                .iter()
                .any(|text| ["git+", "git = \"", "\"git\":", "type = \"git\""].iter().any(|mark| text.contains(mark))),
            server: server(dir, &texts),
            ..Self::default()
        };
        if is_requirements {
            packages.find_indexes(&texts);
        } else {
            packages.find_groups(&pyproject(&at));
        }
        packages.find_system(&texts);
        packages.is_installed = pyproject(&at).get("build-system").is_some()
            && !at.join("src/manage.py").is_file()
            && holds_package(&at.join("src"));
        packages
    }

    fn find_indexes(&mut self, texts: &[String]) {
        for line in texts.iter().flat_map(|text| text.lines()).map(str::trim) {
            let value = |options: &[&str]| {
                let rest = options.iter().find_map(|option| line.strip_prefix(option))?;
                let value = rest.trim_start_matches(['=', ' ']).split_whitespace().next()?;
                value.contains("://").then(|| value.to_owned())
            };
            if let Some(url) = value(&["--index-url", "-i "]) {
                self.index = match url {
                    url if url.starts_with("https://pypi.org/") => None,
                    url if url.starts_with(OLD_PYPI) => Some(PYPI.to_owned()),
                    url => Some(url),
                };
            } else if let Some(url) = value(&["--extra-index-url"]) {
                self.extra_indexes.push(url);
            }
        }
    }

    fn find_groups(&mut self, pyproject: &toml::Value) {
        let table = |path: &[&str]| {
            path.iter().try_fold(pyproject, |value, key| value.get(key)).and_then(toml::Value::as_table)
        };
        let named = |path: &[&str], known: &[&str]| -> Vec<String> {
            let names = table(path).into_iter().flat_map(|table| table.keys());
            names.filter(|name| known.contains(&name.as_str())).cloned().collect()
        };
        self.groups = named(&["dependency-groups"], PRODUCTION);
        if table(&["project"]).is_none() && table(&["tool", "poetry"]).is_none() {
            self.groups.extend(named(&["dependency-groups"], OWN));
        }
        self.groups.extend(named(&["tool", "poetry", "group"], PRODUCTION));
        self.extras = named(&["project", "optional-dependencies"], PRODUCTION);
        self.extras.extend(named(&["tool", "poetry", "extras"], PRODUCTION));
    }

    fn find_system(&mut self, texts: &[String]) {
        for (package, system, build) in SYSTEM {
            if texts.iter().any(|text| names_package(text, package)) {
                self.because.push(package);
                self.system.extend(*system);
                self.build_system.extend(*build);
            }
        }
        for list in [&mut self.system, &mut self.build_system] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// Whether a package of Python is in a directory.
fn holds_package(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.join("__init__.py").is_file())
}

/// The server to add where the lock has none.
fn server(dir: &Path, texts: &[String]) -> Option<&'static str> {
    if texts.iter().any(|text| SERVERS.iter().any(|server| names_package(text, server))) {
        return None;
    }
    let has = |name: &str| {
        let files = super::project::python_files(dir, 3);
        files.iter().any(|file| file.file_name().is_some_and(|found| found == name))
    };
    Some(if has("asgi.py") && !has("wsgi.py") { "uvicorn" } else { "gunicorn" })
}

fn is_requirements(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt" || extension == "in")
}

/// The texts of a file and of those that it includes.
fn read_with_includes(path: &Path, texts: &mut Vec<String>, seen: &mut BTreeSet<PathBuf>) {
    if !seen.insert(path.to_owned()) {
        return;
    }
    let Ok(text) = fs::read_to_string(path) else { return };
    let includes = text.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("--requirement").or_else(|| line.trim().strip_prefix("-r"))?;
        Some(rest.trim_start_matches(['=', ' ']).split_whitespace().next()?.to_owned())
    });
    if is_requirements(path) {
        for include in includes.collect::<Vec<_>>() {
            read_with_includes(&path.parent().unwrap_or(Path::new("")).join(include), texts, seen);
        }
    }
    texts.push(text);
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

/// The directory of the lock as `python-lock` wants it said.
pub(super) fn lock_path(packages: &Packages) -> Option<String> {
    packages.lock.as_ref().map(|lock| join(&packages.root, lock))
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
