//! The text of a pipeline for what is known of a project.

use std::fmt::Write as _;

use super::packages::lock_path;
use super::project::{Project, join};

/// A key that protects nothing but a first look at the application.
const KEY: &str = "for-a-first-look-on-this-machine-only-replace-it-by-an-env-file";

/// The text of a pipeline.
pub(super) fn text(project: &Project) -> String {
    let mut out = String::from(
        "# Builds this Django project into a slug and releases it: `pipe run`.\n\
         # A step runs again only when something that it has read has changed.\n",
    );
    app(&mut out, project);
    steps(&mut out, project);
    frontend(&mut out, project);
    targets(&mut out, project);
    out
}

fn app(out: &mut String, project: &Project) {
    let python = &project.python;
    let reason = python.reason.as_ref().map(|reason| format!("   # {reason}")).unwrap_or_default();
    let _ = write!(out, "\n[app]\nname = \"{}\"\npython = \"{}\"{reason}\n", project.name, python.version);
    let packages = &project.packages;
    if !python.is_here {
        let version = &python.version;
        let _ = writeln!(
            out,
            "# This machine has no Python {version}: install it, or let pipe bring one (see [runtime] in the README)."
        );
    }
    if packages.index.is_some() || !packages.extra_indexes.is_empty() {
        out.push_str("\n[index]                      # as the requirements say\n");
        let _ = packages.index.iter().try_for_each(|url| writeln!(out, "url = \"{url}\""));
        if !packages.extra_indexes.is_empty() {
            let _ = writeln!(out, "extra = {}", list(&packages.extra_indexes));
        }
    }
    if !packages.because.is_empty() {
        let names: Vec<String> = packages.because.iter().map(|name| format!("`{name}`")).collect();
        let _ = write!(
            out,
            "\n# What {} may need of the system. On this machine's own /usr, install it with apt; or take\n\
             # everything from Debian packages, pinned in `pipe.lock`:\n\
             # [runtime]\n# kind = \"packages\"\n# system = {}\n# build-system = {}\n",
            names.join(", "),
            list(&packages.system),
            list(&packages.build_system),
        );
    }
}

fn steps(out: &mut String, project: &Project) {
    let packages = &project.packages;
    let mut lock = Vec::new();
    match lock_path(packages) {
        _ if packages.is_obvious && packages.root.is_empty() => {}
        Some(_) => {
            lock.extend((!packages.root.is_empty()).then(|| format!("root = \"{}\"", packages.root)));
            let path = packages.lock.iter().filter(|_| !packages.is_obvious);
            lock.extend(path.map(|path| format!("path = \"{path}\"")));
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
    let server = packages.server.map(|server| format!("add = [\"{server}\"]"));
    if server.is_some() {
        out.push_str("# The project has no server for production.\n");
    }
    config(out, server.as_slice());

    out.push_str(
        "\n# `manage.py collectstatic`, without a network or a database.\n[steps.static]\nplugin = \"django-static\"\n\
         inputs = { project = \"source\", venv = \"venv\" }\ngrants = { exec = [\"python\"] }\n",
    );
    let settings = &project.settings;
    let mut collect = Vec::new();
    collect.extend((!project.directory.is_empty()).then(|| format!("root = \"{}\"", project.directory)));
    collect.extend(settings.module.iter().map(|module| format!("settings = \"{module}\"")));
    let provided = ["SECRET_KEY", "DJANGO_SECRET_KEY", "DATABASE_URL"];
    let unset = settings.variables.iter().filter(|name| !provided.contains(&name.as_str()));
    let unset: Vec<String> = unset.map(|name| format!("{name} = \"{}\"", stand_in(name))).collect();
    collect.extend((!unset.is_empty()).then(|| format!("environment = {{ {} }}", unset.join(", "))));
    config(out, &collect);

    out.push_str(
        "\n# The result: /app/{src,venv,static}, the same wherever it runs.\n[steps.slug]\nplugin = \"slug\"\n\
         inputs = { project = \"source\", venv = \"venv\", static = \"static\" }\n",
    );
    let environment = (!settings.variables.is_empty()).then(|| format!("environment = {}", list(&settings.variables)));
    config(out, environment.as_slice());
}

fn frontend(out: &mut String, project: &Project) {
    let Some(node) = &project.node else { return };
    let root = if node.is_empty() { String::new() } else { format!("\n# config = {{ root = \"{node}\" }}") };
    let cwd = if node.is_empty() { String::new() } else { format!(", cwd = \"{node}\"") };
    let _ = write!(
        out,
        "\n# `{}` is there. If the front end is built before `collectstatic`, take the # away,\n\
         # let `collect` name what the build writes, and give both `static` and `slug` the input `overlay = \"frontend\"`.\n\
         # [tools]\n# node = \"/usr/bin/node\"\n#\n\
         # [steps.node-modules]\n# plugin = \"node-modules\"\n# inputs = {{ project = \"source\" }}\n\
         # grants = {{ fetch = [\"npm\"] }}{root}\n#\n\
         # [steps.frontend]\n# plugin = \"command\"\n# inputs = {{ project = \"source\", node-modules = \"node-modules\" }}\n\
         # config = {{ run = [\"npm\", \"run\", \"build\"]{cwd}, collect = [\"dist\"] }}\n# grants = {{ exec = [\"npm\"] }}\n",
        join(node, "package-lock.json"),
    );
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
    let _ =
        settings.host.iter().try_for_each(|host| writeln!(out, "host = \"{host}\"             # from ALLOWED_HOSTS"));
    if !project.has_release {
        let manage = match project.directory.as_str() {
            "" => "manage.py".to_owned(),
            directory => format!("/app/src/{directory}/manage.py"),
        };
        let _ = writeln!(out, "release-commands = [\"python {manage} migrate --noinput\"]");
    }
    let mut data: Vec<String> = settings.data.iter().map(|path| join(&project.directory, path)).collect();
    data.extend(settings.variables.iter().any(|name| name == "DATABASE_URL").then(|| "db.sqlite3".to_owned()));
    data.dedup();
    if !data.is_empty() {
        let _ = writeln!(out, "data = {}      # kept from release to release", list(&data));
    }
    let mut env: Vec<String> =
        settings.module.iter().map(|module| format!("DJANGO_SETTINGS_MODULE = \"{module}\"")).collect();
    env.extend(settings.variables.iter().map(|name| format!("{name} = \"{}\"", stand_in(name))));
    if !env.is_empty() {
        let _ = writeln!(out, "env = {{ {} }}", env.join(", "));
    }
    let like = settings.example.map(|example| format!(", as `{example}` shows")).unwrap_or_default();
    let _ = writeln!(out, "# env-file = \".env.{name}\"   # what a slug and a repository must not hold{like}");
}

/// A value that lets the application start.
fn stand_in(variable: &str) -> &str {
    match variable {
        name if name.contains("SECRET") || name.ends_with("KEY") => KEY,
        name if name.contains("DEBUG") => "False",
        name if name.ends_with("HOSTS") => "localhost,127.0.0.1",
        name if name.ends_with("HOST") => "localhost",
        name if name.ends_with("PORT") => "0",
        "DATABASE_URL" => "sqlite:////app/src/db.sqlite3",
        name if name.contains("REDIS") || name.contains("BROKER") => "redis://127.0.0.1:6379/0",
        name if name.ends_with("URL") => "http://localhost",
        _ => "unset",
    }
}

fn config(out: &mut String, settings: &[String]) {
    if !settings.is_empty() {
        let _ = writeln!(out, "config = {{ {} }}", settings.join(", "));
    }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    format!("[{}]", names.join(", "))
}
