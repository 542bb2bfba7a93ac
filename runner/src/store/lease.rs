//! Who uses a store: a directory below `tmp` that a process has locked, for all that it needs for a while only.
//!
//! It says at which epoch the process began, since what was condemned before then is nothing that the process could stand on;
//! and it names the laid-out trees that the process uses. The kernel unlocks it when the process dies, and whoever opens the
//! store next clears it away, beside what it does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{POISONED, StoreError};
use crate::digest::Digest;
use crate::sandbox;

/// What a process that holds a lease stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// On anything that was promised at this epoch or later.
    Since(u64),
    /// Only on what releases name, for as long as it likes.
    Releases,
}

/// This process's lease.
pub(super) struct Lease {
    dir: PathBuf,
    used: Mutex<HashSet<Digest>>,
    _lock: File,
}

/// The directories of all leases of this process.
static OWN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this process needed for a while, which ends now, whatever its threads are at: nothing is dropped then.
pub fn leave() {
    for dir in OWN.lock().expect(POISONED).iter() {
        // What cannot be removed now is removed by whoever opens the store next.
        let _ = clear(dir);
    }
}

/// Somebody's lease.
pub(super) struct Live {
    dir: PathBuf,
    pub(super) standing: Standing,
    /// In seconds since 1970.
    pub(super) began: u64,
}

/// Opening the store, and taking promises back, are done one at a time.
pub(super) struct Gate(#[expect(dead_code, reason = "the lock is held for as long as the file is open")] File);

impl Gate {
    /// Waits for the gate.
    pub(super) fn enter(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("gate");
        let failed = || StoreError::io("lock", &path);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed())?;
        file.lock().map_err(failed())?;
        Ok(Self(file))
    }
}

impl Lease {
    /// Takes one; the gate is held.
    pub(super) fn take(tmp: &Path, standing: Standing) -> Result<Self, StoreError> {
        let failed = || StoreError::io("create a directory in", tmp);
        let dir = tempfile::Builder::new().prefix("").rand_bytes(12).tempdir_in(tmp).map_err(failed())?.keep();
        OWN.lock().expect(POISONED).push(dir.clone());
        let path = dir.join("lease");
        let failed = || StoreError::io("write", &path);
        let mut lock = File::create_new(&path).map_err(failed())?;
        lock.try_lock().map_err(Into::into).map_err(failed())?;
        let text = match standing {
            Standing::Since(epoch) => epoch.to_string(),
            Standing::Releases => "releases".to_owned(),
        };
        lock.write_all(text.as_bytes()).map_err(failed())?;
        Ok(Self { dir, used: Mutex::default(), _lock: lock })
    }

    /// Where the process may write what it needs for a while.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes what the process needed for a while, though something of it may still use that.
    pub(super) fn clear(&self) {
        drop(Debris(vec![self.dir.clone()]).clear_aside());
    }

    /// Whether the process has said that it uses a laid-out tree.
    pub(super) fn uses(&self, tree: &Digest) -> bool {
        self.used.lock().expect(POISONED).contains(tree)
    }

    /// Says that the process uses a laid-out tree; the gate is held.
    pub(super) fn mark(&self, tree: &Digest) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{USES}{}", tree.hex()));
        File::create(&path).map_err(StoreError::io("write", &path))?;
        self.used.lock().expect(POISONED).insert(*tree);
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.clear();
        OWN.lock().expect(POISONED).retain(|dir| *dir != self.dir);
    }
}

const USES: &str = "uses-";
/// How long the programs of a dead process have to end, and how often it is tried.
const ENDING: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(5);
/// How long a process that ends waits until debris is cleared away.
const PATIENCE: Duration = Duration::from_millis(400);

impl Live {
    /// Whether it is this one.
    pub(super) fn is(&self, lease: &Lease) -> bool {
        self.dir == lease.dir
    }

    /// The laid-out trees that the process uses.
    pub(super) fn uses(&self) -> Result<Vec<Digest>, StoreError> {
        let failed = || StoreError::io("list", &self.dir);
        let mut uses = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(uses),
            entries => entries.map_err(failed())?,
        };
        for entry in entries {
            let name = entry.map_err(failed())?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_prefix(USES));
            uses.extend(hex.and_then(|hex| format!("blake3:{hex}").parse::<Digest>().ok()));
        }
        Ok(uses)
    }
}

/// The leases of the living, and what dead processes left; the gate is held.
pub(super) fn survey(tmp: &Path) -> Result<(Vec<Live>, Debris), StoreError> {
    let failed = || StoreError::io("list", tmp);
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(tmp).map_err(failed())? {
        let dir = entry.map_err(failed())?.path();
        match standing(&dir) {
            Some((standing, began)) => live.push(Live { dir, standing, began }),
            None => dead.push(dir),
        }
    }
    Ok((live, Debris(dead)))
}

/// What dead processes left.
#[derive(Default)]
pub(super) struct Debris(Vec<PathBuf>);

impl Debris {
    /// Clears it away.
    pub(super) fn clear(self) -> Result<(), StoreError> {
        for path in self.0 {
            let cleared = if path.is_dir() { clear(&path) } else { fs::remove_file(&path).or_else(gone) };
            cleared.map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Clears it away while others go on: a program that was killed may have left a hundred thousand files.
    pub(super) fn clear_aside(self) -> Clearing {
        let (ended, has_ended) = mpsc::channel();
        if !self.0.is_empty() {
            // What is not removed is tried again by whoever opens the store next, and `pipe store check` says why.
            let _ = thread::Builder::new().spawn(move || {
                let _ = self.clear();
                drop(ended);
            });
        }
        Clearing(Mutex::new(has_ended))
    }
}

/// The clearing of debris; where this is dropped it is waited for, but not for long: the next process goes on with it.
pub(super) struct Clearing(Mutex<mpsc::Receiver<()>>);

impl Drop for Clearing {
    fn drop(&mut self) {
        let _ = self.0.get_mut().expect(POISONED).recv_timeout(PATIENCE);
    }
}

/// Removes what a dead process left. The programs that it ran are ended with it, and write until they are; where one does so for
/// long, what it writes goes when the store is opened next.
fn clear(dir: &Path) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match sandbox::remove_all(dir).or_else(gone) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                if began.elapsed() >= ENDING {
                    return Ok(());
                }
                thread::sleep(AGAIN);
            }
            result => return result,
        }
    }
}

/// What a process stands on, and when it began; none where it is dead.
fn standing(dir: &Path) -> Option<(Standing, u64)> {
    let mut lock = File::open(dir.join("lease")).ok()?;
    if lock.try_lock().is_ok() {
        return None;
    }
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    // What cannot be read stands on everything.
    let standing = if text == "releases" { Standing::Releases } else { Standing::Since(text.parse().unwrap_or(0)) };
    let written = lock.metadata().and_then(|metadata| metadata.modified()).ok();
    let began = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs());
    Some((standing, began))
}

/// A process that ends removes its own.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_of_a_dead_process_still_write_is_cleared_away_too() {
        let tmp = tempfile::tempdir().expect("a directory");
        let (dir, began) = (tmp.path().join("dead"), Instant::now());
        fs::create_dir(&dir).expect("made");
        let programs: Vec<_> = (0..4)
            .map(|program| {
                let dir = dir.clone();
                thread::spawn(move || {
                    for number in 0.. {
                        if began.elapsed() > Duration::from_millis(200) {
                            return;
                        }
                        // It is gone already, or not yet.
                        let _ = fs::write(dir.join(format!("{program}-{number}")), "");
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        let (live, debris) = survey(tmp.path()).expect("listed");
        assert!(live.is_empty());
        debris.clear().expect("cleared");
        for program in programs {
            program.join().expect("ended");
        }
        assert_eq!(fs::read_dir(tmp.path()).expect("listed").count(), 0);
    }

    #[test]
    fn what_is_cleared_aside_is_gone_at_its_end() {
        let tmp = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(tmp.path().join("dead/upper")).expect("made");
        fs::write(tmp.path().join("dead/upper/file"), "").expect("written");
        fs::write(tmp.path().join("stray"), "").expect("written");
        let (_, debris) = survey(tmp.path()).expect("listed");
        drop(debris.clear_aside());
        assert_eq!(fs::read_dir(tmp.path()).expect("listed").count(), 0);
    }
}
