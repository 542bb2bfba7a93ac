//! Collects the static files of a Django project: finds `manage.py`, runs the project's own `collectstatic` in the sandbox,
//! and refuses a result that would break at run time.
//!
//! [`driver.py`](../src/driver.py) does what needs Django; here is what needs the pipeline. Doesn't know how the files are
//! served, nor what becomes of them.

mod account;
mod manage;

use std::collections::BTreeMap;

use pipe_sdk::{Conflict, Description, Failure, Inputs, Outputs, Port, Step, Tree, TreeBuilder, exec};
use serde::{Deserialize, Serialize};

use crate::account::Report;

/// Where the project, the environment and the collected files are: the same places as in production.
const SOURCE: &str = "/app/src";
const VENV: &str = "/app/venv";
const STATIC: &str = "/app/static";
/// Where the driver is, while it runs.
const DRIVER: &str = "/app/.pipe";
/// What the driver says about its work, beside what it collected.
const REPORT: &str = ".pipe-static.json";
/// Satisfies the settings while static files are collected; it protects nothing and reaches no slug.
const SECRET_KEY: &str = "made-up-by-pipe-to-collect-static-files-and-of-no-use-elsewhere";

/// Runs `collectstatic`.
struct DjangoStatic;

/// What a pipeline may say about collecting static files.
#[derive(Debug, Default, Deserialize, pipe_sdk::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// The directory of the project that holds `manage.py`, where there is more than one.
    root: Option<String>,
    /// The directory of the project in which `node_modules` is shown, by default `root`: `"."` is its top.
    #[serde(rename = "node-root")]
    node_root: Option<String>,
    /// The path of `manage.py` in the project, where it isn't found by itself or has another name.
    manage: Option<String>,
    /// The settings module, instead of the one that `manage.py` sets.
    settings: Option<String>,
    /// Further arguments of `collectstatic`, such as `["-i", "*.scss"]`.
    options: Vec<String>,
    /// Shell commands to run before it, in the directory of `manage.py`.
    before: Vec<String>,
    /// Shell commands to run after it, such as `python manage.py compress`.
    after: Vec<String>,
    /// Directories that must exist, relative to the one of `manage.py`.
    directories: Vec<String>,
    /// The environment, beyond a made-up `SECRET_KEY` and the address of a database that nobody serves.
    environment: BTreeMap<String, String>,
}

/// What the driver is asked to do.
#[derive(Debug, Serialize)]
struct Request<'a> {
    source: &'a str,
    #[serde(rename = "static")]
    output: &'a str,
    order: String,
    directory: String,
    manage: Option<&'a str>,
    settings: Option<&'a str>,
    options: &'a [String],
    before: &'a [String],
    after: &'a [String],
    directories: &'a [String],
}

impl Step for DjangoStatic {
    type Config = Config;

    fn describe() -> Description {
        Description::new("django-static", env!("CARGO_PKG_VERSION"), "Collects the static files of a Django project")
            .input(Port::tree("project", "the project's source"))
            .input(Port::tree("venv", "the environment with Django, as `python-venv` makes it"))
            .input(Port::tree("node-modules", "shown as `node_modules` in the project").optional())
            .input(
                Port::tree("overlay", "merged over the project, such as what a front-end build gave").optional().many(),
            )
            .output(Port::tree("static", "the collected files, and `.pipe-static.json` with what was found out"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let project = overlaid(&inputs)?;
        let place = manage::find(&project, &config)?;
        let outcome = exec::run(command(&config, &place, &project, &inputs)?)?;
        let stderr = pipe_sdk::read(&outcome.stderr())?;
        let stderr = String::from_utf8_lossy(&stderr);
        let collected = outcome.tree(STATIC)?;
        let report = match &collected {
            Some(tree) => tree.open(REPORT)?.map(|blob| pipe_sdk::read(&blob)).transpose()?,
            None => None,
        };
        let Some(report) = report.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok()) else {
            return Err(account::silent(outcome.exit_code(), &stderr));
        };
        if let Some(failure) = report.failure {
            return Err(failure.explain(report.settings.as_deref(), &stderr));
        }
        let collected = collected.ok_or_else(|| account::silent(outcome.exit_code(), &stderr))?;
        for warning in &report.warnings {
            pipe_sdk::warn(warning);
        }
        Ok(Outputs::new().tree("static", collected))
    }
}

/// The project with what other steps made for it.
fn overlaid(inputs: &Inputs) -> Result<Tree, Failure> {
    let builder = TreeBuilder::new(Some(inputs.tree("project")?));
    for overlay in inputs.trees("overlay") {
        builder.put_tree("", overlay, Conflict::Replace)?;
    }
    TreeBuilder::finish(builder)
}

fn command(config: &Config, place: &manage::Place, project: &Tree, inputs: &Inputs) -> Result<exec::Command, Failure> {
    let venv = inputs.tree("venv")?;
    let directory = join(SOURCE, &place.directory);
    let request = Request {
        source: SOURCE,
        output: STATIC,
        order: format!("{DRIVER}/order.py"),
        directory: directory.clone(),
        manage: place.manage.as_deref(),
        settings: config.settings.as_deref(),
        options: &config.options,
        before: &config.before,
        after: &config.after,
        directories: &config.directories,
    };
    let command = exec::Command::new("python");
    command.arg(&format!("{DRIVER}/driver.py"));
    command.arg(&format!("{DRIVER}/request.json"));
    command.cwd(SOURCE);
    command.mount(SOURCE, project);
    if let Some(modules) = inputs.optional_tree("node-modules") {
        let root = config.node_root.as_ref().or(config.root.as_ref()).map_or("", String::as_str);
        let root = manage::normalised("node-root", root)?;
        command.mount(&join(&join(SOURCE, &root), "node_modules"), modules);
    }
    command.mount(VENV, venv);
    command.mount(DRIVER, &driver(&request)?);
    command.mount(STATIC, &TreeBuilder::finish(TreeBuilder::new(None))?);
    command.collect(STATIC);
    let mut environment = BTreeMap::from([
        ("SECRET_KEY", SECRET_KEY),
        ("DJANGO_SECRET_KEY", SECRET_KEY),
        ("DATABASE_URL", unreachable_database(venv)?),
        ("VIRTUAL_ENV", VENV),
    ]);
    environment.extend(config.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, value) in environment {
        command.env(name, value);
    }
    Ok(command)
}

/// The directory that holds the driver and what it is asked.
fn driver(request: &Request) -> Result<Tree, Failure> {
    let builder = TreeBuilder::new(None);
    let request = serde_json::to_vec(request).map_err(|error| Failure::failed(error.to_string()))?;
    builder.put_file("driver.py", &pipe_sdk::blob(include_bytes!("driver.py"))?, false)?;
    builder.put_file("order.py", &pipe_sdk::blob(include_bytes!("order.py"))?, false)?;
    builder.put_file("request.json", &pipe_sdk::blob(&request)?, false)?;
    TreeBuilder::finish(builder)
}

/// An address that settings accept and nobody answers, of the kind whose driver is installed.
fn unreachable_database(venv: &Tree) -> Result<&'static str, Failure> {
    let installed = |package: &str| -> Result<bool, Failure> {
        Ok(!venv.glob(&[format!("lib/python3*/site-packages/{package}/__init__.py")], &[])?.is_empty())
    };
    Ok(if installed("psycopg")? || installed("psycopg2")? {
        "postgres://pipe:pipe@127.0.0.1:1/pipe"
    } else if installed("MySQLdb")? {
        "mysql://pipe:pipe@127.0.0.1:1/pipe"
    } else {
        "sqlite:////tmp/pipe.sqlite3"
    })
}

fn join(base: &str, path: &str) -> String {
    if path.is_empty() { base.to_owned() } else { format!("{base}/{path}") }
}

pipe_sdk::step!(DjangoStatic);
