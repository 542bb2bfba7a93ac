//! Looks for secrets in what is about to be kept: in paths, in links, in files, and inside of the archives among them.
//!
//! Finds a text as it stands, and nothing that was made of it: not its hash, and not its base64.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aho_corasick::AhoCorasick;

use super::mask::MASK;
use super::{SHORTEST, Secrets};
use crate::digest::Digest;
use crate::store::{Store, StoreError, Until, join};
use crate::tree::Entry;

/// How deep archives in archives are opened: a tar, gzipped, in a wheel.
const DEPTH: u32 = 3;
/// The most that one archive is unpacked to, in bytes, with all archives in it.
const MOST: u64 = 8 << 30;
/// What is read to see what a file is; a tar says so in its first block.
const HEAD: u64 = 512;

/// A search for some secrets.
pub struct Search {
    finder: AhoCorasick,
    /// For the secrets as they are when something is called by them: a name of its own for each part between slashes.
    paths: AhoCorasick,
    names: Vec<String>,
    until: Until,
}

/// A secret where it must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// Its name.
    pub secret: String,
    /// The file, from where was searched; with ` in ` and the archive where it is packed.
    pub path: String,
}

/// Why a search came to no end.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A file cannot be read.
    #[error("cannot look for secrets in `{path}`")]
    Io {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// An archive that unpacks to too much.
    #[error("cannot look for secrets in `{0}`: it unpacks to more than {limit} GiB", limit = MOST >> 30)]
    TooLarge(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Searched = Result<Option<Leak>, SearchError>;

/// What a file is, by its first bytes.
#[derive(Clone, Copy)]
enum Packed {
    Zip,
    Tar,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Search {
    /// A search for these, for as long as it is wanted; none where there is nothing to search for.
    pub fn new(secrets: &Secrets, until: Until) -> Option<Self> {
        let texts: Vec<&str> = secrets.iter().map(|(_, secret)| super::needle(secret.text())).collect();
        let finder = AhoCorasick::new(&texts).ok()?;
        let paths = AhoCorasick::new(texts.iter().map(|text| as_path(text))).ok()?;
        let names: Vec<String> = secrets.iter().map(|(name, _)| name.to_owned()).collect();
        (!names.is_empty()).then_some(Self { finder, paths, names, until })
    }

    /// Looks through a directory and all below it, whose path is to be called `at`; follows no link.
    pub fn directory(&self, dir: &Path, at: &str) -> Searched {
        let failed = |source| SearchError::Io { path: at.to_owned(), source };
        for found in fs::read_dir(dir).map_err(failed)? {
            self.until.look()?;
            let found = found.map_err(failed)?;
            let path = join(at, &found.file_name().to_string_lossy());
            let failed = |source| SearchError::Io { path: path.clone(), source };
            if let Some(leak) = self.path(&path) {
                return Ok(Some(leak));
            }
            let kind = found.file_type().map_err(failed)?;
            let leak = if kind.is_dir() {
                self.directory(&found.path(), &path)?
            } else if kind.is_symlink() {
                self.bytes(fs::read_link(found.path()).map_err(failed)?.as_os_str().as_bytes(), &path)
            } else if kind.is_file() {
                self.file(&mut File::open(found.path()).map_err(failed)?, &path)?
            } else {
                None
            };
            if leak.is_some() {
                return Ok(leak);
            }
        }
        Ok(None)
    }

    /// Looks through a stored tree and all below it.
    pub fn tree(&self, store: &Store, tree: &Digest, at: &str) -> Searched {
        for (name, entry) in store.tree(tree)?.entries() {
            let path = join(at, name);
            let leak = match (self.path(&path), entry) {
                (Some(leak), _) => Some(leak),
                (None, Entry::Symlink { target }) => self.bytes(target.as_bytes(), &path),
                (None, Entry::Tree { digest }) => self.tree(store, digest, &path)?,
                (None, Entry::File { digest, .. }) => self.file(&mut store.open_blob(digest)?, &path)?,
            };
            if leak.is_some() {
                return Ok(leak);
            }
        }
        Ok(None)
    }

    /// Looks through a file that is to be called `path`, and leaves it at its beginning.
    pub fn file(&self, file: &mut (impl Read + Seek), path: &str) -> Searched {
        let mut left = MOST;
        let found = self.whole(file, DEPTH, path, &mut left);
        file.rewind().map_err(|source| SearchError::Io { path: path.to_owned(), source })?;
        found
    }

    fn bytes(&self, bytes: &[u8], path: &str) -> Option<Leak> {
        let found = self.finder.find(bytes)?;
        Some(self.leak(found.pattern().as_usize(), path))
    }

    /// A path that has a secret in it, which is not said.
    fn path(&self, path: &str) -> Option<Leak> {
        let found = self.paths.find(path)?;
        let masked = format!("{}{MASK}{}", &path[..found.start()], &path[found.end()..]);
        Some(self.leak(found.pattern().as_usize(), &masked))
    }

    fn leak(&self, index: usize, path: &str) -> Leak {
        Leak { secret: self.names[index].clone(), path: path.to_owned() }
    }

    fn stream(&self, bytes: impl Read, path: &str) -> Searched {
        let found = self.finder.stream_find_iter(Wanted { inner: bytes, until: &self.until }).next();
        self.until.look()?;
        match found {
            Some(Ok(found)) => Ok(Some(self.leak(found.pattern().as_usize(), path))),
            Some(Err(source)) => Err(SearchError::Io { path: path.to_owned(), source }),
            None => Ok(None),
        }
    }

    /// A file as it stands, and then what is packed in it. What says that it is an archive and is none is no archive.
    fn whole(&self, file: &mut (impl Read + Seek), depth: u32, path: &str, left: &mut u64) -> Searched {
        let failed = |source| SearchError::Io { path: path.to_owned(), source };
        if let Some(leak) = self.stream(&mut *file, path)? {
            return Ok(Some(leak));
        }
        file.rewind().map_err(failed)?;
        let mut head = Vec::new();
        Read::take(&mut *file, HEAD).read_to_end(&mut head).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let Some(packed) = Packed::of(&head).filter(|_| depth > 0) else { return Ok(None) };
        let reader = BufReader::new(file);
        let mut inside = |bytes: &mut dyn Read, name: &str| self.packed(bytes, depth - 1, name, left);
        match packed {
            Packed::Gzip => inside(&mut flate2::bufread::MultiGzDecoder::new(reader), path),
            Packed::Bzip2 => inside(&mut bzip2::bufread::MultiBzDecoder::new(reader), path),
            Packed::Xz => inside(&mut liblzma::bufread::XzDecoder::new_multi_decoder(reader), path),
            Packed::Zstd => match zstd::Decoder::with_buffer(reader) {
                Ok(mut decoder) => inside(&mut decoder, path),
                Err(_) => Ok(None),
            },
            Packed::Zip => {
                let Ok(mut archive) = zip::ZipArchive::new(reader) else { return Ok(None) };
                for index in 0..archive.len() {
                    let Ok(mut entry) = archive.by_index(index) else { continue };
                    let name = entry.name().map(std::borrow::Cow::into_owned).unwrap_or_default();
                    if let Some(leak) = inside(&mut entry, &format!("{name}` in `{path}"))? {
                        return Ok(Some(leak));
                    }
                }
                Ok(None)
            }
            Packed::Tar => {
                let mut archive = tar::Archive::new(reader);
                let Ok(entries) = archive.entries() else { return Ok(None) };
                for mut entry in entries.map_while(Result::ok) {
                    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                    if let Some(leak) = inside(&mut entry, &format!("{name}` in `{path}"))? {
                        return Ok(Some(leak));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Bytes that come out of an archive; an archive among them goes to a file of its own, to be read more than once.
    fn packed(&self, bytes: &mut dyn Read, depth: u32, path: &str, left: &mut u64) -> Searched {
        let mut head = Vec::new();
        // An archive that cannot be read to its end holds nothing more that anyone could read; and what unpacks bzip2 ends the
        // process where it is asked again for what it could not give.
        let rest: &mut dyn Read = match (&mut *bytes).take(HEAD).read_to_end(&mut head) {
            Ok(_) => bytes,
            Err(_) => &mut io::empty(),
        };
        let is_packed = Packed::of(&head).is_some();
        let mut all = Counted { inner: Cursor::new(head).chain(rest), left: &mut *left };
        let found = if is_packed && depth > 0 {
            let failed = |source| SearchError::Io { path: path.to_owned(), source };
            let mut file = tempfile::tempfile().map_err(failed)?;
            let _ = io::copy(&mut Wanted { inner: &mut all, until: &self.until }, &mut file);
            file.rewind().map_err(failed)?;
            if *left == 0 { Ok(None) } else { self.whole(&mut file, depth, path, left) }
        } else {
            self.stream(&mut all, path).or(Ok(None))
        };
        self.until.look()?;
        if *left == 0 { Err(SearchError::TooLarge(path.to_owned())) } else { found }
    }
}

/// What a path has in it where a text was used as one. What is left of one that is hardly more than slashes would be everywhere.
fn as_path(text: &str) -> String {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some(parts.join("/")).filter(|path| path.len() >= SHORTEST).unwrap_or_else(|| text.to_owned())
}

impl Packed {
    fn of(head: &[u8]) -> Option<Self> {
        let starts: [(&[u8], Self); 5] = [
            (b"PK\x03\x04", Self::Zip),
            (b"\x1f\x8b", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        let tar = head.get(257..262) == Some(b"ustar");
        starts
            .into_iter()
            .find(|(start, _)| head.starts_with(start))
            .map(|(_, packed)| packed)
            .or(tar.then_some(Self::Tar))
    }
}

/// Reads for as long as that is wanted.
struct Wanted<'u, R> {
    inner: R,
    until: &'u Until,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until.look().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// Reads until nothing is left of what may be read.
struct Counted<'l, R> {
    inner: R,
    left: &'l mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(*self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        *self.left -= read as u64;
        Ok(read)
    }
}
