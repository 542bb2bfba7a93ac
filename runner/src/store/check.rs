//! A look through all of a store: every byte of it, and what it takes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::Files;
use super::index::{Index, Opened};
use super::lease::{self, Gate, Lease, Standing};
use super::rebuild::{Survey, TakenBack};
use super::{INDEX, Store, StoreError, doubt, mend, prepare};
use crate::digest::Digest;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Blobs and trees that are whole.
    pub blobs: usize,
    /// Actions that are.
    pub actions: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// Blobs that were promised and are damaged or gone, and trees that stand on them.
    pub taken_back: Vec<Digest>,
    /// Actions that stood on them, or were damaged themselves.
    pub actions_taken_back: usize,
    /// Laid-out files that were damaged.
    pub layouts: usize,
    /// What steps gave before; where programs, which may have seen those, had a part in it, it is not believed any more.
    pub doubted: usize,
    /// Whether the store cannot be written: what is damaged is still where it was.
    pub read_only: bool,
}

impl Checked {
    fn of(survey: &Survey, taken_back: TakenBack, layouts: usize) -> Self {
        let (blobs, actions, bytes) = survey.size();
        let TakenBack { blobs: taken_back, actions: actions_taken_back } = taken_back;
        Self { blobs, actions, bytes, taken_back, actions_taken_back, layouts, ..Self::default() }
    }

    /// Whether all was as it should be.
    pub fn is_sound(&self) -> bool {
        self.taken_back.is_empty() && self.actions_taken_back == 0 && self.layouts == 0
    }
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Where it is.
    pub path: PathBuf,
    /// How many blobs and trees.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// How many actions.
    pub actions: usize,
    /// The bytes of their records.
    pub action_bytes: u64,
    /// How many trees are laid out.
    pub layouts: usize,
    /// What they take on the disk.
    pub layout_bytes: u64,
    /// What all of it takes on the disk.
    pub disk_bytes: u64,
}

impl Store {
    /// Reads all of the store of a home directory, and sets aside what is damaged.
    pub fn check(home: &Path) -> Result<Checked, StoreError> {
        let entered = prepare(home).and_then(|root| Ok((Gate::enter(&root)?, root)));
        let (_gate, root) = match entered {
            Err(error) if error.is_read_only() => return look(&home.join("store")).map_err(|_| error),
            entered => entered?,
        };
        let (live, debris) = lease::survey(&root.join("tmp"))?;
        debris.clear()?;
        let (_, survey, taken_back) = mend(&root, &live)?;
        let damaged = damaged_layouts(&root.join("pool/files"))?;
        let mut doubted = 0;
        if !damaged.is_empty() {
            // Before the damage is mended: whoever is killed in between finds it again.
            doubted = survey.in_families_since(doubt::raise(&root)?);
            mend_layouts(&damaged)?;
        }
        Ok(Checked { doubted, ..Checked::of(&survey, taken_back, damaged.len()) })
    }

    /// What the store holds.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let (mut blobs, mut actions) = ((0, 0), (0, 0));
        self.0.index.look(|rows| {
            blobs = rows.blobs()?.iter().fold((0, 0), |(count, sum), (_, at, _)| (count + 1, sum + at.size));
            actions = rows.actions()?.iter().fold((0, 0), |(count, sum), (found, _)| (count + 1, sum + found.size));
            Ok(())
        })?;
        let pool = self.root().join("pool");
        let layouts = fs::read_dir(pool.join("trees")).map_err(StoreError::io("list", &pool))?.count();
        Ok(Stats {
            path: self.root().to_owned(),
            blobs: blobs.0,
            blob_bytes: blobs.1,
            actions: actions.0,
            action_bytes: actions.1,
            layouts,
            layout_bytes: disk_bytes(&pool)?,
            disk_bytes: disk_bytes(self.root())?,
        })
    }
}

/// Reads all of a store that cannot be written. What is promised there is held against what there is in a copy of the index.
fn look(root: &Path) -> Result<Checked, StoreError> {
    let lease = Lease::take(&std::env::temp_dir(), Standing::Releases)?;
    for end in ["", "-wal"] {
        let name = format!("{INDEX}{end}");
        let from = root.join(&name);
        fs::copy(&from, lease.dir().join(&name)).map_err(StoreError::io("copy", &from))?;
    }
    let (Opened::Known(index) | Opened::Empty(index)) = Index::open(&lease.dir().join(INDEX))?;
    let mut survey = Survey::of(root)?;
    let taken_back = survey.write(&Files::of(root), &index, &[])?;
    let damaged = damaged_layouts(&root.join("pool/files"))?;
    Ok(Checked { read_only: true, ..Checked::of(&survey, taken_back, damaged.len()) })
}

/// What a directory takes on the disk; a file of several names counts once.
fn disk_bytes(dir: &Path) -> Result<u64, StoreError> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for found in walk(dir)? {
        // What has gone meanwhile takes nothing.
        let Ok(metadata) = found.symlink_metadata() else { continue };
        if metadata.is_dir() || metadata.nlink() == 1 || seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// Everything in a directory, and it.
fn walk(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            match fs::read_dir(&path) {
                Ok(entries) => found.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("list", &path)(error)),
            }
        }
    }
    Ok(found)
}

/// Pooled files that are not what their names say.
fn damaged_layouts(files: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut damaged = Vec::new();
    for path in walk(files)? {
        if !path.is_file() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
        if Digest::of(&bytes).hex() != name.trim_end_matches(".x") {
            damaged.push(path);
        }
    }
    Ok(damaged)
}

/// Makes damaged files look changed, in all laid-out trees that hold them, so that these are made anew when they are used next; and
/// takes them out of the pool.
fn mend_layouts(damaged: &[PathBuf]) -> Result<(), StoreError> {
    for path in damaged {
        File::open(path)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(StoreError::io("change the time of", path))?;
        fs::remove_file(path).map_err(StoreError::io("remove", path))?;
    }
    Ok(())
}
