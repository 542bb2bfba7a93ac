//! One environment of many wheels: their trees merged, and what makes a directory an environment.

use pipe_sdk::{Conflict, Failure, Tree, TreeBuilder, warn};

use crate::install::Installed;
use crate::layout::Layout;

/// Merges the parts of an environment, which are in order of names. Where two have different files at one path the later
/// one's stays, as with pip, and the log says so.
pub(crate) fn environment(layout: &Layout, installed: &[Installed]) -> Result<Tree, Failure> {
    let venv = TreeBuilder::new(None);
    for (index, wheel) in installed.iter().enumerate() {
        if let Err(conflict) = venv.put_tree("", &wheel.tree, Conflict::Refuse) {
            let other = holder(&installed[..index], &conflict.message).map_or("others", |other| &other.name);
            warn(&format!("{other} and {name}: {}; that of `{name}` is taken", conflict.message, name = wheel.name));
            venv.put_tree("", &wheel.tree, Conflict::Replace)?;
        }
    }
    venv.put_file("pyvenv.cfg", &pipe_sdk::blob(layout.configuration().as_bytes())?, false)?;
    for (path, target) in layout.interpreters() {
        venv.put_symlink(&path, target)?;
    }
    // An empty lock makes an environment too.
    venv.put_directory(&layout.site())?;
    TreeBuilder::finish(venv)
}

/// The last of some packages that has the path which a conflict names.
fn holder<'a>(before: &'a [Installed], conflict: &str) -> Option<&'a Installed> {
    let path = conflict.split('`').nth(1)?;
    before.iter().rfind(|wheel| matches!(wheel.tree.kind(path), Ok(Some(_))))
}
