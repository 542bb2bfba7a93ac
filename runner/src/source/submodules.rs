//! Submodules of git that were never fetched. Their directories are empty, and whatever needs what belongs there fails without a word
//! on it. Knows nothing of git beyond `.gitmodules`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::tracked::repository;

/// The submodules in a directory of which nothing is there, relative to it, in the order in which they are written down.
pub(crate) fn unfetched(dir: &Path) -> Vec<String> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let root = repository(&dir).unwrap_or(&dir);
    let Ok(text) = fs::read_to_string(root.join(".gitmodules")) else { return Vec::new() };
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("path")?.trim_start().strip_prefix('='));
    let paths = paths.map(|path| Path::new(path.trim().trim_matches('"')));
    let inside = paths.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))));
    let is_empty = |path: &PathBuf| fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    let empty = inside.map(|path| root.join(path)).filter(is_empty);
    empty.filter_map(|path| Some(path.strip_prefix(&dir).ok()?.to_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_named_of_which_nothing_is_there() {
        let repository = tempfile::tempdir().expect("a directory");
        let root = repository.path();
        let modules = "[submodule \"a\"]\n\tpath = web/styles\n\turl = https://example.org/a.git\n\
                       [submodule \"b\"]\n\tpath = \"web/there\"\n[submodule \"c\"]\n\tpath = ../out\n[submodule \"d\"]\n\tpath=other\n";
        for path in [".git", "web/styles", "web/there/x", "other"] {
            fs::create_dir_all(root.join(path)).expect("a directory");
        }
        assert!(unfetched(root).is_empty());
        fs::write(root.join(".gitmodules"), modules).expect("a file");
        assert_eq!(unfetched(root), ["web/styles", "other"]);
        assert_eq!(unfetched(&root.join("web")), ["styles"]);
    }
}
