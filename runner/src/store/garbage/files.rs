//! Giving space back: files of blobs that are gone, segments of which little is left, and laid-out trees. The gate is held.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{Collected, Kept};
use crate::digest::Digest;
use crate::sandbox;
use crate::store::index::Location;
use crate::store::lease::Live;
use crate::store::record::Record;
use crate::store::segment::{At, Kind, Scanned, SegmentId, SegmentWriter, scan};
use crate::store::{Store, StoreError};

/// What a file takes on the disk, where this is its last name.
fn space(metadata: &Metadata) -> u64 {
    if metadata.nlink() > 1 && metadata.is_file() { 0 } else { metadata.blocks() * 512 }
}

/// Removes a file and counts what that gives back.
fn remove(path: &Path, collected: &mut Collected) -> Result<(), StoreError> {
    match path.symlink_metadata().and_then(|metadata| fs::remove_file(path).map(|()| metadata)) {
        Ok(metadata) => collected.freed += space(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("remove", path)(error)),
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    let failed = || StoreError::io("list", dir);
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed())?.collect::<Result<_, _>>().map_err(failed()),
    }
}

impl Store {
    /// Removes the files of blobs that went; where nobody else is there, those too that were never promised.
    pub(super) fn free_loose(&self, kept: &Kept, alone: bool, collected: &mut Collected) -> Result<(), StoreError> {
        for (digest, location) in &kept.gone {
            if location.at.is_none() {
                remove(&self.0.files.loose(digest), collected)?;
            }
        }
        if !alone {
            return Ok(());
        }
        for folder in list(&self.root().join("blobs"))? {
            for file in list(&folder.path())? {
                let name = format!("blake3:{}{}", folder.file_name().display(), file.file_name().display());
                let promised = name
                    .parse::<Digest>()
                    .is_ok_and(|digest| self.0.index.location(&digest).is_ok_and(|at| at.is_some()));
                if !promised {
                    remove(&file.path(), collected)?;
                }
            }
        }
        for entry in list(&self.root().join("damaged"))? {
            collected.freed += remove_tree(&entry.path())?;
        }
        Ok(())
    }

    /// Removes segments of which nothing is left, and writes anew what is left of those that are mostly dead.
    pub(super) fn free_segments(&self, collected: &mut Collected) -> Result<(), StoreError> {
        let dir = self.root().join("segments");
        let mut left: HashMap<SegmentId, u64> = HashMap::new();
        self.0.index.write(|rows| {
            let blobs = rows.blobs()?.into_iter().filter_map(|(_, location, _)| Some((location.at?, location.size)));
            let actions = rows.actions()?.into_iter().map(|(found, _)| (found.at, found.size));
            for (at, size) in blobs.chain(actions) {
                *left.entry(at.segment).or_default() += size;
            }
            Ok(())
        })?;
        let mut writer = SegmentWriter::new(&dir);
        for entry in list(&dir)? {
            if SegmentId::of(&entry.path()).is_none() {
                remove(&entry.path(), collected)?;
            }
        }
        let mut sparse = Vec::new();
        for id in SegmentId::list(&dir)? {
            let path = id.path(&dir);
            let Some(file) = lock(&path) else { continue };
            let size = file.metadata().map_err(StoreError::io("look at", &path))?.len();
            match left.get(&id) {
                None => remove(&path, collected)?,
                Some(left) if *left < size / 2 => sparse.push((*left, id, path, file)),
                Some(_) => {}
            }
        }
        // Those first that take the least room to be written anew.
        sparse.sort_by_key(|(left, ..)| *left);
        for (_, id, path, _lock) in sparse {
            let before = collected.freed;
            match self.rewrite(id, &path, &mut writer) {
                Ok(Some(written)) => {
                    remove(&path, collected)?;
                    collected.freed = before.max(collected.freed.saturating_sub(written));
                }
                Ok(None) => {}
                // They stay as they are until there is room.
                Err(error) if error.is_full() => return writer.take_back(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves what is left of a segment into others; gives how many bytes that were, none where something of it is damaged.
    fn rewrite(&self, id: SegmentId, path: &Path, writer: &mut SegmentWriter) -> Result<Option<u64>, StoreError> {
        enum Moved {
            Blob(Digest, At, At),
            Action(Digest, At, At),
        }
        let mut moved = Vec::new();
        let mut written = 0;
        let mut failed = None;
        scan(path, |Scanned { kind, digest, offset, payload }| {
            let from = At { segment: id, offset };
            let mut append = || match writer.append(kind, &digest, payload) {
                Ok(to) => {
                    written += payload.len() as u64;
                    Some(to)
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            };
            match kind {
                Kind::Blob => {
                    let here = Location { at: Some(from), size: payload.len() as u64 };
                    if self.0.index.location(&digest).is_ok_and(|found| found.is_some_and(|(at, _)| at == here))
                        && let Some(to) = append()
                    {
                        moved.push(Moved::Blob(digest, from, to));
                    }
                }
                Kind::Action => {
                    let Some(record) = Record::decode(payload) else { return };
                    if self.0.index.is_action_at(&record.key, from)
                        && let Some(to) = append()
                    {
                        moved.push(Moved::Action(record.key, from, to));
                    }
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for file in writer.take_dirty()? {
            file.sync_data().map_err(StoreError::io("flush", path))?;
        }
        self.0.index.write(|rows| {
            for row in &moved {
                match row {
                    Moved::Blob(digest, from, to) => rows.move_blob(digest, *from, *to)?,
                    Moved::Action(key, from, to) => rows.move_action(key, *from, *to)?,
                }
            }
            let stay = rows.blobs()?.iter().any(|(_, location, _)| location.at.is_some_and(|at| at.segment == id));
            Ok((!stay).then_some(written))
        })
    }

    /// Removes laid-out trees that are not kept and that nobody uses, and pooled files that are in none.
    pub(super) fn free_layouts(
        &self,
        kept: &HashSet<Digest>,
        live: &[Live],
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let mut used = HashSet::new();
        for live in live {
            used.extend(live.uses()?);
        }
        let pool = self.root().join("pool");
        for entry in list(&pool.join("trees"))? {
            let name = entry.file_name();
            let tree = name.to_str().and_then(|hex| format!("blake3:{hex}").parse::<Digest>().ok());
            if tree.is_some_and(|tree| kept.contains(&tree) || used.contains(&tree)) {
                continue;
            }
            let aside = self.tmp().join(&name);
            fs::rename(entry.path(), &aside).map_err(StoreError::io("move", &entry.path()))?;
            collected.freed += remove_tree(&aside)?;
            collected.layouts += 1;
        }
        for folder in list(&pool.join("files"))? {
            for file in list(&folder.path())? {
                if file.metadata().is_ok_and(|metadata| metadata.nlink() == 1) {
                    remove(&file.path(), collected)?;
                }
            }
        }
        Ok(())
    }
}

/// A segment that nobody appends to, locked.
fn lock(path: &Path) -> Option<Arc<File>> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    Some(Arc::new(file))
}

/// Removes a directory with all that is in it, or a file, and gives the space that this gives back.
fn remove_tree(path: &Path) -> Result<u64, StoreError> {
    let mut freed = 0;
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = path.symlink_metadata().map_err(StoreError::io("look at", &path))?;
        freed += space(&metadata);
        if metadata.is_dir() {
            todo.extend(list(&path)?.iter().map(fs::DirEntry::path));
        }
    }
    let removed = if path.is_dir() { sandbox::remove_all(path) } else { fs::remove_file(path) };
    removed.map_err(StoreError::io("remove", path))?;
    Ok(freed)
}
