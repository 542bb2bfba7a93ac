//! Which file of a project locks its packages, and what those packages mean for a pipeline.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use python_packaging::locks::Question;

use super::held::Held;
use super::project::{join, pyproject};
use super::python::{OfPackages, compiled_for};
use crate::pipeline::PLATFORMS;
use crate::pipeline::read::is_address;

/// A lock of the standard format, which runs write too.
const PYLOCK: &str = "pylock.toml";
/// Locks, those that say the most first.
const LOCKS: &[&str] = &["uv.lock", PYLOCK, "poetry.lock", "Pipfile.lock", "requirements.txt"];
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
/// Words in the names of the groups and extras that production does not need, as in `test-tools`; and all that starts with
/// `dev`.
const DEVELOPMENT: &[&str] = &["ci", "doc", "docs", "lint", "local", "test", "testing", "tests", "types", "typing"];
/// Packages that serve an application, those of WSGI first.
const SERVERS: &[&str] = &["gunicorn", "uwsgi", "waitress", "granian", "uvicorn", "daphne", "hypercorn"];
/// Those that run an application of WSGI.
const WSGI_SERVERS: &[&str] = &["gunicorn", "uwsgi", "waitress", "granian"];
/// Those that run an application of ASGI.
const ASGI_SERVERS: &[&str] = &["uvicorn", "granian", "daphne", "hypercorn"];

/// What packages that are built here need of the system: the package, at run time, and beyond that to build; in the words of
/// the oldest release of Debian.
const SYSTEM: &[(&str, &[&str], &[&str])] = &[
    ("psycopg2", &["libpq5"], &["gcc", "libpq-dev"]),
    ("psycopg-c", &["libpq5"], &["gcc", "libpq-dev"]),
    ("psycopg", &["libpq5"], &[]),
    ("mysqlclient", &["libmariadb3"], &["gcc", "libmariadb-dev", "pkg-config"]),
    ("python-ldap", &["libldap-2.5-0", "libsasl2-2"], &["gcc", "libldap2-dev", "libsasl2-dev"]),
    ("uwsgi", &[], &["gcc"]),
    ("weasyprint", &["libpango-1.0-0", "libpangoft2-1.0-0"], &[]),
    ("python-magic", &["libmagic1"], &[]),
];

/// What a package needs nothing of the system with, or says by itself what: others, or extras of its own.
const INSTEAD: &[(&str, &[&str])] = &[("psycopg", &["psycopg-binary", "psycopg-c", "psycopg[binary"])];

/// Packages whose sources are older than what is built with today, and what they are built with instead.
const BUILT_WITH: &[(&str, &str)] = &[("pyyaml<6.0.1", "Cython<3")];

/// Packages of the system that have another name since: the release that has the old one last, the old one and the new one.
const RENAMED: &[(&str, &str, &str)] = &[("bookworm", "libldap-2.5-0", "libldap2")];

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
    /// What they say of the version of Python.
    pub(super) python: OfPackages,
    /// Whether a package is a commit of a repository.
    pub(super) has_git: bool,
    /// Whether a package of a lock is built of its sources.
    pub(super) has_sources: bool,
    /// What sources must be built with.
    pub(super) build_constraints: Vec<&'static str>,
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
    /// The lock and what it includes.
    texts: Vec<String>,
}

/// Whether a project's container is installed with what uv takes by default: some applications import what is in the group `dev`.
fn installs_dev(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join("Dockerfile")).unwrap_or_default().replace("\\\n", " ");
    let mut syncs = text.lines().filter(|line| line.contains("uv sync")).peekable();
    let chooses = |line: &str| ["--no-dev", "--no-default-groups", "--only-"].iter().any(|word| line.contains(word));
    syncs.peek().is_some() && !syncs.any(chooses) && !text.contains("UV_NO_D")
}

impl Packages {
    /// Looks at the directory of `manage.py` and at those around it, up to the top of the project.
    pub(super) fn find(dir: &Path, directory: &str) -> Self {
        let roots = Path::new(directory).ancestors().filter_map(Path::to_str);
        let roots: Vec<&str> = roots.chain((directory.is_empty()).then_some("")).collect();
        let present = |files: &[&str], root: &str| -> Vec<String> {
            let is_there = |path: &Path| path.is_file() && !is_of_a_run(path);
            files.iter().filter(|file| is_there(&dir.join(root).join(file))).map(|&file| file.to_owned()).collect()
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
        let python = OfPackages {
            least: texts.iter().flat_map(|text| text.lines()).find_map(least_python),
            compiled: texts.iter().filter_map(|text| compiled_for(text)).max(),
        };
        let mut packages =
            Self { root: root.to_owned(), lock: Some(lock.to_owned()), is_obvious, is_open, python, ..Self::default() };
        if is_requirements {
            packages.find_indexes(&texts);
        } else {
            let project = pyproject(&at);
            packages.find_groups(&project);
            let has_dev = project.get("dependency-groups").is_some_and(|groups| groups.get("dev").is_some());
            if has_dev && lock == "uv.lock" && [dir, &at].into_iter().any(installs_dev) {
                packages.groups.push("dev".to_owned());
            }
        }
        packages.is_installed = pyproject(&at).get("build-system").is_some()
            && !at.join("src/manage.py").is_file()
            && holds_package(&at.join("src"));
        packages.texts = texts;
        packages
    }

    /// Finds out what the environment will hold on a version of Python, and what that needs.
    pub(super) fn settle(&mut self, dir: &Path, python: &str, suite: Option<&str>) {
        if self.lock.is_none() {
            return;
        }
        let mut held = Held::of(dir, &self.question(python), &self.texts);
        let servers = servers(dir);
        if !held.has_any(servers) {
            match self.with_server(dir, python, servers) {
                Some((question, with_server)) => {
                    (self.groups, self.extras, held) = (question.groups, question.extras, with_server);
                }
                None => self.server = servers.first().copied(),
            }
        }
        self.has_git = held.has_commit();
        self.has_sources = held.has_sources();
        let built_with = BUILT_WITH.iter().filter(|(old, _)| held.has_version(old));
        self.build_constraints = built_with.map(|(_, constraint)| *constraint).collect();
        self.find_system(&held, suite);
    }

    /// What `python-lock` will be asked.
    fn question(&self, python: &str) -> Question {
        Question {
            root: self.root.clone(),
            path: self.lock.clone(),
            python: python.to_owned(),
            platform: PLATFORMS[0].to_owned(),
            groups: self.groups.clone(),
            extras: self.extras.clone(),
            package: None,
            install_project: self.is_installed,
        }
    }

    /// The group or the extra that brings a server, where the project keeps its own in one.
    fn with_server(&self, dir: &Path, python: &str, servers: &[&str]) -> Option<(Question, Held)> {
        let pyproject = pyproject(&dir.join(&self.root));
        let names = |path: &[&str]| {
            let names: Vec<String> =
                table(&pyproject, path).into_iter().flat_map(|table| table.keys().cloned()).collect();
            let is_needed =
                |name: &str| !name.starts_with("dev") && !name.split(['-', '_']).any(|it| DEVELOPMENT.contains(&it));
            names.into_iter().filter(move |name| is_needed(name))
        };
        let groups = names(&["dependency-groups"]).chain(names(&["tool", "poetry", "group"]));
        let extras = names(&["project", "optional-dependencies"]).chain(names(&["tool", "poetry", "extras"]));
        let with_group = groups.map(|name| {
            let mut question = self.question(python);
            question.groups.push(name);
            question
        });
        let with_extra = extras.map(|name| {
            let mut question = self.question(python);
            question.extras.push(name);
            question
        });
        with_group.chain(with_extra).find_map(|question| {
            let held = Held::of(dir, &question, &[]);
            held.has_any(servers).then_some((question, held))
        })
    }

    fn find_indexes(&mut self, texts: &[String]) {
        for line in texts.iter().flat_map(|text| text.lines()).map(str::trim) {
            let value = |options: &[&str]| {
                let rest = options.iter().find_map(|option| line.strip_prefix(option))?;
                let value = rest.trim_start_matches(['=', ' ']).split_whitespace().next()?;
                is_address(value).then(|| value.to_owned())
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
        let table = |path: &[&str]| table(pyproject, path);
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

    fn find_system(&mut self, held: &Held, suite: Option<&str>) {
        let today = |name: &&'static str| {
            let renamed =
                RENAMED.iter().find(|(last, old, _)| old == name && suite.is_some_and(|suite| suite != *last));
            renamed.map_or(*name, |(_, _, new)| new)
        };
        let brings = |package: &str| INSTEAD.iter().any(|(of, others)| *of == package && held.has_any(others));
        for (package, system, build) in SYSTEM {
            if held.has(package) && !brings(package) {
                self.because.push(package);
                self.system.extend(system.iter().map(today));
                self.build_system.extend(*build);
            }
        }
        for list in [&mut self.system, &mut self.build_system] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// What Django's own release notes say: 6.0 needs Python 3.12.
fn least_python(requirement: &str) -> Option<u64> {
    let line = requirement.trim().to_lowercase();
    let rest = line.strip_prefix("django")?;
    let rest = rest.strip_prefix('[').and_then(|extras| extras.split_once(']')).map_or(rest, |(_, rest)| rest);
    let version = rest.trim_start().trim_start_matches(['=', '>', '~']).trim_start();
    (rest != version && version.starts_with("6.")).then_some(12)
}

/// Whether a package of Python is in a directory.
fn holds_package(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.join("__init__.py").is_file())
}

fn table<'a>(pyproject: &'a toml::Value, path: &[&str]) -> Option<&'a toml::Table> {
    path.iter().try_fold(pyproject, |value, key| value.get(key)).and_then(toml::Value::as_table)
}

/// The servers that can run a project's application, the one to add first.
fn servers(dir: &Path) -> &'static [&'static str] {
    let files = super::project::python_files(dir, 4);
    let has = |name: &str| files.iter().any(|file| file.file_name().is_some_and(|found| found == name));
    match (has("wsgi.py"), has("asgi.py")) {
        (false, true) => ASGI_SERVERS,
        (true, false) => WSGI_SERVERS,
        _ => SERVERS,
    }
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

/// Whether a file is what an earlier run has resolved, of a file that is the project's own.
pub(super) fn is_of_a_run(path: &Path) -> bool {
    let of_a_run = |text: &str| Some(text.parse::<toml::Table>().ok()?.get("tool")?.get("pipe").is_some());
    path.ends_with(PYLOCK) && fs::read_to_string(path).is_ok_and(|text| of_a_run(&text) == Some(true))
}

/// The directory of the lock as `python-lock` wants it said.
pub(super) fn lock_path(packages: &Packages) -> Option<String> {
    packages.lock.as_ref().map(|lock| join(&packages.root, lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn django_says_which_python_it_needs() {
        for line in ["Django==6.0.8", "Django[argon2]==6.1", "django >= 6.0,<7", "django~=6.0"] {
            assert_eq!(least_python(line), Some(12), "{line}");
        }
        for line in ["django==5.2.6", "django-6.0", "djangorestframework==6.1", "django>=5.2,<6.1"] {
            assert_eq!(least_python(line), None, "{line}");
        }
    }
}
