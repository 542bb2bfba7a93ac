//! Debian packages as a runtime: chosen once from a mirror's index, pinned by their sha256 in `pipe.lock`, unpacked without
//! their scripts and merged into one tree. The same pins give the same runtime on any machine, whatever is installed there.
//!
//! The index is believed for what it is when it is read: over https by default. From then on the pins are.

mod closure;
mod deb;
mod index;
mod layout;
mod loader;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::host::{link_python, usr_links};
use super::{Parts, Record, Resolver, RuntimeError};
use crate::digest::Digest;
use crate::fetch::Request;
use crate::key::{Explanation, Fields as _, KeyBuilder};
use crate::sandbox::Mount;
use crate::store::Store;
use crate::tree::Entry;

/// What every runtime has beside Python: a shell and the small tools that scripts take for granted, time zones, the
/// certificates of public authorities, and the library of C++, which `manylinux` wheels find on any system.
const BASE: &[&str] = &[
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "libstdc++6",
    "mawk",
    "media-types",
    "netbase",
    "sed",
    "tar",
    "tzdata",
];

/// Where Debian keeps time zones by their old names, such as `US/Pacific`, since it divides `tzdata`; suites from before then.
const OLD_ZONES: &str = "tzdata-legacy";
const UNDIVIDED: [&str; 2] = ["bullseye", "bookworm"];

/// What those who bring a compiler take for granted: the C library's headers, and Debian's essential Perl, in which tools such
/// as `pg_config` are written.
const FOR_COMPILERS: [&str; 2] = ["libc6-dev", "perl-base"];

/// The tables of `pipe.lock`.
const PINS: &str = "packages";
const WISHES: &str = "packages-for";

/// What a pipeline asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Packages beyond what Python needs.
    pub system: Vec<String>,
    /// Packages for builds only.
    pub build_system: Vec<String>,
    /// The mirror's address, without a slash at its end.
    pub mirror: String,
    /// The Debian release.
    pub suite: String,
}

/// A package that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    name: String,
    version: String,
    url: String,
    sha256: String,
    /// Only builds see it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    build: bool,
}

/// What the pins were chosen for: another wish needs other pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct For {
    mirror: String,
    suite: String,
    architecture: String,
    packages: Vec<String>,
    build_packages: Vec<String>,
}

pub(super) fn resolve(wanted: &Wanted, python: Option<&str>, resolver: &Resolver<'_>) -> Result<Parts, RuntimeError> {
    let wish = wanted.wish(python);
    let mut pins: Vec<Pin> = resolver.lock.read(PINS)?;
    let known: Vec<For> = resolver.lock.read(WISHES)?;
    if known != [wish.clone()] || pins.is_empty() {
        if resolver.locked {
            return Err(RuntimeError::NotLocked(resolver.lock.path().to_owned()));
        }
        pins = choose(&wish, resolver)?;
        resolver.lock.update(PINS, |_: Vec<Pin>| Ok::<_, RuntimeError>(pins.clone()))?;
        resolver.lock.update(WISHES, |_: Vec<For>| Ok::<_, RuntimeError>(vec![wish]))?;
    }
    let python = python_version(&pins).ok_or_else(|| RuntimeError::NoPackage {
        name: "python3".into(),
        suite: wanted.suite.clone(),
        wanted_by: None,
    })?;
    let run: Vec<&Pin> = pins.iter().filter(|pin| !pin.build).collect();
    let mut parts = of_tree(resolver.store, &tree_of(&run, resolver)?, &python)?;
    if run.len() < pins.len() {
        let tree = tree_of(&pins.iter().collect::<Vec<_>>(), resolver)?;
        let build = of_tree(resolver.store, &tree, &python)?;
        parts.build = Some((build.digest, build.mounts));
    }
    Ok(parts)
}

impl Wanted {
    fn wish(&self, python: Option<&str>) -> For {
        let python = python.map_or_else(|| "python3".to_owned(), |version| format!("python{version}"));
        let sorted = |names: Vec<String>| {
            let mut names = names;
            names.sort();
            names.dedup();
            names
        };
        let zones = (!UNDIVIDED.contains(&self.suite.as_str())).then_some(&OLD_ZONES);
        let base = BASE.iter().chain(zones).map(|name| (*name).to_owned());
        let compiles = !self.build_system.is_empty();
        let headers = compiles.then(|| format!("{python}-dev"));
        let beside = FOR_COMPILERS.iter().filter(|_| compiles).map(|name| (*name).to_owned());
        For {
            mirror: self.mirror.clone(),
            suite: self.suite.clone(),
            architecture: if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }.to_owned(),
            packages: sorted(base.chain([python]).chain(self.system.iter().cloned()).collect()),
            build_packages: sorted(
                headers.into_iter().chain(beside).chain(self.build_system.iter().cloned()).collect(),
            ),
        }
    }
}

/// Chooses packages from what the mirror has now.
fn choose(wish: &For, resolver: &Resolver<'_>) -> Result<Vec<Pin>, RuntimeError> {
    let texts = index::fetch(wish, resolver.fetcher)?;
    let index = index::Index::parse(&texts);
    let run = closure::close(&index, &wish.packages, &wish.suite)?;
    let all = closure::close(&index, wish.packages.iter().chain(&wish.build_packages), &wish.suite)?;
    let pins = all.values().map(|package| Pin {
        name: package.name.to_owned(),
        version: package.version.to_owned(),
        url: format!("{}/{}", package.mirror, package.file),
        sha256: package.sha256.to_owned(),
        build: !run.contains_key(package.name),
    });
    Ok(pins.collect())
}

/// The version of the interpreter among the packages: of `python3.11-minimal`, `3.11.2-6+deb12u5` without Debian's part.
fn python_version(pins: &[Pin]) -> Option<String> {
    let pin = pins.iter().find(|pin| pin.name.starts_with("python3.") && pin.name.ends_with("-minimal"))?;
    Some(pin.version.split(['-', '+', '~']).next()?.to_owned())
}

/// Fetches, unpacks and merges packages, unless that was done.
fn tree_of(pins: &[&Pin], resolver: &Resolver<'_>) -> Result<Digest, RuntimeError> {
    let mut key = KeyBuilder::new("packages").field("rules", layout::RULES);
    key.add_list("sha256", pins.iter().map(|pin| pin.sha256.as_str()));
    // The loader's cache is what a program gave.
    key.add_believed_since(resolver.store.believed_since());
    let key = key.finish();
    let known = resolver.store.action(&key)?.and_then(|record| serde_json::from_slice(&record).ok());
    if let Some(tree) = known {
        return Ok(tree);
    }
    let request = |pin: &&Pin| Request {
        source: "https".into(),
        url: pin.url.clone(),
        name: pin.url.rsplit('/').next().unwrap_or_default().to_owned(),
        digest: format!("sha256:{}", pin.sha256),
    };
    let blobs = resolver.fetcher.get(&pins.iter().map(request).collect::<Vec<_>>())?;
    let unpack = |(pin, blob): (&&Pin, &Digest)| deb::unpack(resolver.store, &pin.name, blob);
    let trees = pins.iter().zip(&blobs).map(unpack).collect::<Result<Vec<_>, _>>()?;
    let tree = loader::add_cache(resolver.store, layout::merge(resolver.store, &trees)?)?;
    let record = serde_json::to_vec(&tree).expect("a digest is plain data");
    resolver.store.put_action(&key, &record, &[tree])?;
    Ok(tree)
}

pub(super) fn of_tree(store: &Store, tree: &Digest, python: &str) -> Result<Parts, RuntimeError> {
    let mut mounts = mounts_of(store, tree)?;
    let short = python.rsplit_once('.').map_or(python, |(short, _)| short);
    link_python(short, &mut mounts);
    let digest =
        KeyBuilder::new("runtime packages").field("tree", tree.as_bytes()).field("python", python.as_bytes()).finish();
    let record = Record::Packages { tree: *tree, python: python.to_owned() };
    Ok(Parts { record, digest, made_of: Explanation::default(), python: python.to_owned(), mounts, build: None })
}

/// What is seen of a tree of packages.
fn mounts_of(store: &Store, tree: &Digest) -> Result<Vec<Mount>, RuntimeError> {
    let directory = store.lay_out(tree)?;
    let bind = |source: PathBuf, at: String| Mount::Bind { source, at, writable: false };
    let mut mounts = vec![bind(directory.join("usr"), "/usr".into())];
    if let Some(Entry::Tree { digest }) = store.lookup(tree, "usr")? {
        mounts.extend(usr_links(store.tree(&digest)?.entries().map(|(name, _)| name)));
    }
    if let Some(Entry::Tree { digest }) = store.lookup(tree, "etc")? {
        let etc = store.tree(&digest)?;
        mounts.extend(etc.entries().map(|(name, entry)| match entry {
            Entry::Symlink { target } => Mount::Symlink { at: format!("/etc/{name}"), target: target.clone() },
            _ => bind(directory.join("etc").join(name), format!("/etc/{name}")),
        }));
    }
    Ok(mounts)
}
