//! Which packages of a lock are installed: what is omitted, and what is optional and made for another platform.

use std::collections::{BTreeMap, BTreeSet};

use pipe_sdk::{Deserialize, Failure, JsonSchema};

use crate::lock::{Lock, Package};

/// A kind of dependency that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "pipe_sdk::schemars")]
pub(crate) enum Omit {
    /// What only `devDependencies` need.
    Dev,
    /// What only `optionalDependencies` need.
    Optional,
    /// What only `peerDependencies` need.
    Peer,
}

/// A platform in npm's words.
#[derive(Debug)]
pub(crate) struct Platform {
    os: String,
    cpu: String,
    libc: Option<&'static str>,
}

impl Platform {
    /// Translates `linux-x86_64-gnu`.
    pub(crate) fn parse(name: &str) -> Self {
        let mut parts = name.split('-');
        let os = parts.next().unwrap_or_default();
        let cpu = match parts.next().unwrap_or_default() {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            "i686" => "ia32",
            "armv7" | "armv7l" => "arm",
            "powerpc64le" | "ppc64le" => "ppc64",
            other => other,
        };
        let libc = match (os, parts.next()) {
            ("linux", Some("musl")) => Some("musl"),
            ("linux", _) => Some("glibc"),
            _ => None,
        };
        Self { os: os.to_owned(), cpu: cpu.to_owned(), libc }
    }

    fn suits(&self, package: &Package) -> bool {
        allows(&package.os.0, Some(&self.os))
            && allows(&package.cpu.0, Some(&self.cpu))
            && allows(&package.libc.0, self.libc)
    }
}

/// Whether a list of names, some of them negated by a `!`, allows `value`.
fn allows(list: &[String], value: Option<&str>) -> bool {
    if list.is_empty() || list == ["any"] {
        return true;
    }
    let Some(value) = value else { return false };
    let (negated, named): (Vec<&str>, Vec<&str>) =
        list.iter().map(String::as_str).partition(|name| name.starts_with('!'));
    !negated.iter().any(|name| &name[1..] == value) && (named.is_empty() || named.contains(&value))
}

/// The places of the packages to install, in bytewise order: without the project itself, its workspaces, what is omitted
/// and what is optional and fails on this platform, together with what only that needs.
pub(crate) fn select<'a>(lock: &'a Lock, omit: &[Omit], platform: &Platform) -> Result<Vec<&'a str>, Failure> {
    let graph = Graph::of(lock);
    let mut inert = BTreeSet::new();
    for (place, package) in &lock.packages {
        if platform.suits(package) || inert.contains(place.as_str()) {
            continue;
        }
        if package.optional {
            let set = graph.optional_set(place, &inert);
            inert.extend(set);
        } else if !omitted(package, omit) {
            let Platform { os, cpu, .. } = platform;
            return Err(Failure::invalid(format!("`{place}` cannot be installed on {os} {cpu}, says the lock"))
                .hint("make it one of `optionalDependencies`, or omit it"));
        }
    }
    let wanted = lock.packages.iter().filter(|(place, package)| {
        in_node_modules(place) && !package.extraneous && !omitted(package, omit) && !inert.contains(place.as_str())
    });
    Ok(wanted.map(|(place, _)| place.as_str()).collect())
}

/// Whether a place is a package's, and not the project's own directory.
fn in_node_modules(place: &str) -> bool {
    place.starts_with("node_modules/") || place.contains("/node_modules/")
}

fn omitted(package: &Package, omit: &[Omit]) -> bool {
    let (dev, optional, peer) = (omit.contains(&Omit::Dev), omit.contains(&Omit::Optional), omit.contains(&Omit::Peer));
    package.peer && peer
        || package.dev && dev
        || package.optional && optional
        || package.dev_optional && dev && optional
}

/// One dependency of a package on another, by place.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    optional: bool,
}

/// Who depends on whom.
struct Graph<'a> {
    out: BTreeMap<&'a str, Vec<Edge<'a>>>,
    into: BTreeMap<&'a str, Vec<Edge<'a>>>,
}

impl<'a> Graph<'a> {
    fn of(lock: &'a Lock) -> Self {
        let mut graph = Self { out: BTreeMap::new(), into: BTreeMap::new() };
        for (from, package) in &lock.packages {
            for (name, optional) in wants(from, package) {
                if let Some(to) = lock.resolve(from, name) {
                    graph.add(from, to, optional);
                }
            }
            let target = package.resolved.as_ref().filter(|_| package.link);
            if let Some((to, _)) = target.and_then(|target| lock.packages.get_key_value(target)) {
                graph.add(from, to, false);
            }
        }
        graph
    }

    fn add(&mut self, from: &'a str, to: &'a str, optional: bool) {
        self.out.entry(from).or_default().push(Edge { from, to, optional });
        self.into.entry(to).or_default().push(Edge { from, to, optional });
    }

    fn leaving(&self, place: &str) -> &[Edge<'a>] {
        self.out.get(place).map_or(&[], Vec::as_slice)
    }

    fn entering(&self, place: &str) -> &[Edge<'a>] {
        self.into.get(place).map_or(&[], Vec::as_slice)
    }

    /// What falls with `place`: everything up to the optional dependencies that ask for it, and whatever only that needs.
    /// npm's own rule, step by step.
    fn optional_set(&self, place: &'a str, inert: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let asking = closure(BTreeSet::from([place]), |place| {
            self.entering(place).iter().filter(|edge| !edge.optional).map(|edge| edge.from).collect()
        });
        let counts = |edge: &&Edge| !asking.contains(edge.to) && !inert.contains(edge.from);
        let mut set =
            closure(asking.clone(), |place| self.leaving(place).iter().filter(counts).map(|edge| edge.to).collect());
        loop {
            let needed: Vec<&str> = set
                .iter()
                .copied()
                .filter(|place| self.entering(place).iter().filter(counts).any(|edge| !set.contains(edge.from)))
                .collect();
            if needed.is_empty() {
                return set;
            }
            set.retain(|place| !needed.contains(place));
        }
    }
}

/// The least set that holds `start` and the neighbours of all that it holds.
fn closure<'a>(start: BTreeSet<&'a str>, neighbours: impl Fn(&str) -> Vec<&'a str>) -> BTreeSet<&'a str> {
    let mut waiting: Vec<&str> = start.iter().copied().collect();
    let mut reached = start;
    while let Some(place) = waiting.pop() {
        waiting.extend(neighbours(place).into_iter().filter(|&next| reached.insert(next)));
    }
    reached
}

/// The names that a package depends on, and whether it can do without.
fn wants<'a>(place: &str, package: &'a Package) -> impl Iterator<Item = (&'a str, bool)> {
    let optional = &package.optional_dependencies;
    let meta = &package.peer_dependencies_meta;
    // Only what is no package of somebody else has its development dependencies installed.
    let dev = Some(&package.dev_dependencies).filter(|_| !in_node_modules(place));
    let hard = package.dependencies.keys().filter(|name| !optional.contains_key(*name)).map(|name| (name, false));
    let peers = package.peer_dependencies.keys().map(|name| (name, meta.get(name).is_some_and(|meta| meta.optional)));
    let dev = dev.into_iter().flatten().map(|(name, _)| (name, false));
    let optional = optional.keys().map(|name| (name, true));
    hard.chain(peers).chain(dev).chain(optional).map(|(name, optional)| (name.as_str(), optional))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(packages: &str, omit: &[Omit], platform: &str) -> Result<Vec<String>, Failure> {
        let text = format!(r#"{{"lockfileVersion":3,"packages":{packages}}}"#);
        let lock = Lock::parse(&text, "package-lock.json")?;
        let places = select(&lock, omit, &Platform::parse(platform))?;
        Ok(places.into_iter().map(|place| place.trim_start_matches("node_modules/").to_owned()).collect())
    }

    const ESBUILD: &str = r#"{
        "": {"dependencies": {"esbuild": "1"}},
        "node_modules/esbuild": {"optionalDependencies": {"@esbuild/linux-x64": "1", "@esbuild/darwin-arm64": "1",
            "@esbuild/musl": "1"}},
        "node_modules/@esbuild/linux-x64": {"optional": true, "os": ["linux"], "cpu": ["x64"]},
        "node_modules/@esbuild/musl": {"optional": true, "os": "linux", "cpu": ["x64"], "libc": ["musl"]},
        "node_modules/@esbuild/darwin-arm64": {"optional": true, "os": ["darwin"], "cpu": ["arm64"]}}"#;

    #[test]
    fn only_this_platforms_binaries_are_installed() {
        let on = |platform| selected(ESBUILD, &[], platform).expect("a selection");
        assert_eq!(on("linux-x86_64-gnu"), ["@esbuild/linux-x64", "esbuild"]);
        assert_eq!(on("linux-x86_64-musl"), ["@esbuild/linux-x64", "@esbuild/musl", "esbuild"]);
        assert_eq!(on("darwin-aarch64"), ["@esbuild/darwin-arm64", "esbuild"]);
    }

    #[test]
    fn what_only_a_failing_optional_package_needs_falls_with_it() {
        let packages = r#"{
            "": {"dependencies": {"watch": "1"}},
            "node_modules/watch": {"dependencies": {"shared": "1"}, "optionalDependencies": {"fsevents": "1"}},
            "node_modules/fsevents": {"optional": true, "os": ["darwin"], "dependencies": {"nan": "1", "shared": "1"}},
            "node_modules/nan": {"optional": true},
            "node_modules/shared": {}}"#;
        assert_eq!(selected(packages, &[], "linux-x86_64-gnu").expect("a selection"), ["shared", "watch"]);
    }

    #[test]
    fn an_optional_package_falls_with_what_it_cannot_do_without() {
        let packages = r#"{
            "": {"optionalDependencies": {"outer": "1"}},
            "node_modules/outer": {"optional": true, "dependencies": {"inner": "1"}},
            "node_modules/inner": {"optional": true, "os": ["win32"]}}"#;
        assert_eq!(selected(packages, &[], "linux-x86_64-gnu").expect("a selection"), Vec::<String>::new());
    }

    #[test]
    fn a_required_package_for_another_platform_is_an_error() {
        let packages = r#"{"": {"dependencies": {"a": "1"}}, "node_modules/a": {"os": ["win32"]}}"#;
        let failure = selected(packages, &[], "linux-x86_64-gnu").expect_err("a failure");
        assert_eq!(failure.message, "`node_modules/a` cannot be installed on linux x64, says the lock");
    }

    #[test]
    fn omitted_kinds_are_left_out() {
        let packages = r#"{
            "": {},
            "node_modules/dev": {"dev": true, "os": ["win32"]},
            "node_modules/either": {"devOptional": true},
            "node_modules/optional": {"optional": true},
            "node_modules/peer": {"peer": true},
            "node_modules/prod": {}}"#;
        let without = |omit: &[Omit]| selected(packages, omit, "linux-x86_64-gnu").expect("a selection");
        assert_eq!(without(&[Omit::Dev]), ["either", "optional", "peer", "prod"]);
        assert_eq!(without(&[Omit::Dev, Omit::Optional]), ["peer", "prod"]);
        assert_eq!(without(&[Omit::Dev, Omit::Peer]), ["either", "optional", "prod"]);
    }

    #[test]
    fn workspaces_are_not_packages_and_their_own_packages_are() {
        let packages = r#"{
            "": {"workspaces": ["packages/*"]},
            "node_modules/w": {"resolved": "packages/w", "link": true},
            "packages/w": {},
            "packages/w/node_modules/a": {}}"#;
        assert_eq!(
            selected(packages, &[], "linux-x86_64-gnu").expect("a selection"),
            ["w", "packages/w/node_modules/a"]
        );
    }

    #[test]
    fn lists_can_negate() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(allows(&list(&["!win32"]), Some("linux")));
        assert!(!allows(&list(&["!linux"]), Some("linux")));
        assert!(!allows(&list(&["darwin", "!win32"]), Some("linux")));
        assert!(allows(&list(&["any"]), Some("linux")));
        assert!(!allows(&list(&["glibc"]), None));
    }
}
