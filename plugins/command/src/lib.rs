//! `command`: runs one program of the runtime in the operating system sandbox and keeps what it made.
//!
//! The inputs are shown at the fixed places of every root (`/app/src`, `/app/venv`), writable in a layer of the program's
//! own that is gone when it ends. Knows nothing of what the program is for.

mod layout;
mod report;

use std::collections::BTreeMap;

use pipe_sdk::exec::{self, Command, Outcome};
use pipe_sdk::{
    Conflict, Description, Deserialize, Failure, Inputs, JsonSchema, Outputs, Port, Step, Tree, TreeBuilder,
};

use crate::layout::{Collect, Program, SOURCE, VENV};

/// Runs a program and keeps what it made.
struct RunCommand;

/// What to run, where, and what to keep of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// A program and its arguments, or a text for `sh -e`.
    run: Program,
    /// The working directory, from `/app/src`.
    #[serde(default)]
    #[schemars(extend("x-path" = { "made": ["/directories", "/mounts"] }))]
    cwd: String,
    /// What to keep, from `cwd`: of a single path the directory's contents are the output; of a list every path keeps its
    /// place in the project.
    #[serde(default)]
    collect: Collect,
    /// Keeps whatever the program writes in the project, each file in its place, too.
    #[serde(default)]
    collect_written: bool,
    /// Globs of the part of the project that the program sees; a change elsewhere does not run it again.
    #[serde(default = "everything")]
    #[schemars(extend("items" = { "type": "string", "format": "glob" }))]
    include: Vec<String>,
    /// Globs of what it does not see of that.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "format": "glob" }))]
    exclude: Vec<String>,
    /// Environment variables, beside the few that every program gets.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The directory that `node_modules` belongs in, from `/app/src`; `cwd` if left out.
    node_root: Option<String>,
    /// Where the `trees` are shown, in their order, from `/app/src`.
    #[serde(default)]
    mounts: Vec<String>,
    /// Directories that must exist, from `/app/src`.
    #[serde(default)]
    directories: Vec<String>,
    /// The exit codes that are no failure.
    #[serde(default = "success")]
    allow_exit_codes: Vec<i32>,
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}

fn success() -> Vec<i32> {
    vec![0]
}

impl Step for RunCommand {
    type Config = Config;

    fn describe() -> Description {
        Description::new("command", env!("CARGO_PKG_VERSION"), "Runs a program in the sandbox and keeps what it made")
            .input(Port::tree("project", "shown at `/app/src`").optional())
            .input(Port::tree("overlay", "merged over the project").optional().many())
            .input(Port::tree("venv", "a Python environment, shown at `/app/venv`").optional())
            .input(Port::tree("node-modules", "shown as `node_modules` in `node-root`").optional())
            .input(Port::tree("trees", "shown where `mounts` says, in order").optional().many())
            .output(Port::tree("out", "what `collect` names; empty without it"))
            .output(Port::blob("stdout", "what the program wrote to standard output"))
            .output(Port::blob("stderr", "what the program wrote to standard error"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let cwd = layout::absolute(SOURCE, &config.cwd);
        let argv = config.run.argv(&cwd).ok_or_else(|| {
            Failure::invalid("`run` names no program").hint("write `run = [\"npm\", \"run\", \"build\"]`")
        })?;
        let command = Command::new(&argv[0]);
        for argument in &argv[1..] {
            command.arg(argument);
        }
        command.cwd(&cwd);
        for (name, value) in &config.environment {
            command.env(name, value);
        }
        mount(&command, &config, &inputs)?;
        let wanted: Vec<String> = config.collect.paths().iter().map(|path| layout::absolute(&cwd, path)).collect();
        for path in &wanted {
            command.collect(path);
        }
        if config.collect_written {
            if config.collect.is_single() {
                return Err(Failure::invalid("`collect` of a single path leaves no place for what else is written")
                    .hint("give `collect` a list, or leave it out beside `collect-written`"));
            }
            command.collect_written(SOURCE);
        }

        let outcome = exec::run(command)?;
        let code = outcome.exit_code();
        if !config.allow_exit_codes.contains(&code) {
            let (stdout, stderr) = (report::tail(&outcome.stdout())?, report::tail(&outcome.stderr())?);
            return Err(report::failure(&argv, code, &stdout, &stderr));
        }
        Ok(Outputs::new()
            .tree("out", collected(&config, &wanted, &outcome)?)
            .blob("stdout", outcome.stdout())
            .blob("stderr", outcome.stderr()))
    }
}

/// Shows the inputs at their places; later ones cover earlier ones.
fn mount(command: &Command, config: &Config, inputs: &Inputs) -> Result<(), Failure> {
    let project = inputs.optional_tree("project");
    let seen = project.map(|project| project.select(&config.include, &config.exclude)).transpose()?;
    let source = TreeBuilder::new(seen.as_ref());
    for overlay in inputs.trees("overlay") {
        source.put_tree("", overlay, Conflict::Replace)?;
    }
    let places: Vec<String> = config.directories.iter().map(|path| layout::absolute(SOURCE, path)).collect();
    for path in places.iter().filter_map(|path| layout::inside(path, SOURCE)) {
        source.put_directory(path)?;
    }
    command.mount(SOURCE, &TreeBuilder::finish(source)?);
    let empty = TreeBuilder::finish(TreeBuilder::new(None))?;
    for path in places.iter().filter(|path| layout::inside(path, SOURCE).is_none()) {
        command.mount(path, &empty);
    }
    if let Some(venv) = inputs.optional_tree("venv") {
        command.mount(VENV, venv);
    }
    if let Some(modules) = inputs.optional_tree("node-modules") {
        let root = layout::absolute(SOURCE, config.node_root.as_ref().unwrap_or(&config.cwd));
        command.mount(&format!("{root}/node_modules"), modules);
    }
    let trees: Vec<&Tree> = inputs.trees("trees").collect();
    if trees.len() != config.mounts.len() {
        let (given, named) = (trees.len(), config.mounts.len());
        return Err(Failure::invalid(format!("`trees` has {given} trees and `mounts` {named} places"))
            .hint("name one place in `mounts` for each of `trees`, in the same order"));
    }
    for (place, tree) in config.mounts.iter().zip(trees) {
        command.mount(&layout::absolute(SOURCE, place), tree);
    }
    Ok(())
}

/// The output tree: one path's contents, or several paths each at its place in the project.
fn collected(config: &Config, wanted: &[String], outcome: &Outcome) -> Result<Tree, Failure> {
    let written = if config.collect_written { outcome.written(SOURCE)? } else { None };
    let builder = TreeBuilder::new(written.as_ref());
    let is_single = config.collect.is_single();
    for path in wanted {
        if let Some(tree) = outcome.tree(path)? {
            let place = if is_single { "" } else { layout::place(path) };
            builder.put_tree(place, &tree, Conflict::Replace)?;
        } else if let Some(file) = outcome.file(path)? {
            let place = if is_single { layout::file_name(path) } else { layout::place(path) };
            builder.put_file(place, &file, false)?;
        } else {
            return Err(Failure::failed(format!("the program ended well and left nothing at `{path}`"))
                .hint("mend `collect`, whose paths are relative to `cwd`, or the program's output directory"));
        }
    }
    TreeBuilder::finish(builder)
}

pipe_sdk::step!(RunCommand);
