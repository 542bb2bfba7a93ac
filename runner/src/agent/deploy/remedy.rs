//! What to do about an application that does not come up, by what it has written itself. Knows the words of Django, of Python and
//! of the clients of databases, and nothing of releases.

use super::super::instance::Exit;
use super::super::protocol::ConfigChange;

/// Where addresses and passwords are said.
const SAID: &str = "in the target's `env` or `env-file`";

/// What is said of a module that is missing, before its name.
const NO_PACKAGE: &str = "no package of the lock has the module `";

/// A remedy for the last thing in an output for which there is one.
pub(super) fn remedy(output: &str) -> Option<String> {
    of_line(known(output)?)
}

/// The last line of an output for which there is a remedy.
pub(super) fn known(output: &str) -> Option<&str> {
    output.lines().rev().find(|line| of_line(line).is_some())
}

/// What to do where a page is an error and the application has not said which.
pub(super) fn silent() -> String {
    "Django writes its traceback where `LOGGING` says, by default only into a mail: with a handler \
     `\"class\": \"logging.StreamHandler\"` it stands here and in `pipe logs`"
        .to_owned()
}

/// What is to be known of a traceback that the application has not written itself.
pub(super) fn asked_again() -> String {
    "the application has not written this: Django raised it when it was asked for the page once more. It writes tracebacks where \
     `LOGGING` says, by default only into a mail"
        .to_owned()
}

/// What is to be known of a release command that has failed, where it migrates and nothing better is known of its output: what
/// Django has applied by then it keeps. Where a shell has found no program, nothing was. That a table is missing is not better,
/// for it is what migrates that makes tables.
pub(super) fn half_way(command: &str, exit: &Exit, output: &str) -> Option<String> {
    let has_begun = match exit {
        Exit::NotStarted { .. } => false,
        Exit::Code(126 | 127) => output.contains("Applying "),
        _ => true,
    };
    let mut words = command.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let migrates = words.any(|word| word == "migrate" || word.starts_with("migrate_"));
    (has_begun && migrates && known(output).is_none_or(|line| missing_table(line).is_some())).then(|| {
        "some of its migrations may have been applied, and stay so: those that its output calls `OK`. What serves now goes on \
         with their tables, and the next release goes on behind them"
            .to_owned()
    })
}

/// What to do where a release that changes nothing but the config does not come up, beside what is known of it otherwise. A module
/// that a new value names is no matter of packages.
pub(super) fn of_change(change: &ConfigChange, hint: Option<&str>) -> String {
    let told = |(name, value): (&String, &Option<String>)| {
        format!("`{name}` is {}", if value.is_some() { "set" } else { "unset" })
    };
    let told = change.values.iter().map(told).collect::<Vec<_>>().join(", ");
    let changed = format!("look at what was changed, which is the config alone: {told}");
    let names = |module: &str| {
        let mut values = change.values.values().flatten();
        values.any(|value| value.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let known = hint.filter(|hint| !between(hint, NO_PACKAGE, "`").is_some_and(names));
    known.map_or(changed.clone(), |known| format!("{known}\n{changed}"))
}

fn of_line(line: &str) -> Option<String> {
    database(line).or_else(|| server(line)).or_else(|| place(line)).or_else(|| code(line))
}

/// A database that is not reached, or does not want to be.
fn database(line: &str) -> Option<String> {
    if let Some(user) = between(line, "password authentication failed for user \"", "\"") {
        return Some(format!("give the password of the database's user `{user}` {SAID}"));
    }
    if let Some(user) = between(line, "role \"", "\" does not exist") {
        return Some(format!("make the database's user: `createuser {user}`; or name another {SAID}"));
    }
    if let Some(name) = between(line, "database \"", "\" does not exist") {
        return Some(format!("make the database: `createdb {name}`; or name another {SAID}"));
    }
    if let Some(table) = missing_table(line) {
        return Some(format!(
            "the database lacks the table `{table}`: `release-commands = [\"python manage.py migrate --noinput\"]` in the \
             target makes it, before the commands that need it"
        ));
    }
    if let Some(model) = between(line, ".DoesNotExist: ", " matching query does not exist") {
        return Some(format!(
            "the application takes for granted that the database has a `{model}`: put it there, such as by `loaddata`: once, \
             with `pipe exec`, or in the target's `release-commands` if that may be done with each release"
        ));
    }
    if line.contains("The SECRET_KEY setting must not be empty") {
        return Some(format!(
            "set the variable from which the settings read `SECRET_KEY`, {SAID}; named in its `generate` each target makes up one"
        ));
    }
    if line.contains("settings.DATABASES is improperly configured") {
        return Some(format!("say which database it is {SAID} (`DATABASE_URL`, or what the settings read)"));
    }
    if line.contains("server does not support SSL") {
        return Some(format!(
            "the application wants TLS of a database that does not speak it: turn it on there, or off where the settings read \
             it, {SAID}"
        ));
    }
    let words = [
        "connection failed: Connection refused",
        "could not connect to server",
        "could not translate host name",
        "Can't connect to MySQL server",
    ];
    let is_refused = line.contains("connection to server ") && line.contains(" failed");
    (is_refused || words.iter().any(|word| line.contains(word))).then(|| {
        format!("the database is not reached: start it, or say where it is {SAID} (`DATABASE_URL`, or what the settings read)")
    })
}

/// That a target can have a variable made up, of one for which that is enough.
pub(super) fn made_up(variable: &str) -> Option<String> {
    let is_key = variable.ends_with("SECRET_KEY");
    is_key.then(|| format!("; `generate = [\"{variable}\"]` in the target has one made up and kept"))
}

/// The table that a line says is missing.
pub(super) fn missing_table(line: &str) -> Option<&str> {
    between(line, "no such table: ", " ").or_else(|| between(line, "relation \"", "\" does not exist"))
}

/// Another server.
fn server(line: &str) -> Option<String> {
    let of_redis = between(line, " connecting to ", ". Connection refused")
        .or_else(|| between(line, "Cannot connect to redis://", ": "))
        .or_else(|| between(line, "Cannot connect to amqp://", ": "));
    of_redis.map(|address| format!("nothing answers at {address}: start it, or say where it is {SAID}"))
}

/// A place that cannot be written to.
fn place(line: &str) -> Option<String> {
    let readonly = ["unable to open database file", "attempt to write a readonly database"];
    if readonly.iter().any(|word| line.contains(word)) {
        return Some("name the database's file, or its directory, in the target's `data`".to_owned());
    }
    let words = ["Read-only file system: '", "Permission denied: '"];
    let path = words.iter().find_map(|word| between(line, word, "'"))?;
    let below = path.strip_prefix("/app/src/")?;
    let directory = below.rsplit_once('/').map_or(below, |(directory, _)| directory);
    Some(format!("keep what is written there: `data = [\"{directory}\"]` in the target"))
}

/// What the code lacks, or takes too long for.
fn code(line: &str) -> Option<String> {
    if line.contains("[CRITICAL] WORKER TIMEOUT") {
        return Some(
            "a page took longer than gunicorn waits, 30 s unless it is told otherwise: give it longer with \
             `GUNICORN_CMD_ARGS = \"--timeout 120\"` in the target's `env`"
                .to_owned(),
        );
    }
    if let Some(template) = line.trim().strip_prefix("django.template.exceptions.TemplateDoesNotExist: ") {
        return Some(format!(
            "the slug has no template `{template}`: where a front end's build writes it, a step has to run that build, and \
             `static` and `slug` take its result as `overlay`"
        ));
    }
    if line.contains("Missing staticfiles manifest entry for ") || line.contains(" is missing from offline manifest") {
        return Some(format!(
            "the manifest of the static files lacks it, or is looked for elsewhere: where the settings read `STATIC_ROOT` from a \
             variable, it has to be the same in `environment` of the `django-static` step and {SAID}"
        ));
    }
    let variable = between(line, "Set the ", " environment variable")
        .or_else(|| between(line, "UndefinedValueError: ", " not found"))
        .or_else(|| line.trim().strip_prefix("KeyError: '")?.strip_suffix('\'').filter(|name| is_variable(name)))
        .or_else(|| named(line.split_once("ImproperlyConfigured: ")?.1));
    if let Some(variable) = variable {
        let made_up = made_up(variable).unwrap_or_default();
        return Some(format!("set `{variable}` {SAID}{made_up}"));
    }
    let module = between(line, "ModuleNotFoundError: No module named '", "'")?;
    if module == "psycopg2" {
        // Django asks for it where `psycopg` is there and cannot be imported, and hides why.
        return Some(
            "if the lock has `psycopg`, that needs a library of the system: `system = [\"libpq5\"]` in `[runtime]` with `kind = \
             \"packages\"`, `apt install libpq5` with this machine's own, or lock `psycopg[binary]`; else add `psycopg2` to it"
                .to_owned(),
        );
    }
    Some(format!(
        "{NO_PACKAGE}{module}`: add it to the project's requirements, or to the step's \
         `config = {{ add = […] }}` of `python-venv`"
    ))
}

/// The variable that a message of the project's own names.
fn named(message: &str) -> Option<&str> {
    let mut words = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.find(|word| word.contains('_') && word.len() > 2 && is_variable(word))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What stands between two texts; the second may be the line's end where it is a space.
fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    match rest.split_once(after) {
        Some((found, _)) => Some(found),
        None if after == " " => Some(rest),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cause_that_is_known_counts() {
        let output = "ModuleNotFoundError: No module named 'x'\n\
                      psycopg.OperationalError: connection failed: connection to server at \"127.0.0.1\", port 5432 failed: \
                      Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?\n";
        assert!(remedy(output).is_some_and(|text| text.starts_with("the database is not reached")), "{output}");
        assert_eq!(remedy("Starting\nListening at: http://127.0.0.1:8000\n"), None);
    }

    #[test]
    fn what_migrates_may_have_done_a_part_of_it() {
        for command in
            ["python manage.py migrate --noinput", "cd web && ./manage.py migrate", "manage.py migrate_schemas"]
        {
            assert!(
                half_way(command, &Exit::Code(1), "  Applying polls.0003... OK")
                    .is_some_and(|text| text.contains("stay so")),
                "{command}"
            );
        }
        for command in ["python manage.py loaddata seed", "python manage.py makemigrations --check", "./immigrate"] {
            assert_eq!(half_way(command, &Exit::Code(1), ""), None, "{command}");
        }
        assert!(half_way("migrate", &Exit::Code(1), "no such table: nowhere").is_some());
        assert_eq!(half_way("migrate", &Exit::Code(1), "KeyError: 'SECRET_KEY'"), None);
        assert_eq!(half_way("migrate", &Exit::Code(127), "sh: 1: python: not found"), None);
        assert!(
            half_way("migrate && x", &Exit::Code(127), "  Applying polls.0003... OK\nsh: 1: x: not found").is_some()
        );
    }

    #[test]
    fn a_module_that_a_new_value_names_is_no_matter_of_packages() {
        let values = [("DJANGO_SETTINGS_MODULE".to_owned(), Some("polls.nowhere".to_owned()))].into();
        let change = ConfigChange { values, is_import: false };
        let told = |module: &str| {
            let hint = remedy(&format!("ModuleNotFoundError: No module named '{module}'")).expect("it is known");
            of_change(&change, Some(&hint))
        };
        let changed = "look at what was changed, which is the config alone: `DJANGO_SETTINGS_MODULE` is set";
        assert_eq!([told("polls.nowhere"), told("polls")], [changed, changed]);
        let other = told("debug_toolbar");
        assert!(other.starts_with("no package") && other.ends_with(changed), "{other}");
    }

    #[test]
    fn what_servers_and_python_say_has_a_remedy() {
        for (line, remedied) in [
            ("FATAL:  password authentication failed for user \"app\"", "user `app`"),
            (
                "connection to server at \"db\" (10.0.0.2), port 5432 failed: FATAL:  database \"polls\" does not exist",
                "`createdb polls`",
            ),
            ("FATAL:  role \"polls\" does not exist", "`createuser polls`"),
            ("django.db.utils.OperationalError: connection failed: Connection refused", "not reached"),
            ("ModuleNotFoundError: No module named 'psycopg2'", "libpq5"),
            (
                "connection to server at \"db\", port 5432 failed: server does not support SSL, but SSL was required",
                "TLS",
            ),
            (
                "psycopg2.OperationalError: could not translate host name \"db\" to address: Name or service not known",
                "not reached",
            ),
            ("django.db.utils.OperationalError: no such table: polls_question", "the table `polls_question`"),
            ("django.db.utils.ProgrammingError: relation \"cache_table\" does not exist", "the table `cache_table`"),
            (
                "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:6379. Connection refused.",
                "at 127.0.0.1:6379",
            ),
            (
                "[ERROR/MainProcess] consumer: Cannot connect to redis://localhost:6379/0: Error 111",
                "at localhost:6379/0",
            ),
            ("sqlite3.OperationalError: unable to open database file", "in the target's `data`"),
            ("OSError: [Errno 30] Read-only file system: '/app/src/var/log/x.log'", "`data = [\"var/log\"]`"),
            ("ModuleNotFoundError: No module named 'sass_processor'", "the module `sass_processor`"),
            ("[2026-11-26 11:36:26 +0000] [3] [CRITICAL] WORKER TIMEOUT (pid:5)", "--timeout 120"),
            ("django.core.exceptions.ImproperlyConfigured: Set the API_KEY environment variable", "set `API_KEY`"),
            ("KeyError: 'API_KEY'", "set `API_KEY`"),
            ("django.core.exceptions.ImproperlyConfigured: Variable RSA_KEY is not provided.", "set `RSA_KEY`"),
            ("polls.models.Config.DoesNotExist: Config matching query does not exist.", "has a `Config`"),
            (
                "django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.",
                "from which the settings read `SECRET_KEY`",
            ),
            (
                "django.core.exceptions.ImproperlyConfigured: settings.DATABASES is improperly configured. Please supply the NAME",
                "which database",
            ),
            ("ValueError: Missing staticfiles manifest entry for 'css/site.css'", "`STATIC_ROOT`"),
            ("django.template.exceptions.TemplateDoesNotExist: index.html", "no template `index.html`"),
        ] {
            assert!(remedy(line).is_some_and(|text| text.contains(remedied)), "{line}: {:?}", remedy(line));
        }
        assert_eq!(remedy("PermissionError: [Errno 13] Permission denied: '/etc/shadow'"), None);
        assert_eq!(remedy("KeyError: 'user'"), None);
    }
}
