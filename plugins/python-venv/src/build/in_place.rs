//! What a backend must see of a directory of the project to install it in place: what describes it, and not what it does, so
//! that an edit to a module changes neither the build nor the environment.

use pipe_sdk::{Failure, Kind};
use python_packaging::wheel::WheelName;

use crate::obtain::Source;

/// Modules that backends read: packages are found by them, and versions stand in them.
const READ: [&str; 4] = ["**/__init__.py", "**/*version*.py", "**/__about__.py", "**/py.typed"];

/// The part of a source that describes it: the files at its top, and modules that backends read.
pub(super) fn part(source: &Source) -> Result<Source, Failure> {
    let entries = source.tree.entries("")?.unwrap_or_default().into_iter();
    let files = entries.filter(|entry| entry.kind != Kind::Directory).map(|entry| literal(&entry.name));
    let backend = super::Backend::of(source, &[])?.path.into_iter().filter(|path| !path.is_empty());
    let include: Vec<String> = files.chain(backend).chain(READ.map(str::to_owned)).collect();
    Ok(Source {
        name: source.name.clone(),
        version: source.version.clone(),
        place: source.place.clone(),
        tree: source.tree.select(&include, &[])?,
    })
}

/// Whether a wheel holds nothing that was built for a machine.
pub(super) fn is_pure(wheel: &str) -> bool {
    WheelName::parse(wheel).is_ok_and(|name| name.tags().all(|tag| tag.ends_with("-none-any")))
}

/// A name as a glob of itself.
fn literal(name: &str) -> String {
    name.chars().fold(String::new(), |mut glob, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!') {
            glob.extend(['[', c, ']']);
        } else {
            glob.push(c);
        }
        glob
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_of_nothing_but_python_is_pure() {
        assert!(is_pure("app-1.0-0.editable-py3-none-any.whl"));
        assert!(is_pure("app-0-py3-none-any.whl"));
        assert!(!is_pure("app-1.0-0.editable-cp311-cp311-linux_x86_64.whl"));
    }

    #[test]
    fn names_are_no_patterns() {
        assert_eq!(literal("README.md"), "README.md");
        assert_eq!(literal("a[1]*.txt"), "a[[]1[]][*].txt");
    }
}
