//! The text of a pipeline for what is known of a project.

use std::fmt::Write as _;
use std::path::Path;

use super::frontend::{Build, FrontEnd, Node, Part};
use super::packages::lock_path;
use super::project::{Messages, Project, join};
use super::variables::Variable;
use crate::diagnostic::quoted;
use crate::pipeline::is_database;

/// The step that compiles translations.
const COMPILE_MESSAGES: &str = r#"[steps.messages]
plugin = "command"
inputs = { project = "source" }
config = { run = '''find . -name "*.po" | while read -r po; do msgfmt -o "${po%.po}.mo" "$po"; done''', include = ["**/*.po"], collect-written = true }
grants = { exec = ["sh"] }
"#;

/// The text of a pipeline.
pub(super) fn text(project: &Project) -> String {
    let mut out = String::from(
        "# Builds this Django project into a slug and releases it: `pipe run`.\n\
         # A step runs again only when something that it has read has changed.\n",
    );
    app(&mut out, project);
    steps(&mut out, project);
    let _ = messages(&mut out, project);
    frontend(&mut out, project);
    targets(&mut out, project);
    out
}

fn app(out: &mut String, project: &Project) {
    let python = &project.python;
    let reason = python.reason.as_ref().map(|reason| format!("   # {reason}")).unwrap_or_default();
    let _ = write!(out, "\n[app]\nname = \"{}\"\npython = \"{}\"{reason}\n", project.name, python.version);
    let packages = &project.packages;
    if packages.index.is_some() || !packages.extra_indexes.is_empty() {
        out.push_str("\n[index]                      # as the requirements say\n");
        let _ = packages.index.iter().try_for_each(|url| writeln!(out, "url = {}", string(url)));
        if !packages.extra_indexes.is_empty() {
            let _ = writeln!(out, "extra = {}", list(&packages.extra_indexes));
        }
    }
    if !project.kept.is_empty() {
        let kept: Vec<String> = project.kept.iter().map(|path| format!("!/{path}/")).collect();
        let _ = write!(
            out,
            "\n# `.gitignore` leaves these out, and they hold source: where there is no repository, nobody else knows that they\n\
             # were committed all the same.\n[source]\nexclude = {}\n",
            list(&kept)
        );
    }
    for (path, example) in &project.by_hand {
        let _ = write!(
            out,
            "\n# `{path}` is written by hand, as `{example}` beside it shows, and `.gitignore` leaves it out. If the\n\
             # application needs it, a line `!/{path}` in `.pipeignore` has it taken.\n"
        );
    }
    runtime(out, project);
}

/// What programs stand on: Debian's packages where the machine lacks the Python that is wanted and a release of Debian has
/// it; else the machine's own.
fn runtime(out: &mut String, project: &Project) {
    let (python, packages) = (&project.python, &project.packages);
    let version = &python.version;
    let mut lines = String::from("[runtime]\nkind = \"packages\"\n");
    let _ = python.suite().iter().try_for_each(|suite| writeln!(lines, "suite = \"{suite}\""));
    if !packages.because.is_empty() {
        if !packages.system.is_empty() {
            let _ = writeln!(lines, "system = {}", list(&packages.system));
        }
        if !packages.build_system.is_empty() {
            let _ = writeln!(lines, "build-system = {}", list(&packages.build_system));
        }
    } else if packages.has_sources {
        lines.push_str("build-system = [\"gcc\"]\n");
    }
    let is_debian = python.suite().is_some();
    if !python.is_here {
        let _ = if is_debian {
            write!(out, "\n# This machine has no Python {version}; Debian has, pinned in `pipe.lock`.\n{lines}")
        } else {
            writeln!(
                out,
                "# This machine has no Python {version}: install it, with `uv python install {version}` or pyenv."
            )
        };
    } else if !packages.because.is_empty() {
        let names: Vec<String> = packages.because.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        let _ = write!(out, "\n# What {names} may need of the system. On this machine's own /usr, install it with apt");
        out.push_str(if is_debian {
            "; or take\n# everything from Debian packages, pinned in `pipe.lock`:\n"
        } else {
            ".\n"
        });
        for line in lines.lines().filter(|_| is_debian) {
            let _ = writeln!(out, "# {line}");
        }
    }
}

fn steps(out: &mut String, project: &Project) {
    let packages = &project.packages;
    let mut lock = Vec::new();
    match lock_path(packages) {
        _ if packages.is_obvious && packages.root.is_empty() => {}
        Some(_) => {
            lock.extend((!packages.root.is_empty()).then(|| format!("root = {}", string(&packages.root))));
            let path = packages.lock.iter().filter(|_| !packages.is_obvious);
            lock.extend(path.map(|path| format!("path = {}", string(path))));
        }
        None => {}
    }
    lock.extend((!packages.groups.is_empty()).then(|| format!("groups = {}", list(&packages.groups))));
    lock.extend((!packages.extras.is_empty()).then(|| format!("extras = {}", list(&packages.extras))));
    lock.extend(packages.is_installed.then(|| "install-project = true".to_owned()));
    out.push_str("\n# Which packages: what the project's lock says, for this Python and platform.\n");
    if packages.is_open {
        let lock = packages.lock.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "# `{lock}` leaves versions open: the first run resolves them into `pylock.toml`. Commit that."
        );
    }
    out.push_str("[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n");
    config(out, &lock);

    out.push_str(
        "\n# The environment, at /app/venv.\n[steps.venv]\nplugin = \"python-venv\"\n\
         inputs = { lock = \"lock\", project = \"source\" }\n",
    );
    let sources: &[&str] = if packages.has_git { &["index", "git"] } else { &["index"] };
    let _ = writeln!(out, "grants = {{ fetch = {}, exec = [\"python\"] }}", list(sources));
    let mut made = Vec::from_iter(packages.server.map(|server| format!("add = [\"{server}\"]")));
    if packages.server.is_some() {
        out.push_str("# The project has no server for production.\n");
    }
    let constraints = &packages.build_constraints;
    made.extend((!constraints.is_empty()).then(|| format!("build-constraints = {}", list(constraints))));
    config(out, &made);

    out.push_str(
        "\n# `manage.py collectstatic`, without a network or a database.\n[steps.static]\nplugin = \"django-static\"\n\
         ",
    );
    let settings = &project.settings;
    let overlays = [(project.compiles_messages(), "messages"), (project.part() == Part::Built, "frontend")];
    let overlays: Vec<&str> = overlays.into_iter().filter_map(|(is_there, step)| is_there.then_some(step)).collect();
    let overlay = match overlays[..] {
        [] => String::new(),
        [step] => format!(", overlay = \"{step}\""),
        _ => format!(", overlay = {}", list(&overlays)),
    };
    let is_around = project.front_end.as_ref().is_some_and(|it| Path::new(&project.directory).starts_with(&it.root));
    let needs_packages = settings.uses_node_modules && is_around && project.part() != Part::Nothing;
    let packages = if needs_packages { ", node-modules = \"node-modules\"" } else { "" };
    let _ = write!(
        out,
        "inputs = {{ project = \"source\", venv = \"venv\"{overlay}{packages} }}\ngrants = {{ exec = [\"python\"] }}\n"
    );
    let mut collect = Vec::new();
    collect.extend((!project.directory.is_empty()).then(|| format!("root = {}", string(&project.directory))));
    let above = project.front_end.as_ref().filter(|it| needs_packages && it.root != project.directory);
    collect.extend(above.map(|it| format!("node-root = {}", string(if it.root.is_empty() { "." } else { &it.root }))));
    let other = settings.module.iter().filter(|_| !settings.is_of_manage);
    collect.extend(other.map(|module| format!("settings = {}", string(module))));
    let provided = ["SECRET_KEY", "DJANGO_SECRET_KEY", "DATABASE_URL"];
    let unset = settings.variables.iter().filter(|variable| !provided.contains(&variable.name.as_str()));
    let unset: Vec<String> = unset.map(assignment).collect();
    collect.extend((!unset.is_empty()).then(|| format!("environment = {{ {} }}", unset.join(", "))));
    let directories = settings.database_directories();
    collect.extend((!directories.is_empty()).then(|| format!("directories = {}", list(&directories))));
    collect.extend(settings.makes_catalogs.then(|| "before = [\"python manage.py compilejsi18n\"]".to_owned()));
    collect.extend(settings.compresses.then(|| "after = [\"python manage.py compress\"]".to_owned()));
    config(out, &collect);

    let _ = write!(
        out,
        "\n# The result: /app/{{src,venv,static}}, the same wherever it runs.\n[steps.slug]\nplugin = \"slug\"\n\
         inputs = {{ project = \"source\", venv = \"venv\", static = \"static\"{overlay} }}\n",
    );
    let names: Vec<&str> = settings.variables.iter().map(|variable| variable.name.as_str()).collect();
    let mut of_slug = Vec::new();
    if let Some((command, before)) = &project.procfile.web {
        let _ = writeln!(out, "# Without the `{before}` of the `Procfile`: a target has a proxy.");
        of_slug.push(format!("processes = {{ web = {} }}", string(command)));
    }
    if project.procfile.is_for_development {
        out.push_str("# Without the `Procfile`, which starts Django's server for development.\n");
        of_slug.push("exclude = [\"Procfile\"]".to_owned());
    }
    of_slug.extend((!names.is_empty()).then(|| format!("environment = {}", list(&names))));
    config(out, &of_slug);
}

/// The step that compiles translations; as a comment where nothing here can.
fn messages(out: &mut String, project: &Project) -> std::fmt::Result {
    let Some(messages) = project.messages else { return Ok(()) };
    if messages == Messages::Here {
        return write!(
            out,
            "\n# Translations, which the repository holds only as they are written.\n{COMPILE_MESSAGES}"
        );
    }
    out.push_str(
        "\n# The repository holds no compiled translations, and there is no `msgfmt` to compile them: pages are in the language\n\
         # that they were written in. For the others install gettext (with `kind = \"packages\"`: `build-system = [\"gettext\"]`),\n\
         # take the # away and give both `static` and `slug` the input `overlay = \"messages\"`.\n",
    );
    COMPILE_MESSAGES.lines().try_for_each(|line| writeln!(out, "# {line}"))
}

/// The front end's steps; as comments where it is not known whether they are wanted.
fn frontend(out: &mut String, project: &Project) {
    let _ = project.foreign_lock.iter().try_for_each(|(root, lock)| foreign_lock(out, root, lock));
    let Some(front_end) = &project.front_end else { return };
    let lock = join(&front_end.root, front_end.lock);
    let part = project.part();
    let _ = match part {
        Part::Built => write!(
            out,
            "\n# The front end, with the packages of `{lock}`. It sees no Python, so that an edit to a view leaves it alone\n\
             # (`include` narrows that further); what it writes is put over the project.\n"
        ),
        Part::Packages => write!(out, "\n# What the settings take out of `node_modules`, by `{lock}`.\n"),
        Part::Nothing => {
            let why = match front_end.node {
                Node::Missing => "This machine has no `node`: install it, then".to_owned(),
                _ if front_end.scripts.is_empty() => "If a front end is built before `collectstatic`,".to_owned(),
                _ => format!("If {} builds a front end, choose it in `run`,", one_of(&front_end.scripts)),
            };
            write!(
                out,
                "\n# `{lock}` is there. {why} take the # away and\n\
                 # give both `static` and `slug` the input `overlay = \"frontend\"`.\n"
            )
        }
    };
    for line in front_end_steps(front_end, part).lines() {
        let _ = match (part, line) {
            (Part::Nothing, "") => writeln!(out, "#"),
            (Part::Nothing, line) => writeln!(out, "# {line}"),
            (_, line) => writeln!(out, "{line}"),
        };
    }
}

/// What to do about a lock that no step reads.
fn foreign_lock(out: &mut String, root: &str, lock: &str) -> std::fmt::Result {
    let path = join(root, lock);
    let inside = if root.is_empty() { String::new() } else { format!(" in `{root}`") };
    write!(
        out,
        "\n# `{path}` is there, and nothing here builds its front end: the step `node-modules` reads npm's lock alone. If\n\
         # one is built before `collectstatic`, run `npm install --package-lock-only`{inside}, commit the\n\
         # `package-lock.json` that it writes, and have this file written anew: `pipe init --force`. Or build it before\n\
         # `pipe run`, and let the snapshot take what was built (`.pipeignore` overrides `.gitignore`: `!dist/`).\n"
    )
}

/// "`a`", "one of `a` and `b`".
fn one_of(names: &[String]) -> String {
    let quoted = quoted(names.iter().map(String::as_str));
    if names.len() == 1 { quoted } else { format!("one of {quoted}") }
}

fn front_end_steps(front_end: &FrontEnd, part: Part) -> String {
    let root = &front_end.root;
    let mut steps = String::new();
    if let Node::At(path) = &front_end.node
        && part != Part::Packages
    {
        let _ = write!(steps, "[tools]\nnode = {}\n\n", string(&path.to_string_lossy()));
    }
    steps.push_str("[steps.node-modules]\nplugin = \"node-modules\"\ninputs = { project = \"source\" }\n");
    let mut chosen = Vec::from_iter((!root.is_empty()).then(|| format!("root = {}", string(root))));
    // What is served is no tool of development; where all packages are called such, all are taken.
    chosen.extend((part == Part::Packages && front_end.has_dependencies).then(|| "omit = [\"dev\"]".to_owned()));
    config(&mut steps, &chosen);
    let sources = if front_end.has_git { "\"npm\", \"git\"" } else { "\"npm\"" };
    let _ = writeln!(steps, "grants = {{ fetch = [{sources}] }}");
    if part == Part::Packages {
        return steps;
    }
    let script = front_end.scripts.first().map_or("build", String::as_str);
    let npm = ["npm", "run", script].map(str::to_owned);
    let run = front_end.build.as_ref().map_or(&npm[..], |Build(words)| words);
    let has_overlay = front_end.has_workspaces && root.is_empty();
    let overlay = if has_overlay { ", overlay = \"node-modules.workspaces\"" } else { "" };
    let cwd = if root.is_empty() { String::new() } else { format!(", cwd = {}", string(root)) };
    let _ = write!(
        steps,
        "\n[steps.frontend]\nplugin = \"command\"\n\
         inputs = {{ project = \"source\", node-modules = \"node-modules\"{overlay} }}\n\
         config = {{ run = {}{cwd}, exclude = [\"**/*.py\"], collect-written = true }}\n\
         grants = {{ exec = {} }}\n",
        list(run),
        list(&run[..1]),
    );
    steps
}

fn targets(out: &mut String, project: &Project) {
    out.push_str("\n# `pipe run` ends here, and says at which address.\n[targets.staging]\nrelease = \"slug\"\n");
    target(out, project, "staging");
    out.push_str(
        "\n# Never built: `pipe promote staging production` releases the very slug that staging runs.\n\
         [targets.production]\npromote = \"staging\"\n",
    );
    target(out, project, "production");
}

fn target(out: &mut String, project: &Project, name: &str) {
    let settings = &project.settings;
    out.push_str("driver = \"local\"\n# address = \"127.0.0.1:8000\"   # by default the first free port from 8000 on, which then stays\n");
    let _ = settings
        .host
        .iter()
        .try_for_each(|host| writeln!(out, "host = {}             # from ALLOWED_HOSTS", string(host)));
    let commands = release_commands(project);
    if !commands.is_empty() {
        let _ = writeln!(out, "release-commands = {}", list(&commands));
    }
    let mut data: Vec<String> = settings.kept().into_iter().map(|path| join(&project.directory, path)).collect();
    data.extend(settings.variables.iter().any(Variable::is_database_file).then(|| "db.sqlite3".to_owned()));
    data.dedup();
    if !data.is_empty() {
        let _ = writeln!(out, "data = {}      # kept from release to release", list(&data));
    }
    let mut env: Vec<String> =
        settings.module.iter().map(|module| format!("DJANGO_SETTINGS_MODULE = {}", string(module))).collect();
    let (keys, others): (Vec<_>, Vec<_>) = settings.variables.iter().partition(|variable| variable.is_key());
    env.extend(others.into_iter().map(assignment));
    if !env.is_empty() {
        if settings.variables.iter().any(Variable::is_open) {
            out.push_str("# What is `unset` lets it start: put in what is right, best in an `env-file`.\n");
        }
        if settings.variables.iter().any(Variable::is_postgres) {
            out.push_str(
                "# The project uses what only PostgreSQL has: `DATABASE_URL` is to be the address of one that runs.\n",
            );
        }
        let _ = writeln!(out, "env = {{ {} }}", env.join(", "));
    }
    if !keys.is_empty() {
        let names: Vec<&str> = keys.iter().map(|variable| variable.name.as_str()).collect();
        let _ = writeln!(
            out,
            "generate = {}    # made up at the first release; `pipe config {name} set {}=…` replaces it",
            list(&names),
            names[0]
        );
    }
    // A file that the project names needs nobody to say where it is.
    let has_file = data.iter().any(|path| is_database(path));
    if !settings.database_variables.is_empty() && !has_file {
        let names = quoted(settings.database_variables.iter().map(String::as_str));
        let _ = writeln!(out, "# Where the database is, say these, unless the project's own values do: {names}");
    }
    let like = settings.example.map(|example| format!(", as `{example}` shows")).unwrap_or_default();
    let _ = writeln!(
        out,
        "# env-file = \".env.{name}\"   # what a slug and a repository must not hold, instead of what `env` says{like}"
    );
}

/// The commands before a release. Those that a target names stand in the place of the one in the `Procfile`. The table of a cache
/// comes first: what follows may use the cache.
fn release_commands(project: &Project) -> Vec<String> {
    let settings = &project.settings;
    let manage = match project.directory.as_str() {
        "" => "manage.py".to_owned(),
        directory => format!("/app/src/{directory}/manage.py"),
    };
    let caches = settings.has_cache_table.then(|| format!("python {manage} createcachetable"));
    let migrates = match &project.procfile.release {
        Some(release) => caches.as_ref().map(|_| release.clone()),
        None => (!settings.lacks_database()).then(|| format!("python {manage} migrate --noinput")),
    };
    caches.into_iter().chain(migrates).collect()
}

fn assignment(variable: &Variable) -> String {
    format!("{} = {}", variable.name, string(&variable.value))
}

fn config(out: &mut String, settings: &[String]) {
    if !settings.is_empty() {
        let _ = writeln!(out, "config = {{ {} }}", settings.join(", "));
    }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(|name| string(name.as_ref())).collect();
    format!("[{}]", names.join(", "))
}

/// A text as TOML has it, whatever is in it.
fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}
