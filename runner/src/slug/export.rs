//! A slug as a file: `tar.zst`, the same bytes wherever it is written. Knows nothing of registries or targets.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Record, SlugError, attestation};
use crate::archive::{self, Format};
use crate::store::Store;

/// What a slug's bytes are, once packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pack {
    /// The sha256 of the file, in hex.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

/// The files that an export has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The slug as `tar.zst`.
    pub file: PathBuf,
    /// What its bytes are.
    #[serde(flatten)]
    pub pack: Pack,
    /// How it came about, as an in-toto statement about the slug and this file; none where the run left no attestation.
    pub attestation: Option<PathBuf>,
}

/// Packs a slug as `tar.zst`: `manifest.json` and `app/`, sorted, with fixed owner, time and modes.
pub fn pack(store: &Store, record: &Record, out: impl Write) -> Result<Pack, SlugError> {
    let mut out = Counted { out, hasher: Sha256::new(), size: 0 };
    archive::pack(store, &record.tree, Format::TarZstd, &mut out)?;
    let sha256 = format!("{:x}", out.hasher.finalize());
    Ok(Pack { sha256, size: out.size })
}

/// Writes a slug to a file, and its attestation to `FILE.intoto.json` beside it. A file that is there is replaced, whole or
/// not at all.
pub fn export(store: &Store, record: &Record, file: &Path) -> Result<Exported, SlugError> {
    let mut packed = None;
    replace(file, |out| {
        packed = Some(pack(store, record, out)?);
        Ok(())
    })?;
    let Some(pack) = packed else { return Err(SlugError::NotASlug("nothing was packed".to_owned())) };
    let attestation = match &record.attestation {
        Some(digest) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let statement = attestation::about_file(&store.get(digest)?, &name, &pack.sha256)?;
            let beside = file.with_file_name(format!("{name}.intoto.json"));
            replace(&beside, |out| out.write_all(&statement).map_err(|source| unwritable(&beside, source)))?;
            Some(beside)
        }
        None => None,
    };
    Ok(Exported { file: file.to_owned(), pack, attestation })
}

/// Writes beside the file and then takes its place.
fn replace(file: &Path, write: impl FnOnce(&mut fs::File) -> Result<(), SlugError>) -> Result<(), SlugError> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut stage = tempfile::Builder::new()
        .prefix(".pipe-export-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(|source| unwritable(file, source))?;
    write(stage.as_file_mut())?;
    stage.as_file().sync_all().map_err(|source| unwritable(file, source))?;
    stage.persist(file).map_err(|error| unwritable(file, error.error))?;
    Ok(())
}

fn unwritable(path: &Path, source: io::Error) -> SlugError {
    SlugError::File { action: "write", path: path.display().to_string(), source }
}

/// Hashes and counts what goes through.
struct Counted<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
