//! How much a program has written into the layers of its overlays: on the disk of the machine, which it must not fill.
//!
//! Counting files takes as long as there are many, so it is only done when the disk has lost as much room as may be written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::spec::{Mount, Spec};

/// How often it is looked at while the program runs.
const OFTEN: Duration = Duration::from_millis(250);

/// The layers of one sandbox.
pub(super) struct Layers {
    paths: Vec<PathBuf>,
    limit: u64,
    /// How much room there was on the disk.
    free: u64,
    looked: Instant,
}

impl Layers {
    pub(super) fn new(spec: &Spec, limit: u64) -> Self {
        let scratch = spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Overlay { scratch, .. } | Mount::Held { scratch, .. } => Some(scratch.join("upper")),
            _ => None,
        });
        let paths: Vec<PathBuf> = scratch.collect();
        let free = free(&paths);
        Self { paths, limit, free, looked: Instant::now() }
    }

    /// Whether there is more in them than there may be, where it is time to look again.
    pub(super) fn overflow_by_now(&mut self) -> bool {
        self.looked.elapsed() >= OFTEN && self.overflow()
    }

    /// Whether there is more in them than there may be.
    pub(super) fn overflow(&mut self) -> bool {
        self.looked = Instant::now();
        let taken = self.free.saturating_sub(free(&self.paths));
        taken > self.limit && self.paths.iter().map(|path| size(path)).sum::<u64>() > self.limit
    }
}

/// The room on the disk that the layers are on, in bytes.
fn free(layers: &[PathBuf]) -> u64 {
    // Before the program runs only the directory of scratch is there.
    let place = layers.first().and_then(|upper| upper.parent());
    let found = place.and_then(|place| statvfs(place).ok());
    found.map_or(0, |found| found.blocks_free().saturating_mul(found.fragment_size()))
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
