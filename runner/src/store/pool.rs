//! Trees as directories, for native programs to see: made of hard links into a pool of files, and disposable.
//!
//! They are the lower layers of sandboxes, which no write reaches. Whoever runs there may be any user, and is to find files
//! that it may change in its own layer: so modes are open, they belong to the programs of builds where they can be given to those,
//! and what keeps others out is that only the owner enters the store.
//! All files were last changed at one and the same time long ago, so that a change shows.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchown, linkat, symlinkat, syncfs, unlinkat};
use rayon::prelude::*;

use super::lease::Gate;
use super::{POISONED, Store, StoreError};
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::sandbox::build_owner;
use crate::tree::{Entry, threads};

/// What is where a tree is laid out.
enum Layout {
    None,
    AsLaid,
    /// Something else than was laid out; these files among it.
    Changed(Vec<Digest>),
}

impl Store {
    /// The directory of a tree, made where it is not yet. Nobody may write into it.
    pub fn lay_out(&self, tree: &Digest) -> Result<PathBuf, StoreError> {
        let home = self.0.root.join("pool/trees").join(tree.hex());
        if self.is_laid_out(tree, &home) {
            return Ok(home);
        }
        self.use_layout(tree)?;
        if !matches!(self.look_at_layout(tree, &home)?, Layout::AsLaid) {
            // One makes it, here and among all processes; others look again.
            let _claim = self.claim(&KeyBuilder::new("layout").field("tree", tree.as_bytes()).finish())?;
            if self.is_laid_out(tree, &home) {
                return Ok(home);
            }
            match self.look_at_layout(tree, &home)? {
                Layout::AsLaid => {}
                Layout::None => self.make_layout(tree, &home)?,
                Layout::Changed(files) => {
                    self.set_aside_layout(tree, &files)?;
                    self.make_layout(tree, &home)?;
                }
            }
        }
        self.0.laid_out.lock().expect(POISONED).insert(*tree);
        Ok(home)
    }

    /// Whether this process has laid a tree out, or looked through all of it.
    fn is_laid_out(&self, tree: &Digest, home: &Path) -> bool {
        self.0.laid_out.lock().expect(POISONED).contains(tree) && home.is_dir()
    }

    /// From now on a laid-out tree is not collected as garbage while this process lives.
    fn use_layout(&self, tree: &Digest) -> Result<(), StoreError> {
        if self.0.lease.uses(tree) {
            return Ok(());
        }
        // Garbage that is being collected may be this very tree.
        let _gate = Gate::enter(self.root())?;
        self.0.lease.mark(tree)
    }

    fn look_at_layout(&self, tree: &Digest, home: &Path) -> Result<Layout, StoreError> {
        if !home.is_dir() {
            return Ok(Layout::None);
        }
        let changed = Mutex::default();
        let is_as_laid = threads().install(|| self.compare_layout(tree, home, &changed))?;
        let changed = changed.into_inner().expect(POISONED);
        Ok(if is_as_laid { Layout::AsLaid } else { Layout::Changed(changed) })
    }

    fn make_layout(&self, tree: &Digest, home: &Path) -> Result<(), StoreError> {
        self.check_extent(tree)?;
        let stage = self.scratch()?;
        let staged = stage.path().join("tree");
        let (place, files) = (Place::make(&staged)?, Pooled::at(self.0.root.join("pool/files")));
        if let Err(error) = threads().install(|| self.fill(tree, &place, &files)) {
            if self.until().look().is_err() {
                // To remove what there is may take as long again: it goes with all that this process leaves.
                let _ = stage.keep();
            }
            return Err(error);
        }
        files.keep_new(&staged)?;
        fs::rename(&staged, home).map_err(StoreError::io("create", home))
    }

    /// Whether nothing was changed in the directory of a tree since it was laid out; collects the files that were.
    fn compare_layout(&self, tree: &Digest, dir: &Path, changed: &Mutex<Vec<Digest>>) -> Result<bool, StoreError> {
        let tree = self.tree(tree)?;
        let there = match fs::read_dir(dir) {
            // Another process takes it out of use.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries.map_err(StoreError::io("list", dir))?.count(),
        };
        let mut same = there == tree.entries().len();
        let mut below = Vec::new();
        for (name, entry) in tree.entries() {
            let path = dir.join(name);
            let metadata = path.symlink_metadata().ok();
            same &= match (entry, metadata) {
                (Entry::Tree { digest }, Some(metadata)) if metadata.is_dir() && is_given(metadata.uid()) => {
                    below.push((digest, path));
                    true
                }
                (Entry::Symlink { target }, Some(_)) => {
                    fs::read_link(&path).is_ok_and(|found| found == Path::new(target))
                }
                (Entry::File { digest, .. }, Some(metadata)) if !is_unchanged(&metadata) => {
                    changed.lock().expect(POISONED).push(*digest);
                    false
                }
                (Entry::File { executable, .. }, Some(metadata)) => {
                    (metadata.permissions().mode() & 0o111 != 0) == *executable
                }
                _ => false,
            };
        }
        let same_below = below.par_iter().map(|(digest, path)| self.compare_layout(digest, path, changed));
        Ok(same_below.try_reduce(|| true, |one, other| Ok(one & other))? & same)
    }

    /// Takes the directory of a tree out of use, and pooled files that have other bytes than their names say, so that both are
    /// made anew. Whoever runs in the directory keeps it.
    pub fn set_aside_layout(&self, tree: &Digest, damaged: &[Digest]) -> Result<(), StoreError> {
        let pool = self.0.root.join("pool");
        for digest in damaged {
            let hex = digest.hex();
            let folder = pool.join("files").join(&hex[..2]);
            for pooled in [folder.join(&hex), folder.join(format!("{hex}.x"))] {
                match fs::remove_file(&pooled) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", &pooled)(error));
                    }
                    _ => {}
                }
            }
        }
        let aside = self.0.root.join("damaged");
        let home = pool.join("trees").join(tree.hex());
        let kept = fs::create_dir_all(&aside)
            .and_then(|()| tempfile::tempdir_in(&aside))
            .map_err(StoreError::io("create", &aside))?;
        fs::rename(&home, kept.keep().join("tree")).map_err(StoreError::io("move", &home))
    }

    /// Takes laid-out trees out of use in which something else is than should be; gives how many those were. Those with files that
    /// look changed are left to whoever uses them next.
    pub fn check_layouts(&self) -> Result<usize, StoreError> {
        let trees = self.0.root.join("pool/trees");
        let failed = || StoreError::io("list", &trees);
        let mut count = 0;
        for entry in fs::read_dir(&trees).map_err(failed())? {
            let home = entry.map_err(failed())?.path();
            let name = home.file_name().unwrap_or_default().to_string_lossy();
            // Of garbage it is not known any more what it should hold.
            let Some(tree) = format!("blake3:{name}").parse().ok().filter(|tree| self.contains(tree)) else { continue };
            let changed = Mutex::default();
            let is_as_laid = threads().install(|| self.compare_layout(&tree, &home, &changed))?;
            if !is_as_laid && changed.into_inner().expect(POISONED).is_empty() {
                count += 1;
                self.set_aside_layout(&tree, &[])?;
            }
        }
        Ok(count)
    }

    /// Fills the directory of a tree, all processors at once: each directory is the work of one.
    fn fill(&self, tree: &Digest, dir: &Place, files: &Pooled) -> Result<(), StoreError> {
        let tree = self.tree(tree)?;
        let mut below = Vec::new();
        for (name, entry) in tree.entries() {
            match entry {
                Entry::Tree { digest } => below.push((digest, name)),
                Entry::Symlink { target } => {
                    symlinkat(&**target, &dir.fd, name).map_err(|errno| dir.failed("create", name, errno))?;
                }
                Entry::File { digest, executable } => self.link_file(digest, *executable, dir, name, files)?,
            }
        }
        below.par_iter().try_for_each(|(digest, name)| self.fill(digest, &dir.within(name)?, files))
    }

    fn link_file(
        &self,
        digest: &Digest,
        executable: bool,
        dir: &Place,
        name: &str,
        files: &Pooled,
    ) -> Result<(), StoreError> {
        self.until().look()?;
        let hex = digest.hex();
        let folder = files.folder(&hex)?;
        let pooled = if executable { format!("{hex}.x") } else { hex };
        match linkat(&folder.fd, &*pooled, &dir.fd, name, AtFlags::empty()) {
            Ok(()) if fstatat(&dir.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|found| is_as_laid(&found)) => {
                return Ok(());
            }
            Ok(()) => {
                // Of two who find it changed at once, one is late.
                for (place, name) in [(dir, name), (folder, &pooled)] {
                    match unlinkat(&place.fd, name, UnlinkatFlags::NoRemoveDir) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(errno) => return Err(place.failed("remove", name, errno)),
                    }
                }
            }
            Err(Errno::ENOENT) => {}
            // A file system allows only so many links to a file, and some allow none.
            Err(Errno::EMLINK | Errno::EOPNOTSUPP | Errno::EPERM) => {
                return self.write_file(digest, executable, &dir.path.join(name));
            }
            Err(errno) => return Err(dir.failed("link", name, errno)),
        }
        let path = dir.path.join(name);
        self.write_file(digest, executable, &path)?;
        files.new.lock().expect(POISONED).push((path, folder.path.join(pooled)));
        Ok(())
    }

    fn write_file(&self, digest: &Digest, executable: bool, path: &Path) -> Result<(), StoreError> {
        let mut reader = self.open_blob(digest)?;
        let mut file = File::create_new(path).map_err(StoreError::io("create", path))?;
        io::copy(&mut reader, &mut file)
            .map_err(|error| StoreError::inside(error).unwrap_or_else(StoreError::io("write", path)))?;
        let mode = if executable { 0o777 } else { 0o666 };
        give(&file)
            .map_err(io::Error::from)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.set_modified(UNIX_EPOCH + Duration::from_secs(LAID_OUT)))
            .map_err(StoreError::io("write", path))
    }
}

/// Gives a file or a directory to the programs of builds, where the runner may give any away: an owner may change modes and
/// times too.
fn give(fd: impl AsFd) -> Result<(), Errno> {
    build_owner().map_or(Ok(()), |owner| fchown(fd, Some(owner.into()), Some(owner.into())))
}

/// Whether who a file belongs to is whom it was given to; an earlier version kept it.
fn is_given(uid: u32) -> bool {
    build_owner().is_none_or(|owner| uid == owner)
}

/// New files from which flushing the whole file system is cheaper than one by one.
const MANY: usize = 32;

/// Whether a link is there already, or cannot be.
fn is_no_link(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), AlreadyExists | PermissionDenied | TooManyLinks | Unsupported)
}

/// When all laid-out files were last changed, in seconds since 1970: the time that programs are told it is.
pub const LAID_OUT: u64 = 315_532_801;

fn is_unchanged(metadata: &Metadata) -> bool {
    metadata.is_file()
        && is_given(metadata.uid())
        && (metadata.mtime(), metadata.mtime_nsec()) == (LAID_OUT.cast_signed(), 0)
}

fn is_as_laid(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
        && is_given(found.st_uid)
        && (found.st_mtime, found.st_mtime_nsec) == (LAID_OUT.cast_signed(), 0)
}

/// A directory that is being filled, open: the way there is gone once for all that is put into it.
struct Place {
    fd: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Makes it, with open modes.
    fn make(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir(path).map_err(StoreError::io("create", path))?;
        Self::opened(AT_FDCWD, path, path)
    }

    /// Makes a directory in it.
    fn within(&self, name: &str) -> Result<Self, StoreError> {
        mkdirat(&self.fd, name, Mode::S_IRWXU).map_err(|errno| self.failed("create", name, errno))?;
        Self::opened(self.fd.as_fd(), Path::new(name), &self.path.join(name))
    }

    fn opened(dir: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<Self, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(dir, name, flags, Mode::empty()).and_then(|fd| {
            give(&fd)?;
            fchmod(&fd, Mode::from_bits_truncate(0o777))?;
            Ok(Self { fd, path: path.to_owned() })
        });
        opened.map_err(|errno| StoreError::io("create", path)(errno.into()))
    }

    fn failed(&self, action: &'static str, name: &str, errno: Errno) -> StoreError {
        StoreError::io(action, &self.path.join(name))(errno.into())
    }
}

/// The files that layouts are made of, in folders by the first byte of their digests. What is there is on the disk: nobody reads
/// it again before it is used.
struct Pooled {
    path: PathBuf,
    folders: [OnceLock<Place>; 256],
    /// Files that were written for a layout, and where they are to be in the pool.
    new: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Pooled {
    fn at(path: PathBuf) -> Self {
        Self { path, folders: [const { OnceLock::new() }; 256], new: Mutex::default() }
    }

    /// Brings what was written onto the disk, and then into the pool, for other layouts.
    fn keep_new(self, layout: &Path) -> Result<(), StoreError> {
        let new = self.new.into_inner().expect(POISONED);
        if new.len() > MANY {
            let dir = File::open(layout).map_err(StoreError::io("open", layout))?;
            syncfs(&dir).map_err(|errno| StoreError::io("flush", layout)(errno.into()))?;
        } else {
            for (path, _) in &new {
                File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("flush", path))?;
            }
        }
        for (path, pooled) in new {
            match fs::hard_link(&path, &pooled) {
                // Another run was faster, or the file system has no links.
                Err(error) if !is_no_link(&error) => return Err(StoreError::io("link", &pooled)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The folder of a digest, made where it is missing.
    fn folder(&self, hex: &str) -> Result<&Place, StoreError> {
        let first = &hex[..2];
        let number = usize::from_str_radix(first, 16).expect("a digest in hexadecimal digits");
        if let Some(folder) = self.folders[number].get() {
            return Ok(folder);
        }
        let path = self.path.join(first);
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(&path, flags, Mode::empty()).map_err(|errno| StoreError::io("open", &path)(errno.into()))?;
        Ok(self.folders[number].get_or_init(|| Place { fd, path }))
    }
}
