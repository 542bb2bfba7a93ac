//! What a project's settings give away without being run: which module is for production, which variables must be set,
//! where data is written, which domains are answered.

use std::fs;
use std::path::Path;

use super::project::python_files;

/// Calls that read a variable of the environment and fail without it, where no default is given.
const READS: &[&str] = &["os.environ[", "environ[", "env(", "env.str(", "env.db(", "config("];
/// Databases that are a file.
const DATABASES: &[&str] = &[".sqlite3", ".sqlite", ".db"];
/// Files that show which variables there are.
const EXAMPLES: &[&str] = &[".env.example", ".env.sample", ".env.dist", ".env.template", "env.example", "example.env"];

/// What is known of a project's settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The module that production uses, where it is not the one that `manage.py` sets.
    pub(super) module: Option<String>,
    /// Variables without which the settings do not load, in order of names.
    pub(super) variables: Vec<String>,
    /// Directories and files that the application writes to, relative to the directory of `manage.py`.
    pub(super) data: Vec<String>,
    /// A domain that the application answers, where it does not answer `localhost`.
    pub(super) host: Option<String>,
    /// A file that shows which variables there are.
    pub(super) example: Option<&'static str>,
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
        let served = set_by("wsgi.py").or_else(|| set_by("asgi.py"));
        let used = served.clone().or_else(|| manage.clone());
        let mut settings = Self {
            module: served.filter(|served| manage.as_ref() != Some(served)),
            example: EXAMPLES.iter().find(|name| dir.join(name).is_file()).copied(),
            ..Self::default()
        };
        for file in files {
            let path = file.strip_prefix(dir).unwrap_or(&file).with_extension("");
            let module: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
            if counts(&module, used.as_deref()) {
                settings.read(&fs::read_to_string(&file).unwrap_or_default());
            }
        }
        settings.variables.sort();
        settings.variables.dedup();
        settings.data.sort();
        settings.data.dedup();
        settings
    }

    fn read(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            self.variables.extend(required(line));
            self.data.extend(database(line));
            if line.trim_start().starts_with("MEDIA_ROOT") {
                self.data.extend(path_in(line).filter(|path| !path.contains('.')));
            }
        }
        let hosts = text.split("\nALLOWED_HOSTS = [").nth(1).and_then(|rest| rest.split(']').next());
        let hosts: Vec<&str> = hosts.map(strings).unwrap_or_default();
        if !hosts.iter().any(|host| matches!(*host, "*" | "localhost" | ".localhost" | "127.0.0.1")) {
            self.host = self.host.take().or_else(|| Some(hosts.first()?.trim_start_matches('.').to_owned()));
        }
    }
}

/// Whether a module's text says something of production: the settings that are used, and what such are usually built on.
fn counts(module: &[&str], used: Option<&str>) -> bool {
    let [.., parent, name] = module else { return module == ["settings"] || used.is_some_and(|used| module == [used]) };
    let dotted = module.join(".");
    used.is_some_and(|used| {
        dotted == used || dotted.ends_with(&format!(".{used}")) || dotted == format!("{used}.__init__")
    }) || *parent == "settings" && matches!(*name, "base" | "common" | "defaults" | "default" | "production" | "prod")
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

fn strings(text: &str) -> Vec<&str> {
    literals(text).into_iter().map(|(_, text)| text).collect()
}

/// The variables that a line needs: read without a default.
fn required(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for read in READS {
        for (at, _) in line.match_indices(read) {
            let before = line[..at].chars().next_back();
            let argument = line[at + read.len()..].trim_start();
            let close = argument.find([')', ']']).unwrap_or(argument.len());
            let argument = &argument[..close];
            let is_name = |name: &&str| {
                name.len() > 1
                    && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            };
            let quoted = argument.starts_with(['"', '\'']);
            let whole_word = !before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
            if quoted && whole_word && !argument.contains("default") && !argument.contains(',') {
                found.extend(strings(argument).first().copied().filter(is_name).map(str::to_owned));
            }
        }
    }
    found
}

/// The file of a database that a line names.
fn database(line: &str) -> Option<String> {
    let is_database =
        |text: &str| DATABASES.iter().any(|suffix| text.ends_with(suffix)) && !text.contains(".backends.");
    let at = literals(line).iter().position(|(_, text)| is_database(text))?;
    path_to(line, at)
}

/// The path that a line ends in.
fn path_in(line: &str) -> Option<String> {
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
    fn variables_without_a_default_are_required() {
        let required = |line| required(line).join(" ");
        assert_eq!(required("SECRET_KEY = os.environ['SECRET_KEY']"), "SECRET_KEY");
        assert_eq!(required("SECRET_KEY = env(\"DJANGO_SECRET_KEY\")"), "DJANGO_SECRET_KEY");
        assert_eq!(required("X = config('X', default=1)"), "");
        assert_eq!(required("X = os.environ.get('X')"), "");
        assert_eq!(required("X = env('X', 'y')"), "");
        assert_eq!(required("app_config('X')"), "");
    }

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
        assert_eq!(path_in("MEDIA_ROOT = os.path.join(BASE_DIR, 'media')").as_deref(), Some("media"));
        assert_eq!(path_in("MEDIA_ROOT = '/var/media'"), None);
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
