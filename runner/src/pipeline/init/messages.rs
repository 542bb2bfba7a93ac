//! Translations that are compiled before a project is used: a repository that leaves `.mo` files out has only their sources.

use std::fs;
use std::path::Path;

use ignore::gitignore::Gitignore;

use super::project::directories;

/// Where in the directory of a language gettext looks.
const PLACE: &str = "LC_MESSAGES";
/// How far below the top they are looked for.
const DEPTH: usize = 8;

/// Whether the project has translations that `.gitignore` leaves out in their compiled form, and that are not there.
pub(super) fn are_to_compile(dir: &Path) -> bool {
    let rules = Gitignore::new(dir.join(".gitignore")).0;
    look(dir, "", &rules, DEPTH)
}

fn look(dir: &Path, sub: &str, rules: &Gitignore, depth: usize) -> bool {
    let below = directories(dir, sub);
    below.iter().any(|place| {
        place.ends_with(&format!("/{PLACE}")) && is_to_compile(&dir.join(place), rules)
            || depth > 0 && look(dir, place, rules, depth - 1)
    })
}

fn is_to_compile(place: &Path, rules: &Gitignore) -> bool {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut sources = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "po"));
    sources.any(|source| {
        let compiled = source.with_extension("mo");
        rules.matched_path_or_any_parents(&compiled, false).is_ignore() && !compiled.is_file()
    })
}
