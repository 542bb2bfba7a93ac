//! Bytecode, compiled in the sandbox by the interpreter that will read it, one process a wheel.
//!
//! By content, not by time: an environment is read-only and has no times, so its `.pyc` files are never checked against their
//! sources. One process compiles the files of one wheel in order, so that what it writes depends on that wheel alone.

use pipe_sdk::exec::{self, Command};
use pipe_sdk::{Conflict, Failure, TreeBuilder, read};

use crate::install::Installed;
use crate::layout::{Layout, PYTHON};

/// Compiles every file that can be compiled, into a directory apart.
const SCRIPT: &str = include_str!("compile.py");
/// That directory.
const OUT: &str = "/build/bytecode";

/// Adds bytecode to each wheel's part of an environment.
pub(crate) fn compile(installed: Vec<Installed>, layout: &Layout) -> Result<Vec<Installed>, Failure> {
    let (with_python, without): (Vec<_>, Vec<_>) = installed.into_iter().partition(|wheel| wheel.has_python);
    let commands = with_python.iter().map(|wheel| command(wheel, layout)).collect();
    let outcomes = exec::run_all(commands)?;
    let mut compiled = without;
    for (wheel, outcome) in with_python.into_iter().zip(outcomes) {
        let Some(bytecode) = outcome.tree(OUT)?.filter(|_| outcome.exit_code() == 0) else {
            let said = String::from_utf8_lossy(&read(&outcome.stderr())?).into_owned();
            return Err(Failure::failed(format!("`{}`: its bytecode cannot be compiled:\n{said}", wheel.name))
                .hint("set `bytecode = false` in this step's config"));
        };
        let tree = TreeBuilder::new(Some(&wheel.tree));
        tree.put_tree(&layout.site(), &bytecode, Conflict::Replace)?;
        compiled.push(Installed { tree: TreeBuilder::finish(tree)?, ..wheel });
    }
    compiled.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(compiled)
}

fn command(wheel: &Installed, layout: &Layout) -> Command {
    let command = Command::new(PYTHON);
    // Nothing of a site is loaded: it would change what the process has seen before it compiles. Not `-I`, which would have strings
    // hashed by chance: before Python 3.11 the sets among constants are written in the order of their hashes.
    for argument in ["-s", "-S", "-B", "-c", SCRIPT, &layout.absolute(&layout.site()), OUT] {
        command.arg(argument);
    }
    command.mount(layout.prefix, &wheel.tree);
    command.collect(OUT);
    command
}
