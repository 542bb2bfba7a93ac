//! Bytes from outside, each known beforehand by its digest: files of Python indexes and npm registries, commits of git.
//!
//! A file is hashed while it streams into the store, and kept only if it is what was asked for. What was fetched once is
//! remembered by its digest and never fetched again, so an address is a hint and no part of any key. Credentials stay here:
//! they are in no key, no message and no error. Knows nothing of locks and installers, nor of who may fetch what.

mod checksum;
mod credentials;
mod error;
mod git;
mod http;
mod index;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Url;

use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::store::{Store, Until};

pub use checksum::{Checksum, Function};
pub use credentials::Credentials;
pub use error::FetchError;

use checksum::Hasher;
use error::shown;
use http::Http;
use index::Link;

/// How many files are fetched side by side.
const SIDE_BY_SIDE: usize = 16;

/// How many bytes a page may have that nobody has named a digest of.
const LARGEST_PAGE: u64 = 64 << 20;

/// Where files come from, as the pipeline says.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// The Python index (PEP 503, PEP 691): `https://pypi.org/simple`, or `file://` and a directory of projects.
    pub index: String,
    /// Further indexes, asked in this order after the first.
    pub extra: Vec<String>,
    /// Directories of files, asked before any index.
    pub find_links: Vec<PathBuf>,
    /// The npm registry, in place of the public one wherever a lock names that.
    pub npm: String,
    /// Names and passwords for private ones; those in the addresses above count too.
    pub credentials: Credentials,
    /// Only what is remembered or in a directory.
    pub offline: bool,
    /// The largest file that is taken, in bytes.
    pub max_size: u64,
    /// How long the first retry of a passing fault waits; each next one waits twice as long.
    pub retry_after: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            index: "https://pypi.org/simple".to_owned(),
            extra: Vec::new(),
            find_links: Vec::new(),
            npm: index::PUBLIC_NPM.to_owned(),
            credentials: Credentials::default(),
            offline: false,
            max_size: 4 << 30,
            retry_after: Duration::from_millis(300),
        }
    }
}

/// Gets what is at an address now, of which nobody has named a digest; no more than so many bytes.
pub fn get(address: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut credentials = Credentials::from_environment();
    let url = credentials.take_from(error::address(address)?);
    let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
    let http = Http::new(credentials, false, FetchConfig::default().retry_after);
    http.get(&name, &url, None, |response| http::text(&name, &url, response, limit))
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `index`, `npm` or `https`.
    pub source: String,
    /// Where it was seen; may be empty for `index`.
    pub url: String,
    /// The file's name.
    pub name: String,
    /// What its bytes must be: `sha256:…`, `sha512:…`, `sha1:…` or `blake3:…`.
    pub digest: String,
}

/// A file of an index, found by one of the wanted digests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// The file's name.
    pub name: String,
    /// Where it is; empty for one in a directory of this machine.
    pub url: String,
    /// The digest that was asked for.
    pub digest: String,
}

/// Fetches; cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    store: Store,
    http: Http,
    indexes: Vec<Url>,
    find_links: Vec<PathBuf>,
    npm: Url,
    max_size: u64,
    /// Pages of the indexes that this run has read.
    pages: Arc<Mutex<HashMap<Url, Arc<Vec<Link>>>>>,
}

impl Fetcher {
    /// Checks the addresses; nothing goes out yet.
    pub fn new(config: FetchConfig, store: Store) -> Result<Self, FetchError> {
        let mut credentials = config.credentials;
        let mut base = |text: &str, schemes: &[&str]| -> Result<Url, FetchError> {
            let mut url = credentials.take_from(error::address(text)?);
            if !schemes.contains(&url.scheme()) {
                return Err(FetchError::Address { url: shown(&url), why: "only http and https are fetched" });
            }
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            Ok(url)
        };
        let mut indexes = Vec::with_capacity(1 + config.extra.len());
        for text in std::iter::once(&config.index).chain(&config.extra) {
            indexes.push(base(text, &["https", "http", "file"])?);
        }
        let npm = base(&config.npm, &["https", "http"])?;
        Ok(Self(Arc::new(Inner {
            store,
            http: Http::new(credentials, config.offline, config.retry_after),
            indexes,
            find_links: config.find_links,
            npm,
            max_size: config.max_size,
            pages: Arc::default(),
        })))
    }

    /// The same, for as long as that is wanted.
    #[must_use]
    pub fn wanted(&self, until: Until) -> Self {
        let (http, store) = (self.0.http.wanted(until.clone()), self.0.store.wanted(until));
        Self(Arc::new(Inner { store, http, ..Inner::clone(&self.0) }))
    }

    /// The passwords and tokens of private indexes, as they are and as an address spells them.
    pub fn secrets(&self) -> Vec<String> {
        self.0.http.credentials().texts()
    }

    /// Fetches files side by side and gives their blobs in the same order. The first failure ends all.
    pub fn get(&self, requests: &[Request]) -> Result<Vec<Digest>, FetchError> {
        let wanted: Vec<Checksum> = requests.iter().map(|request| request.digest.parse()).collect::<Result<_, _>>()?;
        side_by_side(requests.len(), |n| self.0.fetch(&requests[n], &wanted[n]))
    }

    /// The files of a project on the indexes that have one of `digests`, in bytewise order of names. What was found once is
    /// the answer ever after.
    pub fn find(&self, source: &str, project: &str, digests: &[String]) -> Result<Vec<Found>, FetchError> {
        if source != "index" {
            return Err(FetchError::Source(source.to_owned()));
        }
        let wanted: Vec<Checksum> = digests.iter().map(|digest| digest.parse()).collect::<Result<_, _>>()?;
        let key = self.0.find_key(project, digests);
        if let Some(found) = self.0.store.action(&key)?.and_then(|record| serde_json::from_slice(&record).ok()) {
            return Ok(found);
        }
        let found = self.0.search(project, &wanted)?;
        if !found.is_empty() {
            let record = serde_json::to_vec(&found).expect("strings always serialise");
            self.0.store.put_action(&key, &record, &[])?;
        }
        Ok(found)
    }

    /// [`find`](Self::find) for many projects, side by side; the answers are in the same order. The first failure ends all.
    pub fn find_all(&self, source: &str, lookups: &[(String, Vec<String>)]) -> Result<Vec<Vec<Found>>, FetchError> {
        side_by_side(lookups.len(), |n| self.find(source, &lookups[n].0, &lookups[n].1))
    }

    /// A page that has no digest beforehand, such as the index of a mirror.
    pub fn page(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let address = error::address(url)?;
        self.0.http.get(url, &address, None, |response| http::text(url, &address, response, LARGEST_PAGE))
    }

    /// The tree of a commit, named by its full hash, without `.git`.
    pub fn git(&self, url: &str, commit: &str) -> Result<Digest, FetchError> {
        git::tree(&self.0.store, &self.0.http, url, commit)
    }
}

impl Inner {
    fn fetch(&self, request: &Request, wanted: &Checksum) -> Result<Digest, FetchError> {
        if let Some(digest) = self.remembered(wanted)? {
            return Ok(digest);
        }
        match request.source.as_str() {
            "index" => self.get_package(request, wanted),
            "npm" => self.get_url(&request.name, &index::npm_address(&request.url, &self.npm)?, wanted),
            "https" => self.get_url(&request.name, &error::address(&request.url)?, wanted),
            other => Err(FetchError::Source(other.to_owned())),
        }
    }

    /// From a directory, then from where it was seen, then from wherever an index says that a file of this name is.
    fn get_package(&self, request: &Request, wanted: &Checksum) -> Result<Digest, FetchError> {
        index::check_name(&request.name)?;
        for directory in &self.find_links {
            if let Some(digest) = self.get_file(&directory.join(&request.name), wanted)? {
                return Ok(digest);
            }
        }
        let mut first = None;
        if !request.url.is_empty() {
            match error::address(&request.url).and_then(|url| self.get_url(&request.name, &url, wanted)) {
                Err(error) if error.elsewhere() => first = Some(error),
                done => return done,
            }
        }
        let project = index::project_of(&request.name);
        match self.by_name(project, request, wanted) {
            // That the address failed says more than that there is no other.
            Err(error) if error.elsewhere() => Err(first.unwrap_or(error)),
            done => done,
        }
    }

    fn by_name(&self, project: &str, request: &Request, wanted: &Checksum) -> Result<Digest, FetchError> {
        for index in &self.indexes {
            let page = self.page(index, project)?;
            let fits = |link: &&Link| link.name == request.name && link.may_be(wanted);
            if let Some(link) = page.iter().find(fits) {
                return self.get_url(&request.name, &link.url, wanted);
            }
        }
        Err(FetchError::NotFound { name: request.name.clone(), places: self.places() })
    }

    fn get_url(&self, name: &str, url: &Url, wanted: &Checksum) -> Result<Digest, FetchError> {
        if url.scheme() == "file" {
            let path = self.local(url)?;
            return self
                .get_file(&path, wanted)?
                .ok_or_else(|| FetchError::NotFound { name: name.to_owned(), places: path.display().to_string() });
        }
        self.http.get(name, url, None, |body| self.keep(name, &shown(url), body, wanted))
    }

    /// The file in a directory, if there is one and it is what is wanted.
    fn get_file(&self, path: &Path, wanted: &Checksum) -> Result<Option<Digest>, FetchError> {
        let Ok(mut file) = File::open(path) else { return Ok(None) };
        match self.keep(&path.display().to_string(), "", &mut file, wanted) {
            Err(FetchError::Mismatch { .. }) => Ok(None),
            done => done.map(Some),
        }
    }

    /// The path of a `file://` address, which must lie in a directory that the pipeline names.
    fn local(&self, url: &Url) -> Result<PathBuf, FetchError> {
        let refused = |why| FetchError::Address { url: shown(url), why };
        let path = url.to_file_path().and_then(|path| path.canonicalize().map_err(drop));
        let path = path.map_err(|()| refused("there is no such file"))?;
        let roots = self.indexes.iter().filter_map(|index| index.to_file_path().ok());
        let inside = roots
            .chain(self.find_links.iter().cloned())
            .any(|root| root.canonicalize().is_ok_and(|root| path.starts_with(root)));
        if inside { Ok(path) } else { Err(refused("a local file must be in a `find-links` directory")) }
    }

    /// Streams bytes into the store; they are kept and remembered only if they are what is wanted.
    fn keep(&self, name: &str, url: &str, body: &mut dyn Read, wanted: &Checksum) -> Result<Digest, FetchError> {
        let mut writer = self.store.writer()?;
        let mut hasher = Hasher::new(wanted.function());
        let mut buffer = vec![0; 64 << 10];
        let mut size = 0;
        loop {
            let len = body.read(&mut buffer).map_err(|source| FetchError::body(name, url, source))?;
            if len == 0 {
                break;
            }
            size += len as u64;
            if size > self.max_size {
                return Err(FetchError::TooLarge { name: name.to_owned(), url: url.to_owned(), limit: self.max_size });
            }
            hasher.update(&buffer[..len]);
            writer.write_all(&buffer[..len]).map_err(FetchError::write)?;
        }
        let actual = hasher.finish();
        if actual != *wanted {
            let (name, url) = (name.to_owned(), url.to_owned());
            return Err(FetchError::Mismatch { name, url, expected: wanted.clone(), actual });
        }
        let digest = writer.finish()?;
        self.remember(wanted, digest)?;
        Ok(digest)
    }

    fn remembered(&self, wanted: &Checksum) -> Result<Option<Digest>, FetchError> {
        if let Some(digest) = wanted.blake3() {
            return Ok(self.store.contains(&digest).then_some(digest));
        }
        let record = self.store.action(&fetch_key(wanted))?;
        Ok(record.and_then(|record| serde_json::from_slice(&record).ok()))
    }

    fn remember(&self, wanted: &Checksum, digest: Digest) -> Result<(), FetchError> {
        let record = serde_json::to_vec(&digest).expect("a string always serialises");
        Ok(self.store.put_action(&fetch_key(wanted), &record, &[digest])?)
    }

    fn find_key(&self, project: &str, digests: &[String]) -> Digest {
        let mut key = KeyBuilder::new("fetch.find").field("project", project.as_bytes());
        for index in &self.indexes {
            key = key.field("index", index.as_str().as_bytes());
        }
        for digest in digests {
            key = key.field("digest", digest.as_bytes());
        }
        key.finish()
    }

    /// What was searched, for messages.
    fn places(&self) -> String {
        let directories = self.find_links.iter().map(|directory| directory.display().to_string());
        let places: Vec<String> = directories.chain(self.indexes.iter().map(shown)).collect();
        places.join(", ")
    }
}

fn fetch_key(wanted: &Checksum) -> Digest {
    KeyBuilder::new("fetch").field("digest", wanted.to_string().as_bytes()).finish()
}

/// Does `count` pieces of work on a few threads; results come in order, and the first failure ends all.
fn side_by_side<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, FetchError> + Sync,
) -> Result<Vec<T>, FetchError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Ok((0..count).map(|_| None).collect::<Vec<Option<T>>>()));
    let worker = || {
        while results.lock().expect(POISONED).is_ok() {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return;
            }
            let result = work(n);
            let mut results = results.lock().expect(POISONED);
            match (&mut *results, result) {
                (Ok(done), Ok(value)) => done[n] = Some(value),
                (Ok(_), Err(error)) => *results = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..count.min(SIDE_BY_SIDE) {
            scope.spawn(worker);
        }
    });
    let done = results.into_inner().expect(POISONED)?;
    Ok(done.into_iter().map(|value| value.expect("every piece is done where none failed")).collect())
}

/// Why a lock of this module can be taken for granted.
const POISONED: &str = "no thread panics while it holds a lock of the fetcher";

#[cfg(test)]
mod tests;
