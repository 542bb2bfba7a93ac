//! The index, made anew from what segments and loose files hold, every byte of it checked; so it promises what is whole and
//! nothing else. Done by whoever opens a store that has no index, or one that lies; others may go on putting meanwhile, and what
//! they were promised stays.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::actions::seconds;
use super::files::Files;
use super::index::{Counter, Found, Index, Location};
use super::lease::{Live, Standing};
use super::record::Record;
use super::segment::{At, Kind, Scanned, SegmentId, scan};
use crate::digest::Digest;
use crate::tree::Tree;

/// All that a store holds.
#[derive(Default)]
pub(super) struct Survey {
    blobs: HashMap<Digest, Location>,
    trees: HashMap<Digest, Vec<Digest>>,
    actions: HashMap<Digest, Action>,
    /// Loose files that are not what their names say.
    damaged: Vec<PathBuf>,
}

struct Action {
    family: Option<Digest>,
    found: Found,
    created: u64,
    refs: Vec<Digest>,
}

/// What was promised before and is no longer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct TakenBack {
    /// Blobs whose bytes are damaged or gone, and trees that stand on them.
    pub(super) blobs: Vec<Digest>,
    /// How many actions stood on them, or were damaged themselves.
    pub(super) actions: usize,
}

impl Survey {
    /// Reads everything. What is found is on the disk when this returns.
    pub(super) fn of(root: &Path) -> Result<Self, StoreError> {
        let mut survey = Self::default();
        let segments = root.join("segments");
        for id in SegmentId::list(&segments)? {
            let path = id.path(&segments);
            scan(&path, |Scanned { kind, digest, offset, payload }| {
                survey.record(kind, digest, At { segment: id, offset }, payload);
            })?;
        }
        survey.loose(&root.join("blobs"))?;
        if survey.blobs.is_empty() && survey.actions.is_empty() {
            return Ok(survey);
        }
        // A process that still writes has not flushed all that was found.
        let dir = File::open(root).map_err(StoreError::io("open", root))?;
        nix::unistd::syncfs(dir).map_err(|errno| StoreError::io("flush", root)(errno.into()))?;
        Ok(survey)
    }

    fn record(&mut self, kind: Kind, digest: Digest, at: At, payload: &[u8]) {
        match kind {
            Kind::Blob => self.blob(digest, Location { at: Some(at), size: payload.len() as u64 }, payload),
            Kind::Action => self.action(at, payload),
        }
    }

    fn action(&mut self, at: At, payload: &[u8]) {
        let Some(record) = Record::decode(payload) else { return };
        let newer = self.actions.get(&record.key).is_none_or(|known| known.created <= record.created);
        if newer {
            let found = Found { key: record.key, at, size: payload.len() as u64, used: seconds() };
            let Record { key, created, family, refs, .. } = record;
            self.actions.insert(key, Action { family, found, created, refs: refs.into_owned() });
        }
    }

    fn blob(&mut self, digest: Digest, location: Location, bytes: &[u8]) {
        if let Ok(tree) = Tree::decode(bytes) {
            self.trees.insert(digest, tree.digests().copied().collect());
        }
        self.blobs.insert(digest, location);
    }

    fn loose(&mut self, blobs: &Path) -> Result<(), StoreError> {
        for folder in fs::read_dir(blobs).map_err(StoreError::io("list", blobs))? {
            let folder = folder.map_err(StoreError::io("list", blobs))?.path();
            for file in fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
                let path = file.map_err(StoreError::io("list", &folder))?.path();
                let name =
                    [&folder, &path].map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
                let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
                let digest = Digest::of(&bytes);
                if digest.hex() == name.concat() {
                    self.blob(digest, Location { at: None, size: bytes.len() as u64 }, &bytes);
                } else {
                    self.damaged.push(path);
                }
            }
        }
        Ok(())
    }

    /// Adds what others were promised while everything was read, behind where that was: its bytes are on the disk, since rows come
    /// after them, and are checked like all.
    fn catch_up(&mut self, files: &Files, blobs: &[(Digest, Location, Option<u64>)], actions: &[(Found, Option<u64>)]) {
        for (digest, location, _) in blobs {
            if !self.blobs.contains_key(digest)
                && let Ok(bytes) = files.read(digest, location)
                && Digest::of(&bytes) == *digest
            {
                self.blob(*digest, *location, &bytes);
            }
        }
        for (found, _) in actions {
            if self.actions.get(&found.key).is_none_or(|known| known.found.at != found.at)
                && let Some(payload) = files.read_record(found)
            {
                self.action(found.at, &payload);
            }
        }
    }

    /// Leaves out trees and actions of which not all that they name is there.
    fn keep_whole(&mut self) {
        let mut known = HashMap::new();
        let broken: HashSet<Digest> = self
            .trees
            .keys()
            .filter(|digest| !is_whole(digest, &self.blobs, &self.trees, &mut known))
            .copied()
            .collect();
        self.blobs.retain(|digest, _| !broken.contains(digest));
        let blobs = &self.blobs;
        self.actions.retain(|_, action| action.refs.iter().all(|digest| blobs.contains_key(digest)));
    }

    /// Makes the index say so, and nothing else.
    pub(super) fn write(&mut self, files: &Files, index: &Index, live: &[Live]) -> Result<TakenBack, StoreError> {
        index.write(|rows| {
            let mut taken_back = TakenBack::default();
            let blobs = rows.blobs()?;
            let actions = rows.actions()?;
            self.catch_up(files, &blobs, &actions);
            self.keep_whole();
            rows.clear()?;
            let mut condemned = HashMap::new();
            for (digest, _, epoch) in blobs {
                match epoch {
                    Some(epoch) => drop(condemned.insert(digest, epoch)),
                    None if self.blobs.contains_key(&digest) => {}
                    None => taken_back.blobs.push(digest),
                }
            }
            let mut sorted: Vec<_> = self.blobs.iter().collect();
            sorted.sort_unstable_by_key(|(digest, _)| **digest);
            for (digest, location) in sorted {
                rows.put_blob(digest, location)?;
                if let Some(epoch) = condemned.get(digest) {
                    rows.condemn_blob(digest, Some(*epoch))?;
                }
            }
            let mut before = HashMap::new();
            for (found, epoch) in actions {
                taken_back.actions += usize::from(epoch.is_none() && !self.actions.contains_key(&found.key));
                before.insert(found.key, (found.used, epoch));
            }
            let mut sorted: Vec<_> = self.actions.values().collect();
            sorted.sort_unstable_by_key(|action| action.created);
            for action in sorted {
                let (used, epoch) = before.get(&action.found.key).copied().unwrap_or((action.found.used, None));
                rows.put_action(action.family.as_ref(), &Found { used, ..action.found })?;
                if let Some(epoch) = epoch {
                    rows.condemn_action(&action.found.key, epoch)?;
                }
            }
            rows.raise(Counter::Rebuilt, rows.counter(Counter::Rebuilt)? + 1)?;
            let epochs = live.iter().map(|live| match live.standing {
                Standing::Since(epoch) => epoch,
                Standing::Releases => 0,
            });
            // So that nothing is condemned at an epoch that a living process takes for the past.
            rows.raise(Counter::Epoch, epochs.max().unwrap_or(0))?;
            Ok(taken_back)
        })
    }

    /// How many blobs and actions there are, and of how many bytes.
    pub(super) fn size(&self) -> (usize, usize, u64) {
        let blobs = self.blobs.values().map(|location| location.size);
        let actions = self.actions.values().map(|action| action.found.size);
        (self.blobs.len(), self.actions.len(), blobs.chain(actions).sum())
    }

    /// How many actions of families were recorded since then, in nanoseconds since 1970: those of steps.
    pub(super) fn in_families_since(&self, since: u64) -> usize {
        self.actions.values().filter(|action| action.family.is_some() && action.created >= since).count()
    }

    /// Moves damaged files out of the way.
    pub(super) fn set_aside(&self, root: &Path) -> Result<(), StoreError> {
        for path in &self.damaged {
            let name = path.to_string_lossy().replace('/', "-");
            let to = root.join("damaged").join(name.rsplit_once("blobs-").map_or(name.as_str(), |(_, name)| name));
            fs::rename(path, to).map_err(StoreError::io("move", path))?;
        }
        Ok(())
    }
}

fn is_whole(
    digest: &Digest,
    blobs: &HashMap<Digest, Location>,
    trees: &HashMap<Digest, Vec<Digest>>,
    known: &mut HashMap<Digest, bool>,
) -> bool {
    if !blobs.contains_key(digest) {
        return false;
    }
    let Some(children) = trees.get(digest) else { return true };
    if let Some(known) = known.get(digest) {
        return *known;
    }
    let whole = children.iter().all(|child| is_whole(child, blobs, trees, known));
    known.insert(*digest, whole);
    whole
}
