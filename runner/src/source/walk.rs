//! Goes through a source directory, all processors at once, and reads what is not known.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use rayon::prelude::*;

use super::SourceError;
use super::known::{self, Directory, Identity, Kept, Known, Names};
use super::read::{Fresh, Named, read_unchanged};
use super::rules::{Rules, Said};
use crate::digest::Digest;
use crate::store::join;
use crate::tree::DEEPEST;

/// So many files of a directory are worth a processor's while.
const WORTH_IT: usize = 64;

/// What a walk has found.
pub(super) struct Taken {
    /// Of the whole tree.
    pub(super) digest: Digest,
    /// In order of their paths.
    pub(super) directories: Vec<Arc<Directory>>,
    pub(super) fresh: HashMap<Digest, Arc<[u8]>>,
    pub(super) files: u64,
    pub(super) read: u64,
}

pub(super) struct Walk<'a> {
    root: &'a Path,
    known: &'a Known,
    /// When it began; whatever was written from then on is not settled.
    started: i128,
    fresh: Fresh,
    files: AtomicU64,
    read: AtomicU64,
    directories: Mutex<Vec<Arc<Directory>>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Path, known: &'a Known) -> Self {
        Self {
            root,
            known,
            started: known::now(),
            fresh: Fresh::default(),
            files: AtomicU64::new(0),
            read: AtomicU64::new(0),
            directories: Mutex::default(),
        }
    }

    pub(super) fn take(self, rules: &Rules<'_>) -> Result<Taken, SourceError> {
        let opened = Opened::open(self.root)?;
        let known = self.known.directory("");
        let place = Place { dir: self.root, relative: "", opened, known, rules };
        let digest = match self.contents(&place)? {
            Some(digest) => digest,
            None => self.keep(&place, Vec::new(), Vec::new()),
        };
        let mut directories = self.directories.into_inner().expect(POISONED);
        directories.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(Taken {
            digest,
            directories,
            fresh: self.fresh.into_held(),
            files: self.files.into_inner(),
            read: self.read.into_inner(),
        })
    }

    /// What is kept of a directory below the source directory; none where all of it is left out.
    fn directory(
        &self,
        dir: &Path,
        relative: &str,
        outer: &Rules<'_>,
        said: Said,
    ) -> Result<Option<Digest>, SourceError> {
        let opened = Opened::open(dir)?;
        let known = self.known.directory(relative);
        let own;
        let rules = match known {
            // It has the names that it had, and none of them had a say.
            Some(known) if known.names.identity == Some(opened.identity) && known.names.rules == outer.digest() => {
                outer
            }
            _ => {
                if said == Said::Nothing && dir.join("pyvenv.cfg").exists() {
                    return Ok(None);
                }
                own = outer.within(dir, said)?;
                &own
            }
        };
        self.contents(&Place { dir, relative, opened, known, rules })
    }

    /// What is kept of a directory's entries; none where all of them are left out.
    fn contents(&self, place: &Place<'_>) -> Result<Option<Digest>, SourceError> {
        let listing = match place.known.filter(|known| place.has_the_names_of(known)) {
            Some(known) => known_listing(known),
            None => list(place.dir)?,
        };
        let look = |number: usize| self.entry(place, number, &listing[number]);
        // A directory is worth a processor's while by itself, files are together.
        let (directories, others): (Vec<_>, Vec<_>) =
            (0..listing.len()).partition(|number| listing[*number].kind == Kind::Directory);
        let (directories, others) = rayon::join(
            || directories.into_par_iter().map(look).collect::<Vec<_>>(),
            || others.into_par_iter().with_min_len(WORTH_IT).map(look).collect::<Vec<_>>(),
        );
        let (mut entries, mut hollow) = (Vec::with_capacity(listing.len()), Vec::new());
        for looked in directories.into_iter().chain(others) {
            match looked? {
                Looked::Kept(entry) => entries.push(entry),
                Looked::Hollow(name) => hollow.push(name),
                Looked::LeftOut => {}
            }
        }
        if entries.is_empty() && !listing.is_empty() {
            return Ok(None);
        }
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(Some(self.keep(place, hollow, entries)))
    }

    /// What becomes of an entry: borrowed where it is as it was.
    fn entry<'k>(&self, place: &Place<'k>, number: usize, listed: &Listed<'_>) -> Result<Looked<'k>, SourceError> {
        let name = listed.name.to_str();
        let known = place.known.zip(name).and_then(|(known, name)| known.get(number, name));
        // Rules that have kept a file keep it again.
        let was_kept = known.is_some_and(|(_, kept)| !matches!(kept, Kept::Directory(_))) && place.rules_are_known();
        let is_dir = listed.kind == Kind::Directory;
        let said = match () {
            () if was_kept && !is_dir => Said::Keep,
            () => place.rules.say(&place.path(listed), &listed.name, is_dir),
        };
        if said == Said::LeaveOut {
            return Ok(Looked::LeftOut);
        }
        let name = name.ok_or_else(|| SourceError::Name(place.path(listed)))?;
        let kept = match listed.kind {
            Kind::Directory => {
                let relative = join(place.relative, name);
                if relative.split('/').count() > DEEPEST {
                    return Err(SourceError::TooDeep(place.path(listed)));
                }
                match self.directory(&place.path(listed), &relative, place.rules, said)? {
                    Some(digest) => Kept::Directory(digest),
                    None => return Ok(Looked::Hollow(name.into())),
                }
            }
            Kind::Symlink => {
                let path = place.path(listed);
                let target = fs::read_link(&path).map_err(SourceError::io("read", &path))?;
                Kept::Link(target.to_str().ok_or(SourceError::Link(path))?.into())
            }
            Kind::File => match self.file(place, listed, known.map(|(_, kept)| kept))? {
                Some(kept) => kept,
                None => return Ok(Looked::LeftOut),
            },
            Kind::Special(kind) => return Err(SourceError::Special { kind, path: place.path(listed) }),
        };
        Ok(Looked::Kept(match known {
            Some(known) if known.1 == kept => Cow::Borrowed(known),
            _ => Cow::Owned((name.into(), kept)),
        }))
    }

    /// A file's bytes, by what is known of it or else by reading it; none where it has gone.
    fn file(&self, place: &Place<'_>, listed: &Listed<'_>, known: Option<&Kept>) -> Result<Option<Kept>, SourceError> {
        let named = Named { fd: place.opened.fd.as_fd(), dir: place.dir, name: &listed.name };
        let Some(seen) = named.look()? else { return Ok(None) };
        if let Some(Kept::File { identity, settled: true, digest }) = known
            && *identity == seen
        {
            self.files.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(Kept::File { identity: *identity, settled: true, digest: *digest }));
        }
        let hash = |file: &fs::File, size| self.fresh.hash(named, file, size);
        let Some((identity, digest)) = read_unchanged(named, seen, hash)? else { return Ok(None) };
        self.files.fetch_add(1, Ordering::Relaxed);
        self.read.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Kept::File { identity, settled: identity.is_settled(self.started), digest }))
    }

    /// Remembers a directory and names it. One that is as it was is named without being put together again.
    fn keep(&self, place: &Place<'_>, hollow: Vec<Box<str>>, entries: Vec<Cow<'_, (Box<str>, Kept)>>) -> Digest {
        let identity = Some(place.opened.identity).filter(|identity| identity.is_settled(self.started));
        let names = Names { identity, rules: place.rules.digest(), hollow };
        let is_as_it_was = |known: &&Arc<Directory>| {
            known.names == names
                && known.entries.len() == entries.len()
                && entries.iter().all(|entry| matches!(entry, Cow::Borrowed(_)))
        };
        let directory = match place.known.filter(is_as_it_was) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Directory::new(place.relative, names, entries.into_iter().map(Cow::into_owned).collect())),
        };
        let digest = directory.digest;
        self.directories.lock().expect(POISONED).push(directory);
        digest
    }
}

/// A directory that is gone through: where it is, what it was, and what of it is left out.
struct Place<'k> {
    dir: &'k Path,
    relative: &'k str,
    opened: Opened,
    known: Option<&'k Arc<Directory>>,
    rules: &'k Rules<'k>,
}

impl Place<'_> {
    fn path(&self, listed: &Listed<'_>) -> PathBuf {
        self.dir.join(&listed.name)
    }

    /// Whether what is known of it was kept under these very rules.
    fn rules_are_known(&self) -> bool {
        self.known.is_some_and(|known| known.names.rules == self.rules.digest())
    }

    /// Whether what is known of it names all that is kept of it now.
    fn has_the_names_of(&self, known: &Directory) -> bool {
        known.names.identity == Some(self.opened.identity) && known.names.rules == self.rules.digest()
    }
}

/// A directory, and what it was before it was listed.
struct Opened {
    fd: OwnedFd,
    identity: Identity,
}

impl Opened {
    fn open(dir: &Path) -> Result<Self, SourceError> {
        let failed = |errno: Errno| SourceError::io("open", dir)(errno.into());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(dir, flags, Mode::empty()).map_err(failed)?;
        let identity = Identity::of(&fstat(&fd).map_err(failed)?);
        Ok(Self { fd, identity })
    }
}

/// An entry of a directory.
struct Listed<'k> {
    name: Cow<'k, OsStr>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Symlink,
    File,
    /// Nothing that is a value; what it is instead.
    Special(&'static str),
}

/// What became of an entry.
enum Looked<'k> {
    Kept(Cow<'k, (Box<str>, Kept)>),
    /// A directory of which nothing is kept.
    Hollow(Box<str>),
    LeftOut,
}

/// The entries of a directory, in bytewise order of names.
fn list(dir: &Path) -> Result<Vec<Listed<'static>>, SourceError> {
    let listed = |entry: io::Result<DirEntry>| {
        let entry = entry?;
        Ok(Listed { name: Cow::Owned(entry.file_name()), kind: kind(entry.file_type()?) })
    };
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(listed).collect::<io::Result<Vec<_>>>());
    let mut entries = entries.map_err(SourceError::io("list", dir))?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Those entries of a directory that are not left out by rules, where it still has all of its names.
fn known_listing(known: &Directory) -> Vec<Listed<'_>> {
    let kept = known.entries.iter().map(|(name, kept)| {
        let kind = match kept {
            Kept::File { .. } => Kind::File,
            Kept::Link(_) => Kind::Symlink,
            Kept::Directory(_) => Kind::Directory,
        };
        (name, kind)
    });
    let hollow = known.names.hollow.iter().map(|name| (name, Kind::Directory));
    kept.chain(hollow).map(|(name, kind)| Listed { name: Cow::Borrowed(OsStr::new(&**name)), kind }).collect()
}

fn kind(kind: FileType) -> Kind {
    match () {
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_file() => Kind::File,
        () if kind.is_socket() => Kind::Special("a socket"),
        () if kind.is_fifo() => Kind::Special("a named pipe"),
        () => Kind::Special("a device"),
    }
}

const POISONED: &str = "no thread panics while it adds a directory";
