use std::fs;

use super::*;
use crate::diagnostic::{Colour, render};
use crate::pipeline::{Pipeline, parse};

const MANAGE: &str = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'polls.settings')\nimport django\n";
const SETTINGS: &str = "
SECRET_KEY = os.environ['SECRET_KEY']
ALLOWED_HOSTS = []
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'db.sqlite3'}}
MEDIA_ROOT = BASE_DIR / 'media'
";

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("polls.").tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in the project")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        Self(dir)
    }

    /// The text, which must be a pipeline without errors.
    fn text(&self) -> String {
        let machine = Machine { pythons: vec![11], node: Some("/usr/bin/node".into()), has_msgfmt: true };
        let text = default_on(self.0.path(), &machine).expect("a pipeline");
        self.parse(&text);
        text
    }

    fn parse(&self, text: &str) -> Pipeline {
        let parsed = parse(&self.0.path().join("release.pipeline"), text);
        parsed.unwrap_or_else(|wrong| panic!("{}\n{text}", render(&wrong.errors, Colour::Never)))
    }
}

#[test]
fn what_an_earlier_run_has_resolved_is_no_lock_of_the_project() {
    let lock = "requires-python = \">=3.11\"\n";
    let text = |lock: Option<&str>| {
        let files = [("manage.py", MANAGE), ("requirements.txt", "django")].into_iter();
        let text = Project::new(&files.chain(lock.map(|lock| ("pylock.toml", lock))).collect::<Vec<_>>()).text();
        // Without the name, which is that of its directory.
        text[text.find("python =").expect("its Python")..].to_owned()
    };
    assert_eq!(text(Some(&format!("{lock}[tool.pipe]\nversion = 1\n"))), text(None));
    assert!(text(Some(lock)).contains("path = \"pylock.toml\""), "one of the project's own is");
}

#[test]
fn a_plain_project_gets_a_pipeline_that_says_little() {
    let project = Project::new(&[
        ("manage.py", MANAGE),
        ("polls/settings.py", SETTINGS),
        ("polls/wsgi.py", MANAGE),
        ("uv.lock", "[[package]]\nname = \"django\"\n"),
        ("pyproject.toml", "[project]\nname = \"Polls\"\n"),
        (".python-version", "3.4\n"),
    ]);
    let expected = r#"# Builds this Django project into a slug and releases it: `pipe run`.
# A step runs again only when something that it has read has changed.

[app]
name = "polls"
python = "3.4"   # from .python-version
# This machine has no Python 3.4: install it, with `uv python install 3.4` or pyenv.

# Which packages: what the project's lock says, for this Python and platform.
[steps.lock]
plugin = "python-lock"
inputs = { project = "source" }

# The environment, at /app/venv.
[steps.venv]
plugin = "python-venv"
inputs = { lock = "lock", project = "source" }
grants = { fetch = ["index"], exec = ["python"] }
# The project has no server for production.
config = { add = ["gunicorn"] }

# `manage.py collectstatic`, without a network or a database.
[steps.static]
plugin = "django-static"
inputs = { project = "source", venv = "venv" }
grants = { exec = ["python"] }

# The result: /app/{src,venv,static}, the same wherever it runs.
[steps.slug]
plugin = "slug"
inputs = { project = "source", venv = "venv", static = "static" }
config = { environment = ["SECRET_KEY"] }

# `pipe run` ends here, and says at which address.
[targets.staging]
release = "slug"
driver = "local"
# address = "127.0.0.1:8000"   # by default the first free port from 8000 on, which then stays
release-commands = ["python manage.py migrate --noinput"]
data = ["db.sqlite3", "media"]      # kept from release to release
env = { DJANGO_SETTINGS_MODULE = "polls.settings" }
generate = ["SECRET_KEY"]    # made up at the first release; `pipe config staging set SECRET_KEY=…` replaces it
# env-file = ".env.staging"   # what a slug and a repository must not hold, instead of what `env` says

# Never built: `pipe promote staging production` releases the very slug that staging runs.
[targets.production]
promote = "staging"
driver = "local"
# address = "127.0.0.1:8000"   # by default the first free port from 8000 on, which then stays
release-commands = ["python manage.py migrate --noinput"]
data = ["db.sqlite3", "media"]      # kept from release to release
env = { DJANGO_SETTINGS_MODULE = "polls.settings" }
generate = ["SECRET_KEY"]    # made up at the first release; `pipe config production set SECRET_KEY=…` replaces it
# env-file = ".env.production"   # what a slug and a repository must not hold, instead of what `env` says
"#;
    assert_eq!(project.text(), expected);
}

#[test]
fn a_project_in_a_directory_with_settings_and_requirements_for_production_is_understood() {
    let local = MANAGE.replace("polls.settings", "config.settings.local");
    let production = MANAGE.replace("polls.settings", "config.settings.production");
    let project = Project::new(&[
        ("backend/manage.py", &local),
        ("backend/config/wsgi.py", &production),
        ("backend/config/settings/base.py", "DATABASES = {'default': env.db('DATABASE_URL')}\n"),
        ("backend/config/settings/local.py", "X = os.environ['ONLY_LOCAL']\n"),
        ("backend/config/settings/production.py", "\nALLOWED_HOSTS = ['.example.org']\nADMIN = env('ADMIN_URL')\n"),
        ("backend/requirements/base.txt", "--extra-index-url https://packages.example.org/simple\npsycopg2==2.9\n"),
        ("backend/requirements/local.txt", "-r base.txt\n"),
        ("backend/requirements/production.txt", "-r base.txt\ngunicorn==23.0\n"),
        ("backend/.env.example", "A=1\n"),
        ("frontend/package-lock.json", "{}"),
        ("Procfile", "release: python manage.py migrate\n"),
    ]);
    let text = project.text();
    for line in [
        "extra = [\"https://packages.example.org/simple\"]",
        "# system = [\"libpq5\"]",
        "# build-system = [\"gcc\", \"libpq-dev\"]",
        "# `requirements/production.txt` leaves versions open: the first run resolves them into `pylock.toml`. Commit that.",
        "config = { root = \"backend\", path = \"requirements/production.txt\" }",
        "config = { root = \"backend\", settings = \"config.settings.production\", environment = { ADMIN_URL = \"http://localhost\" } }",
        "host = \"example.org\"             # from ALLOWED_HOSTS",
        "# `frontend/package-lock.json` is there. If a front end is built before `collectstatic`, take the # away and",
        "# env-file = \".env.staging\"   # what a slug and a repository must not hold, instead of what `env` says, as `.env.example` shows",
        "data = [\"db.sqlite3\"]      # kept from release to release",
    ] {
        assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
    }
    assert!(!text.contains("ONLY_LOCAL") && !text.contains("migrate") && !text.contains("add ="), "{text}");
}

#[test]
fn a_project_without_a_database_migrates_none() {
    let migrates =
        |settings| Project::new(&[("manage.py", MANAGE), ("polls/settings.py", settings)]).text().contains("migrate");
    assert!(!migrates("INSTALLED_APPS = []\n"));
    assert!(!migrates("# DATABASES are for others\nDATABASES = {}\n"));
    assert!(migrates("DATABASES = {}\nDATABASES['default'] = config()\n"));
    assert!(migrates("from base.defaults import *  # noqa\n"));
}

#[test]
fn of_several_locks_the_fullest_is_named() {
    let project = Project::new(&[
        ("manage.py", MANAGE),
        ("requirements.txt", "django"),
        ("poetry.lock", "[[package]]\nname = \"gunicorn\"\n"),
        ("pyproject.toml", "[tool.poetry.group.prod]\n"),
    ]);
    let text = project.text();
    assert!(text.contains("config = { path = \"poetry.lock\", groups = [\"prod\"] }"), "{text}");
    assert!(!text.contains("add ="), "{text}");
}

#[test]
fn the_public_index_is_called_by_its_name_of_today() {
    let text = |requirements| Project::new(&[("manage.py", MANAGE), ("requirements.txt", requirements)]).text();
    assert!(!text("-i https://pypi.org/simple\ndjango\n").contains("[index]"));
    let old = text("-i https://pypi.python.org/simple\ndjango\n");
    assert!(old.contains("[index]") && old.contains("url = \"https://pypi.org/simple\"\n"), "{old}");
}

#[test]
fn groups_hold_the_packages_where_no_project_does() {
    let groups = "[dependency-groups]\nmain = ['django']\ndev = ['pytest']\n";
    let text = |pyproject: &str| Project::new(&[("manage.py", MANAGE), ("pyproject.toml", pyproject)]).text();
    assert!(text(groups).contains("config = { groups = [\"main\"] }"), "{}", text(groups));
    let project = format!("[project]\nname = 'polls'\n{groups}");
    assert!(!text(&project).contains("groups = "), "{}", text(&project));
}

#[test]
fn a_project_whose_code_is_in_src_is_installed() {
    let build = "[project]\nname = 'polls'\n[build-system]\nrequires = ['hatchling']\n";
    let text =
        |files: &[(&str, &str)]| Project::new(&[&[("manage.py", MANAGE), ("uv.lock", "")], files].concat()).text();
    let installed = |files: &[(&str, &str)]| text(files).contains("config = { install-project = true }");
    assert!(installed(&[("pyproject.toml", build), ("src/polls/__init__.py", "")]));
    assert!(!installed(&[("pyproject.toml", build), ("polls/__init__.py", "")]));
    assert!(!installed(&[("pyproject.toml", "[project]\nname = 'polls'\n"), ("src/polls/__init__.py", "")]));
}

#[test]
fn commits_are_seen_in_every_format() {
    for (file, text) in [
        ("pylock.toml", "vcs = { type = \"git\", url = \"https://h/x\" }"),
        ("uv.lock", "source = { git = \"https://h/x\" }"),
        ("poetry.lock", "[package.source]\ntype = \"git\""),
        ("Pipfile.lock", "\"x\": {\"git\": \"https://h/x\"}"),
        ("requirements.txt", "git+https://h/x@v1#egg=x"),
    ] {
        let text = Project::new(&[("manage.py", MANAGE), (file, text)]).text();
        assert!(text.contains("fetch = [\"index\", \"git\"]"), "{file}");
    }
}

/// A lock of `polls`, which needs Django; the rest is in groups and extras.
fn uv_lock(groups: &str) -> String {
    let package = |name: &str| {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"1\"\nsource = {{ registry = \"https://pypi.org/simple\" }}\n\
             sdist = {{ url = \"https://h/{name}-1.tar.gz\", hash = \"sha256:00\" }}\n"
        )
    };
    let packages: Vec<String> = ["django", "gunicorn", "daphne", "psycopg2"].map(package).into();
    format!(
        "version = 1\n[[package]]\nname = \"polls\"\nversion = \"1\"\nsource = {{ virtual = \".\" }}\n\
         dependencies = [{{ name = \"django\" }}]\n{groups}\n{}\n[[package]]\nname = \"stubs\"\n\
         source = {{ git = \"https://h/stubs#0123456789012345678901234567890123456789\" }}\n",
        packages.concat()
    )
}

#[test]
fn what_today_cannot_build_is_built_with_what_could() {
    for (version, is_old) in [("5.4.1", true), ("6.0.1", false)] {
        let hash = "12ec0b40b0273f95296233e8750441339298e6a572f7039da5b260e3c8b60e11";
        let requirements = format!("gunicorn==23.0.0 --hash=sha256:{hash}\nPyYAML=={version} --hash=sha256:{hash}\n");
        let text = Project::new(&[("manage.py", MANAGE), ("requirements.txt", &requirements)]).text();
        assert_eq!(text.contains("config = { build-constraints = [\"Cython<3\"] }"), is_old, "{text}");
    }
}

#[test]
fn a_driver_that_is_python_alone_needs_its_library() {
    for (requirements, is_needed) in
        [("psycopg==3.3", true), ("psycopg[binary,pool]==3.3", false), ("psycopg2-binary", false)]
    {
        let text = Project::new(&[("manage.py", MANAGE), ("requirements.txt", requirements)]).text();
        assert_eq!(text.contains("system = [\"libpq5\"]"), is_needed, "{requirements}");
    }
}

#[test]
fn what_only_developers_install_is_not_counted() {
    let lock = uv_lock(
        "[package.dev-dependencies]\ndev = [{ name = \"daphne\" }, { name = \"psycopg2\" }, { name = \"stubs\" }]",
    );
    let pyproject = "[dependency-groups]\ndev = ['daphne']\n";
    let project = Project::new(&[("manage.py", MANAGE), ("pyproject.toml", pyproject), ("uv.lock", &lock)]);
    let text = project.text();
    assert!(text.contains("config = { add = [\"gunicorn\"] }"), "{text}");
    assert!(!text.contains("libpq") && !text.contains("groups = ") && !text.contains("\"git\""), "{text}");
    for (options, is_taken) in [("", true), (" \\\n --no-dev", false)] {
        let image = format!("FROM python:3.12\nRUN uv sync --locked{options}\n");
        fs::write(project.0.path().join("Dockerfile"), &image).expect("written");
        assert_eq!(project.text().contains("groups = [\"dev\"]"), is_taken, "{image}");
    }
}

#[test]
fn the_group_or_extra_that_has_the_server_is_taken() {
    let text = |lock: &str, pyproject: &str| {
        Project::new(&[("manage.py", MANAGE), ("pyproject.toml", pyproject), ("uv.lock", lock)]).text()
    };
    let lock = uv_lock("[package.dev-dependencies]\ndocker = [{ name = \"gunicorn\" }]");
    let group = text(&lock, "[dependency-groups]\ndev = []\ndocker = ['gunicorn']\n");
    assert!(group.contains("config = { groups = [\"docker\"] }") && !group.contains("add ="), "{group}");
    let lock = uv_lock(
        "[package.optional-dependencies]\nweb = [{ name = \"gunicorn\" }]\n[package.metadata]\n\
         requires-dist = [{ name = \"django\" }, { name = \"gunicorn\", marker = \"extra == 'web'\" }]",
    );
    let pyproject = "[project]\nname = 'polls'\ndependencies = ['django']\n[project.optional-dependencies]\nall = []\nweb = ['gunicorn']\n";
    let extra = text(&lock, pyproject);
    assert!(extra.contains("config = { extras = [\"web\"] }") && !extra.contains("add ="), "{extra}");
}

#[test]
fn an_application_of_asgi_alone_needs_a_server_that_can_run_it() {
    let text = |application| {
        Project::new(&[("manage.py", MANAGE), (application, ""), ("requirements.txt", "gunicorn")]).text()
    };
    assert!(text("polls/asgi.py").contains("add = [\"uvicorn\"]"));
    assert!(!text("polls/wsgi.py").contains("add ="));
}

#[test]
fn settings_for_production_are_taken_where_scripts_name_those_for_development() {
    let dev = MANAGE.replace("polls.settings", "polls.settings.dev");
    let files = [
        ("manage.py", &*dev),
        ("polls/wsgi.py", &dev),
        ("polls/settings/dev.py", ""),
        ("polls/settings/production.py", "X = os.environ['X_HOST']\n"),
    ];
    let text = Project::new(&files).text();
    assert!(
        text.contains("settings = \"polls.settings.production\", environment = { X_HOST = \"localhost\" }"),
        "{text}"
    );
    assert!(text.contains("env = { DJANGO_SETTINGS_MODULE = \"polls.settings.production\", X_HOST"), "{text}");
    let text = Project::new(&files[..3]).text();
    assert!(!text.contains("settings ="), "{text}");
    let package = [("manage.py", MANAGE), ("polls/settings/__init__.py", "\n"), files[3]];
    assert!(Project::new(&package).text().contains("settings = \"polls.settings.production\""));
    let package = [package[0], ("polls/settings/__init__.py", "from .base import *\n"), files[3]];
    assert!(!Project::new(&package).text().contains("settings.production"));
    let either = "try:\n    from .dev import *\nexcept ImportError:\n    from .production import *\n";
    let package = [package[0], ("polls/settings/__init__.py", either), files[3]];
    assert!(Project::new(&package).text().contains("settings = \"polls.settings.production\""));
    // Some packages set Django up before `wsgi.py` says with which settings.
    assert!(text.contains("env = { DJANGO_SETTINGS_MODULE = \"polls.settings.dev\" }"), "{text}");
}

#[test]
fn settings_that_nothing_names_are_found_by_their_name() {
    let manage = "from django.core.management import execute_from_command_line\n";
    let text = |settings: &[(&str, &str)]| Project::new(&[&[("manage.py", manage)], settings].concat()).text();
    let base = ("polls/settings/base.py", "X = env('X')\n");
    let text_of_base = text(&[base, ("polls/settings/development.py", "")]);
    assert!(
        text_of_base.contains("settings = \"polls.settings.base\", environment = { X = \"unset\" }"),
        "{text_of_base}"
    );
    assert!(text_of_base.contains("env = { DJANGO_SETTINGS_MODULE = \"polls.settings.base\""), "{text_of_base}");
    let production = text(&[base, ("polls/settings/production.py", "")]);
    assert!(production.contains("settings = \"polls.settings.production\""), "{production}");
}

/// A front end: its directory, its `package.json` and its lock.
fn front_end<'a>(package: &'a str, lock: &'a str) -> [(&'a str, &'a str); 2] {
    [("ui/package.json", package), ("ui/package-lock.json", lock)]
}

#[test]
fn a_front_end_that_django_serves_is_built() {
    let settings = "STATICFILES_DIRS = [BASE_DIR / 'ui' / 'dist']\nCOMPRESS_OFFLINE = True\n";
    let [package, lock] = front_end(r#"{"scripts": {"build": "vite build", "build:prod": "vite build -p"}}"#, "{}");
    let text = Project::new(&[("manage.py", MANAGE), ("polls/settings.py", settings), package, lock]).text();
    for line in [
        "inputs = { project = \"source\", venv = \"venv\", overlay = \"frontend\" }",
        "inputs = { project = \"source\", venv = \"venv\", static = \"static\", overlay = \"frontend\" }",
        "config = { run = [\"npm\", \"run\", \"build:prod\"], cwd = \"ui\", exclude = [\"**/*.py\"], collect-written = true }",
        "config = { after = [\"python manage.py compress\"] }",
    ] {
        assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
    }
}

#[test]
fn a_script_by_a_name_of_its_own_is_chosen_where_it_writes_for_django_and_told_of_where_not() {
    let text = |scripts: &str, settings: &str| {
        let package = format!("{{\"scripts\": {scripts}}}");
        let lock = r#"{"packages": {"node_modules/x": {"bin": {"sass": "x", "webpack": "x"}}}}"#;
        let files = [("package.json", &*package), ("package-lock.json", lock), ("polls/settings.py", settings)];
        Project::new(&[&[("manage.py", MANAGE)], &files[..]].concat()).text()
    };
    let sass = r#"{"build:css:sass": "sass polls/static/a.scss polls/static/a.css", "lint": "eslint"}"#;
    assert!(text(sass, "").contains("\nconfig = { run = [\"npm\", \"run\", \"build:css:sass\"]"), "{}", text(sass, ""));
    let webpack = r#"{"webpack": "webpack -o bundles", "watch": "webpack --watch"}"#;
    let named = "\nSTATICFILES_DIRS = [\n    os.path.join(BASE_DIR, \"bundles\"),\n]\n";
    let chosen = text(webpack, named);
    assert!(chosen.contains("\nconfig = { run = [\"npm\", \"run\", \"webpack\"]"), "{chosen}");
    let one = text(webpack, "");
    assert!(
        one.contains("# `package-lock.json` is there. If `webpack` builds a front end, choose it in `run`, take"),
        "{one}"
    );
    assert!(one.contains("# config = { run = [\"npm\", \"run\", \"webpack\"]"), "{one}");
    let lacking = text(r#"{"css": "lessc polls/static/a.less polls/static/a.css"}"#, "");
    assert!(lacking.contains("If `css` builds a front end"), "no package brings it: {lacking}");
    let several = text(r#"{"css": "sass a static/b", "js": "webpack"}"#, "");
    assert!(several.contains("If one of `css` and `js` builds a front end"), "{several}");
}

#[test]
fn a_front_end_that_gulp_builds_is_built() {
    let files = [
        ("manage.py", MANAGE),
        ("package.json", "{}"),
        ("package-lock.json", r#"{"packages": {"node_modules/gulp": {"bin": {"gulp": "bin/gulp.js"}}}}"#),
    ];
    let text = |gulp| Project::new(&[&files[..], &[("gulpfile.js", gulp)]].concat()).text();
    let built = text("gulp.task(\"build\", gulp.parallel(\"scripts\", \"styles\"));\n");
    assert!(built.contains("\nconfig = { run = [\"npx\", \"gulp\", \"build\"]"), "{built}");
    assert!(built.contains("\ngrants = { exec = [\"npx\"] }"), "{built}");
    assert!(!text("gulp.task(\"docs:build\", docs);\n").contains("\n[steps.frontend]"));
}

#[test]
fn translations_that_git_ignores_are_compiled() {
    let files = [
        ("manage.py", MANAGE),
        (".gitignore", "*.mo\n"),
        ("polls/locale/de/LC_MESSAGES/django.po", ""),
        ("polls/settings.py", "INSTALLED_APPS = [\n    'statici18n',\n]\nCOMPRESS_OFFLINE = env.bool('X', False)\n"),
    ];
    let text = Project::new(&files).text();
    assert!(text.contains("\n[steps.messages]"), "{text}");
    assert_eq!(text.matches("overlay = \"messages\" }").count(), 2, "{text}");
    assert!(text.contains("config = { before = [\"python manage.py compilejsi18n\"] }"), "{text}");
    for other in [(".gitignore", "*.pyc\n"), ("polls/locale/de/LC_MESSAGES/django.mo", "")] {
        let text = Project::new(&[&files[..], &[other]].concat()).text();
        assert!(!text.contains("messages"), "{text}");
    }
    let [package, lock] = front_end(r#"{"scripts": {"build": "vite build --outDir ../polls/static"}}"#, "{}");
    let text = Project::new(&[&files[..], &[package, lock]].concat()).text();
    assert_eq!(text.matches("overlay = [\"messages\", \"frontend\"] }").count(), 2, "{text}");
    let without = Machine { pythons: vec![11], node: None, has_msgfmt: false };
    let text = default_on(Project::new(&files).0.path(), &without).expect("a pipeline");
    assert!(text.contains("\n# [steps.messages]") && !text.contains("overlay = \"messages\" }"), "{text}");
}

#[test]
fn a_front_end_that_nothing_of_django_names_is_left_to_its_owner() {
    let [package, lock] = front_end(r#"{"scripts": {"build": "vite build"}}"#, "{}");
    let text = Project::new(&[("manage.py", MANAGE), package, lock]).text();
    assert!(text.contains("# [steps.frontend]") && !text.contains("overlay = \"frontend\" }"), "{text}");
    let writes = ("ui/vite.config.ts", "export default { build: { outDir: '../polls/static' } }");
    let text = Project::new(&[("manage.py", MANAGE), package, lock, writes]).text();
    assert!(text.contains("\n[steps.frontend]") && text.contains("overlay = \"frontend\" }"), "{text}");
}

#[test]
fn a_front_end_deep_in_the_project_is_found_where_there_is_none_nearer() {
    let deep = [
        ("manage.py", MANAGE),
        ("apps/web/frontend/package.json", r#"{"scripts": {"build": "vite build --outDir ../static"}}"#),
        ("apps/web/frontend/package-lock.json", "{}"),
        ("apps/web/static/lib/x/package-lock.json", "{}"),
        ("apps/a/node_modules/x/package-lock.json", "{}"),
    ];
    let text = Project::new(&deep).text();
    assert!(text.contains("config = { root = \"apps/web/frontend\" }"), "{text}");
    assert!(text.contains("cwd = \"apps/web/frontend\""), "{text}");
    let text = Project::new(&[&deep[..], &[("ui/package-lock.json", "{}")]].concat()).text();
    assert!(text.contains("`ui/package-lock.json` is there."), "{text}");
    assert!(!Project::new(&[deep[0], deep[3], deep[4]]).text().contains("package-lock"));
}

#[test]
fn of_several_front_ends_the_one_that_is_called_so_is_taken() {
    let writes = r#"{"scripts": {"build": "build --outDir ../backend/static"}}"#;
    let text = Project::new(&[
        ("backend/manage.py", MANAGE),
        ("emails/package.json", writes),
        ("emails/package-lock.json", "{}"),
        ("frontend/package.json", writes),
        ("frontend/package-lock.json", "{}"),
    ])
    .text();
    assert!(text.contains("cwd = \"frontend\"") && !text.contains("emails"), "{text}");
}

#[test]
fn the_directory_of_a_database_is_made_and_hosts_that_are_not_known_are_left_out() {
    let settings = "ALLOWED_HOSTS = [f'www.{DOMAIN}', '%s.example.org' % NAME]\nX = os.environ['X']\n\
                    DATABASES = {'default': {'NAME': os.path.join(BASE_DIR, 'data', 'db.sqlite3')}}\n";
    let text = Project::new(&[("manage.py", MANAGE), ("polls/settings.py", settings)]).text();
    assert!(text.contains("directories = [\"data\"] }"), "{text}");
    assert!(text.contains("data = [\"data/db.sqlite3\"]"), "{text}");
    let tasks = "T = {'DATABASE': os.path.join(BASE_DIR, 'data', 'tasks.sqlite3')}\n";
    let several = Project::new(&[("manage.py", MANAGE), ("polls/settings.py", &format!("{settings}{tasks}"))]).text();
    assert!(several.contains("data = [\"data\"]") && several.contains("directories = [\"data\"] }"), "{several}");
    assert!(text.contains("# What is `unset` lets it start"), "{text}");
    assert!(!text.contains("host ="), "{text}");
}

#[test]
fn a_directory_with_more_than_a_database_is_kept_as_a_whole_unless_it_holds_source() {
    let settings =
        "DEBUG = False\nDATA_DIR = BASE_DIR / 'data'\nDATABASES = {'default': {'NAME': DATA_DIR / 'db.sqlite3'}}\n";
    let with = |line: &str, file: &str| {
        let text = format!("{settings}{line}\n");
        Project::new(&[("manage.py", MANAGE), ("polls/settings.py", &text), (file, "")]).text()
    };
    let uploads = "MEDIA_ROOT = os.environ.get('MEDIA', DATA_DIR / 'uploads')";
    for line in [uploads, "PRIVATE_FILES = DATA_DIR / 'private'"] {
        let text = with(line, "data/db.sqlite3");
        assert!(text.contains("data = [\"data\"]") && text.contains("directories = [\"data\"] }"), "{text}");
    }
    assert!(with("LOGS = BASE_DIR / 'logs'", "data/.gitkeep").contains("data = [\"data/db.sqlite3\"]"));
    assert!(with(uploads, "data/models.py").contains("data = [\"data/db.sqlite3\"]"));
}

#[test]
fn what_uwsgi_sets_is_there_before_a_script_looks() {
    let uwsgi = "[uwsgi]\nmodule = polls.wsgi\nenv = DJANGO_SETTINGS_MODULE=polls.deployed\nenv=SITE=one=1\nenv = PLACE=$(HOME)/x\n\
                 [other]\nenv = SITE=two\n";
    let text = Project::new(&[
        ("manage.py", MANAGE),
        ("polls/wsgi.py", MANAGE),
        ("polls/settings.py", ""),
        ("polls/deployed.py", "SITE = os.environ['SITE']\nPLACE = os.environ['PLACE']\n"),
        ("uwsgi.ini", uwsgi),
    ])
    .text();
    let variables = "DJANGO_SETTINGS_MODULE = \"polls.deployed\", PLACE = \"unset\", SITE = \"one=1\" }";
    assert!(text.contains(&format!("env = {{ {variables}")), "{text}");
    assert!(text.contains("config = { settings = \"polls.deployed\""), "{text}");
}

#[test]
fn source_that_gitignore_leaves_out_is_kept_where_there_is_no_repository() {
    let files = [
        ("manage.py", MANAGE),
        (".gitignore", "lib/\nbuild/\nenv*/\nvar/\n"),
        ("web/src/lib/i18n.js", ""),
        ("web/src/lib/build/x.js", ""),
        ("web/build/x.js", ""),
        ("env3/pyvenv.cfg", ""),
        ("env3/lib/x.py", ""),
        ("var/data.bin", ""),
    ];
    let text = Project::new(&files).text();
    assert!(text.contains("[source]\nexclude = [\"!/web/src/lib/\"]\n"), "{text}");
    let text = Project::new(&[&files[..], &[(".git/HEAD", "")]].concat()).text();
    assert!(!text.contains("[source]"), "{text}");
}

#[test]
fn settings_that_are_written_by_hand_are_told_of() {
    let files = [
        ("manage.py", MANAGE),
        (".gitignore", "/polls/configuration.py\nlocal_settings.py\n"),
        ("polls/configuration_example.py", ""),
        ("polls/local_settings.py.dist", ""),
        ("polls/views_example.py", ""),
    ];
    let text = Project::new(&files).text();
    assert!(
        text.contains("# `polls/configuration.py` is written by hand, as `configuration_example.py` beside"),
        "{text}"
    );
    assert!(text.contains("a line `!/polls/local_settings.py` in `.pipeignore` has it taken"), "{text}");
    assert!(!text.contains("views"), "{text}");
}

#[test]
fn where_the_database_is_can_be_said() {
    let settings = "DATABASES = {'default': {'HOST': env('DB_HOST', default='db'), 'NAME': values.Value('x', environ_name='DB_NAME', environ_prefix=None)}}\n\
                    X = env('TEST_DB_NAME', default='')\nY = env('DB_SSL_MODE', default='')\n";
    let text = |settings| Project::new(&[("manage.py", MANAGE), ("polls/settings.py", settings)]).text();
    let line = "# Where the database is, say these, unless the project's own values do: `DB_HOST` and `DB_NAME`\n";
    assert_eq!(text(settings).matches(line).count(), 2, "{}", text(settings));
    let url = text("DATABASES = {'default': dj_database_url.config(default='postgres:///polls')}\n");
    assert!(url.contains("unless the project's own values do: `DATABASE_URL`\n"), "{url}");
    let file = text("DATABASES = {'default': env.db('DATABASE_URL', default='sqlite:///db.sqlite3')}\n");
    assert!(!file.contains("Where the database is"), "{file}");
}

#[test]
fn a_cache_in_the_database_gets_its_table() {
    let settings = ("polls/settings.py", "DATABASES = x\nBACKEND = 'django.core.cache.backends.db.DatabaseCache'\n");
    let files = [("manage.py", MANAGE), settings];
    let commands = "release-commands = [\"python manage.py createcachetable\", \"python manage.py migrate --noinput\"]";
    assert!(Project::new(&files).text().contains(commands));
    let procfile = ("Procfile", "release: sh release.sh \"a\"\nweb: bin/start-nginx gunicorn polls.wsgi\n");
    let text = Project::new(&[&files[..], &[procfile]].concat()).text();
    assert!(
        text.contains("release-commands = [\"python manage.py createcachetable\", 'sh release.sh \"a\"']"),
        "{text}"
    );
    assert!(text.contains("config = { processes = { web = \"gunicorn polls.wsgi\" } }"), "{text}");
}

#[test]
fn a_python_that_only_a_release_of_debian_has_comes_from_there() {
    let lock = uv_lock("[package.dev-dependencies]\ndev = []");
    let text =
        |version| Project::new(&[("manage.py", MANAGE), ("uv.lock", &lock), (".python-version", version)]).text();
    let testing = "[runtime]\nkind = \"packages\"\nsuite = \"forky\"\nbuild-system = [\"gcc\"]\n";
    assert!(text("3.14").contains(testing), "{}", text("3.14"));
    assert!(!text("3.11").contains("[runtime]") && !text("3.12").contains("[runtime]"));
}

#[test]
fn packages_of_the_system_have_the_name_of_their_release() {
    let files = |python| [("manage.py", MANAGE), ("requirements.txt", "python-ldap"), (".python-version", python)];
    let text = |python| Project::new(&files(python)).text();
    assert!(text("3.11").contains("\"libldap-2.5-0\""));
    assert!(text("3.13").contains("system = [\"libldap2\", \"libsasl2-2\"]"), "{}", text("3.13"));
}

#[test]
fn a_database_whose_file_cannot_be_told_is_named_where_it_can_be() {
    let settings = "if \"DATABASE_URL\" in os.environ:\n    DATABASES = {'default': dj_database_url.config()}\nelse:\n    \
                    DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': path(get('X', 'db'))}}\n";
    let text = Project::new(&[("manage.py", MANAGE), ("polls/settings.py", settings)]).text();
    assert!(text.contains("data = [\"db.sqlite3\"]"), "{text}");
    assert!(text.contains("DATABASE_URL = \"sqlite:////app/src/db.sqlite3\""), "{text}");
}

#[test]
fn a_project_that_uses_what_only_postgresql_has_is_not_given_a_file() {
    let files = [
        ("manage.py", MANAGE),
        ("polls/settings.py", "DATABASES = {'default': env.db('DATABASE_URL')}\n"),
        ("polls/models.py", "from django.contrib.postgres.fields import ArrayField\n"),
    ];
    let text = Project::new(&files).text();
    assert!(text.contains("DATABASE_URL = \"postgres://app:app@127.0.0.1:5432/app\""), "{text}");
    assert!(text.contains("# The project uses what only PostgreSQL has") && !text.contains("db.sqlite3"), "{text}");
    assert!(!Project::new(&files[..2]).text().contains("ostgre"));
}

#[test]
fn a_lock_that_no_step_reads_is_told_what_to_do_about() {
    for lock in ["yarn.lock", "pnpm-lock.yaml"] {
        let path = format!("web/ui/{lock}");
        let files = [("manage.py", MANAGE), ("web/ui/package.json", "{}"), (path.as_str(), "")];
        let text = Project::new(&files).text();
        assert!(text.contains(&format!("# `{path}` is there, and nothing here builds its front end")), "{text}");
        assert!(text.contains("`npm install --package-lock-only` in `web/ui`"), "{text}");
        let text = Project::new(&[&files[..], &[("web/ui/package-lock.json", "{}")]].concat()).text();
        assert!(!text.contains(lock), "{text}");
    }
}

#[test]
fn of_settings_that_are_classes_the_one_for_production_is_taken() {
    let script = format!("{MANAGE}os.environ.setdefault('DJANGO_CONFIGURATION', 'Development')\n");
    let settings = "from configurations import Configuration, values\n\n\
        class Base(Configuration):\n    SECRET_KEY = values.Value(None)\n\n\
        class Development(Base):\n    DEBUG = True\n\n\
        class Production(Base):\n    X = values.SecretValue()\n";
    let text = Project::new(&[("manage.py", &script), ("polls/settings.py", settings)]).text();
    assert!(text.contains("environment = { DJANGO_CONFIGURATION = \"Production\", DJANGO_X = \"unset\" }"), "{text}");
    assert!(text.contains("generate = [\"DJANGO_SECRET_KEY\"]"), "{text}");
}

#[test]
fn a_procfile_for_development_is_left_out() {
    let procfile = ("Procfile", "web: python manage.py runserver\nstyles: npm run watch\n");
    let text = Project::new(&[("manage.py", MANAGE), procfile]).text();
    assert!(text.contains("static = \"static\" }\n# Without the `Procfile`"), "{text}");
    assert!(text.contains("\nconfig = { exclude = [\"Procfile\"] }\n"), "{text}");
}

#[test]
fn packages_of_npm_may_be_commits() {
    let lock = |origin: &str| format!("{{\"packages\": {{\"node_modules/x\": {{\"resolved\": \"{origin}\"}}}}}}");
    let text = |origin: &str| {
        let (locked, package) = (lock(origin), "{\"scripts\": {\"build\": \"x\"}}");
        Project::new(&[("manage.py", MANAGE), ("package-lock.json", &locked), ("package.json", package)]).text()
    };
    let commit = text("git+ssh://git@github.com/user/x.git#0123abc");
    assert!(commit.contains("grants = { fetch = [\"npm\", \"git\"] }"), "{commit}");
    let package = text("https://registry.npmjs.org/x/-/x-1.0.0.tgz");
    assert!(package.contains("grants = { fetch = [\"npm\"] }"), "{package}");
}

#[test]
fn what_settings_take_out_of_node_modules_is_there() {
    let settings = "STATICFILES_DIRS = [BASE_DIR / 'node_modules/bootstrap/dist']\n";
    let files =
        [("manage.py", MANAGE), ("polls/settings.py", settings), ("package.json", "{}"), ("package-lock.json", "{}")];
    let text = Project::new(&files).text();
    assert!(!text.contains("omit"), "{text}");
    assert!(
        text.contains("inputs = { project = \"source\", venv = \"venv\", node-modules = \"node-modules\" }"),
        "{text}"
    );
    assert!(!text.contains("steps.frontend"), "{text}");
    let package = ("package.json", r#"{"dependencies": {"bootstrap": "5"}, "devDependencies": {"react": "19"}}"#);
    let text = Project::new(&[files[0], files[1], package, files[3]]).text();
    assert!(text.contains("config = { omit = [\"dev\"] }\ngrants = { fetch = [\"npm\"] }"), "{text}");
    let below = [
        ("web/manage.py", MANAGE),
        ("web/polls/settings.py", "FINDERS = ['npm.finders.NpmFinder']\n"),
        files[2],
        files[3],
    ];
    let text = Project::new(&below).text();
    assert!(text.contains("venv = \"venv\", node-modules = \"node-modules\" }"), "{text}");
    assert!(text.contains("root = \"web\", node-root = \".\""), "{text}");
}

#[test]
fn workspaces_are_built_with_the_packages_of_their_own() {
    let text = Project::new(&[
        ("manage.py", MANAGE),
        ("package.json", r#"{"workspaces": ["packages/*"]}"#),
        ("packages/ui/package.json", r#"{"scripts": {"build": "next build"}}"#),
        ("package-lock.json", r#"{"packages": {"packages/ui/node_modules/react": {}}}"#),
    ])
    .text();
    assert!(text.contains("run = [\"npm\", \"run\", \"build\", \"--workspaces\", \"--if-present\"]"), "{text}");
    assert!(text.contains("node-modules = \"node-modules\", overlay = \"node-modules.workspaces\" }"), "{text}");
}

#[test]
fn the_commented_parts_are_right_too() {
    let project = Project::new(&[("manage.py", MANAGE), ("requirements.txt", "psycopg2"), ("package-lock.json", "{}")]);
    let text = project.text();
    let is_toml =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line)).collect();
    let pipeline = project.parse(&uncommented.join("\n"));
    assert!(pipeline.step("frontend").is_some() && pipeline.target("staging").is_some_and(|t| t.env_file.is_some()));
}

#[test]
fn what_is_no_django_project_or_several_is_refused() {
    let error = |files| default_for(Project::new(files).0.path()).expect_err("no pipeline").to_string();
    assert!(error(&[("manage.py", "print('somebody else')")]).starts_with("no `manage.py` of Django in `"));
    let module = [("manage.py", "runpy.run_module('polls')"), ("polls/settings.py", SETTINGS)];
    assert!(Project::new(&module).text().contains("django-static"));
    let configurations = "os.environ['DJANGO_SETTINGS_MODULE'] = 'polls.settings'\nimport configurations.management\n";
    assert!(Project::new(&[("manage.py", configurations)]).text().contains("django-static"));
    let several = error(&[("b/manage.py", MANAGE), ("a/manage.py", MANAGE)]);
    assert!(several.ends_with(": `a/manage.py` and `b/manage.py`"), "{several}");
}

#[test]
fn any_bytes_are_a_project_that_gets_a_pipeline_without_errors() {
    let project = Project::new(&[("manage.py", MANAGE), ("polls/wsgi.py", MANAGE), ("package-lock.json", "{}")]);
    let read = ["polls/settings.py", "Procfile", "package.json", "pyproject.toml", "requirements.txt", "Dockerfile"];
    pipe_fuzz::attack("project", |bytes| {
        for name in read {
            fs::write(project.0.path().join(name), bytes).expect("a file");
        }
        project.text();
    });
}
