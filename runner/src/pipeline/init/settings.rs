//! What a project's settings give away without being run: which module is for production, which variables must be set,
//! where data is written, which domains are answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::configurations;
use super::project::python_files;
use super::taken_over::TakenOver;
use super::variables::{self, Scheme, Variable};
use crate::pipeline::is_database;

/// What people call settings for development, and those for production.
const DEVELOPMENT: &[&str] = &["dev", "development", "local", "dev_local", "develop"];
const PRODUCTION: &[&str] = &["production", "prod"];
/// Whether a module is called by what people call settings for development.
pub(super) fn is_for_development(name: &str) -> bool {
    DEVELOPMENT.contains(&name)
}
/// Whether it is called by what people call those for production.
pub(super) fn is_for_production(name: &str) -> bool {
    PRODUCTION.contains(&name)
}

/// Files that show which variables there are.
const EXAMPLES: &[&str] = &[".env.example", ".env.sample", ".env.dist", ".env.template", "env.example", "example.env"];

/// What is known of a project's settings.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a line of the pipeline says by itself")]
pub(super) struct Settings {
    /// The module that production uses.
    pub(super) module: Option<String>,
    /// Whether it is the one that `manage.py` sets.
    pub(super) is_of_manage: bool,
    /// Variables without which the settings do not load or serve nothing, in order of names.
    pub(super) variables: Vec<Variable>,
    /// Directories and files that the application writes to, relative to the directory of `manage.py`.
    pub(super) data: Vec<String>,
    /// Directories of databases in which settings name more that is written, and which hold no source.
    shared: Vec<String>,
    /// A domain that the application answers, where it does not answer `localhost`.
    pub(super) host: Option<String>,
    /// A file that shows which variables there are.
    pub(super) example: Option<&'static str>,
    /// Whether what templates say about stylesheets and scripts is compressed beforehand (django-compressor).
    pub(super) compresses: bool,
    /// Whether the catalogs of translations that scripts use are made beforehand (django-statici18n).
    pub(super) makes_catalogs: bool,
    /// Whether caches are kept in a table of the database, which no migration makes.
    pub(super) has_cache_table: bool,
    /// Variables that say where the database is, for which the project has values of its own, in order of names.
    pub(super) database_variables: Vec<String>,
    /// Whether something of `node_modules` is used while files are collected.
    pub(super) uses_node_modules: bool,
    /// The modules that say something of production.
    pub(super) texts: Vec<String>,
    /// Whether they take over settings that are not in the project.
    is_from_elsewhere: bool,
}

impl Settings {
    /// Reads what is in and below the directory of `manage.py`.
    pub(super) fn find(dir: &Path) -> Self {
        let files = python_files(dir, 4);
        let set_by = |name: &str| {
            let mut texts = files.iter().filter(|file| file.file_name().is_some_and(|found| found == name));
            texts.find_map(|file| module_set(&fs::read_to_string(file).ok()?))
        };
        let manage = set_by("manage.py");
        // What the server sets is there before a script looks.
        let environment = uwsgi_environment(dir);
        let by_server = environment.get("DJANGO_SETTINGS_MODULE").cloned();
        let served = by_server.or_else(|| set_by("wsgi.py")).or_else(|| set_by("asgi.py"));
        let set = served.or_else(|| manage.clone()).or_else(|| by_name(dir, &files));
        let used = set.map(|module| for_production(dir, &module).unwrap_or(module));
        let mut settings = Self {
            is_of_manage: used == manage,
            module: used.clone(),
            example: EXAMPLES.iter().find(|name| dir.join(name).is_file()).copied(),
            ..Self::default()
        };
        // Fields and functions that no other database has.
        let is_postgres =
            |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains("django.contrib.postgres"));
        let wants_postgres = files.iter().any(is_postgres);
        let counted = files.iter().filter(|file| {
            let path = file.strip_prefix(dir).unwrap_or(file).with_extension("");
            let module: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
            counts(&module, used.as_deref())
        });
        let found = TakenOver::follow(dir, &files, counted.cloned().collect());
        settings.is_from_elsewhere = found.is_from_elsewhere;
        settings.texts.extend(found.files.iter().filter_map(|file| fs::read_to_string(file).ok()));
        let class = settings.class_for_production(&files);
        let mut texts = settings.texts.clone();
        if let Some(class) = &class {
            for text in &mut texts {
                *text = configurations::made_of(text, class);
            }
        }
        let scheme = texts.iter().flat_map(|text| variables::scheme(text)).collect();
        for text in &texts {
            settings.read(text, &scheme);
        }
        settings.variables.extend(class.map(Variable::configuration));
        settings.variables.extend(settings.optional_database());
        if wants_postgres {
            settings.variables.iter_mut().for_each(Variable::ask_postgres);
        }
        for variable in settings.variables.iter_mut().filter(|variable| variable.is_open()) {
            environment.get(&variable.name).into_iter().for_each(|value| variable.value.clone_from(value));
        }
        settings.variables.sort();
        settings.variables.dedup_by(|one, other| one.name == other.name);
        settings.database_variables.retain(|name| !settings.variables.iter().any(|variable| variable.name == *name));
        for list in [&mut settings.data, &mut settings.database_variables] {
            list.sort();
            list.dedup();
        }
        let shared = settings.database_directories().into_iter();
        let shared = shared.filter(|sub| is_bare(&dir.join(sub)) && settings.names_more_in(sub));
        settings.shared = shared.map(str::to_owned).collect();
        settings
    }

    /// The class that is for production, where settings are classes and scripts name another or none.
    fn class_for_production(&self, files: &[PathBuf]) -> Option<String> {
        let is_script = |file: &&PathBuf| {
            let name = file.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| ["wsgi.py", "asgi.py", "manage.py"].contains(&name))
        };
        let texts = files.iter().filter(is_script).filter_map(|file| fs::read_to_string(file).ok());
        let named: Vec<String> = texts.filter_map(|text| configurations::set_by(&text).map(str::to_owned)).collect();
        configurations::for_production(&self.texts, named.first().map(String::as_str))
    }

    /// `DATABASE_URL`, where it can be given and the file that is used without it cannot be told.
    fn optional_database(&self) -> Option<Variable> {
        let says = |what: &str| self.texts.iter().any(|text| text.contains(what));
        let is_wanted =
            says("\"DATABASE_URL\"") && says(".backends.sqlite3") && !self.data.iter().any(|path| is_database(path));
        is_wanted.then(Variable::database_url)
    }

    /// Whether there is surely no database to migrate: settings are there, all that they take over is too, and none names one.
    pub(super) fn lacks_database(&self) -> bool {
        let mut lines = self.texts.iter().flat_map(|text| text.lines()).map(str::trim);
        let may_name_one = |line: &str| line.contains("DATABASE") && line != "DATABASES = {}";
        !self.texts.is_empty()
            && !self.is_from_elsewhere
            && !lines.any(|line| !line.starts_with('#') && may_name_one(line))
    }

    /// The directories in which databases are made, which a repository often lacks.
    pub(super) fn database_directories(&self) -> Vec<&str> {
        let databases = self.data.iter().filter(|path| is_database(path));
        let mut directories: Vec<&str> = databases.filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
        directories.dedup();
        directories
    }

    /// What is to be kept from release to release: where a directory has several databases or other things beside one, all of it.
    pub(super) fn kept(&self) -> Vec<&str> {
        let databases = |directory: &str| {
            let is_there =
                |path: &&String| is_database(path) && path.rsplit_once('/').is_some_and(|(of, _)| of == directory);
            self.data.iter().filter(is_there).count()
        };
        let is_whole = |directory: &str| databases(directory) > 1 || self.shared.iter().any(|it| it == directory);
        let whole = |path: &str| path.match_indices('/').map(|(end, _)| end).find(|end| is_whole(&path[..*end]));
        let kept = self.data.iter().map(|path| &path[..whole(path).unwrap_or(path.len())]);
        let mut kept: Vec<&str> = kept.collect();
        kept.dedup();
        kept
    }

    /// Whether a line names something in a directory that is not known to be kept.
    fn names_more_in(&self, directory: &str) -> bool {
        let is_more = |path: String| {
            path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')) && !self.data.contains(&path)
        };
        self.texts.iter().any(|text| {
            let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            lines.any(|line| path_in(line).is_some_and(|path| is_more(below_variable(text, line, path))))
        })
    }

    fn read(&mut self, text: &str, scheme: &Scheme<'_>) {
        self.variables.extend(variables::needed(text, scheme));
        self.database_variables.extend(variables::of_database(text));
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            self.data.extend(database(line).map(|path| below_variable(text, line, path)));
            let is_of_node = |text: &str| text.contains("node_modules") || text == "npm.finders.NpmFinder";
            self.uses_node_modules |= literals(line).iter().any(|(_, text)| is_of_node(text));
            self.has_cache_table |=
                literals(line).iter().any(|(_, text)| text.ends_with("cache.backends.db.DatabaseCache"));
            self.makes_catalogs |= literals(line).iter().any(|(_, text)| *text == "statici18n");
            // What a variable may turn on is off, and `compress` refuses to work then.
            self.compresses |= line.split_once('=').is_some_and(|(name, value)| {
                name.trim() == "COMPRESS_OFFLINE" && ["True", "not "].iter().any(|on| value.trim().starts_with(on))
            });
            if line.trim_start().starts_with("MEDIA_ROOT") {
                let is_variable = |path: &str| path.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
                let path = if line.contains("environ") { None } else { path_in(line) };
                let path = path.filter(|path| !path.contains('.') && !is_variable(path));
                self.data.extend(path.map(|path| below_variable(text, line, path)));
            }
        }
        let hosts = text.split("\nALLOWED_HOSTS = [").nth(1).and_then(|rest| rest.split(']').next());
        let hosts: Vec<&str> = hosts.map(strings).unwrap_or_default();
        if !hosts.iter().any(|host| matches!(*host, "*" | "localhost" | ".localhost" | "127.0.0.1")) {
            let mut domains = hosts.iter().map(|host| host.trim_start_matches('.')).filter(|host| is_public(host));
            self.host = self.host.take().or_else(|| domains.next().map(str::to_owned));
        }
    }
}

/// Whether a text is a domain by which an application may be known outside, and no address, variable or pattern.
fn is_public(text: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let top = text.rsplit_once('.').map_or("", |(_, top)| top);
    text.split('.').all(is_label) && top.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// The settings that go by a usual name, where nothing names any: those for production, then the nearest to the top.
fn by_name(dir: &Path, files: &[PathBuf]) -> Option<String> {
    let modules = files.iter().filter_map(|file| {
        let path = file.strip_prefix(dir).ok()?.with_extension("");
        Some(path.iter().filter_map(|part| part.to_str()).collect::<Vec<_>>().join("."))
    });
    let rank = |module: &String| {
        let ends = PRODUCTION.iter().map(|name| format!("settings.{name}"));
        let ends: Vec<String> = ends.chain(["settings".to_owned(), "settings.base".to_owned()]).collect();
        let place = ends.iter().position(|end| module == end || module.ends_with(&format!(".{end}")))?;
        Some((place, module.matches('.').count()))
    };
    let ranked = modules.filter_map(|module| Some((rank(&module)?, module)));
    ranked.min().map(|(_, module)| module)
}

/// Whether a module's text says something of production: the settings that are used, and what such are usually built on.
fn counts(module: &[&str], used: Option<&str>) -> bool {
    let dotted = module.join(".");
    let is_used = used.is_some_and(|used| {
        dotted == used || dotted.ends_with(&format!(".{used}")) || dotted == format!("{used}.__init__")
    });
    let Some((name, parents)) = module.split_last() else { return false };
    let is_base = matches!(*name, "base" | "common" | "defaults" | "default" | "production" | "prod");
    let is_of_settings = parents.contains(&"settings") && !parents.iter().any(|parent| DEVELOPMENT.contains(parent));
    is_used || is_base && is_of_settings || dotted == "settings"
}

/// The module that is for production, where there is one: beside one for development, or in a package that sets nothing itself.
fn for_production(dir: &Path, module: &str) -> Option<String> {
    let roots = [dir.to_owned(), dir.join("src")];
    let place = |module: &str| module.replace('.', "/");
    let is_silent = |root: &PathBuf| {
        let text = fs::read_to_string(root.join(place(module)).join("__init__.py"));
        text.is_ok_and(|text| {
            !text.contains('=') && text.lines().filter(|line| line.contains("import")).all(takes_over_beside)
        })
    };
    let beside = || module.rsplit_once('.').filter(|(_, name)| is_for_development(name)).map(|(package, _)| package);
    let package = if roots.iter().any(is_silent) { module } else { beside()? };
    let is_there = |root: &Path, name: &str| root.join(place(package)).join(format!("{name}.py")).is_file();
    let found = roots.iter().find_map(|root| PRODUCTION.iter().find(|name| is_there(root, name)))?;
    Some(format!("{package}.{found}"))
}

/// Whether a line takes over the settings of a module beside it that is for development or for production.
fn takes_over_beside(line: &str) -> bool {
    let module = line.trim().strip_prefix("from .").and_then(|rest| rest.strip_suffix(" import *"));
    module.is_some_and(|name| is_for_development(name) || PRODUCTION.contains(&name))
}

/// Whether nothing is in a directory but a database, or what keeps it in a repository.
fn is_bare(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.all(|name| name.starts_with('.') || is_database(&name))
}

/// The variables that `uwsgi.ini` sets, but for those whose values uWSGI puts together.
fn uwsgi_environment(dir: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(dir.join("uwsgi.ini")).unwrap_or_default();
    let own = text.split_once("[uwsgi]").and_then(|(_, own)| own.split("\n[").next()).unwrap_or_default();
    let settings = own.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.trim() == "env");
    let variables = settings.filter_map(|(_, variable)| variable.trim().split_once('='));
    let plain = variables.filter(|(_, value)| !["$(", "%(", "@("].iter().any(|mark| value.contains(mark)));
    plain.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The settings module that a script sets.
fn module_set(text: &str) -> Option<String> {
    let after = text.split("DJANGO_SETTINGS_MODULE").nth(1)?;
    let module = *strings(after.get(1..)?).first()?;
    let is_module = module.contains('.') || module == "settings";
    (is_module && !module.contains(['/', ' ', '\n'])).then(|| module.to_owned())
}

/// The string literals of a piece of Python that has no triple quotes, each with where its text starts.
fn literals(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(quote) = text[at..].find(['"', '\'']).map(|offset| at + offset) {
        let start = quote + 1;
        let Some(len) = text[start..].find(&text[quote..start]) else { break };
        found.push((start, &text[start..start + len]));
        at = start + len + 1;
    }
    found
}

/// The string literals of a piece of Python.
pub(super) fn strings(text: &str) -> Vec<&str> {
    literals(text).into_iter().map(|(_, text)| text).collect()
}

/// The file of a database that a line names.
fn database(line: &str) -> Option<String> {
    let at = literals(line).iter().position(|(_, text)| is_database(text) && !text.contains(".backends."))?;
    // Other things end so too, such as those that file managers leave behind.
    let is_named = ["NAME", "DB", "DATABASE", "sqlite"].iter().any(|word| line.contains(word));
    is_named.then(|| path_to(line, at)).flatten()
}

/// A path that a line has, below the directory that the variable before it stands for: `DATA_DIR / "db.sqlite3"` where the
/// text has `DATA_DIR = BASE_DIR / "data"`.
fn below_variable(text: &str, line: &str, path: String) -> String {
    let first = path.split('/').next().unwrap_or_default();
    let start =
        literals(line).into_iter().rfind(|(_, text)| text.split('/').next() == Some(first)).map(|(start, _)| start);
    let before = start.map_or("", |start| line[..start - 1].trim_end().trim_end_matches(['/', ',', ' ']));
    let variable = before.rsplit(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let defined = text.split_once(&format!("\n{variable} = ")).filter(|_| !variable.is_empty());
    let Some((_, value)) = defined else { return path };
    // The value ends where a line begins that is not indented and closes nothing.
    let end =
        value.match_indices('\n').find(|(at, _)| !value[at + 1..].starts_with([' ', ')', '\n'])).map(|(at, _)| at);
    let value = value[..end.unwrap_or(value.len())].replace('\n', " ");
    let is_relative = value.contains("_DIR") || value.contains("ROOT") || value.contains("BASE");
    match path_in(&value).filter(|directory| is_relative && !directory.contains('.')) {
        Some(directory) => format!("{directory}/{path}"),
        None => path,
    }
}

/// The path that a line ends in, whatever is taken off its end.
fn path_in(line: &str) -> Option<String> {
    let line = line.split(".rstrip(").next().unwrap_or(line);
    path_to(line, literals(line).len().checked_sub(1)?)
}

/// The path that ends in the given literal, as in `BASE_DIR / "a" / "b"`, `os.path.join(BASE_DIR, "a", "b")` or `"a/b"`.
fn path_to(line: &str, last: usize) -> Option<String> {
    let literals = literals(line);
    let mut parts = Vec::new();
    for (index, (start, text)) in literals.iter().enumerate().take(last + 1).rev() {
        let is_joined = literals
            .get(index + 1)
            .filter(|_| index < last)
            .is_none_or(|(next, _)| matches!(line[start + text.len() + 1..next - 1].trim(), "/" | ","));
        if !is_joined || index < last && text.chars().any(char::is_uppercase) {
            break;
        }
        parts.insert(0, *text);
    }
    let path = parts.join("/");
    let path = path.rsplit("}/").next().unwrap_or_default();
    let path = path.strip_prefix("sqlite:///").unwrap_or(path);
    let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (is_plain && !path.contains([' ', '{', ':', '$', '%'])).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_media_are_found_however_their_path_is_built() {
        for line in [
            "    'NAME': BASE_DIR / 'db.sqlite3',",
            "    'NAME': os.path.join(BASE_DIR, 'db.sqlite3'),",
            "DATABASE = f'sqlite:///{BASE_DIR}/db.sqlite3'",
            "    'default': env.db('DATABASE_URL', default='sqlite:///db.sqlite3'),",
        ] {
            assert_eq!(database(line).as_deref(), Some("db.sqlite3"), "{line}");
        }
        assert_eq!(database("'NAME': BASE_DIR / 'data' / 'db.sqlite3',").as_deref(), Some("data/db.sqlite3"));
        assert_eq!(database("'ENGINE': 'django.db.backends.sqlite3',"), None);
        assert_eq!(database("IGNORED = ['.DS_Store', 'Thumbs.db']"), None);
        assert_eq!(path_in("MEDIA_ROOT = os.path.join(BASE_DIR, 'media')").as_deref(), Some("media"));
        assert_eq!(path_in("MEDIA_ROOT = '/var/media'"), None);
        let of_netbox = "MEDIA_ROOT = getattr(configuration, 'MEDIA_ROOT', os.path.join(ROOT, 'media')).rstrip('/')";
        assert_eq!(path_in(of_netbox).as_deref(), Some("media"));
    }

    #[test]
    fn a_path_below_a_variable_is_below_what_it_stands_for() {
        let text = "from pathlib import Path\n\
            BASE_DIR = Path(__file__).resolve().parent.parent\n\
            DATA_DIR = Path(\n    config.get(\"files\", \"data\", fallback=environ.get(\"DATA_DIR\", BASE_DIR / \"data\")),\n)\n\
            LOGS = 1\n";
        let mut settings = Settings::default();
        settings.read(&format!("{text}MEDIA_ROOT = Path(get(\"media\", fallback=DATA_DIR / \"media\"))\nname = str(DATA_DIR / \"db.sqlite3\")\n"), &Scheme::new());
        settings.read(&format!("{text}NAME = os.path.join(BASE_DIR, 'own.sqlite3')\n"), &Scheme::new());
        assert_eq!(settings.data, ["data/media", "data/db.sqlite3", "own.sqlite3"]);
    }

    #[test]
    fn a_domain_is_told_from_what_else_stands_where_hosts_do() {
        assert!(is_public("itou-prod.cleverapps.io") && is_public("example.org"));
        for other in ["ALLOWED_HOSTS", "0.0.0.0", "a b.org", "x, y.org", "*.example.org", "{DOMAIN}", "localhost", ""] {
            assert!(!is_public(other), "{other}");
        }
    }

    #[test]
    fn the_settings_module_of_a_script_is_found() {
        let script = "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"config.settings.local\")";
        assert_eq!(module_set(script).as_deref(), Some("config.settings.local"));
        assert_eq!(
            module_set("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'settings')").as_deref(),
            Some("settings")
        );
        assert_eq!(module_set("import os"), None);
    }
}
