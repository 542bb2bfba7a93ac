//! Which packages those that are wanted need. Of alternatives the one that is there already, else the first that exists; the
//! versions that packages ask for are met by the release as a whole.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Index, Package, bare_name};
use crate::runtime::RuntimeError;

/// What only scripts of packages need, and those are not run.
const FOR_SCRIPTS: [&str; 8] =
    ["adduser", "debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "sysvinit-utils", "ucf"];

pub(super) fn close<'a, 'b>(
    index: &Index<'a>,
    wanted: impl IntoIterator<Item = &'b String>,
    suite: &str,
) -> Result<BTreeMap<&'a str, Package<'a>>, RuntimeError> {
    let mut closure = BTreeMap::new();
    let mut todo = VecDeque::new();
    for name in wanted {
        let missing = || RuntimeError::NoPackage { name: name.clone(), suite: suite.to_owned(), wanted_by: None };
        todo.push_back(find(index, name).ok_or_else(missing)?);
    }
    while let Some(package) = todo.pop_front() {
        if closure.insert(package.name, package).is_some() {
            continue;
        }
        for dependency in package.depends.iter().flat_map(|list| list.split(',')) {
            let alternatives: Vec<&str> =
                dependency.split('|').map(bare_name).filter(|name| !name.is_empty()).collect();
            let met = |name: &&str| FOR_SCRIPTS.contains(name) || closure.contains_key(name);
            if alternatives.is_empty() || alternatives.iter().any(met) {
                continue;
            }
            let chosen = alternatives.iter().find_map(|name| find(index, name));
            todo.push_back(chosen.ok_or_else(|| RuntimeError::NoPackage {
                name: alternatives[0].to_owned(),
                suite: suite.to_owned(),
                wanted_by: Some(package.name.to_owned()),
            })?);
        }
    }
    Ok(closure)
}

/// The package of a name, or the first that provides it.
fn find<'a>(index: &Index<'a>, name: &str) -> Option<Package<'a>> {
    let provider = || index.packages.get(index.providers.get(name)?.first()?);
    index.packages.get(name).or_else(provider).copied()
}

#[cfg(test)]
mod tests {
    use super::super::index::Text;
    use super::*;

    fn package(name: &str, fields: &str) -> String {
        format!("Package: {name}\nVersion: 1\nFilename: {name}.deb\nSHA256: 00\n{fields}\n\n")
    }

    fn closed(content: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
        let texts = [Text::new(content)];
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        match close(&Index::parse(&texts), &wanted, "bookworm") {
            Ok(closure) => Ok(closure.into_keys().map(str::to_owned).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn dependencies_are_followed_through_cycles_alternatives_and_what_is_provided() {
        let content = package("a", "Depends: b (>= 2), debconf | debconf-2.0, nothing | c:any")
            + &package("b", "Pre-Depends: a\nDepends: mail")
            + &package("c", "")
            + &package("postfix", "Provides: mail");
        assert_eq!(closed(&content, &["a"]), Ok(["a", "b", "c", "postfix"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_missing_package_is_named_with_who_wants_it() {
        assert_eq!(closed("", &["libqp5"]), Err("no Debian package `libqp5` in `bookworm`".into()));
        let content = package("a", "Depends: gone | lost");
        assert_eq!(closed(&content, &["a"]), Err("no Debian package `gone` in `bookworm`, wanted by `a`".into()));
    }
}
