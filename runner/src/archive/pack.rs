//! Packs a tree: sorted, with fixed owner, time and modes, so that the same tree gives the same bytes on any machine.

use std::io::{self, Write};

use ::tar::{Builder, EntryType, Header};

use super::{ArchiveError, Format};
use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// 1980-01-01 00:00:01 UTC, the first second that a zip file can hold, as seconds since 1970.
const PACKED_AT: u64 = 315_532_801;
/// A level that packs an environment about as fast as a disk takes it.
const ZSTD_LEVEL: i32 = 3;
/// Bytes gathered between the tar writer and the compressor.
const BUFFER: usize = 1 << 20;

/// Packs a tree as `tar` or `tar.zst` into a writer.
pub fn pack(store: &Store, tree: &Digest, format: Format, out: impl Write) -> Result<(), ArchiveError> {
    let unwritable =
        |source| ArchiveError::Store(StoreError::Io { action: "write", path: "the archive".into(), source });
    match format {
        Format::Tar => {
            let mut out = io::BufWriter::with_capacity(BUFFER, out);
            pack_tar(store, tree, &mut out)?;
            out.flush().map_err(unwritable)
        }
        Format::TarZstd => {
            let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL).map_err(unwritable)?;
            // Jobs are cut by size alone, so that their number does not show in the bytes.
            encoder.multithread(2).map_err(unwritable)?;
            encoder.include_checksum(true).map_err(unwritable)?;
            let mut buffered = io::BufWriter::with_capacity(BUFFER, encoder);
            pack_tar(store, tree, &mut buffered)?;
            let encoder = buffered.into_inner().map_err(|error| unwritable(error.into_error()))?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(unwritable)
        }
        other => Err(ArchiveError::NoPacker(other.name())),
    }
}

fn pack_tar(store: &Store, tree: &Digest, out: impl Write) -> Result<(), ArchiveError> {
    let mut builder = Builder::new(out);
    pack_directory(store, tree, "", &mut builder)?;
    builder.finish().map_err(|source| StoreError::Io { action: "write", path: "the archive".into(), source })?;
    Ok(())
}

fn pack_directory(
    store: &Store,
    tree: &Digest,
    at: &str,
    builder: &mut Builder<impl Write>,
) -> Result<(), ArchiveError> {
    for (name, entry) in store.tree(tree)?.entries() {
        let path = format!("{at}{name}");
        let unwritable = |source| StoreError::Io { action: "pack", path: path.clone().into(), source };
        match entry {
            Entry::Tree { digest } => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                builder.append_data(&mut header, format!("{path}/"), io::empty()).map_err(unwritable)?;
                pack_directory(store, digest, &format!("{path}/"), builder)?;
            }
            Entry::Symlink { target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                builder.append_link(&mut header, &path, target).map_err(unwritable)?;
            }
            Entry::File { digest, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let mut header = header(EntryType::Regular, mode, store.size(digest)?);
                builder.append_data(&mut header, &path, store.open_blob(digest)?).map_err(unwritable)?;
            }
        }
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(PACKED_AT);
    header
}
