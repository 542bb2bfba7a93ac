//! Makes a slug: `/app/{src,venv,static}` and a manifest of content only, whose hash is the slug's id.
//!
//! How it came about is no part of it: other plugins that give the same trees give the same slug. Runs no program, and
//! doesn't know where or how a slug is released.

mod manifest;
mod procfile;
mod serve;

use std::collections::BTreeMap;

use pipe_sdk::{Conflict, Description, Failure, Inputs, Kind, Outputs, Port, Step, Tree, TreeBuilder, context};
use serde::Deserialize;

use crate::manifest::{Link, Manifest, Trees};

/// What `django-static` found out, beside what it collected.
const FACTS: &str = ".pipe-static.json";
/// Where the project and its static files are, when the slug runs.
const SOURCE: &str = "/app/src";
const STATIC: &str = "/app/static";

/// Makes the slug.
struct Slug;

/// What a pipeline may say about its slug.
#[derive(Debug, Default, Deserialize, pipe_sdk::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// Shell commands by the name of the process, instead of what a `Procfile` or the project's WSGI application says:
    /// `{ web = "gunicorn mysite.wsgi --bind 127.0.0.1:$PORT" }`.
    processes: BTreeMap<String, String>,
    /// Names of environment variables that a target must set, such as `SECRET_KEY`.
    environment: Vec<String>,
    /// Globs of what in the project stays out of the slug, such as `["node_modules/**", "**/tests/**"]`.
    #[schemars(extend("items" = { "type": "string", "format": "glob" }))]
    exclude: Vec<String>,
    /// The directory of the project that processes start in, instead of that of the `Procfile` or of `manage.py`.
    root: Option<String>,
}

/// The facts that this step uses; without `django-static` there are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Facts {
    directory: String,
    directories: Vec<String>,
    wsgi: Option<String>,
    asgi: Option<String>,
    interface: String,
    static_root: Option<String>,
    static_url: Option<String>,
}

impl Step for Slug {
    type Config = Config;

    fn describe() -> Description {
        Description::new(
            "slug",
            env!("CARGO_PKG_VERSION"),
            "Makes a slug of a project, its environment and static files",
        )
        .input(Port::tree("project", "the project's source"))
        .input(Port::tree("venv", "the environment, as `python-venv` makes it"))
        .input(Port::tree("static", "the static files, as `django-static` collects them").optional())
        .input(
            Port::tree("overlay", "merged over the project: what `django-static` got as `overlay`").optional().many(),
        )
        .output(Port::tree("slug", "`manifest.json` and `app/{src,venv,static}`"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let venv = inputs.tree("venv")?;
        let (facts, statics) = split_static(inputs.optional_tree("static"))?;
        let (source, links) = source(&config, &facts, &inputs)?;
        let found = procfile::find(&source, &facts.directory)?;
        let servers = serve::installed(venv)?;
        let directory = match (&config.root, &found) {
            (Some(root), _) => root.trim_matches('/').to_owned(),
            (None, Some(procfile)) if config.processes.is_empty() => procfile.directory.clone(),
            _ => facts.directory.clone(),
        };
        let mut declared = found.unwrap_or_default().processes;
        let release = declared.remove("release");
        declared.extend(config.processes);
        if !declared.contains_key("web") {
            declared.insert("web".to_owned(), serve::web(&facts.applications(&source)?, &servers)?);
        }
        serve::check(&declared, &servers)?;
        let manifest = Manifest {
            app: say("app.name")?,
            directory,
            environment: manifest::sorted(config.environment),
            format: manifest::FORMAT,
            links,
            platform: say("platform")?,
            processes: declared,
            python: context::get("app.python"),
            release,
            runtime: say("runtime.digest")?,
            static_url: facts.static_url,
            trees: Trees { r#static: statics.digest(), src: source.digest(), venv: venv.digest() },
        };
        let builder = TreeBuilder::new(None);
        builder.put_file("manifest.json", &pipe_sdk::blob(&manifest.encode())?, false)?;
        builder.put_tree("app/src", &source, Conflict::Replace)?;
        builder.put_tree("app/venv", venv, Conflict::Replace)?;
        builder.put_tree("app/static", &statics, Conflict::Replace)?;
        Ok(Outputs::new().tree("slug", TreeBuilder::finish(builder)?))
    }
}

impl Facts {
    /// The applications that a server can load; without facts, the project's only `wsgi.py`.
    fn applications(&self, source: &Tree) -> Result<serve::Applications, Failure> {
        let mut wsgi = self.wsgi.clone();
        if self.interface.is_empty() {
            wsgi = serve::only_wsgi(&source.glob(&["**/wsgi.py".to_owned()], &["**/node_modules/**".to_owned()])?);
        }
        Ok(serve::Applications { wsgi, asgi: self.asgi.clone(), prefers_asgi: self.interface == "asgi" })
    }
}

/// Takes the facts out of the static files.
fn split_static(input: Option<&Tree>) -> Result<(Facts, Tree), Failure> {
    let builder = TreeBuilder::new(input);
    builder.remove(FACTS)?;
    let statics = TreeBuilder::finish(builder)?;
    let Some(blob) = input.map(|tree| tree.open(FACTS)).transpose()?.flatten() else {
        return Ok((Facts::default(), statics));
    };
    let facts = serde_json::from_slice(&pipe_sdk::read(&blob)?)
        .map_err(|error| Failure::invalid(format!("`{FACTS}` of the input `static`: {error}")))?;
    Ok((facts, statics))
}

/// The project as it is at `/app/src`, and the links that are needed outside of it.
fn source(config: &Config, facts: &Facts, inputs: &Inputs) -> Result<(Tree, Vec<Link>), Failure> {
    let project = inputs.tree("project")?;
    let kept = match config.exclude.as_slice() {
        [] => None,
        exclude => Some(project.select(&["**".to_owned()], exclude)?),
    };
    let builder = TreeBuilder::new(Some(kept.as_ref().unwrap_or(project)));
    for overlay in inputs.trees("overlay") {
        builder.put_tree("", overlay, Conflict::Replace)?;
    }
    let mut links = Vec::new();
    if let Some(root) = facts.static_root.as_deref().filter(|root| *root != STATIC) {
        if let Some(path) = root.strip_prefix(SOURCE).and_then(|path| path.strip_prefix('/')) {
            builder.remove(path)?;
            builder.put_symlink(path, STATIC)?;
        } else {
            links.push(Link { path: root.to_owned(), target: STATIC.to_owned() });
        }
    }
    let source = TreeBuilder::finish(builder)?;
    let builder = TreeBuilder::new(Some(&source));
    for directory in &facts.directories {
        let path =
            if facts.directory.is_empty() { directory.clone() } else { format!("{}/{directory}", facts.directory) };
        let path = path.trim_start_matches("./");
        if !directory.starts_with('/') && !directory.contains("..") && source.kind(path)? != Some(Kind::Directory) {
            builder.put_directory(path)?;
        }
    }
    Ok((TreeBuilder::finish(builder)?, links))
}

/// A word of the pipeline that every slug needs.
fn say(name: &str) -> Result<String, Failure> {
    context::get(name).ok_or_else(|| Failure::failed(format!("the pipeline does not say its `{name}`")))
}

pipe_sdk::step!(Slug);
