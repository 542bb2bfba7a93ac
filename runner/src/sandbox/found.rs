//! Looks at what a program has left in its root, and at nothing else: whatever its links say, they lead nowhere outside.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::scratch::open_directories;

/// The root of a sandbox in which nothing runs any more.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What is at a path of a root.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or something that is no value: a device, a socket, what the kernel tells in `/proc`, the root as a whole.
    Nothing,
    /// A file, open for reading.
    File {
        /// Its content.
        file: File,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A directory: listings and files below its path are the sandbox's. Links below it are not to be followed.
    Directory(Directory),
}

/// An open directory of a root.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _fd: OwnedFd,
}

impl Directory {
    /// A path that is valid as long as this value.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Root {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens what is at an absolute path of the root. Links on the way stay in the root, whatever they say.
    pub fn open(&self, path: &str) -> io::Result<Found> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let fd = match openat2(&self.fd, path, how) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Found::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}/", fd.as_raw_fd()));
        let metadata = File::from(fd.try_clone()?).metadata()?;
        if self.is_kernels(&fd)? {
            Ok(Found::Nothing)
        } else if metadata.is_dir() {
            if !nix::unistd::geteuid().is_root() {
                open_directories(&path)?;
            }
            Ok(Found::Directory(Directory { path, _fd: fd }))
        } else if metadata.is_file() {
            let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            Ok(Found::File { file, executable: metadata.permissions().mode() & 0o100 != 0 })
        } else {
            Ok(Found::Nothing)
        }
    }

    /// Whether the way to a path goes through a link.
    pub fn is_through_link(&self, path: &str) -> bool {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.fd, path, how).err() == Some(Errno::ELOOP)
    }

    /// Where the link at a path says that it leads; none where there is no link.
    pub fn link(&self, path: &str) -> Option<String> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let found = openat2(&self.fd, path, how).ok()?;
        Some(readlinkat(&found, "").ok()?.to_string_lossy().into_owned())
    }

    /// Whether something is of `/proc`, or has that below it: this process may read there what no program may, and what never ends.
    fn is_kernels(&self, fd: &OwnedFd) -> io::Result<bool> {
        let [own, found] = [&self.fd, fd].map(fstat);
        let (own, found) = (own?, found?);
        Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC
            || (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
}
