//! Submodules of git that were never fetched. Their directories are empty, and whatever needs what belongs there fails without a word
//! on it. Knows nothing of git beyond `.gitmodules`.

use std::fs;
use std::path::{Component, Path};

use super::tracked::repository;

/// The submodules in a directory of which nothing is there, relative to it, in the order in which they are written down.
pub(crate) fn unfetched(dir: &Path) -> Vec<String> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let root = repository(&dir).unwrap_or(&dir);
    let Ok(text) = fs::read_to_string(root.join(".gitmodules")) else { return Vec::new() };
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("path")?.trim_start().strip_prefix('='));
    let inside = paths.filter_map(|path| {
        let path = Path::new(path.trim().trim_matches('"'));
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let full = root.join(path);
        let is_empty = fs::read_dir(&full).map_or(true, |mut entries| entries.next().is_none());
        (is_plain && is_empty).then(|| Some(full.strip_prefix(&dir).ok()?.to_str()?.to_owned()))?
    });
    inside.collect()
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
