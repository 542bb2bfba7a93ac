//! The slugs that this machine has built, one small file each. Knows nothing of what is in them.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Manifest, SlugError};
use crate::digest::Digest;
use crate::private;
use crate::store::Store;

/// A slug that this machine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The digest of its manifest.
    pub id: Digest,
    /// The tree of `manifest.json` and `app/`.
    pub tree: Digest,
    /// The application's name.
    pub app: String,
    /// When it was first built, in seconds since 1970.
    pub created: u64,
    /// When a run last gave it, in milliseconds since 1970; [`Registry::add`] knows.
    #[serde(default)]
    pub built: u64,
    /// The attestation of how it came about, a blob of the store.
    pub attestation: Option<Digest>,
    /// Since when programs were believed as a run last gave it, if damage had been found in what they see; [`Registry::add`] knows.
    #[serde(default)]
    pub believed_since: Option<String>,
}

/// Where records are kept: `slugs` in a home.
#[derive(Debug, Clone)]
pub struct Registry {
    home: PathBuf,
    dir: PathBuf,
}

impl Record {
    /// When a run last gave it, in milliseconds since 1970; of one that an earlier version wrote, when it was made.
    pub fn last_built(&self) -> u64 {
        self.built.max(self.created.saturating_mul(1000))
    }
}

impl Registry {
    /// The registry of a home directory.
    pub fn of(home: &Path) -> Self {
        Self { home: home.to_owned(), dir: home.join("slugs") }
    }

    /// Adds a slug, once all that it names is on the disk. One that is known already keeps the time when it was first built, and
    /// gets the new attestation.
    pub fn add(&self, store: &Store, record: &Record) -> Result<(), SlugError> {
        store.flush()?;
        let path = self.dir.join(format!("{}.json", record.id.hex()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let (built, believed_since) =
            (u64::try_from(now).unwrap_or(u64::MAX), store.believed_since().map(str::to_owned));
        let mut record = Record { built, believed_since, ..record.clone() };
        // One that is damaged is made anew.
        if let Ok(Some(known)) = read(&path) {
            record.created = known.created;
            record.attestation = record.attestation.or(known.attestation);
        }
        let write = || -> io::Result<()> {
            private::directory(&self.dir)?;
            private::replace(&path, &serde_json::to_vec(&record)?)
        };
        write().map_err(|source| SlugError::File { action: "write", path: path.display().to_string(), source })
    }

    /// All slugs, the one that a run gave last first.
    pub fn list(&self) -> Result<Vec<Record>, SlugError> {
        let mut records = Vec::new();
        let unreadable = |source| SlugError::File { action: "list", path: self.dir.display().to_string(), source };
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                match read(&path) {
                    // The run that gives that slug makes it anew.
                    Err(SlugError::File { source, .. }) if is_damage(&source) => {
                        set_aside(&path);
                    }
                    read => records.extend(read?),
                }
            }
        }
        records.sort_by_key(|record| (Reverse(record.last_built()), record.id));
        Ok(records)
    }

    /// Those of some slugs whose programs may have seen a damaged file: that was found since a run last gave them.
    pub fn doubted<'a>(&self, records: &'a [Record]) -> Result<Vec<&'a Record>, SlugError> {
        let since = Store::believed_since_in(&self.home)?;
        Ok(records.iter().filter(|record| record.believed_since != since).collect())
    }

    /// Whether a slug, which may be another machine's, is known here and is one of those.
    pub fn doubts(&self, id: &Digest) -> Result<bool, SlugError> {
        let record = read(&self.dir.join(format!("{}.json", id.hex())))?;
        Ok(!self.doubted(record.as_slice())?.is_empty())
    }

    /// Sets records aside that are not what they were: none, another slug's, or of something that is no slug or not there. The run
    /// that gives the slug makes its record anew. Gives how many those were.
    pub fn check(&self, store: &Store) -> Result<usize, SlugError> {
        let failed = |source| SlugError::File { action: "list", path: self.dir.display().to_string(), source };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(failed)?,
        };
        let mut damaged = 0;
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|end| end == "json") && !is_sound(&path, store)? {
                damaged += 1;
                set_aside(&path);
            }
        }
        Ok(damaged)
    }

    /// Forgets a slug.
    pub fn remove(&self, id: &Digest) -> Result<(), SlugError> {
        let path = self.dir.join(format!("{}.json", id.hex()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SlugError::File { action: "remove", path: path.display().to_string(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// The slug whose id begins with `wanted`, with or without `blake3:`.
    pub fn find(&self, wanted: &str) -> Result<Record, SlugError> {
        let prefix = wanted.strip_prefix("blake3:").unwrap_or(wanted).to_ascii_lowercase();
        let records = self.list()?;
        let mut found = records.iter().filter(|record| !prefix.is_empty() && record.id.hex().starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record.clone()),
            (None, _) => Err(SlugError::Unknown { wanted: wanted.to_owned(), nearest: nearest(&records, &prefix) }),
            (Some(first), Some(second)) => {
                let found = [first, second].into_iter().chain(found).map(|record| record.id).collect();
                Err(SlugError::Ambiguous { wanted: wanted.to_owned(), found })
            }
        }
    }
}

/// The id that shares the most of its beginning, the newest of several.
fn nearest(records: &[Record], wanted: &str) -> Option<Digest> {
    let shared = |id: &Digest| id.hex().bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    let ids = records.iter().rev().map(|record| record.id);
    ids.filter(|id| shared(id) > 0).max_by_key(|id| shared(id))
}

/// Whether a record is one of a slug that is there, under its own name.
fn is_sound(path: &Path, store: &Store) -> Result<bool, SlugError> {
    let sound = |record: Record| {
        let is_its_own = path.file_stem().is_some_and(|name| *name == *record.id.hex());
        Ok(is_its_own && Manifest::read(store, &record.tree)?.0 == record.id)
    };
    match read(path).and_then(|record| record.map_or(Ok(true), sound)) {
        Err(SlugError::File { source, .. }) if is_damage(&source) => Ok(false),
        Err(SlugError::Store(error)) if error.is_damage() => Ok(false),
        Err(SlugError::NotASlug(_)) => Ok(false),
        is_sound => is_sound,
    }
}

/// Where that cannot be done, whoever looks next finds it again.
fn set_aside(path: &Path) {
    let _ = fs::rename(path, path.with_extension("damaged"));
}

/// Whether a record was read and is none: what a disk refuses may be whole.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn read(path: &Path) -> Result<Option<Record>, SlugError> {
    let failed = |source| SlugError::File { action: "read", path: path.display().to_string(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fault;
    use crate::run::RunError;

    #[test]
    fn a_damaged_record_keeps_nobody_from_the_others_and_is_made_anew() {
        let home = tempfile::tempdir().expect("a directory");
        let (store, registry) = (Store::open(home.path()).expect("a store"), Registry::of(home.path()));
        let record = |text: &str| {
            let id = Digest::of(text.as_bytes());
            Record { id, tree: id, app: "demo".into(), created: 1, built: 0, attestation: None, believed_since: None }
        };
        let (one, other) = (record("one"), record("other"));
        for record in [&one, &other] {
            registry.add(&store, record).expect("added");
        }
        for damaged in ["{\"id\":", "\u{0}", "[]"] {
            fs::write(home.path().join(format!("slugs/{}.json", one.id.hex())), damaged).expect("written");
            registry.add(&store, &one).expect("made anew");
            assert_eq!(registry.list().expect("both").len(), 2);
            fs::write(home.path().join(format!("slugs/{}.json", one.id.hex())), damaged).expect("written");
            let left: Vec<Digest> = registry.list().expect("the other").iter().map(|record| record.id).collect();
            assert_eq!(left, [other.id]);
        }
    }

    #[test]
    fn a_slug_is_doubted_once_damage_is_found_and_until_it_is_built_again() {
        let home = tempfile::tempdir().expect("a directory");
        let registry = Registry::of(home.path());
        let id = Digest::of(b"one");
        let record =
            Record { id, tree: id, app: "demo".into(), created: 1, built: 0, attestation: None, believed_since: None };
        let begun_before = Store::open(home.path()).expect("a store");
        let doubts = || registry.doubts(&id).expect("read");
        registry.add(&begun_before, &record).expect("added");
        assert!(!doubts());
        begun_before.doubt().expect("doubted");
        assert!(doubts() && registry.doubted(&registry.list().expect("listed")).expect("read").len() == 1);
        registry.add(&begun_before, &record).expect("added");
        assert!(doubts(), "a run that had begun before may have seen it");
        registry.add(&Store::open(home.path()).expect("a store"), &record).expect("added");
        assert!(!doubts() && !registry.doubts(&Digest::of(b"another's")).expect("read"));
    }

    #[test]
    fn a_record_that_cannot_be_written_is_the_environments_fault() {
        let home = tempfile::tempdir().expect("a directory");
        let (store, registry) = (Store::open(home.path()).expect("a store"), Registry::of(home.path()));
        let id = Digest::of(b"one");
        let path = home.path().join(format!("slugs/{}.json", id.hex()));
        fs::create_dir_all(&path).expect("what is in its place");
        let record =
            Record { id, tree: id, app: "demo".into(), created: 1, built: 0, attestation: None, believed_since: None };
        let error = RunError::from(registry.add(&store, &record).expect_err("it cannot be written"));
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(error.hint(), Some(format!("remove what is in the way of `{}`", path.display())));
        let of_plugin = RunError::from(SlugError::NotASlug("it holds no manifest".to_owned()));
        assert_eq!(of_plugin.fault(), Fault::Plugin);
    }
}
