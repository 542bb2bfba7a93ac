//! What native programs stand on: the loader, libraries, a shell, Python at `/opt/python`; for builds compilers and tools too.
//!
//! A path identifies nothing, so a runtime is a value with a digest, of one of three kinds: the machine's own `/usr`
//! (`host`), Debian packages pinned in `pipe.lock` (`packages`), a standalone Python over the machine's `/usr`
//! (`archive`). What was built on a runtime runs on that very one: its record is kept by its digest, and [`Runtime::find`]
//! gives it back or says why not. Unaware of steps, slugs and releases.

mod archive;
mod error;
mod host;
mod identity;
mod packages;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fetch::Fetcher;
use crate::key::{Explanation, Fields as _, KeyBuilder};
use crate::lockfile::LockFile;
use crate::pipeline::{self, Pipeline};
use crate::sandbox::Mount;
use crate::store::{Store, StoreError};

pub use error::RuntimeError;
pub use host::Interpreter;
pub use packages::Wanted;

use identity::Identities;

/// Where packages come from where a pipeline does not say.
const DEFAULT_MIRROR: &str = "https://deb.debian.org/debian";
const DEFAULT_SUITE: &str = "bookworm";

/// What a pipeline asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which kind, and what goes with it.
    pub kind: Kind,
    /// The version of Python, such as `3.11`; whichever there is where none.
    pub python: Option<String>,
    /// Programs outside of the runtime, for builds, by name.
    pub tools: BTreeMap<String, PathBuf>,
}

/// The kinds of runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The machine's own `/usr` and interpreter.
    Host {
        /// Which interpreter; by default the first of its version on `PATH`.
        python: Option<PathBuf>,
    },
    /// Debian packages.
    Packages(Wanted),
    /// A standalone Python.
    Archive {
        /// Where it is.
        url: String,
        /// What its bytes must be, in hex.
        sha256: String,
    },
}

/// What resolving needs of the rest.
pub struct Resolver<'a> {
    /// Where unpacked packages and the records of runtimes are.
    pub store: &'a Store,
    /// The home directory; what is known of the machine's files is remembered in its `cache`.
    pub home: &'a Path,
    /// What gets archives and packages by their digest.
    pub fetcher: &'a Fetcher,
    /// Where packages are pinned.
    pub lock: &'a LockFile,
    /// Refuses to resolve packages that are not pinned.
    pub locked: bool,
}

/// A runtime that is there.
#[derive(Debug, Clone)]
pub struct Runtime {
    digest: Digest,
    build_digest: Digest,
    made_of: Explanation,
    python: String,
    mounts: Vec<Mount>,
    build_mounts: Vec<Mount>,
    tools: Vec<(String, Digest)>,
    path: String,
}

/// How to find a runtime again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Record {
    Host { executable: PathBuf },
    Packages { tree: Digest, python: String },
    Archive { tree: Digest },
}

/// The parts of a runtime before they are put together.
#[derive(Debug)]
struct Parts {
    record: Record,
    digest: Digest,
    /// What of the machine is in it, each with what identifies it.
    made_of: Explanation,
    python: String,
    mounts: Vec<Mount>,
    /// In place of the mounts and the digest, for builds.
    build: Option<(Digest, Vec<Mount>)>,
}

impl Wish {
    /// What a pipeline says.
    pub fn of(pipeline: &Pipeline) -> Self {
        let texts = |list: &[pipeline::Spanned<String>]| list.iter().map(|text| (**text).clone()).collect();
        let kind = match &pipeline.runtime {
            pipeline::Runtime::Host { python } => Kind::Host { python: python.as_deref().cloned() },
            pipeline::Runtime::Packages { system, build_system, mirror, suite } => Kind::Packages(Wanted {
                system: texts(system),
                build_system: texts(build_system),
                mirror: mirror.as_deref().map_or(DEFAULT_MIRROR, String::as_str).trim_end_matches('/').to_owned(),
                suite: suite.as_deref().map_or(DEFAULT_SUITE, String::as_str).to_owned(),
            }),
            pipeline::Runtime::Archive { url, sha256 } => {
                Kind::Archive { url: (**url).clone(), sha256: (**sha256).clone() }
            }
        };
        let tools =
            pipeline.tools.iter().map(|(name, path)| (name.clone(), pipeline.directory.join(&**path))).collect();
        Self { kind, python: pipeline.app.python.as_deref().cloned(), tools }
    }
}

impl Runtime {
    /// Makes the runtime that is asked for, and keeps how to find it again.
    pub fn resolve(wish: &Wish, resolver: &Resolver<'_>) -> Result<Self, RuntimeError> {
        let mut identities = Identities::open(resolver.home);
        let python = wish.python.as_deref();
        let parts = match &wish.kind {
            Kind::Host { python: path } => host::resolve(path.as_deref(), python, &mut identities)?,
            Kind::Packages(wanted) => packages::resolve(wanted, python, resolver)?,
            Kind::Archive { url, sha256 } => archive::resolve(url, sha256, python, resolver, &mut identities)?,
        };
        let key = Record::key(&parts.digest);
        let record = serde_json::to_vec(&parts.record).expect("a record is plain data");
        if resolver.store.action(&key)?.is_none_or(|known| known != record) {
            resolver.store.put_action(&key, &record, &parts.record.refs())?;
        }
        if let Some(packages) = parts.made_of.get(host::PACKAGES) {
            remember_packages(packages, resolver.store)?;
        }
        let tools = tools::resolve(&wish.tools, &mut identities)?;
        identities.save();
        Ok(Self::assemble(parts, tools))
    }

    /// The runtime of a digest, without tools, or why this machine does not have it.
    pub fn find(digest: &Digest, store: &Store, home: &Path) -> Result<Self, RuntimeError> {
        Self::of_record(&Record::find(digest, store)?, store, home)?.if_it_is(digest)
    }

    /// The same for what goes on where it was built: the machine's own runtime is taken as it is by now, and may have another digest.
    pub fn by_now(digest: &Digest, store: &Store, home: &Path) -> Result<Self, RuntimeError> {
        let record = Record::find(digest, store)?;
        let found = Self::of_record(&record, store, home)?;
        if matches!(record, Record::Host { .. }) { Ok(found) } else { found.if_it_is(digest) }
    }

    fn of_record(record: &Record, store: &Store, home: &Path) -> Result<Self, RuntimeError> {
        let mut identities = Identities::open(home);
        let parts = match record {
            Record::Host { executable } => host::resolve(Some(executable), None, &mut identities)?,
            Record::Packages { tree, python } => packages::of_tree(store, tree, python)?,
            Record::Archive { tree } => archive::of_tree(store, tree, None, &mut identities)?,
        };
        identities.save();
        Ok(Self::assemble(parts, tools::Tools::default()))
    }

    fn if_it_is(self, wanted: &Digest) -> Result<Self, RuntimeError> {
        let found = self.digest();
        if found == *wanted { Ok(self) } else { Err(RuntimeError::Changed { wanted: *wanted, found }) }
    }

    /// How another machine can have the runtime too: its record, and the trees that this names.
    pub(crate) fn record(digest: &Digest, store: &Store) -> Result<Option<(String, Vec<Digest>)>, RuntimeError> {
        let Some(bytes) = store.action(&Record::key(digest))? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).ok().zip(String::from_utf8(bytes).ok());
        Ok(record.map(|(record, text): (Record, String)| (text, record.refs())))
    }

    /// Whether this machine has, or will have with the trees that are given, the runtime of a record that was written elsewhere.
    pub(crate) fn check_record(
        digest: &Digest,
        record: &str,
        store: &Store,
        home: &Path,
    ) -> Result<Vec<Digest>, RuntimeError> {
        if store.action(&Record::key(digest))?.is_some() {
            return Self::find(digest, store, home).map(|_| Vec::new());
        }
        let record: Record = serde_json::from_str(record).map_err(|_| RuntimeError::Unknown(*digest))?;
        let trees = record.refs();
        if trees.is_empty() {
            Self::of_record(&record, store, home)?.if_it_is(digest)?;
        }
        Ok(trees)
    }

    /// Refuses a record that would have a program run that does not belong to this machine's system, unless it is known here already:
    /// whoever is let in to change targets must not choose what runs outside of them.
    pub(crate) fn refuse_foreign(digest: &Digest, record: &str, store: &Store) -> Result<(), RuntimeError> {
        if store.action(&Record::key(digest))?.is_some() {
            return Ok(());
        }
        match serde_json::from_str(record).map_err(|_| RuntimeError::Unknown(*digest))? {
            Record::Host { executable } => {
                let real = fs::canonicalize(&executable).map_err(RuntimeError::io("find", &executable))?;
                if real.starts_with("/usr") { Ok(()) } else { Err(RuntimeError::Foreign(executable)) }
            }
            Record::Packages { .. } | Record::Archive { .. } => Ok(()),
        }
    }

    /// Keeps a record that was written elsewhere; the trees that it names are here by now.
    pub(crate) fn keep_record(digest: &Digest, record: &str, store: &Store) -> Result<(), RuntimeError> {
        let key = Record::key(digest);
        if store.action(&key)?.is_none() {
            let parsed: Record = serde_json::from_str(record).map_err(|_| RuntimeError::Unknown(*digest))?;
            store.put_action(&key, record.as_bytes(), &parsed.refs())?;
        }
        Ok(())
    }

    fn assemble(parts: Parts, tools: tools::Tools) -> Self {
        let (build_digest, mut build_mounts) = parts.build.unwrap_or_else(|| (parts.digest, parts.mounts.clone()));
        let mut path = String::from("/app/venv/bin:/opt/python/bin:");
        for name in tools.names {
            path.push_str(&["/opt/tools/", &name, "/bin:"].concat());
        }
        path.push_str("/usr/local/bin:/usr/bin:/bin");
        let mut key = KeyBuilder::new("runtime for builds").field("runtime", build_digest.as_bytes());
        for (name, digest) in &tools.digests {
            key.add(&format!("tool {name}"), digest.as_bytes());
        }
        build_mounts.extend(tools.mounts);
        Self {
            digest: parts.digest,
            build_digest: key.finish(),
            made_of: parts.made_of,
            python: parts.python,
            mounts: parts.mounts,
            build_mounts,
            tools: tools.digests,
            path,
        }
    }

    /// The action that tells how a runtime is found again, which whoever keeps what runs on it has to keep.
    pub fn key(digest: &Digest) -> Digest {
        Record::key(digest)
    }

    /// What identifies it: what a slug names, and runs on.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What identifies it with all that only builds see: compilers, headers, tools.
    pub fn build_digest(&self) -> Digest {
        self.build_digest
    }

    /// What of this machine is in it, by name, each with what identifies it; nothing where it is the same on every machine.
    pub fn made_of(&self) -> &[(String, String)] {
        &self.made_of.0
    }

    /// The tools that builds see besides, by name, each with what identifies it.
    pub fn tools(&self) -> &[(String, Digest)] {
        &self.tools
    }

    /// The version of its Python, such as `3.11.2`.
    pub fn python(&self) -> &str {
        &self.python
    }

    /// What to mount before anything else, for builds or to run what was built.
    pub fn mounts(&self, build: bool) -> &[Mount] {
        if build { &self.build_mounts } else { &self.mounts }
    }

    /// The `PATH` of programs in it.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Keeps which packages of the machine a digest identifies, for whoever asks later what has changed.
fn remember_packages(digest: &str, store: &Store) -> Result<(), RuntimeError> {
    let key = packages_key(digest);
    if store.action(&key)?.is_none()
        && let Some(packages) = host::packages_of(digest)
    {
        store.put_action(&key, packages.join("\n").as_bytes(), &[])?;
    }
    Ok(())
}

/// The packages of a machine by the digest that identifies all of them: name, architecture and version of each. None where that
/// is not known any more.
pub(crate) fn packages(digest: &str, store: &Store) -> Result<Option<String>, StoreError> {
    Ok(store.action(&packages_key(digest))?.and_then(|list| String::from_utf8(list).ok()))
}

fn packages_key(digest: &str) -> Digest {
    KeyBuilder::new("packages of the machine").field("digest", digest.as_bytes()).finish()
}

impl Record {
    fn find(digest: &Digest, store: &Store) -> Result<Self, RuntimeError> {
        let record = store.action(&Self::key(digest))?.ok_or(RuntimeError::Unknown(*digest))?;
        serde_json::from_slice(&record).map_err(|_| RuntimeError::Unknown(*digest))
    }

    fn key(digest: &Digest) -> Digest {
        KeyBuilder::new("runtime record").field("runtime", digest.as_bytes()).finish()
    }

    fn refs(&self) -> Vec<Digest> {
        match self {
            Self::Host { .. } => Vec::new(),
            Self::Packages { tree, .. } | Self::Archive { tree } => vec![*tree],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_runtime_goes_on_as_it_is_by_now_and_is_found_only_as_it_was() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let before = Digest::of(b"what the machine had before an update");
        let found = host::resolve(None, None, &mut Identities::open(home.path())).expect("a runtime");
        let record = serde_json::to_vec(&found.record).expect("a record");
        store.put_action(&Record::key(&before), &record, &[]).expect("kept");
        let found = Runtime::find(&before, &store, home.path());
        assert!(matches!(found, Err(RuntimeError::Changed { .. })), "{found:?}");
        let by_now = Runtime::by_now(&before, &store, home.path()).expect("it is there");
        assert_ne!(by_now.digest(), before);
        let unknown = Runtime::by_now(&Digest::of(b"another machine's"), &store, home.path());
        assert!(matches!(unknown, Err(RuntimeError::Unknown(_))), "{unknown:?}");
    }
}
