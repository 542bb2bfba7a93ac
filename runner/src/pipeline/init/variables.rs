//! Which variables of the environment a piece of Python needs, and values that let it start. Reads line by line, as people
//! write settings; knows nothing of what Python would make of the whole.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::configurations;
use super::settings::strings;

/// Calls that read a variable and fail without it, where they have no default.
const STRICT: &[&str] = &["environ[", "env(", "config("];
/// Calls that give nothing without it.
const LENIENT: &[&str] = &["environ.get(", "env.get(", "getenv("];
/// Calls of django-environ and environs that read no variable.
const NOT_READ: &[&str] = &[".read_env", ".path", ".prefixed", ".seal", ".dump"];
/// Calls of django-environ that know which variable they read.
const NAMED: &[(&str, &str)] = &[
    ("db", "DATABASE_URL"),
    ("db_url", "DATABASE_URL"),
    ("cache", "CACHE_URL"),
    ("cache_url", "CACHE_URL"),
    ("email", "EMAIL_URL"),
    ("email_url", "EMAIL_URL"),
    ("search_url", "SEARCH_URL"),
];
/// The last words in the names of variables that say where a database is.
const WHERE: &[&str] =
    &["DATABASE", "DB", "ENGINE", "HOST", "HOSTNAME", "NAME", "PASSWORD", "PGPORT", "PORT", "URL", "USER", "USERNAME"];
/// Over so many lines goes no call; a bracket in a comment may look like one that does.
const LONGEST_CALL: usize = 12;
/// A key for the build, where it protects nothing: each target makes up one of its own.
const KEY: &str = "made-up-to-build-and-of-no-use-elsewhere";

/// Django's SQLite, and where its file is.
const ENGINE: &str = "django.db.backends.sqlite3";
const DATABASE: &str = "/app/src/db.sqlite3";
/// A PostgreSQL of this machine, as far as it can be guessed.
const POSTGRES: &str = "postgres://app:app@127.0.0.1:5432/app";
/// Stands for a value of which nothing is known.
const UNSET: &str = "unset";

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variable {
    pub(super) name: String,
    /// What lets the application start.
    pub(super) value: String,
}

impl Variable {
    /// Says that the database is a file of the project's.
    pub(super) fn database_url() -> Self {
        Self { name: "DATABASE_URL".to_owned(), value: format!("sqlite:///{DATABASE}") }
    }

    /// Says which class the settings are.
    pub(super) fn configuration(class: String) -> Self {
        Self { name: configurations::VARIABLE.to_owned(), value: class }
    }

    /// Says that the database is a PostgreSQL, where it said that it is a file.
    pub(super) fn ask_postgres(&mut self) {
        if self.value == Self::database_url().value {
            POSTGRES.clone_into(&mut self.value);
        }
    }

    /// Whether it says that the database is a PostgreSQL that runs elsewhere.
    pub(super) fn is_postgres(&self) -> bool {
        self.value == POSTGRES
    }

    /// Whether each target is to have a value of its own, which nobody else knows.
    pub(super) fn is_key(&self) -> bool {
        self.value == KEY
    }

    /// Whether the value says nothing but that there is one.
    pub(super) fn is_open(&self) -> bool {
        self.value == UNSET
    }

    /// Whether it says that the database is a file of the project's.
    pub(super) fn is_database_file(&self) -> bool {
        self.value.ends_with(DATABASE)
    }
}

/// What a call gives where the variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// An error.
    Fails,
    /// Nothing at all, of which nothing can be asked.
    Nothing,
    /// Something that is empty, or false.
    Empty,
    /// What the project's authors thought of.
    Default,
}

impl Otherwise {
    /// What a default in Python comes to.
    pub(super) fn of(default: &str) -> Self {
        match default {
            "None" => Self::Nothing,
            "\"\"" | "''" | "[]" => Self::Empty,
            off if ["false", "0", "no", "off"].contains(&off.trim_matches(['"', '\'']).to_lowercase().as_str()) => {
                Self::Empty
            }
            _ => Self::Default,
        }
    }
}

/// What the readers of django-environ give for variables that are not set: `environ.Env(DB_HOST=(str, "localhost"))`.
pub(super) type Scheme<'a> = BTreeMap<&'a str, Otherwise>;

/// A call that reads a variable.
struct Read<'a> {
    name: Cow<'a, str>,
    /// The function, such as `env.int`.
    call: &'a str,
    otherwise: Otherwise,
    /// What follows the call.
    rest: &'a str,
}

/// The variables without which a text does not load, or without which nothing is served: a secret key and the names of
/// hosts, where there is no other.
pub(super) fn needed(text: &str, scheme: &Scheme<'_>) -> Vec<Variable> {
    let mut found = Vec::new();
    // Lines that are indented more than this run only where a variable is set.
    let mut guard: Option<usize> = None;
    // What is off where its variable is not set: `USE_S3 = env.bool("USE_S3", False)`.
    let mut off: Vec<&str> = Vec::new();
    let readers = readers(text);
    let lines = logical_lines(text, &readers);
    for line in &lines {
        let indent = line.len() - line.trim_start().len();
        guard = guard.filter(|guard| indent > *guard);
        // Without these nothing is served, whatever copes with their absence.
        if guard.is_some() && !is_of_hosts(line) && !is_of_key(line) || line.trim_start().starts_with("raise ") {
            continue;
        }
        let mut reads = reads(line, &readers);
        for read in reads.iter_mut().filter(|read| read.otherwise == Otherwise::Fails) {
            read.otherwise = scheme.get(&*read.name).copied().unwrap_or(Otherwise::Fails);
        }
        let is_lenient = reads.iter().any(|read| matches!(read.otherwise, Otherwise::Nothing | Otherwise::Empty));
        let has_default = reads.iter().any(|read| read.otherwise == Otherwise::Default);
        if is_guard(line.trim_start(), (is_lenient, has_default), &off) {
            guard = Some(indent);
            continue;
        }
        if is_lenient {
            off.extend(line.split_once('=').map(|(name, _)| name.trim()));
        }
        let needed = reads.into_iter().filter(|read| is_needed(read, line) || is_demanded(text, read));
        found.extend(needed.map(|read| Variable { value: stand_in(&read), name: read.name.into_owned() }));
    }
    if found.iter().any(|variable| variable.value == ENGINE) {
        let is_name = |name: &str| is_of_database(name) && (name.ends_with("NAME") || name.ends_with("DATABASE"));
        found.iter_mut().filter(|it| is_name(&it.name)).for_each(|it| DATABASE.clone_into(&mut it.value));
    }
    found
}

/// The variables by which a text can be told where the database is, whatever it does without them.
pub(super) fn of_database(text: &str) -> Vec<String> {
    let readers = readers(text);
    let lines = logical_lines(text, &readers);
    let read = lines.iter().flat_map(|line| reads(line, &readers)).map(|read| read.name.into_owned());
    let by_default = text.contains("dj_database_url.config(").then(|| "DATABASE_URL".to_owned());
    let mut names: Vec<String> = read.chain(by_default).filter(|name| says_where_database_is(name)).collect();
    names.sort();
    names.dedup();
    names
}

/// Whether a variable says where the application's own database is.
fn says_where_database_is(name: &str) -> bool {
    let of_others = ["TEST", "REPLICA", "REDIS", "CACHE", "UPSTREAM"];
    let last = name.rsplit('_').next().unwrap_or_default();
    is_variable(name)
        && is_of_database(name)
        && WHERE.contains(&last)
        && !name.split('_').any(|word| of_others.contains(&word))
}

/// What the scheme in a text says.
pub(super) fn scheme(text: &str) -> impl Iterator<Item = (&str, Otherwise)> {
    text.lines().flat_map(|line| {
        let entries = line.match_indices("=(").filter_map(|(at, _)| {
            let (arguments, _) = enclosed(&line[at + 2..]);
            arguments.contains(',').then(|| (last_word(&line[..at]), otherwise(arguments, true, false)))
        });
        entries.filter(|(name, _)| is_variable(name))
    })
}

/// Whether what is below a line copes with variables that are not set: the line asks for one, or for what is off without it.
fn is_guard(line: &str, (is_lenient, has_default): (bool, bool), off: &[&str]) -> bool {
    let condition = line.strip_prefix("if ").or_else(|| line.strip_prefix("elif "));
    let Some(condition) = condition.filter(|condition| !condition.starts_with("not ")) else {
        return line.starts_with("try:");
    };
    let mut words = condition.split(|c: char| c != '_' && !c.is_alphanumeric());
    let asks = ["in os.environ", "in environ", "in env:"].iter().any(|it| condition.contains(it));
    asks || is_lenient || has_default && asks_for_another(condition) || words.any(|word| off.contains(&word))
}

/// Whether a condition asks for another value than the one that a variable has by default.
fn asks_for_another(condition: &str) -> bool {
    let Some((read, value)) = condition.split_once("==") else { return false };
    strings(read).last().is_some_and(|default| strings(value).first().is_some_and(|value| value != default))
}

/// Whether a line sets what must be off for a first look: at pages for users, at an address without TLS.
fn is_switch(line: &str) -> bool {
    ["DEBUG =", "SECURE_SSL_REDIRECT ="].iter().any(|setting| line.trim_start().starts_with(setting))
}

/// Whether a line sets which names the application answers to.
fn is_of_hosts(line: &str) -> bool {
    line.trim_start().starts_with("ALLOWED_HOSTS =")
}

/// Whether a line sets the key without which Django does not start.
fn is_of_key(line: &str) -> bool {
    line.trim_start().starts_with("SECRET_KEY =")
}

/// Whether the text refuses to go on without a variable that it has read: it raises an error that names it.
fn is_demanded(text: &str, read: &Read<'_>) -> bool {
    let raised = text.split("raise ").skip(1).filter_map(|rest| rest.split_once('('));
    let errors = raised.filter(|(error, _)| error.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
    let messages = errors.filter_map(|(_, rest)| rest.split(')').next());
    let mut words = messages.flat_map(|message| message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    matches!(read.otherwise, Otherwise::Nothing | Otherwise::Empty) && words.any(|word| *word == *read.name)
}

fn is_needed(read: &Read<'_>, line: &str) -> bool {
    if is_switch(line) {
        return matches!(read.otherwise, Otherwise::Fails | Otherwise::Default);
    }
    let serves = read.name.ends_with("ALLOWED_HOSTS") || is_of_key(line);
    match read.otherwise {
        Otherwise::Fails => true,
        // What is asked of it on a condition copes with nothing.
        Otherwise::Nothing => serves || read.rest.starts_with(['.', '[']) && !read.rest.contains(" if "),
        Otherwise::Empty => serves,
        Otherwise::Default => false,
    }
}

/// What a text calls its readers of django-environ and environs: `env`, and `ENV` after `ENV = environ.Env(…)`.
fn readers(text: &str) -> Vec<&str> {
    let made = text.lines().filter_map(|line| line.split_once('='));
    let made = made.filter(|(_, value)| {
        ["environ.Env(", "environs.Env(", "Env(", "FileAwareEnv("].iter().any(|it| value.trim_start().starts_with(it))
    });
    let names = made.map(|(name, _)| name.split(':').next().unwrap_or_default().trim());
    ["env"].into_iter().chain(names.filter(|name| last_word(name) == *name && !name.is_empty())).collect()
}

/// The lines that say something; a call that reads a variable and goes on below is one line.
fn logical_lines(text: &str, readers: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut is_open, mut joined) = (false, 0);
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match lines.last_mut() {
            Some(last) if is_open && joined < LONGEST_CALL => {
                let code = line.split_once(" #").filter(|(_, comment)| !comment.contains(['"', '\'']));
                last.push_str(code.map_or(line, |(code, _)| code).trim());
                joined += 1;
            }
            _ => {
                lines.push(line.to_owned());
                joined = 0;
            }
        }
        is_open = lines.last().is_some_and(|line| {
            let mut opened = line.match_indices(['(', '[']);
            opened.any(|(at, _)| strictness(line, at, readers).is_some() && enclosed(&line[at + 1..]).1.is_none())
        });
    }
    lines
}

/// Whether the call that opens at a place reads a variable, and then whether it fails without it.
fn strictness(line: &str, open: usize, readers: &[&str]) -> Option<bool> {
    let call = call_before(&line[..open]);
    let named = format!("{call}{}", &line[open..=open]);
    let is_one_of = |names: &[&str]| names.iter().any(|it| named == *it || named.ends_with(&format!(".{it}")));
    let reader = call.split('.').next().unwrap_or_default();
    if configurations::is_value(call) || is_one_of(LENIENT) {
        Some(false)
    } else if is_one_of(STRICT)
        || readers.contains(&reader) && (call == reader || !NOT_READ.contains(&&call[reader.len()..]))
    {
        Some(true)
    } else if (is_switch(line) || is_of_hosts(line)) && !call.is_empty() {
        // People have functions of their own for switches and lists.
        Some(false)
    } else {
        None
    }
}

fn reads<'a>(line: &'a str, readers: &[&str]) -> Vec<Read<'a>> {
    let mut found = Vec::new();
    for (open, _) in line.match_indices(['(', '[']) {
        let call = call_before(&line[..open]);
        let Some(is_strict) = strictness(line, open, readers) else { continue };
        let (arguments, rest) = enclosed(&line[open + 1..]);
        // `environ["X"] = …` sets it.
        let is_set = line[open..].starts_with('[')
            && rest.is_some_and(|rest| rest.trim_start().starts_with('=') && !rest.trim_start().starts_with("=="));
        if is_set {
            continue;
        }
        if configurations::is_value(call) {
            let read = configurations::read(&line[..open], call, arguments).filter(|(name, _)| is_variable(name));
            found.extend(read.map(|(name, otherwise)| Read {
                name: name.into(),
                call,
                otherwise,
                rest: rest.unwrap_or(""),
            }));
            continue;
        }
        let first = strings(arguments).first().copied();
        let named = first.filter(|_| arguments.trim_start().starts_with(['"', '\'']));
        let known = NAMED.iter().find(|(kind, _)| arguments.trim().is_empty() && call.ends_with(&format!(".{kind}")));
        let Some(name) = named.or(known.map(|(_, name)| *name)) else { continue };
        if is_variable(name) {
            found.push(Read {
                name: name.into(),
                call,
                otherwise: otherwise(arguments, is_strict, rest.is_none()),
                rest: rest.unwrap_or(""),
            });
        }
    }
    found
}

/// What a call's arguments say of the variable that is not set. Where a line ends before them, a default may follow.
fn otherwise(arguments: &str, is_strict: bool, is_cut: bool) -> Otherwise {
    let parts = arguments.split(',').skip(1).map(str::trim).filter(|part| !part.is_empty());
    let mut defaults = parts.filter(|part| !part.starts_with("cast") && !part.starts_with("parser"));
    match defaults.next().map(|part| part.trim_start_matches("default").trim_start_matches([' ', '='])) {
        Some(default) => Otherwise::of(default),
        None if is_cut => Otherwise::Default,
        None if is_strict => Otherwise::Fails,
        None => Otherwise::Nothing,
    }
}

/// The dotted name at the end of a text.
fn call_before(text: &str) -> &str {
    text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).next().unwrap_or_default()
}

fn last_word(text: &str) -> &str {
    text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default()
}

/// What a bracket holds, and what follows it; none where the line ends before.
fn enclosed(text: &str) -> (&str, Option<&str>) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return (&text[..at], Some(&text[at + 1..])),
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    (text, None)
}

/// Whether a word is the name of a variable, as people write them.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a variable says where a database is.
fn is_of_database(name: &str) -> bool {
    name.split('_').any(|word| matches!(word, "DB" | "DATABASE" | "POSTGRES" | "POSTGRESQL" | "PG" | "PGPORT"))
}

/// A value that lets the application start.
fn stand_in(read: &Read<'_>) -> String {
    let is_split_at_spaces = ["split()", "split(' ')", "split(\" \")"].iter().any(|it| read.rest.contains(it));
    let kind = read.call.rsplit('.').next().unwrap_or_default();
    let value = match &*read.name {
        // Whatever is no address of that kind is refused; without one it is off.
        name if name.contains("SENTRY") && name.contains("DSN") => "",
        name if name.contains("SECRET") || name.ends_with("KEY") => KEY,
        name if name.contains("DEBUG") || name.contains("SSL_REDIRECT") => "False",
        name if name.ends_with("HOSTS") && is_split_at_spaces => "localhost 127.0.0.1",
        name if name.ends_with("HOSTS") => "localhost,127.0.0.1",
        name if name.ends_with("HOST") || name.ends_with("HOSTNAME") => "localhost",
        _ if matches!(kind, "email" | "email_url") => "smtp+tls://localhost:25",
        _ if matches!(kind, "cache" | "cache_url") => "locmemcache://",
        _ if kind == "search_url" => "simple://",
        _ if matches!(kind, "int" | "float") && !is_of_database(&read.name) => "0",
        _ if kind == "bool" => "False",
        name if name.ends_with("ENGINE") && is_of_database(name) => ENGINE,
        name if name.ends_with("PORT") && is_of_database(name) => "5432",
        name if name.ends_with("PORT") => "0",
        name if name.ends_with("STATIC_ROOT") => "/app/static",
        name if name.ends_with("MEDIA_ROOT") => "/app/src/media",
        "DATABASE_URL" => return Variable::database_url().value,
        name if name.contains("REDIS") || name.contains("BROKER") => "redis://127.0.0.1:6379/0",
        name if ["URL", "ORIGIN", "ORIGINS"].iter().any(|end| name.ends_with(end)) => "http://localhost",
        _ => UNSET,
    };
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> String {
        needed(text, &Scheme::new()).into_iter().map(|variable| variable.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn variables_without_a_default_are_needed() {
        assert_eq!(names("SECRET_KEY = os.environ['SECRET_KEY']"), "SECRET_KEY");
        assert_eq!(names("SECRET_KEY = env(\"DJANGO_SECRET_KEY\")"), "DJANGO_SECRET_KEY");
        assert_eq!(names("X = config('X', cast=int)"), "X");
        let hosts =
            "if 'ALLOWED_HOSTS' in env:\n    ALLOWED_HOSTS = env['ALLOWED_HOSTS'].split(',')\n    OTHER = env['OTHER']";
        assert_eq!(names(hosts), "ALLOWED_HOSTS");
        assert_eq!(names("if 'SECRET_KEY' in env:\n    SECRET_KEY = env['SECRET_KEY']\n"), "SECRET_KEY");
        assert_eq!(names("X = env.list('X')"), "X");
        assert_eq!(names("X = os.environ.get('X').split(',')"), "X");
        for line in [
            "X = config('X', default=1)",
            "X = os.environ.get('X')",
            "X = env.get('X')",
            "X = env('X', 'y')",
            "X = env('X',",
            "app_config('X')",
            "environ['X'",
        ] {
            assert_eq!(names(line), "", "{line}");
        }
    }

    #[test]
    fn readers_of_django_environ_are_known_by_any_name_and_over_several_lines() {
        assert_eq!(names("DEBUG = env.bool('X')\nif env.bool(\"Y\"):\n    Z = env.int('Z')\n"), "X Y Z");
        assert_eq!(names("root_env = environ.Env()\nX = root_env.list(\"X\")\nY = root_env('Y')"), "X Y");
        assert_eq!(names("ENV: Env = FileAwareEnv(A=(str, ''))\nX = ENV.str('X')"), "X");
        assert_eq!(
            names("HOSTS = env.list(\n    'X',\n)\nDEBUG = env.bool(\n    # why\n    'Y', default=False\n)"),
            "X"
        );
        assert_eq!(names("X = {\n    'host': env(\n        'X'\n    ),\n    'port': env.int('Y'),\n}"), "X Y");
        assert_eq!(
            names("X = env.db()\nY = env.email_url()['BACKEND']\nZ = env.cache(default='')"),
            "DATABASE_URL EMAIL_URL"
        );
        assert_eq!(names("os.environ['X'] = str(1)\nY = os.environ['Z'] == 'a'"), "Z");
        assert_eq!(names("env.read_env('ENV')\nother.bool('X')"), "");
    }

    #[test]
    fn nothing_is_served_without_a_key_and_hosts() {
        assert_eq!(names("SECRET_KEY = config('SECRET_KEY', None)"), "SECRET_KEY");
        assert_eq!(names("SECRET_KEY = os.getenv('KEY', 'made-up')"), "");
        assert_eq!(names("hosts = os.environ.get('ALLOWED_HOSTS')"), "ALLOWED_HOSTS");
        assert_eq!(names("ips = os.environ.get('IPS').split(',')"), "IPS");
        assert_eq!(names("ips = os.environ.get('IPS', '').split(',')"), "");
        assert_eq!(names("ALLOWED_HOSTS = comma_list('X_ALLOWED_HOSTS', '')\nX = comma_list('Y')"), "X_ALLOWED_HOSTS");
        assert_eq!(names("ALLOWED_HOSTS = comma_list('X_ALLOWED_HOSTS', 'polls.org')"), "");
        let spaces = needed("ALLOWED_HOSTS = os.environ.get('ALLOWED_HOSTS', '').split(' ')", &Scheme::new());
        assert_eq!(spaces[0].value, "localhost 127.0.0.1");
    }

    #[test]
    fn debugging_and_redirects_to_tls_are_off() {
        assert_eq!(needed("DEBUG = envbool('DEBUG', 'True')", &Scheme::new())[0].value, "False");
        assert_eq!(names("DEBUG = env.bool('DJANGO_DEBUG', default=True)"), "DJANGO_DEBUG");
        assert_eq!(names("DEBUG = os.environ.get('DEBUG', '1') == '1'"), "DEBUG");
        assert_eq!(
            needed("SECURE_SSL_REDIRECT = config('SECURE_SSL_REDIRECT', default=True)", &Scheme::new())[0].value,
            "False"
        );
        for line in
            ["DEBUG = os.environ.get('DEBUG', 'False') != 'False'", "DEBUG = env('DEBUG', False)", "DEBUG = True"]
        {
            assert_eq!(names(line), "", "{line}");
        }
    }

    #[test]
    fn what_is_read_only_where_it_is_set_is_not_needed() {
        let text = "if 'X' in os.environ:\n    X = os.environ['X']\n    Y = os.environ['Y']\nZ = os.environ['Z']\n";
        assert_eq!(names(text), "Z");
        assert_eq!(names("S3 = env.bool('S3', False)\nif S3 and X:\n    Y = env('Y')\nelse:\n    Z = env('Z')\n"), "Z");
        assert_eq!(names("S3 = env.bool('S3', False)\nif X:\n    pass\nelif S3:\n    Y = env('Y')\n"), "");
        assert_eq!(names("X = loads(os.getenv('X').strip() if os.getenv('X') else '{}')"), "");
        assert_eq!(names("if env.str('X', None) and env('Y'):\n    Z = env('Z')\n"), "");
        let one_of = "if getenv('DB', 'a') == 'b':\n    X = environ['X']\nelif getenv('DB', 'a') == 'a':\n    Y = environ['Y']\n";
        assert_eq!(names(one_of), "Y");
        assert_eq!(names("X = getenv('X')\nraise ValueError('X', getenv('X'))\n"), "X");
        assert_eq!(names("raise ValueError('X', getenv('X'))\n"), "");
        assert_eq!(names("try:\n    X = os.environ['X']\nexcept KeyError:\n    X = ''\n"), "");
    }

    #[test]
    fn what_an_error_asks_for_by_name_is_needed() {
        let text = "X = os.environ.get('X_HOSTS')\nif not X:\n    raise ImproperlyConfigured(\n        'X_HOSTS must be set'\n    )\n";
        assert_eq!(names(text), "X_HOSTS");
        assert_eq!(names(&text.replace("ImproperlyConfigured", "exceptions.ValueError")), "X_HOSTS");
        assert_eq!(names("# to raise it\nX = os.environ.get('X')\nprint('X')"), "");
        assert_eq!(names(&text.replace("'X_HOSTS must", "'X_HOSTS_2 must")), "");
        assert_eq!(names(&text.replace("('X_HOSTS')", "('X_HOSTS', 'localhost')")), "");
    }

    #[test]
    fn values_fit_what_reads_them() {
        let value = |line: &str| needed(line, &Scheme::new()).remove(0).value;
        assert_eq!(value("X = env.int('X')"), "0");
        assert_eq!(value("X = env.bool('X')"), "False");
        assert_eq!(value("X = env.db('DATABASE_URL')"), "sqlite:////app/src/db.sqlite3");
        assert_eq!(value("X = env.int('DB_PORT')"), "5432");
        assert_eq!(value("X = env.list('CSRF_TRUSTED_ORIGINS')"), "http://localhost");
        let database = needed("X = {'ENGINE': env.str('DB_ENGINE'), 'NAME': env.str('DB_NAME')}", &Scheme::new());
        let values: Vec<&str> = database.iter().map(|variable| variable.value.as_str()).collect();
        assert_eq!(values, ["django.db.backends.sqlite3", "/app/src/db.sqlite3"]);
        assert_eq!(value("X = env.cache('REDIS')"), "locmemcache://");
        assert_eq!(value("X = env('SENTRY_DSN')"), "");
        assert_eq!(value("X = os.environ['SENTRY_DSN_PROD']"), "");
    }

    #[test]
    fn a_scheme_gives_defaults() {
        let scheme = |text: &'static str| scheme(text).collect::<Vec<_>>();
        assert_eq!(scheme("    DB_HOST=(str, 'localhost'),"), [("DB_HOST", Otherwise::Default)]);
        assert_eq!(
            scheme("env = environ.Env(DEBUG=(bool, False), X_KEY=(str, ''))"),
            [("DEBUG", Otherwise::Empty), ("X_KEY", Otherwise::Empty)]
        );
        assert_eq!(scheme("    DB_HOST=(str),"), []);
    }

    #[test]
    fn an_empty_default_of_a_scheme_serves_nobody() {
        let scheme = scheme("Env(KEY=(str, ''), HOST=(str, ''), X=(str, 'y'), X_ALLOWED_HOSTS=(str, ''))").collect();
        let names = |text: &str| needed(text, &scheme).into_iter().map(|it| it.name).collect::<Vec<_>>().join(" ");
        assert_eq!(names("SECRET_KEY = env('KEY')\nY = env('HOST')\nSECRET_KEY = env('X')"), "KEY");
        assert_eq!(names("ALLOWED_HOSTS = env('X_ALLOWED_HOSTS').split(' ')"), "X_ALLOWED_HOSTS");
        assert_eq!(names("if env('HOST'):\n    Z = env('Z')\n"), "");
    }
}
