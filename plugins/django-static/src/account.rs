//! Turns what the driver says about a failure into a message and a remedy. Knows nothing of how the driver was run.

use pipe_sdk::Failure;
use serde::Deserialize;

/// Lines of the program's own output that a message shows.
const TAIL: usize = 20;

/// Exceptions whose words in capitals are names of Python's: nothing that the environment could give.
const NO_VARIABLE: [&str; 8] = [
    "AttributeError",
    "ImportError",
    "KeyError",
    "ModuleNotFoundError",
    "NameError",
    "OperationalError",
    "SyntaxError",
    "UnboundLocalError",
];
/// What the names of files end with that programs read and do not write.
const READ: [&str; 13] = ["cfg", "conf", "crt", "env", "ini", "json", "key", "pem", "py", "toml", "txt", "yaml", "yml"];

/// The driver's report, as far as this step reads it; the rest is for the steps that follow.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// The settings module, where it was loaded.
    pub(crate) settings: Option<String>,
    pub(crate) failure: Option<Account>,
}

/// Why the driver gave up: an exception, or one of its own reasons (`refused`, `command`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    #[serde(rename = "type")]
    kind: String,
    message: String,
    /// The variable that `os.environ` does not hold.
    variable: Option<String>,
    /// The module that could not be imported.
    module: Option<String>,
    /// The file that this module would be, where the package around it is the project's own.
    own: Option<String>,
    /// The settings module, where that is what there is none of.
    settings: Option<String>,
    /// The module of the project that is called most like it.
    like: Option<String>,
    /// The file that could not be opened, and whether the directory that it would be in is there.
    path: Option<String>,
    beside: bool,
    /// The program that could not be started.
    program: Option<String>,
    /// The innermost line of the project's own.
    file: Option<String>,
    line: Option<u32>,
}

impl Account {
    /// The failure of the step.
    pub(crate) fn explain(&self, settings: Option<&str>, stderr: &str) -> Failure {
        let message = match self.kind.as_str() {
            "refused" => return Failure::failed(self.message.clone()).hint(
                "add the file, correct the reference, have the command that writes it run first, `config = { before = \
                     [\"…\"] }`, or set `manifest_strict = False` on a storage of your own",
            ),
            "command" => self.message.clone(),
            _ if self.settings.is_some() => {
                format!("there is no settings module `{}`", self.settings.as_deref().unwrap_or_default())
            }
            kind => format!("`collectstatic` failed: {kind}: {}{}", self.message, self.place()),
        };
        let failure = Failure::failed(format!("{message}{}", tail(stderr)));
        // What a command was is known by what Python says of it alone.
        let raised = (self.kind == "command").then(|| Self::raised(stderr)).flatten();
        match raised.as_ref().unwrap_or(self).remedy(settings) {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    }

    /// The exception that an output ends with.
    fn raised(stderr: &str) -> Option<Self> {
        let (name, message) = stderr.trim_end().lines().next_back()?.split_once(": ")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let kind = Some(name).filter(|name| name.chars().all(is_name))?.rsplit('.').next()?;
        let module = module_in(message);
        let (kind, message, module) = (kind.to_owned(), message.to_owned(), module.map(str::to_owned));
        Some(Self { kind, message, module, ..Self::default() })
    }

    fn place(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!(" ({file}:{line})"),
            _ => String::new(),
        }
    }

    fn remedy(&self, settings: Option<&str>) -> Option<String> {
        let variable = self.variable.as_deref().or_else(|| match self.kind.as_str() {
            kind if NO_VARIABLE.contains(&kind) || self.path.is_some() || self.program.is_some() => None,
            _ => variable_in(&self.message),
        });
        if self.message.contains("settings are not configured") {
            return Some("nothing names the settings: `config = { settings = \"…\" }` does, and `env = { DJANGO_SETTINGS_MODULE = \"…\" }` in each target".to_owned());
        }
        if let Some(variable) = variable {
            return Some(format!(
                "give it a value for the build: `config = {{ environment = {{ {variable} = \"…\" }} }}`"
            ));
        }
        if self.settings.is_some() {
            let where_from = "it is named by `config = { settings = \"…\" }` of this step, or else by `manage.py`";
            return Some(match &self.like {
                Some(like) => format!("did you mean `{like}`? {where_from}"),
                None => format!("{where_from}; {}", left_out(self.own.as_deref())),
            });
        }
        match self.kind.as_str() {
            "ModuleNotFoundError" => match settings.filter(|settings| is_for_development(settings)) {
                Some(settings) => Some(format!(
                    "the settings are `{settings}`, and a lock for production lacks what those need: name others, `config = {{ settings = \"…\" }}`"
                )),
                None => match (&self.own, &self.module) {
                    (Some(own), _) => Some(format!("the project's source holds no `{own}`: {}", left_out(Some(own)))),
                    (None, module) => module.as_deref().map(missing_module),
                },
            },
            "OperationalError" if self.message.contains("unable to open database file") => Some(
                "the directory of a database is missing, as a repository leaves it out: `config = { directories = [\"…\"] }` \
                 makes it"
                    .to_owned(),
            ),
            "OperationalError" | "InterfaceError" => Some(
                "something asks the database while Django starts, and a build has none: look at the project's line above"
                    .to_owned(),
            ),
            "FileNotFoundError" | "PermissionError" => match (&self.program, &self.path) {
                (Some(program), _) => Some(missing_program(program)),
                (None, Some(path)) => Some(missing_path(path, self.beside)),
                (None, None) => None,
            },
            "ImportError" if self.message.contains("cannot open shared object file") => {
                Some(missing_library(&self.message))
            }
            "ImportError" if let Some(module) = module_in(&self.message) => Some(missing_module(module)),
            "SyntaxError" => Some(
                "the code may be of a newer Python than `[app] python` of the pipeline, or of an older one".to_owned(),
            ),
            "ValueError" if self.message.contains("Incorrect timezone setting") => Some(
                "the runtime knows no such time zone: use its present name, or add \"tzdata-legacy\", where Debian keeps old \
                 ones, to `[runtime] system`"
                    .to_owned(),
            ),
            "ImproperlyConfigured" => Some("give the settings what they need: `config = { environment = { … } }`".to_owned()),
            "ValueError" | "MissingFileError" if self.message.contains("could not be found with") => Some(
                "add the missing file, or leave out the one that refers to it: `config = { options = [\"-i\", \"…\"] }`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A program that left no report: it was ended from outside, or Python did not start.
pub(crate) fn silent(exit_code: i32, stderr: &str) -> Failure {
    Failure::failed(format!("`python` ended with exit code {exit_code} before it could say why{}", tail(stderr)))
}

/// Whether a settings module is called by what people call those for development.
fn is_for_development(settings: &str) -> bool {
    settings.rsplit('.').next().is_some_and(|name| matches!(name, "dev" | "development" | "develop" | "local"))
}

/// The module that there is none of, also where somebody has caught that and says it in words of his own.
fn module_in(message: &str) -> Option<&str> {
    message.split_once("No module named '")?.1.split('\'').next()
}

fn missing_module(module: &str) -> String {
    let package = module.split('.').next().unwrap_or(module);
    if package == "psycopg2" {
        // Django asks for it where `psycopg` is there and cannot be imported, and hides why.
        return "if the lock has `psycopg`, that needs a library of the system: `system = [\"libpq5\"]` in `[runtime]` with `kind = \
                \"packages\"`, `apt install libpq5` with this machine's own, or lock `psycopg[binary]`; else add `psycopg2` to the lock"
            .to_owned();
    }
    format!(
        "the environment has no `{package}`: add the package to the project's lock, or to `python-venv`: `config = {{ add = \
         [\"{package}\"] }}`; a module of the project in its `src` directory comes by `install-project = true` in the config of \
         `python-lock`, and {}",
        left_out(None)
    )
}

fn missing_path(path: &str, beside: bool) -> String {
    if path.contains("/node_modules/") || path.ends_with("/node_modules") {
        return "let a step of `node-modules` install the packages, and give this one the input `node-modules` from it"
            .to_owned();
    }
    let own = path.strip_prefix("/app/src/").unwrap_or(path);
    let (parent, name) = own.rsplit_once('/').unwrap_or(("", own));
    // A file that is only read is not mended by its directory.
    let is_read = name.rsplit_once('.').is_some_and(|(_, extension)| READ.contains(&extension));
    if beside && name.contains('.') || is_read {
        return format!(
            "the project's source holds no `{own}`: {}; or the settings do without it where a variable says so: \
             `config = {{ environment = {{ … }} }}`",
            left_out(Some(own))
        );
    }
    let directory = if name.contains('.') { parent } else { own };
    format!("if the project expects a directory that it doesn't hold: `config = {{ directories = [\"{directory}\"] }}`")
}

/// How a file gets into the source that version control does not hold.
fn left_out(file: Option<&str>) -> String {
    let line = file.map_or("!/…".to_owned(), |file| format!("!/{file}"));
    format!(
        "what `.gitignore` leaves out is taken where `.pipeignore` has the line `{line}`, and what is made comes by an `overlay`"
    )
}

fn missing_library(message: &str) -> String {
    let library = message.split(':').next().unwrap_or_default();
    format!(
        "the runtime has no `{library}`: install the Debian package that holds it, or name that in `system` of `[runtime]` where \
         its kind is `packages`"
    )
}

fn missing_program(program: &str) -> String {
    format!(
        "the build sees no program `{program}`: install it, or name the Debian package that holds it in `build-system` of \
         `[runtime]` where its kind is `packages`"
    )
}

/// The first word of a message that looks like the name of an environment variable, or of a setting that comes by one.
fn variable_in(message: &str) -> Option<&str> {
    message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find(|word| {
        word.len() > 2
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && (word.contains('_') || message.contains("nvironment") || message.contains("envvar"))
    })
}

/// The end of a program's output, set off from the message.
fn tail(output: &str) -> String {
    let lines: Vec<_> = output.trim_end().lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines[from..].iter().fold(String::new(), |text, line| text + "\n  " + line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(kind: &str, message: &str) -> Option<String> {
        let account = Account { kind: kind.into(), message: message.into(), ..Account::default() };
        account.explain(None, "").hint
    }

    #[test]
    fn a_missing_variable_names_the_line_to_add() {
        let expected =
            Some("give it a value for the build: `config = { environment = { FOO_KEY = \"…\" } }`".to_owned());
        assert_eq!(hint("ImproperlyConfigured", "Set the FOO_KEY environment variable"), expected);
        assert_eq!(
            hint("UndefinedValueError", "FOO_KEY not found. Declare it as envvar or define a default."),
            expected
        );
        let account = Account { kind: "KeyError".into(), variable: Some("FOO_KEY".into()), ..Account::default() };
        assert_eq!(account.explain(None, "").hint, expected);
    }

    #[test]
    fn what_a_command_raised_has_the_same_remedies() {
        let account = Account { kind: "command".into(), message: "`python x.py` ended".into(), ..Account::default() };
        let hint = |stderr: &str| account.explain(None, stderr).hint.unwrap_or_default();
        assert!(hint("Traceback\n  x\nValueError: Incorrect timezone setting: US/Pacific\n").contains("tzdata-legacy"));
        assert!(
            hint("django.core.exceptions.ImproperlyConfigured: Set the FOO_KEY environment variable")
                .contains("FOO_KEY")
        );
        assert!(hint("SyntaxError: multiple exception types must be parenthesized").contains("[app] python"));
        assert!(hint("ModuleNotFoundError: No module named 'sass'").contains("the environment has no `sass`"));
        assert!(hint("ModuleNotFoundError: No module named 'psycopg2'").contains("libpq5"));
        assert!(hint("ImportError: Failed to import X: No module named 'pytest'").contains("no `pytest`"));
        assert_eq!(hint("error: nothing of Python"), "");
    }

    #[test]
    fn prose_in_capitals_is_no_variable() {
        assert_eq!(variable_in("The SECRET_KEY setting must not be empty."), Some("SECRET_KEY"));
        assert_eq!(variable_in("Requested setting DEBUG, but settings are not configured."), None);
        assert_eq!(variable_in("Error loading MySQLdb module. Did you install mysqlclient?"), None);
    }

    #[test]
    fn settings_that_nothing_names_are_asked_for() {
        let message = "Requested setting INSTALLED_APPS, but settings are not configured. You must either define the \
                       environment variable DJANGO_SETTINGS_MODULE or call settings.configure() before accessing settings.";
        let hint = hint("ImproperlyConfigured", message).expect("a remedy");
        assert!(hint.starts_with("nothing names the settings"), "{hint}");
    }

    #[test]
    fn a_missing_module_names_its_package() {
        let account =
            Account { kind: "ModuleNotFoundError".into(), module: Some("foo.bar".into()), ..Account::default() };
        assert!(account.explain(None, "").hint.expect("a remedy").starts_with("the environment has no `foo`"));
    }

    #[test]
    fn settings_that_are_not_there_are_no_missing_package() {
        let account = Account {
            kind: "ModuleNotFoundError".into(),
            module: Some("polls.setings".into()),
            settings: Some("polls.setings".into()),
            like: Some("polls.settings".into()),
            ..Account::default()
        };
        let failure = account.explain(Some("polls.setings"), "");
        assert_eq!(failure.message, "there is no settings module `polls.setings`");
        let hint = failure.hint.expect("a remedy");
        assert!(hint.starts_with("did you mean `polls.settings`? it is named by `config = { settings"), "{hint}");
    }

    #[test]
    fn a_module_of_the_projects_own_is_no_missing_package() {
        let account = Account {
            kind: "ModuleNotFoundError".into(),
            module: Some("site.conf.local".into()),
            own: Some("src/site/conf/local.py".into()),
            ..Account::default()
        };
        let hint = account.explain(None, "").hint.expect("a remedy");
        assert_eq!(
            hint,
            "the project's source holds no `src/site/conf/local.py`: what `.gitignore` leaves out is taken where `.pipeignore` \
             has the line `!/src/site/conf/local.py`, and what is made comes by an `overlay`"
        );
    }

    #[test]
    fn what_the_runtime_lacks_is_named() {
        let message = "libGL.so.1: cannot open shared object file: No such file or directory";
        let library = hint("ImportError", message).expect("a remedy");
        assert!(library.starts_with("the runtime has no `libGL.so.1`: install the Debian package"), "{library}");
        let zone = hint("ValueError", "Incorrect timezone setting: US/Pacific").expect("a remedy");
        assert!(zone.contains("tzdata-legacy"), "{zone}");
    }

    #[test]
    fn settings_for_development_are_named() {
        let account =
            Account { kind: "ModuleNotFoundError".into(), module: Some("debug_toolbar".into()), ..Account::default() };
        let hint = account.explain(Some("site.settings.dev"), "").hint.expect("a remedy");
        assert!(hint.starts_with("the settings are `site.settings.dev`"), "{hint}");
    }

    #[test]
    fn a_database_without_its_directory_names_the_config() {
        let account = Account {
            kind: "OperationalError".into(),
            message: "unable to open database file".into(),
            ..Account::default()
        };
        let hint = account.explain(None, "").hint.expect("a remedy");
        assert!(hint.contains("`config = { directories = [\"…\"] }`"), "{hint}");
    }

    #[test]
    fn a_missing_directory_names_the_config() {
        let account = Account {
            kind: "FileNotFoundError".into(),
            message: "[Errno 2] No such file or directory".into(),
            path: Some("/app/src/logs/app.log".into()),
            file: Some("mysite/settings.py".into()),
            line: Some(12),
            ..Account::default()
        };
        let failure = account.explain(None, "");
        assert!(failure.hint.expect("a remedy").ends_with("`config = { directories = [\"logs\"] }`"));
        assert!(failure.message.ends_with("(mysite/settings.py:12)"), "{}", failure.message);
    }

    #[test]
    fn what_is_read_and_missing_is_no_directory() {
        let hint = |path: &str, beside| {
            let account =
                Account { kind: "FileNotFoundError".into(), path: Some(path.into()), beside, ..Account::default() };
            account.explain(None, "").hint.expect("a remedy")
        };
        for (path, beside) in
            [("/app/src/credentials.json", true), ("/app/src/keys/jwt.pem", false), ("/app/src/site.db", true)]
        {
            assert!(hint(path, beside).starts_with("the project's source holds no `"), "{}", hint(path, beside));
        }
        assert!(hint("/app/src/media", true).ends_with("`config = { directories = [\"media\"] }`"));
        assert!(hint("/app/src/var/log", false).ends_with("`config = { directories = [\"var/log\"] }`"));
    }

    #[test]
    fn a_missing_program_is_no_directory() {
        let program = Some("msgfmt".to_owned());
        let account = Account { kind: "FileNotFoundError".into(), program, ..Account::default() };
        let hint = account.explain(None, "").hint.expect("a remedy");
        assert!(hint.starts_with("the build sees no program `msgfmt`"), "{hint}");
    }

    #[test]
    fn names_of_python_are_no_variables() {
        for kind in ["KeyError", "NameError", "AttributeError"] {
            assert_eq!(hint(kind, "FOO_KEY"), None, "{kind}");
        }
        let path = Some("/app/src/MY_KEY.pem".to_owned());
        let message = "[Errno 2] No such file or directory: '/app/src/MY_KEY.pem'".to_owned();
        let account = Account { kind: "FileNotFoundError".into(), message, path, beside: true, ..Account::default() };
        assert!(
            account.explain(None, "").hint.expect("a remedy").starts_with("the project's source holds no `MY_KEY.pem`")
        );
    }

    #[test]
    fn a_missing_package_of_npm_names_the_step() {
        let path = Some("/app/src/node_modules/.bin/terser".into());
        let account = Account { kind: "FileNotFoundError".into(), path, ..Account::default() };
        assert!(account.explain(None, "").hint.expect("a remedy").starts_with("let a step of `node-modules`"));
    }

    #[test]
    fn the_message_comes_first_and_the_output_is_cut() {
        let stderr = (0..50).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        let account = Account { kind: "command".into(), message: "`x` ended".into(), ..Account::default() };
        let message = account.explain(None, &stderr).message;
        assert!(message.starts_with("`x` ended\n  line 30"), "{message}");
        assert!(message.ends_with("\n  line 49"), "{message}");
    }
}
