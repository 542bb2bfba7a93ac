//! The links in `node_modules/.bin`: which there are, and what they lead to. Plain data.

use std::collections::BTreeSet;

use crate::lock::{Bin, Lock, Package, join};
use crate::origin::relative;

/// A link to a program of a package.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BinLink<'a> {
    /// The place of the package.
    pub(crate) package: &'a str,
    /// The program's path in the package.
    pub(crate) file: String,
    /// Where the link is.
    pub(crate) link: String,
    /// What the link says.
    pub(crate) target: String,
}

/// The links of all `places`. Where two packages have a program of one name, the shallower package has it, then the first
/// by name; links come last, as with npm.
pub(crate) fn links<'a>(lock: &'a Lock, places: &[&'a str]) -> Vec<BinLink<'a>> {
    let mut order: Vec<&str> = places.to_vec();
    order.sort_by_key(|place| (lock.packages[*place].link, place.matches("node_modules/").count(), *place));
    let mut taken = BTreeSet::new();
    let mut links = Vec::new();
    for place in order {
        let Some(directory) = directory(place) else { continue };
        let package = &lock.packages[place];
        for (name, file) in programs(place, described(lock, package)) {
            let link = format!("{directory}/.bin/{name}");
            if taken.insert(link.clone()) {
                let target = relative(&link, &join(place, &file));
                links.push(BinLink { package: place, file, link, target });
            }
        }
    }
    links
}

/// The entry that describes a package: for a link, that of what it leads to.
fn described<'a>(lock: &'a Lock, package: &'a Package) -> &'a Package {
    let target = package.resolved.as_ref().filter(|_| package.link);
    target.and_then(|target| lock.packages.get(target)).unwrap_or(package)
}

/// The `node_modules` that a package is in.
fn directory(place: &str) -> Option<&str> {
    let end = place.rfind("node_modules/")?;
    Some(&place[..end + "node_modules".len()])
}

/// The programs of a package by name, cleaned as npm does: a name is no path, and a file is inside of the package.
fn programs(place: &str, package: &Package) -> Vec<(String, String)> {
    let written: Vec<(&str, &str)> = match &package.bin {
        None => Vec::new(),
        Some(Bin::One(file)) => vec![(package.name(place), file)],
        Some(Bin::Named(files)) => files.iter().map(|(name, file)| (name.as_str(), file.as_str())).collect(),
        Some(Bin::Files(files)) => files.iter().map(|file| (file.as_str(), file.as_str())).collect(),
    };
    let clean = |(name, file): (&str, &str)| {
        let name = name.rsplit(['/', '\\', ':']).next().unwrap_or(name);
        let mut parts: Vec<&str> = Vec::new();
        for part in file.split(['/', '\\']) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let usable = !matches!(name, "" | "." | "..") && !parts.is_empty();
        usable.then(|| (name.to_owned(), parts.join("/")))
    };
    written.into_iter().filter_map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(packages: &str, places: &[&str]) -> Vec<(String, String)> {
        let text = format!(r#"{{"lockfileVersion":3,"packages":{packages}}}"#);
        let lock = Lock::parse(&text, "package-lock.json").expect("a lock");
        let places: Vec<&str> =
            places.iter().map(|place| lock.packages.get_key_value(*place).expect("a place").0.as_str()).collect();
        links(&lock, &places).into_iter().map(|bin| (bin.link, bin.target)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(link, target)| ((*link).to_owned(), (*target).to_owned())).collect()
    }

    #[test]
    fn programs_are_linked_from_the_node_modules_of_their_package() {
        let packages = r#"{"":{}, "node_modules/vite":{"bin":{"vite":"bin/vite.js"}},
            "node_modules/@s/one":{"bin":"./cli.js"}, "node_modules/a/node_modules/b":{"bin":{"b":"b.js"}}}"#;
        let places = ["node_modules/@s/one", "node_modules/a/node_modules/b", "node_modules/vite"];
        let expected = [
            ("node_modules/.bin/one", "../@s/one/cli.js"),
            ("node_modules/.bin/vite", "../vite/bin/vite.js"),
            ("node_modules/a/node_modules/.bin/b", "../b/b.js"),
        ];
        assert_eq!(linked(packages, &places), pairs(&expected));
    }

    #[test]
    fn names_and_files_cannot_leave_their_place() {
        let packages = r#"{"":{}, "node_modules/a":{"bin":{"../../evil":"../../../x.js", "..":"y.js", "empty":""}}}"#;
        assert_eq!(linked(packages, &["node_modules/a"]), pairs(&[("node_modules/.bin/evil", "../a/x.js")]));
    }

    #[test]
    fn the_first_package_has_the_name() {
        let packages = r#"{"":{}, "node_modules/a":{"bin":{"x":"a.js"}}, "node_modules/b":{"bin":{"x":"b.js"}}}"#;
        let expected = pairs(&[("node_modules/.bin/x", "../a/a.js")]);
        assert_eq!(linked(packages, &["node_modules/b", "node_modules/a"]), expected);
    }

    #[test]
    fn the_programs_of_a_workspace_are_linked_through_its_link() {
        let packages = r#"{"":{}, "node_modules/w":{"resolved":"packages/w","link":true},
            "packages/w":{"name":"w","bin":"run.js"}}"#;
        assert_eq!(linked(packages, &["node_modules/w"]), pairs(&[("node_modules/.bin/w", "../w/run.js")]));
    }
}
