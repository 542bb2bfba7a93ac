//! Packs a tree: sorted, with fixed owner, time and modes, so that the same tree gives the same bytes on any machine.
//!
//! ```text
//! tree ── groups ──▶ parts of it ── entries ──▶ tar ── frames ──▶ one zstd frame a group, one after the other
//! ```
//!
//! What a `tar.zst` holds is the very `tar`. Where it is cut into frames follows from the tree alone, and frames are kept by
//! what is in them: packing again what has changed in one place compresses that place.

mod entries;
mod frames;
mod groups;

use std::io::{self, Write};
use std::path::Path;

use super::{ArchiveError, Format};
use crate::digest::Digest;
use crate::store::{Store, StoreError};

/// Bytes gathered between the tar writer and what comes after it.
const BUFFER: usize = 128 << 10;

/// Packs a tree as `tar` or `tar.zst` into a writer.
pub fn pack(store: &Store, tree: &Digest, format: Format, out: impl Write) -> Result<(), ArchiveError> {
    store.check_extent(tree).map_err(ArchiveError::Store)?;
    let mut out = io::BufWriter::with_capacity(BUFFER, out);
    match format {
        Format::Tar => {
            entries::directory(store, "", tree, &mut out)?;
            out.write_all(&entries::END).map_err(unwritable)?;
        }
        Format::TarZstd => frames::pack(store, tree, &mut out)?,
        other => return Err(ArchiveError::NoPacker(other.name())),
    }
    out.flush().map_err(unwritable)
}

fn unwritable(source: io::Error) -> ArchiveError {
    ArchiveError::Store(StoreError::inside(source).unwrap_or_else(StoreError::io("write", Path::new("the archive"))))
}
