//! Entries of a tar, as the tree has them and as every machine would write them. Knows nothing of where the tar is cut.

use std::io::{self, Write};
use std::path::Path;

use ::tar::{Builder, EntryType, Header};

use super::ArchiveError;
use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// 1980-01-01 00:00:01 UTC, the first second that a zip file can hold, as seconds since 1970.
const PACKED_AT: u64 = 315_532_801;
/// Bytes of a block: a header, and what contents are filled up to.
pub(super) const BLOCK: u64 = 512;
/// The end of a tar: two empty blocks.
pub(super) const END: [u8; 1024] = [0; 1024];
/// The size from which a file is read piece by piece, in bytes.
const STREAMED: u64 = 4 << 20;

/// Writes everything in a directory; `at` is its path, with a `/` behind it where there is one.
pub(super) fn directory(store: &Store, at: &str, tree: &Digest, out: &mut impl Write) -> Result<(), ArchiveError> {
    for (name, found) in store.tree(tree)?.entries() {
        entry(store, &format!("{at}{name}"), found, out)?;
    }
    Ok(())
}

/// Writes an entry, of a directory everything in it too.
pub(super) fn entry(store: &Store, path: &str, entry: &Entry, out: &mut impl Write) -> Result<(), ArchiveError> {
    match entry {
        Entry::Tree { digest } => {
            header(path, out)?;
            directory(store, &format!("{path}/"), digest, out)
        }
        Entry::Symlink { target } => {
            append(path, out, |tar| tar.append_link(&mut fields(EntryType::Symlink, 0o777, 0), path, target))
        }
        Entry::File { digest, executable } => {
            let size = store.size(digest)?;
            let mut header = fields(EntryType::Regular, if *executable { 0o755 } else { 0o644 }, size);
            if size < STREAMED {
                let content = store.get(digest)?;
                append(path, out, |tar| tar.append_data(&mut header, path, content.as_slice()))
            } else {
                let content = store.open_blob(digest)?;
                append(path, out, |tar| tar.append_data(&mut header, path, content))
            }
        }
    }
}

/// Writes the entry of a directory, without what is in it.
pub(super) fn header(path: &str, out: &mut impl Write) -> Result<(), ArchiveError> {
    let mut header = fields(EntryType::Directory, 0o755, 0);
    append(path, out, |tar| tar.append_data(&mut header, format!("{path}/"), io::empty()))
}

fn fields(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(PACKED_AT);
    header
}

fn append<W: Write>(
    path: &str,
    out: W,
    write: impl FnOnce(&mut Builder<Endless<W>>) -> io::Result<()>,
) -> Result<(), ArchiveError> {
    let mut tar = Builder::new(Endless { out, ended: false });
    let written = write(&mut tar);
    tar.get_mut().ended = true;
    written.map_err(|source| {
        ArchiveError::Store(StoreError::inside(source).unwrap_or_else(StoreError::io("pack", Path::new(path))))
    })
}

/// A builder writes the end of the tar when it goes, and ours stand for a part of one.
struct Endless<W> {
    out: W,
    ended: bool,
}

impl<W: Write> Write for Endless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.ended { Ok(bytes.len()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
