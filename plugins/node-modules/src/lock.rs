//! `package-lock.json`, versions 2 and 3: what it says, as far as an installation needs it. Plain data.

use std::collections::BTreeMap;

use pipe_sdk::{Deserialize, Failure};

/// A lock: every package by its place below the directory of the lock, which is `""`.
#[derive(Debug, Deserialize)]
#[serde(crate = "pipe_sdk::serde", rename_all = "camelCase")]
pub(crate) struct Lock {
    #[serde(default)]
    lockfile_version: u32,
    #[serde(default)]
    pub(crate) packages: BTreeMap<String, Package>,
}

/// One package at one place.
#[expect(clippy::struct_excessive_bools, reason = "the flags are npm's, each by itself")]
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "pipe_sdk::serde", rename_all = "camelCase", default)]
pub(crate) struct Package {
    /// The package's own name, where the place has another (an alias).
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// An address; for a link, the directory that it leads to.
    pub(crate) resolved: Option<String>,
    /// Hashes as in Subresource Integrity.
    pub(crate) integrity: Option<String>,
    /// A symbolic link to a directory of the project.
    pub(crate) link: bool,
    /// Comes inside of its parent's archive.
    pub(crate) in_bundle: bool,
    pub(crate) extraneous: bool,
    pub(crate) dev: bool,
    pub(crate) optional: bool,
    pub(crate) dev_optional: bool,
    pub(crate) peer: bool,
    pub(crate) has_install_script: bool,
    pub(crate) bin: Option<Bin>,
    pub(crate) os: Names,
    pub(crate) cpu: Names,
    pub(crate) libc: Names,
    pub(crate) dependencies: BTreeMap<String, String>,
    pub(crate) dev_dependencies: BTreeMap<String, String>,
    pub(crate) optional_dependencies: BTreeMap<String, String>,
    pub(crate) peer_dependencies: BTreeMap<String, String>,
    pub(crate) peer_dependencies_meta: BTreeMap<String, PeerMeta>,
}

/// What is said of a peer dependency.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "pipe_sdk::serde", default)]
pub(crate) struct PeerMeta {
    pub(crate) optional: bool,
}

/// The programs of a package.
#[derive(Debug, Deserialize)]
#[serde(crate = "pipe_sdk::serde", untagged)]
pub(crate) enum Bin {
    /// One, called like the package.
    One(String),
    /// Several, by name.
    Named(BTreeMap<String, String>),
    /// Several, called like their files.
    Files(Vec<String>),
}

/// A list of names that may be written as one.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "pipe_sdk::serde", from = "OneOrMany")]
pub(crate) struct Names(pub(crate) Vec<String>);

#[derive(Deserialize)]
#[serde(crate = "pipe_sdk::serde", untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Names {
    fn from(names: OneOrMany) -> Self {
        Self(match names {
            OneOrMany::One(name) => vec![name],
            OneOrMany::Many(names) => names,
        })
    }
}

/// What `package.json` asks for by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "pipe_sdk::serde", rename_all = "camelCase", default)]
pub(crate) struct Manifest {
    dependencies: BTreeMap<String, String>,
    dev_dependencies: BTreeMap<String, String>,
}

impl Lock {
    /// Reads a lock; `path` is what messages call it.
    pub(crate) fn parse(text: &str, path: &str) -> Result<Self, Failure> {
        let lock: Self = pipe_sdk::serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("`{path}` is not a lock of npm: {error}")))?;
        if lock.lockfile_version < 2 || !lock.packages.contains_key("") {
            let version = lock.lockfile_version;
            return Err(Failure::invalid(format!("`{path}` has version {version}, and this step reads 2 and 3"))
                .hint("rewrite it with npm 7 or later: `npm install --package-lock-only`"));
        }
        Ok(lock)
    }

    /// Refuses a lock that lacks what `package.json` asks for.
    pub(crate) fn covers(&self, manifest: &Manifest, path: &str) -> Result<(), Failure> {
        let asked = manifest.dependencies.keys().chain(manifest.dev_dependencies.keys());
        let missing: Vec<String> = asked
            .filter(|name| !self.packages.contains_key(&format!("node_modules/{name}")))
            .map(|name| format!("`{name}`"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid(format!("`{path}` is out of date: it lacks {} of `package.json`", missing.join(", ")))
            .hint("run `npm install --package-lock-only` and commit the lock"))
    }

    /// Where `from` finds the package `name`: beside its own dependencies or those of a directory above.
    pub(crate) fn resolve(&self, from: &str, name: &str) -> Option<&str> {
        let mut directory = Some(from);
        while let Some(above) = directory {
            let place = join(above, &format!("node_modules/{name}"));
            if let Some((place, _)) = self.packages.get_key_value(&place) {
                return Some(place);
            }
            directory = match above.rsplit_once('/') {
                Some((parent, _)) => Some(parent),
                None if above.is_empty() => None,
                None => Some(""),
            };
        }
        None
    }
}

impl Manifest {
    /// Reads a `package.json`.
    pub(crate) fn parse(text: &str, path: &str) -> Result<Self, Failure> {
        pipe_sdk::serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("`{path}` is not a package of npm: {error}")))
    }
}

impl Package {
    /// The package's name: its own, or that of its place.
    pub(crate) fn name<'a>(&'a self, place: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or_else(|| folder_name(place))
    }
}

/// The name that a place has: what follows its last `node_modules/`.
fn folder_name(place: &str) -> &str {
    place.rsplit_once("node_modules/").map_or(place, |(_, name)| name)
}

/// `name` in the directory `directory`, where `""` is the top.
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &str) -> Lock {
        Lock::parse(&format!(r#"{{"lockfileVersion":3,"packages":{packages}}}"#), "package-lock.json").expect("a lock")
    }

    #[test]
    fn an_old_lock_is_refused_with_the_way_out() {
        let failure = Lock::parse(r#"{"lockfileVersion":1,"dependencies":{}}"#, "ui/package-lock.json");
        let failure = failure.expect_err("a failure");
        assert_eq!(failure.message, "`ui/package-lock.json` has version 1, and this step reads 2 and 3");
        assert!(failure.hint.expect("a remedy").contains("npm install --package-lock-only"));
    }

    #[test]
    fn a_dependency_is_found_in_the_nearest_node_modules() {
        let lock = lock(
            r#"{"":{}, "node_modules/a":{}, "node_modules/b":{}, "node_modules/a/node_modules/b":{},
                "node_modules/@s/c":{}, "packages/w":{}, "packages/w/node_modules/a":{}}"#,
        );
        assert_eq!(lock.resolve("node_modules/a", "b"), Some("node_modules/a/node_modules/b"));
        assert_eq!(lock.resolve("node_modules/@s/c", "b"), Some("node_modules/b"));
        assert_eq!(lock.resolve("packages/w", "a"), Some("packages/w/node_modules/a"));
        assert_eq!(lock.resolve("packages/w/node_modules/a", "@s/c"), Some("node_modules/@s/c"));
        assert_eq!(lock.resolve("", "missing"), None);
    }

    #[test]
    fn a_lock_that_lacks_a_dependency_is_out_of_date() {
        let manifest = Manifest::parse(r#"{"devDependencies":{"vite":"^7","sass":"1"}}"#, "package.json");
        let lock = lock(r#"{"":{}, "node_modules/sass":{}}"#);
        let failure = lock.covers(&manifest.expect("a manifest"), "package-lock.json").expect_err("a failure");
        assert_eq!(failure.message, "`package-lock.json` is out of date: it lacks `vite` of `package.json`");
    }

    #[test]
    fn an_alias_keeps_the_name_of_the_package() {
        let lock = lock(r#"{"":{}, "node_modules/old":{"name":"@scope/new"}, "node_modules/x/node_modules/@s/y":{}}"#);
        let name = |place| lock.packages[place].name(place).to_owned();
        assert_eq!(name("node_modules/old"), "@scope/new");
        assert_eq!(name("node_modules/x/node_modules/@s/y"), "@s/y");
    }

    #[test]
    fn any_text_is_a_lock_or_refused() {
        pipe_fuzz::attack("package-lock", |bytes| {
            let Ok(lock) = Lock::parse(&String::from_utf8_lossy(bytes), "package-lock.json") else { return };
            for place in lock.packages.keys() {
                let _ = (lock.resolve(place, "a"), lock.packages[place].name(place));
            }
        });
    }
}
