//! The front end that lies beside a project: which packages of npm it has, and which command builds it.
//!
//! Where its files go is not found out: `command` keeps whatever the build writes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::project::directories;
use super::scripts::{Building, builder, building, usual};
use super::settings::strings;

/// What npm calls its lock.
const LOCKS: &[&str] = &["npm-shrinkwrap.json", "package-lock.json"];
/// Locks of other package managers, which no step reads.
const FOREIGN_LOCKS: &[&str] = &["yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"];
/// Below the top, and below `manage.py`, a front end is looked for as deep as this.
const DEPTH: usize = 4;
/// Directories in which others' packages lie, with locks of their own.
const VENDORED: &[&str] = &["static", "vendor", "vendored", "third_party", "third-party", "examples", "example"];
/// What people call the directory of the front end that visitors see.
const NAMES: &[&str] = &["frontend", "front-end", "front", "client", "web", "webapp", "ui", "app", "assets", "js"];
/// Where bundlers are told what they write.
const BUNDLERS: &[&str] = &["vite.config.", "webpack.config.", "rollup.config.", "webpack.common.", "webpack.prod."];

/// A front end.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a line of the pipeline says by itself")]
pub(super) struct FrontEnd {
    /// The directory of its lock.
    pub(super) root: String,
    /// The lock's name.
    pub(super) lock: &'static str,
    /// What runs it, where there is something to run.
    pub(super) build: Option<Build>,
    /// Scripts of which one may build it, where it is not known which.
    pub(super) scripts: Vec<String>,
    /// Whether what it builds is Django's to serve, as far as can be told.
    pub(super) is_served: bool,
    /// Whether workspaces have packages of their own.
    pub(super) has_workspaces: bool,
    /// Whether its packages are told from those that only its development needs.
    pub(super) has_dependencies: bool,
    /// Whether a package is a commit of a repository.
    pub(super) has_git: bool,
    pub(super) node: Node,
}

/// Where `node` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Where programs see it.
    Seen,
    /// Elsewhere, so that a pipeline must name it.
    At(PathBuf),
    Missing,
}

/// What of a front end a pipeline takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What its script builds.
    Built,
    /// The packages alone, which the settings name.
    Packages,
    /// Nothing, as long as nobody says more.
    Nothing,
}

/// The command that builds it, word by word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Build(pub(super) Vec<String>);

impl FrontEnd {
    /// The front end that the project most likely serves: of those with a script that builds them one
    /// with a usual name, and then the nearest to the top.
    /// `texts` are those of the settings.
    pub(super) fn find(dir: &Path, manage: &str, texts: &[String], node: &Node) -> Option<Self> {
        let mut found: Vec<Self> = Vec::new();
        for places in places(dir, manage) {
            found.extend(places.into_iter().filter_map(|root| Self::at(dir, root, manage, texts, node)));
            if !found.is_empty() {
                break;
            }
        }
        let is_usual = |root: &str| root.is_empty() || NAMES.contains(&root.rsplit('/').next().unwrap_or(root));
        let rank = |it: &Self| (it.build.is_some() && it.is_served, it.build.is_some(), is_usual(&it.root));
        let best = found.iter().map(rank).max()?;
        let index = found.iter().position(|it| rank(it) == best)?;
        Some(found.swap_remove(index))
    }

    /// What of it the pipeline takes.
    pub(super) fn part(&self, uses_packages: bool) -> Part {
        match &self.build {
            Some(_) if self.node == Node::Missing => Part::Nothing,
            Some(_) if self.is_served => Part::Built,
            _ if uses_packages => Part::Packages,
            _ => Part::Nothing,
        }
    }

    fn at(dir: &Path, root: String, manage: &str, texts: &[String], node: &Node) -> Option<Self> {
        let at = dir.join(&root);
        let lock = LOCKS.iter().find(|lock| at.join(lock).is_file()).copied()?;
        let locked = json(&at.join(lock));
        let (build, scripts) = match Build::of(&at, &locked, texts) {
            Ok(build) => (Some(build), Vec::new()),
            Err(scripts) => (None, scripts),
        };
        let is_served = root.is_empty()
            || root == manage
            || !manage.is_empty() && root.starts_with(&format!("{manage}/"))
            || texts.iter().any(|text| names_directory(text, &root))
            || writes_outside(&at);
        let packages = || locked.get("packages").and_then(Value::as_object).into_iter().flatten();
        let has_workspaces =
            packages().any(|(place, _)| !place.starts_with("node_modules/") && place.contains("/node_modules/"));
        let is_commit = |package: &Value| {
            package.get("resolved").and_then(Value::as_str).is_some_and(|origin| origin.starts_with("git"))
        };
        let has_git = packages().any(|(_, package)| is_commit(package));
        let package = json(&at.join("package.json"));
        let has_dependencies =
            package.get("dependencies").and_then(Value::as_object).is_some_and(|packages| !packages.is_empty());
        let node = node.clone();
        Some(Self { root, lock, build, scripts, is_served, has_workspaces, has_dependencies, has_git, node })
    }
}

/// Where a front end may be: near the top and near `manage.py`, and then ever deeper.
fn places(dir: &Path, manage: &str) -> impl Iterator<Item = Vec<String>> {
    let mut near = vec![String::new()];
    near.extend(directories(dir, ""));
    near.extend((!manage.is_empty()).then(|| directories(dir, manage)).into_iter().flatten());
    let below = |places: &Vec<String>| {
        let own = places.iter().filter(|place| !VENDORED.contains(&place.rsplit('/').next().unwrap_or(place)));
        let own = own.filter(|place| !place.is_empty()).cloned();
        Some(own.flat_map(|place| directories(dir, &place)).collect())
    };
    std::iter::successors(Some(near), below).take(DEPTH)
}

/// The lock of another package manager than npm, beside a `package.json`: the one that is nearest to the top.
pub(super) fn foreign_lock(dir: &Path, manage: &str) -> Option<(String, &'static str)> {
    let mut places = places(dir, manage).flatten().filter(|root| dir.join(root).join("package.json").is_file());
    places.find_map(|root| {
        let lock = FOREIGN_LOCKS.iter().find(|lock| dir.join(&root).join(lock).is_file())?;
        Some((root, *lock))
    })
}

impl Build {
    fn words(words: &[&str]) -> Self {
        Self(words.iter().map(|&word| word.to_owned()).collect())
    }

    /// What builds what is in a directory, or else the scripts of which one may.
    fn of(at: &Path, lock: &Value, texts: &[String]) -> Result<Self, Vec<String>> {
        let manifest = json(&at.join("package.json"));
        let is_it = |command: &str| is_static(at, command, texts) && has_program(lock, command);
        let candidates = match building(&manifest, is_it) {
            Building::By(script) => return Ok(Self::words(&["npm", "run", &script])),
            Building::Perhaps(candidates) => candidates,
        };
        let members = members(at, &manifest);
        if let Some(script) = members.iter().find_map(|member| usual(&json(&member.join("package.json")))) {
            return Ok(Self::words(&["npm", "run", &script, "--workspaces", "--if-present"]));
        }
        let gulp = fs::read_to_string(at.join("gulpfile.js")).unwrap_or_default();
        let has_task = ["task(\"build\"", "task('build'", "exports.build ="].iter().any(|it| gulp.contains(it));
        if candidates.is_empty() && has_task && has_program(lock, "gulp") {
            return Ok(Self::words(&["npx", "gulp", "build"]));
        }
        Err(candidates)
    }
}

/// The directories of the workspaces.
fn members(at: &Path, manifest: &Value) -> Vec<PathBuf> {
    let list = manifest.get("workspaces").and_then(|list| list.as_array().or_else(|| list.get("packages")?.as_array()));
    let names = list.into_iter().flatten().filter_map(Value::as_str).map(|name| name.trim_start_matches("./"));
    names
        .flat_map(|name| match name.strip_suffix("/*") {
            Some(parent) => directories(at, parent),
            None => vec![name.to_owned()],
        })
        .map(|name| at.join(name))
        .collect()
}

/// Whether settings have a path that goes by a directory: `BASE_DIR / "frontend" / "dist"`, `"../frontend/dist"`.
fn names_directory(text: &str, root: &str) -> bool {
    let name = root.rsplit('/').next().unwrap_or(root);
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    code.flat_map(strings).any(|literal| literal.split('/').any(|part| part == name))
}

/// Whether a bundler is told to write outside of its own directory.
fn writes_outside(at: &Path) -> bool {
    let manifest = fs::read_to_string(at.join("package.json")).ok();
    bundlers(at).chain(manifest).any(|text| text.contains("../") || text.contains("'..'") || text.contains("\"..\""))
}

/// Whether a command, or what bundlers are told, names a directory of static files: one that is called so, or that
/// `STATICFILES_DIRS` has.
fn is_static(at: &Path, command: &str, texts: &[String]) -> bool {
    let blocks = texts.iter().filter_map(|text| text.split("\nSTATICFILES_DIRS").nth(1)?.split("\n\n").next());
    let named = blocks.flat_map(strings).filter_map(|path| path.trim_end_matches('/').rsplit('/').next());
    let names: Vec<&str> = named.filter(|name| !name.is_empty()).chain(["static"]).collect();
    let is_one = |part: &str| names.contains(&part);
    let mut texts = bundlers(at).chain([command.to_owned()]);
    texts.any(|text| text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).any(is_one))
}

/// Whether the packages of a lock bring the program that a command builds with, where it is known which that is.
fn has_program(lock: &Value, command: &str) -> bool {
    let packages = lock.get("packages").and_then(Value::as_object);
    let mut bins = packages.into_iter().flat_map(|packages| packages.values()).filter_map(|package| package.get("bin"));
    // `npx` takes a package's name for its program.
    let program = builder(command).map(|program| if program == "@tailwindcss/cli" { "tailwindcss" } else { program });
    program.is_none_or(|program| bins.any(|bin| bin.get(program).is_some()))
}

/// What the bundlers of a directory are told.
fn bundlers(at: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    let bundlers = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| BUNDLERS.iter().any(|bundler| name.starts_with(bundler)))
    });
    bundlers.filter_map(|entry| fs::read_to_string(entry.path()).ok())
}

/// A file of JSON; nothing where it is none.
fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
