//! Archives in and out: what others packed becomes a tree, and a tree becomes bytes that are always the same.
//!
//! An archive is hostile until proven otherwise: names that leave the tree, devices, hard links to elsewhere, entries through a
//! link, and bombs are refused. Knows nothing of wheels or slugs.

mod pack;
mod tar;
mod zip;

use std::io::{self, BufReader, Read};

use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::store::{Store, StoreError, TreeBuilder};
use crate::tree::Entry;

pub use pack::pack;

/// How an archive is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A zip file, such as a wheel.
    Zip,
    /// An uncompressed tar.
    Tar,
    /// A tar, gzipped.
    TarGzip,
    /// A tar, compressed by bzip2.
    TarBzip2,
    /// A tar, compressed by xz.
    TarXz,
    /// A tar, compressed by zstd.
    TarZstd,
}

impl Format {
    /// The name that goes into keys and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::TarGzip => "tar.gz",
            Self::TarBzip2 => "tar.bz2",
            Self::TarXz => "tar.xz",
            Self::TarZstd => "tar.zst",
        }
    }
}

/// The most that one archive may unpack to, in bytes.
const MAX_BYTES: u64 = 8 << 30;
/// The most entries that one archive may hold.
const MAX_ENTRIES: usize = 1_000_000;

/// What can go wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are not what the format asks for.
    #[error("not a readable {format} archive")]
    Unreadable {
        /// Which format was expected.
        format: &'static str,
        /// What the reader says.
        source: io::Error,
    },
    /// An entry that no honest archive holds.
    #[error("the archive's entry `{}` is refused: {why}", .path.escape_debug())]
    Refused {
        /// The entry's name, as it stands in the archive.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than an archive may hold.
    #[error("the archive is too large: more than {limit}")]
    TooLarge {
        /// The limit that it passes.
        limit: String,
    },
    /// There is no such way to pack.
    #[error("cannot pack as {0}: what can be packed is tar and tar.zst")]
    NoPacker(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Unpacks an archive into a tree, dropping `strip` leading names of each path. The result is an action, cached by the archive's
/// digest.
pub fn unpack(store: &Store, archive: &Digest, format: Format, strip: u32) -> Result<Digest, ArchiveError> {
    let key = KeyBuilder::new("unpack")
        .field("rules", b"1")
        .field("archive", archive.as_bytes())
        .field("format", format.name().as_bytes())
        .field("strip", &strip.to_le_bytes())
        .finish();
    let known = || -> Result<Option<Digest>, StoreError> {
        let record = store.action(&key)?;
        Ok(record.and_then(|record| <[u8; 32]>::try_from(record.as_slice()).ok()).map(Digest::from_bytes))
    };
    if let Some(tree) = known()? {
        return Ok(tree);
    }
    let _claim = store.claim(&key)?;
    if let Some(tree) = known()? {
        return Ok(tree);
    }
    let mut unpacker = Unpacker { builder: TreeBuilder::new(store, None)?, store, strip, bytes: 0, entries: 0 };
    let reader = BufReader::with_capacity(1 << 20, store.open_blob(archive)?);
    let unreadable = |source| ArchiveError::Unreadable { format: format.name(), source };
    match format {
        Format::Zip => zip::unpack(reader, &mut unpacker)?,
        Format::Tar => tar::unpack(reader, &mut unpacker, format)?,
        Format::TarGzip => tar::unpack(flate2::bufread::MultiGzDecoder::new(reader), &mut unpacker, format)?,
        Format::TarBzip2 => tar::unpack(bzip2::bufread::MultiBzDecoder::new(reader), &mut unpacker, format)?,
        Format::TarXz => {
            tar::unpack(liblzma::bufread::XzDecoder::new_multi_decoder(reader), &mut unpacker, format)?;
        }
        Format::TarZstd => {
            tar::unpack(zstd::Decoder::with_buffer(reader).map_err(unreadable)?, &mut unpacker, format)?;
        }
    }
    let tree = unpacker.builder.finish()?;
    store.put_action(&key, tree.as_bytes(), &[tree])?;
    Ok(tree)
}

/// Takes entries one by one, whatever the format, and refuses what must not be in a tree.
struct Unpacker<'a> {
    store: &'a Store,
    builder: TreeBuilder,
    strip: u32,
    bytes: u64,
    entries: usize,
}

impl Unpacker<'_> {
    /// The path that an entry gets in the tree; none where stripping leaves nothing.
    fn place(&mut self, raw: &str) -> Result<Option<String>, ArchiveError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ArchiveError::TooLarge { limit: format!("{MAX_ENTRIES} entries") });
        }
        let refuse = |why| ArchiveError::Refused { path: raw.to_owned(), why };
        if raw.starts_with('/') {
            return Err(refuse("its path is absolute"));
        }
        let names: Vec<&str> = raw.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if names.contains(&"..") {
            return Err(refuse("its path leaves the archive"));
        }
        if raw.contains('\0') {
            return Err(refuse("its path holds a NUL"));
        }
        let kept = names.get(self.strip as usize..).unwrap_or_default();
        Ok((!kept.is_empty()).then(|| kept.join("/")))
    }

    fn file(
        &mut self,
        raw: &str,
        content: &mut dyn Read,
        executable: bool,
        format: Format,
    ) -> Result<(), ArchiveError> {
        let Some(path) = self.place(raw)? else { return Ok(()) };
        let mut writer = self.store.writer()?;
        let left = MAX_BYTES - self.bytes;
        let written =
            io::copy(&mut content.take(left + 1), &mut writer).map_err(|error| match StoreError::inside(error) {
                Ok(error) => ArchiveError::Store(error),
                Err(source) => ArchiveError::Unreadable { format: format.name(), source },
            })?;
        if written > left {
            return Err(ArchiveError::TooLarge { limit: format!("{} GiB unpacked", MAX_BYTES >> 30) });
        }
        self.bytes += written;
        let digest = writer.finish()?;
        Ok(self.builder.put(&path, Entry::File { digest, executable })?)
    }

    fn symlink(&mut self, raw: &str, target: &str) -> Result<(), ArchiveError> {
        let Some(path) = self.place(raw)? else { return Ok(()) };
        Ok(self.builder.put(&path, Entry::Symlink { target: target.to_owned() })?)
    }

    fn directory(&mut self, raw: &str) -> Result<(), ArchiveError> {
        let Some(path) = self.place(raw)? else { return Ok(()) };
        Ok(self.builder.put_directory(&path)?)
    }
}

#[cfg(test)]
mod tests;
