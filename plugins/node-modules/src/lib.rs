//! `node-modules`: the packages of a `package-lock.json`, fetched by their hashes and laid out as npm would. Runs nothing:
//! not npm, not the install scripts.

mod bins;
mod install;
mod lock;
mod origin;
mod select;

use pipe_sdk::{
    Description, Deserialize, Failure, Inputs, JsonSchema, Outputs, Port, Step, Tree, TreeBuilder, context,
};

use crate::lock::{Lock, Manifest, join};
use crate::select::{Omit, Platform};

/// Installs the packages of a lock of npm.
struct NodeModules;

/// Which lock, and what to leave out of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// The directory of `package.json` and its lock in the project.
    #[serde(default)]
    root: String,
    /// Kinds of dependencies to leave out. Most builds need `dev`.
    #[serde(default)]
    omit: Vec<Omit>,
}

/// What npm calls its lock; the first that is there counts.
const LOCKS: [&str; 2] = ["npm-shrinkwrap.json", "package-lock.json"];
/// What others call theirs.
const FOREIGN_LOCKS: [&str; 4] = ["yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"];

impl Step for NodeModules {
    type Config = Config;

    fn describe() -> Description {
        Description::new("node-modules", env!("CARGO_PKG_VERSION"), "Installs the packages of a `package-lock.json`")
            .input(Port::tree("project", "holds `package.json` and `package-lock.json`"))
            .output(Port::tree("tree", "the contents of `node_modules`"))
            .output(Port::tree("workspaces", "the `node_modules` of workspaces, by their paths from `root`"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let project = inputs.tree("project")?;
        let root = config.root.trim_matches('/');
        let lock = read_lock(project, root)?;
        let platform = context::get("platform").unwrap_or_else(|| "linux-x86_64-gnu".to_owned());
        let places = select::select(&lock, &config.omit, &Platform::parse(&platform))?;
        name_install_scripts(&lock, &places);
        let installed = install::install(project, root, &lock, &places)?;
        let empty = || TreeBuilder::finish(TreeBuilder::new(None));
        let modules = installed.subtree("node_modules")?.map_or_else(empty, Ok)?;
        let workspaces = TreeBuilder::new(Some(&installed));
        workspaces.remove("node_modules")?;
        Ok(Outputs::new().tree("tree", modules).tree("workspaces", TreeBuilder::finish(workspaces)?))
    }
}

/// Reads the lock, and sees that it still fits `package.json`.
fn read_lock(project: &Tree, root: &str) -> Result<Lock, Failure> {
    for name in LOCKS {
        let path = join(root, name);
        if let Some(blob) = project.open(&path)? {
            let lock = Lock::parse(&pipe_sdk::read_to_string(&blob, &path)?, &path)?;
            let manifest = join(root, "package.json");
            if let Some(blob) = project.open(&manifest)? {
                lock.covers(&Manifest::parse(&pipe_sdk::read_to_string(&blob, &manifest)?, &manifest)?, &path)?;
            }
            return Ok(lock);
        }
    }
    let place = if root.is_empty() { "the project".to_owned() } else { format!("`{root}`") };
    for name in FOREIGN_LOCKS {
        if project.kind(&join(root, name))?.is_some() {
            return Err(Failure::invalid(format!("{place} has `{name}`, and this step reads `package-lock.json`"))
                .hint("make one with `npm install --package-lock-only` and commit it"));
        }
    }
    Err(Failure::invalid(format!("there is no `package-lock.json` in {place}"))
        .hint("set `root` to the directory it is in, or make it with `npm install --package-lock-only`"))
}

/// Says whose install scripts are left out: mostly they do no more than check, but some compile.
fn name_install_scripts(lock: &Lock, places: &[&str]) {
    let with_scripts = places.iter().filter(|place| lock.packages[**place].has_install_script);
    let mut names: Vec<&str> = with_scripts.map(|place| lock.packages[*place].name(place)).collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        let names = names.join(", ");
        pipe_sdk::info(&format!(
            "install scripts are not run: {names} (a `command` step with `npm rebuild` runs them)"
        ));
    }
}

pipe_sdk::step!(NodeModules);
