//! How much a program has written into the layers of its overlays: on the disk of the machine, which it must not fill.
//!
//! Counting files takes as long as there are many, so it is only done when the disk has lost as much room as may be written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::spec::{Mount, Spec};
use crate::disk::{has_room, room};

/// How often it is looked at while the program runs.
const OFTEN: Duration = Duration::from_millis(50);

/// With less room than this a program that failed may have failed for want of it.
const LITTLE: u64 = 256 << 10;

/// The layers of one sandbox.
pub(super) struct Layers {
    paths: Vec<PathBuf>,
    limit: u64,
    /// How much room there was on the disk.
    free: u64,
    looked: Instant,
    /// Whether the disk was found full.
    was_full: bool,
}

impl Layers {
    pub(super) fn new(spec: &Spec, limit: u64) -> Self {
        let scratch = spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Overlay { scratch, .. } | Mount::Held { scratch, .. } => Some(scratch.join("upper")),
            _ => None,
        });
        let paths: Vec<PathBuf> = scratch.collect();
        let free = free(&paths).unwrap_or(0);
        Self { paths, limit, free, looked: Instant::now(), was_full: false }
    }

    /// Whether there is more in them than there may be, where it is time to look again.
    pub(super) fn overflow_by_now(&mut self) -> bool {
        self.looked.elapsed() >= OFTEN && self.overflow()
    }

    /// Whether there is more in them than there may be.
    pub(super) fn overflow(&mut self) -> bool {
        self.looked = Instant::now();
        let free = free(&self.paths);
        self.was_full |= free.is_some_and(|free| free < LITTLE) && self.has_no_room();
        let taken = self.free.saturating_sub(free.unwrap_or(0));
        taken > self.limit && self.paths.iter().map(|path| size(path)).sum::<u64>() > self.limit
    }

    /// Whether the disk that they are on is full. Programs may be another user's, and find less room than the runner would.
    pub(super) fn are_full(&self) -> bool {
        free(&self.paths).is_some_and(|free| free < LITTLE) || self.has_no_room()
    }

    /// Whether that disk was seen full while the program ran, which may have gone on with less than it wanted to write.
    pub(super) const fn were_full(&self) -> bool {
        self.was_full
    }

    fn has_no_room(&self) -> bool {
        place(&self.paths).is_some_and(|place| !has_room(place, LITTLE))
    }
}

/// A directory on the disk that the layers are on. Before the program runs only the one of scratch is there.
fn place(layers: &[PathBuf]) -> Option<&Path> {
    layers.first().and_then(|upper| upper.parent())
}

/// The room on that disk, in bytes.
fn free(layers: &[PathBuf]) -> Option<u64> {
    place(layers).and_then(|place| room(place).ok().flatten())
}

/// What a directory and all below it takes on the disk, in bytes. What goes away meanwhile does not count.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let own = metadata.blocks().saturating_mul(512);
    if !metadata.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| size(&entry.path())).sum::<u64>()
}
