//! What a process of a release sees: its runtime, `/app` out of the slug, the target's data, and its environment.
//!
//! `/app/src` has a writable layer of the process's own, for projects that write beside their code; it goes with the process.
//! So has `/app/static`, for those that make stylesheets while they run; see [`super::written`]. Only what the target names as
//! data is kept. Knows nothing of when a process is started.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::instance::Job;
use super::preflight;
use super::process::{Process, RELEASE, Slot, WEB};
use super::protocol::Failure;
use super::watch;
use super::written::Written;
use crate::pipeline::is_database;
use crate::release::{Arrived, Contents, Formation, Settings, Target, target_directory};
use crate::runtime::Runtime;
use crate::sandbox::{self, Mount, Network, Spec, User, ample_memory};
use crate::store::{Store, StoreError};

/// Where the application's own files are.
pub(super) const SOURCE: &str = "/app/src";

/// Where the collected static files are.
const STATIC: &str = "/app/static";

/// Where files are kept that the target names as data, one directory each: no name that an application has for its own.
const KEPT: &str = "/app/.kept";

/// Where in the directory of an instance the layer of its source is.
const BESIDE: &str = "src";

/// Where in the directory of a layer the kernel keeps it.
const SCRATCH: &str = "scratch";

/// How long a process may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// What a worker of a Django application takes, with room to spare, in bytes.
const WORKER_MEMORY: u64 = 256 << 20;

/// As many workers as one process is good for.
const MOST_WORKERS: u64 = 8;

/// As much of a name as a host can have.
fn host_name(name: &str) -> String {
    name.chars().take(64).collect()
}

/// What an instance has written beside the code.
pub(super) fn beside(instance: &Path) -> PathBuf {
    layer(&instance.join(BESIDE))
}

/// What was written into the layer of a directory.
pub(super) fn layer(directory: &Path) -> PathBuf {
    directory.join(SCRATCH).join(sandbox::UPPER)
}

/// All that the processes of a release have in common.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) arrived: Arrived,
    /// Whether the machine's own runtime has become another one since the slug was built.
    pub(crate) has_drifted: bool,
    /// The target's, with its config in their environment.
    pub(crate) settings: Settings,
    pub(crate) formation: Formation,
    /// The runtime's mounts, and its part of `PATH`.
    pub(crate) runtime: Vec<Mount>,
    pub(crate) path: String,
    /// Who the processes are, outside.
    pub(crate) user: Option<u32>,
    /// The target and its application, as a part of the names of hosts.
    pub(crate) name: String,
    /// All of `pipe`'s data.
    home: PathBuf,
    /// Where the target's data is.
    pub(crate) data: PathBuf,
    /// Where the target's logs are.
    pub(crate) logs: PathBuf,
    /// What its processes write below the static files.
    pub(crate) written: Written,
}

impl Root {
    /// Makes what a release runs ready to be run; `arrives` checks all of its bytes.
    pub(crate) fn open(
        home: &Path,
        target: &Target,
        contents: &Contents,
        config: BTreeMap<String, String>,
        user: Option<u32>,
        arrives: bool,
    ) -> Result<Self, Failure> {
        // A handle of now: the store may have been mended since this process began.
        let store = Store::open_for_releases(home).map_err(|error| Failure::hinted(&error, error.hint()))?;
        let arrived =
            Arrived::open(&store, &contents.slug, arrives).map_err(|error| Failure::hinted(&error, error.hint()))?;
        let runtime = Runtime::by_now(&arrived.manifest.runtime, &store, home).map_err(|error| {
            let hint = error.hint().unwrap_or_else(|| "release a slug that was built on this machine".into());
            Failure::of(&error).hint(hint)
        })?;
        let mut settings = target.settings.clone();
        settings.env.extend(config);
        let directory = target_directory(home, &target.app, &target.name);
        Ok(Self {
            has_drifted: runtime.digest() != arrived.manifest.runtime,
            arrived,
            settings,
            formation: contents.formation.clone(),
            path: runtime.path().to_owned(),
            runtime: runtime.mounts(false).to_vec(),
            user,
            name: format!("{}.{}", target.name, target.app),
            home: home.to_owned(),
            data: directory.join("data"),
            logs: directory.join("logs"),
            written: Written::of(&directory),
        })
    }

    /// Makes the target's directories for data and logs, where they are missing.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.logs)?;
        for path in &self.settings.data {
            let directory = self.kept(path);
            if !directory.exists() {
                fs::create_dir_all(&directory)?;
                self.give(&directory)?;
            }
        }
        Ok(())
    }

    /// Whether the slug answers requests at all.
    pub(crate) fn serves(&self) -> bool {
        self.arrived.manifest.processes.contains_key(WEB)
    }

    /// The processes that are to run all the time, each with its command.
    pub(crate) fn slots(&self) -> Vec<(Slot, String)> {
        let processes = self.arrived.manifest.processes.iter().filter(|(name, _)| *name != RELEASE);
        let slots = |(name, command): (&String, &String)| {
            let (name, command) = (name.clone(), command.clone());
            let instances = 1..=self.formation.count(&name);
            instances.map(move |instance| (Slot { name: name.clone(), instance }, command.clone()))
        };
        processes.flat_map(slots).collect()
    }

    /// Whether it is a Django project, with its `manage.py`.
    pub(crate) fn is_django(&self) -> bool {
        let source = self.arrived.trees.get("src");
        source.is_some_and(|source| preflight::is_django(source, &self.arrived.manifest.directory))
    }

    /// The names under which the application may be asked for, with a front at `address`.
    pub(crate) fn hosts(&self, address: SocketAddr) -> Vec<String> {
        match self.settings.name() {
            Some(name) => vec![name.to_owned()],
            None => ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", address.port())).into(),
        }
    }

    /// The path that a web process must answer.
    pub(crate) fn health(&self) -> &str {
        self.settings.health.as_deref().unwrap_or("/")
    }

    /// Sees to it that a web process goes on answering.
    pub(crate) fn watch(&self, process: &Arc<Process>) {
        if process.slot.name == WEB {
            watch::watch(process, self.health(), self.settings.name().unwrap_or("localhost"));
        }
    }

    /// The log of a process of a release.
    pub(crate) fn log(&self, number: u64, process: &Slot) -> PathBuf {
        self.logs.join(format!("{number}-{process}.log"))
    }

    /// Makes anew what was changed of the slug's files since they were laid out.
    pub(crate) fn renew(&self) -> Result<(), StoreError> {
        let store = Store::open_for_releases(&self.home)?;
        self.arrived.manifest.trees.values().try_for_each(|tree| store.lay_out(tree).map(drop))
    }

    /// One start of a command of the release, with `instance` for what it writes beside its data. Release commands write
    /// nothing below the static files: no process would see it.
    pub(crate) fn job(
        &self,
        instance: &Path,
        number: u64,
        process: &Slot,
        command: &str,
        port: u16,
    ) -> io::Result<Job> {
        let statics = (process.name != RELEASE).then(|| self.written.layer(number, process));
        let mut spec = self.spec(instance, statics.as_deref(), ["/bin/sh", "-c", command], port)?;
        // Workers know each other by this.
        spec.host_name = host_name(&format!("{process}.{}", self.name));
        Ok(Job { spec, log: self.log(number, process), grace: GRACE })
    }

    /// A program in the place of the release's processes, with `instance` for what it writes beside its data, and `statics` for
    /// what it writes below the static files, where it may.
    pub(crate) fn spec(
        &self,
        instance: &Path,
        statics: Option<&Path>,
        argv: impl IntoIterator<Item = impl Into<String>>,
        port: u16,
    ) -> io::Result<Spec> {
        let mut spec = Spec::new(argv);
        spec.env = self.environment(port);
        spec.cwd = Path::new(SOURCE).join(&self.arrived.manifest.directory).to_string_lossy().into_owned();
        spec.mounts.clone_from(&self.runtime);
        self.mount_app(&mut spec.mounts, instance, statics)?;
        self.mount_data(&mut spec.mounts);
        spec.network = Network::Host;
        spec.host_name = host_name(&self.name);
        spec.user = User { outside: self.user, ..User::default() };
        spec.limits.memory = self.settings.limits.memory;
        Ok(spec)
    }

    fn mount_app(&self, mounts: &mut Vec<Mount>, instance: &Path, statics: Option<&Path>) -> io::Result<()> {
        for (name, directory) in &self.arrived.trees {
            let at = format!("/app/{name}");
            mounts.push(match (at.as_str(), statics) {
                (SOURCE, _) => self.layered(directory, at, &instance.join(BESIDE))?,
                (STATIC, Some(layer)) => self.layered(directory, at, layer)?,
                _ => Mount::Bind { source: directory.clone(), at, writable: false },
            });
        }
        for link in &self.arrived.manifest.links {
            mounts.push(Mount::Symlink { at: link.path.clone(), target: link.target.clone() });
        }
        Ok(())
    }

    /// A tree under a writable layer that is in a directory, with what was written there before.
    fn layered(&self, tree: &Path, at: String, layer: &Path) -> io::Result<Mount> {
        let (owned, scratch) = (layer.join("owned"), layer.join(SCRATCH));
        if !scratch.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(layer)?;
            if owned.is_dir() {
                // Somebody was killed over it.
                sandbox::remove_all(&owned)?;
            }
            self.own_directories(tree, &owned)?;
            fs::create_dir(&scratch)?;
        }
        Ok(Mount::Overlay { lower: vec![owned, tree.to_owned()], at, scratch })
    }

    /// Directories belong to whoever laid them out. Empty ones of the same names, which belong to the process's user and lie
    /// above them, let it write everywhere in its own layer.
    fn own_directories(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        self.give(to)?;
        if self.user.is_some() {
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    self.own_directories(&entry.path(), &to.join(entry.file_name()))?;
                }
            }
        }
        Ok(())
    }

    fn mount_data(&self, mounts: &mut Vec<Mount>) {
        for path in &self.settings.data {
            let inside = inside(path);
            let source = self.kept(path);
            if is_database(path) {
                // SQLite follows the link and puts its journal beside the file, so that is kept too.
                let name = inside.rsplit('/').next().unwrap_or(&inside).to_owned();
                let at = format!("{KEPT}/{}", folder(path));
                mounts.push(Mount::Symlink { at: inside, target: format!("{at}/{name}") });
                mounts.push(Mount::Bind { source, at, writable: true });
            } else {
                mounts.push(Mount::Bind { source, at: inside.clone(), writable: true });
                self.mount_hidden_static(mounts, &inside);
            }
        }
    }

    /// Data that would lie where the static files are, or in them.
    pub(crate) fn data_in_static(&self) -> Option<&str> {
        let source = self.arrived.trees.get("src")?;
        let is_there = |path: &Path| {
            let link =
                self.arrived.manifest.links.iter().find(|link| Path::new(&link.path) == path).map(|link| &*link.target);
            let below = path.strip_prefix(SOURCE).ok().and_then(|path| fs::read_link(source.join(path)).ok());
            link == Some(STATIC) || below.as_deref() == Some(Path::new(STATIC)) || path == Path::new(STATIC)
        };
        let data = self.settings.data.iter().map(String::as_str);
        data.filter(|path| !is_database(path)).find(|path| Path::new(&inside(path)).ancestors().any(is_there))
    }

    /// Of what was kept `before`: what is no longer kept by itself, where it lies, and of a database the directory that is kept in its
    /// place, if there is one.
    pub(crate) fn no_longer_kept<'a>(&'a self, before: &'a [String]) -> Vec<(&'a str, PathBuf, Option<&'a str>)> {
        let data = &self.settings.data;
        let gone =
            before.iter().map(String::as_str).filter(|path| !data.iter().any(|kept| folder(kept) == folder(path)));
        let gone = gone.filter(|path| fs::read_dir(self.kept(path)).is_ok_and(|mut held| held.next().is_some()));
        let around = |database: &str| {
            let lacks = |directory: &&str| self.place_in(directory, database).is_some_and(|place| !place.exists());
            data.iter().map(String::as_str).filter(|path| !is_database(path)).find(lacks)
        };
        gone.map(|path| (path, self.kept(path), if is_database(path) { around(path) } else { None })).collect()
    }

    /// A database of the data that a directory of the data has a file for, and that directory.
    pub(crate) fn database_in_data(&self) -> Option<(&str, &str)> {
        let data = || self.settings.data.iter().map(String::as_str);
        let holds = |database: &str, directory: &str| {
            let file = self.place_in(directory, database).and_then(|place| fs::symlink_metadata(place).ok());
            file.is_some_and(|file| file.is_file())
        };
        data().filter(|path| is_database(path)).find_map(|database| {
            let directory = data().find(|path| !is_database(path) && holds(database, path))?;
            Some((database, directory))
        })
    }

    /// Where a directory of data lies over the link to the static files, they are mounted once more above it: the application
    /// may look for them, or for their manifest, by that path. They are the slug's; what the data has of that name is not shown.
    fn mount_hidden_static(&self, mounts: &mut Vec<Mount>, data: &str) {
        if !self.arrived.trees.contains_key("static") {
            return;
        }
        let inside = |path: &str| path.strip_prefix(data).is_some_and(|rest| rest.starts_with('/'));
        let links = self.arrived.manifest.links.iter().filter(|link| link.target == STATIC && inside(&link.path));
        let mut hidden: Vec<String> = links.map(|link| link.path.clone()).collect();
        let source = self.arrived.trees.get("src");
        if let (Some(source), Some(path)) = (source, data.strip_prefix(SOURCE)) {
            let found = links_to(&source.join(path.trim_start_matches('/')), STATIC);
            hidden.extend(found.into_iter().map(|link| format!("{data}/{link}")));
        }
        mounts.extend(hidden.into_iter().map(|at| Mount::Again { of: STATIC.to_owned(), at }));
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.data.join(folder(path))
    }

    /// Where a path that is below a directory of data lies with that; none where it is not below it.
    fn place_in(&self, directory: &str, path: &str) -> Option<PathBuf> {
        let (directory_inside, path) = (format!("{}/", inside(directory)), inside(path));
        Some(self.kept(directory).join(path.strip_prefix(&directory_inside)?))
    }

    /// The whole environment of a process that listens on `port`.
    pub(crate) fn environment(&self, port: u16) -> BTreeMap<String, String> {
        let asked = self.settings.env.get("GUNICORN_CMD_ARGS").map_or("", String::as_str);
        let gunicorn = format!("--bind 127.0.0.1:{port} {asked}").trim_end().to_owned();
        let mut env: BTreeMap<String, String> = self.settings.env.clone();
        let ours = [
            ("HOME", "/tmp/home".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
            ("PATH", self.path.clone()),
            // Where an application's own configuration asks for its environment, as uWSGI's often does.
            ("VIRTUAL_ENV", "/app/venv".to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("WEB_CONCURRENCY", self.concurrency().to_string()),
            ("FORWARDED_ALLOW_IPS", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
            // Where a server's command names no address, these keep it off the public ones.
            ("GUNICORN_CMD_ARGS", gunicorn),
            ("UVICORN_HOST", "127.0.0.1".to_owned()),
            ("UVICORN_PORT", port.to_string()),
            ("GRANIAN_HOST", "127.0.0.1".to_owned()),
            ("GRANIAN_PORT", port.to_string()),
        ];
        for (name, value) in ours {
            if name == "PORT" || name == "GUNICORN_CMD_ARGS" {
                env.insert(name.to_owned(), value);
            } else {
                env.entry(name.to_owned()).or_insert(value);
            }
        }
        env
    }

    /// How many workers each web process is to have: all of them together as many as the machine has cores, and memory for.
    fn concurrency(&self) -> u64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let workers = cores.min(ample_memory() / WORKER_MEMORY).min(MOST_WORKERS);
        let each = workers / u64::from(self.formation.count(WEB).max(1));
        let room = self.settings.limits.memory.map_or(each, |memory| memory / WORKER_MEMORY);
        each.min(room).max(1)
    }

    fn give(&self, directory: &Path) -> io::Result<()> {
        self.user.map_or(Ok(()), |user| chown(directory, Some(user), Some(user)))
    }
}

/// The links in a directory and below it that lead to a place, by their paths in it.
fn links_to(directory: &Path, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                found.extend(links_to(&entry.path(), place).into_iter().map(|below| format!("{name}/{below}")));
            }
            Ok(kind) if kind.is_symlink() && fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(place)) => {
                found.push(name);
            }
            _ => {}
        }
    }
    found
}

/// Where a process sees what a target names as data.
pub(super) fn inside(path: &str) -> String {
    if path.starts_with('/') { path.trim_end_matches('/').to_owned() } else { format!("{SOURCE}/{}", trim(path)) }
}

fn trim(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches('/')
}

/// A path as the name of one directory, different for different paths.
fn folder(path: &str) -> String {
    trim(path).replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_different_paths_is_kept_apart() {
        assert_eq!(folder("./media/"), "media");
        assert_ne!(folder("a/b"), folder("a%2Fb"));
        assert!(is_database("var/db.sqlite3") && !is_database("media"));
    }
}
