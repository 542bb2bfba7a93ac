//! Reads a file that may be written to at the same time: what is given is what it held between two looks that agree.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

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

/// A file by its name in a directory that is open: the way there is gone once for all that is in it.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) fd: BorrowedFd<'a>,
    /// Where the directory was, to tell of.
    pub(super) dir: &'a Path,
    pub(super) name: &'a OsStr,
}

impl Named<'_> {
    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(Errno) -> SourceError {
        move |errno| SourceError::io(doing, &self.path())(errno.into())
    }

    /// What it is now; none where it has gone.
    pub(super) fn look(&self) -> Result<Option<Identity>, SourceError> {
        match fstatat(self.fd, self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(Identity::of(&found))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at")(errno)),
        }
    }

    fn open(&self) -> Result<Option<File>, SourceError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(self.fd, self.name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("open")(errno)),
        }
    }
}

impl Fresh {
    /// Hashes the bytes of a file of this size. Whether there are more is for a look at it afterwards to say.
    pub(super) fn hash(&self, named: Named<'_>, file: &File, size: u64) -> Result<Digest, SourceError> {
        let failed = |error| SourceError::io("read", &named.path())(error);
        if size >= LARGE {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).map_err(failed)?;
            return Ok(hasher.finalize().into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // Not every file system says how large a file is that it makes up as it is read.
        let most = if size == 0 { u64::MAX } else { size };
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
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
    named: Named<'_>,
    seen: Identity,
    mut read: impl FnMut(&File, u64) -> Result<T, SourceError>,
) -> Result<Option<(Identity, T)>, SourceError> {
    let mut before = seen;
    for _ in 0..2 {
        let Some(file) = named.open()? else { return Ok(None) };
        let value = read(&file, before.size)?;
        // One that another was put in place of has lost its name, and shows that in its time of change.
        let after = Identity::of(&fstat(&file).map_err(named.failed("look at"))?);
        if after == before {
            return Ok(Some((before, value)));
        }
        let Some(now) = named.look()? else { return Ok(None) };
        before = now;
    }
    Err(SourceError::Changed(named.path()))
}
