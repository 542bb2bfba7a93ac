//! What a `.gitignore` leaves out and an application may need. Directories of source: git keeps them where they were committed
//! all the same; a project that was unpacked from an archive has nobody to say so. And settings that are written by hand.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use ignore::gitignore::Gitignore;

use super::project::{directories, is_python, join};
use crate::source::repository;

/// What people write by hand.
const SOURCES: &[&str] =
    &["py", "js", "mjs", "ts", "jsx", "tsx", "vue", "svelte", "html", "css", "scss", "sass", "less"];
/// What programs write: such directories are left out for a reason.
const WRITTEN: &[&str] = &[
    "__pycache__",
    "_build",
    "bower_components",
    "build",
    "coverage",
    "dist",
    "htmlcov",
    "media",
    "public",
    "site",
    "static",
    "staticfiles",
    "static_root",
    "storybook-static",
    "target",
    "uploads",
];
/// How far below the top they are looked for.
const DEPTH: usize = 10;
/// How far below the top settings are looked for that are written by hand.
const DEPTH_OF_SETTINGS: usize = 4;
/// Words in the names of files that show what others look like.
const EXAMPLES: &[&str] = &["example", "sample", "dist", "template"];

/// The directories, relative to the top, in order; none where there is a repository, which knows.
pub(super) fn sources(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if repository(dir).is_none() {
        look(dir, "", &mut Vec::new(), &mut found);
    }
    found
}

/// Python files that `.gitignore` leaves out and that are written by hand, since another shows what belongs in them: each with
/// that other, in order.
pub(super) fn by_hand(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    find_examples(dir, "", &mut Vec::new(), &mut found);
    found
}

fn find_examples(dir: &Path, sub: &str, rules: &mut Vec<Gitignore>, found: &mut Vec<(String, String)>) {
    if rules.len() > DEPTH_OF_SETTINGS {
        return;
    }
    rules.push(Gitignore::new(dir.join(sub).join(".gitignore")).0);
    let entries = fs::read_dir(dir.join(sub)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for example in names {
        let Some(name) = shown_by(&example) else { continue };
        let path = dir.join(sub).join(&name);
        let said = rules.iter().rev().map(|rules| rules.matched(&path, false)).find(|said| !said.is_none());
        if said.is_some_and(|said| said.is_ignore()) {
            found.push((join(sub, &name), example));
        }
    }
    for place in directories(dir, sub) {
        find_examples(dir, &place, rules, found);
    }
    rules.pop();
}

/// The Python file that an example shows: `configuration.py` for `configuration_example.py` and `configuration.py.dist`.
fn shown_by(example: &str) -> Option<String> {
    let mark = EXAMPLES.iter().find_map(|word| {
        let marks = ['.', '_', '-'].map(|before| format!("{before}{word}"));
        marks.into_iter().find(|mark| example.contains(mark.as_str()))
    })?;
    let name = example.replacen(&mark, "", 1);
    is_python(&name).then_some(name)
}

/// Looks below a directory, for which the `.gitignore`s of those around it hold.
fn look(dir: &Path, sub: &str, rules: &mut Vec<Gitignore>, found: &mut Vec<String>) {
    if rules.len() > DEPTH {
        return;
    }
    rules.push(Gitignore::new(dir.join(sub).join(".gitignore")).0);
    for place in directories(dir, sub) {
        let path = dir.join(&place);
        let said = rules.iter().rev().map(|rules| rules.matched(&path, true)).find(|said| !said.is_none());
        let name = place.rsplit('/').next().unwrap_or(&place);
        if !said.is_some_and(|said| said.is_ignore()) {
            look(dir, &place, rules, found);
        } else if !WRITTEN.contains(&name) && !path.join("pyvenv.cfg").exists() && has_source(dir, &place, DEPTH) {
            found.push(place);
        }
    }
    rules.pop();
}

/// Whether something below was written by hand, by its name.
fn has_source(dir: &Path, sub: &str, depth: usize) -> bool {
    let entries = fs::read_dir(dir.join(sub)).into_iter().flatten().flatten();
    let mut files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.any(|file| {
        Path::new(&file.file_name()).extension().and_then(OsStr::to_str).is_some_and(|it| SOURCES.contains(&it))
    }) || depth > 0 && directories(dir, sub).iter().any(|below| has_source(dir, below, depth - 1))
}
