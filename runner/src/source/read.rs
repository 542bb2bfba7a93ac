//! Reads a file that may be written to at the same time: what is given is what it held between two looks that agree.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::SourceError;
use super::known::Identity;
use crate::digest::Digest;

/// Files from this size on are hashed as they stream by, in bytes.
const LARGE: u64 = 1 << 20;
/// How many bytes of files that were read are held in memory, for steps that read them in the same run.
const HELD: u64 = 16 << 20;

/// Bytes that were read, as far as they are few.
#[derive(Default)]
pub(super) struct Fresh(Mutex<Held>);

#[derive(Default)]
struct Held {
    size: u64,
    files: HashMap<Digest, Arc<[u8]>>,
}

impl Fresh {
    /// Hashes the bytes of a file of this size.
    pub(super) fn hash(&self, path: &Path, file: &File, size: u64) -> Result<Digest, SourceError> {
        if size >= LARGE {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).map_err(SourceError::io("read", path))?;
            return Ok(hasher.finalize().into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        // Its size is known: what reads a file as such would ask for it.
        file.take(u64::MAX).read_to_end(&mut bytes).map_err(SourceError::io("read", path))?;
        let digest = Digest::of(&bytes);
        let mut held = self.0.lock().expect(POISONED);
        if held.size + bytes.len() as u64 <= HELD {
            held.size += bytes.len() as u64;
            held.files.insert(digest, bytes.into());
        }
        Ok(digest)
    }

    pub(super) fn into_held(self) -> HashMap<Digest, Arc<[u8]>> {
        self.0.into_inner().expect(POISONED).files
    }
}

const POISONED: &str = "no thread panics while it holds what was read";

/// Reads a file that is the same before and after; one that is not gets a second chance. None where it has gone.
pub(super) fn read_unchanged<T>(
    path: &Path,
    seen: Identity,
    mut read: impl FnMut(&File, u64) -> Result<T, SourceError>,
) -> Result<Option<(Identity, T)>, SourceError> {
    let mut before = seen;
    for _ in 0..2 {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(SourceError::io("open", path)(error)),
        };
        let value = read(&file, before.size)?;
        // One that another was put in place of has lost its name, and shows that in its time of change.
        let after = Identity::of(&file.metadata().map_err(SourceError::io("look at", path))?);
        if after == before {
            return Ok(Some((before, value)));
        }
        before = match path.symlink_metadata() {
            Ok(metadata) => Identity::of(&metadata),
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(SourceError::io("look at", path)(error)),
        };
    }
    Err(SourceError::Changed(path.to_owned()))
}
