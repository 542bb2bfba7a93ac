//! Collected static files, served out of the slug without asking the application.
//!
//! What is not in the tree is not ours: the request goes on to the application. Files whose names carry their hash are also
//! found in what the target released before, for pages that browsers still show. A file has a tag, which is its digest, and
//! no time: a slug knows none. What processes wrote below the static files while they ran comes last.

mod address;
mod conditions;
mod kind;

use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncSeekExt;

use super::super::written::Written;
use super::file::FilePart;
use super::proxy::{Body, empty, reads};
use crate::digest::Digest;
use crate::store::Store;
use crate::tree::Entry;
pub(crate) use address::Address;
use conditions::{Range, accepts, is_known, range};
use kind::{content_type, is_hashed};

/// For files whose name changes with their content.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// For all others: browsers ask again, and mostly get a 304.
const BRIEFLY: &str = "public, max-age=60";

/// Files that projects write beside the original, smaller: their encoding and what their names end with, the best first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// The static files of a target.
pub(crate) struct Assets {
    pub(crate) store: Store,
    /// Those of the release that serves, and after them those of others.
    pub(crate) collections: Vec<Collection>,
    /// Where pages ask for them.
    pub(crate) address: Address,
    /// What processes wrote, and the first release whose processes serve.
    pub(crate) written: Written,
    pub(crate) since: u64,
}

/// The static files of a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) tree: Digest,
    /// Where the tree is laid out.
    pub(crate) directory: PathBuf,
}

/// A file that answers a request.
pub(super) struct Found {
    /// Below the address of all of them.
    path: String,
    content: Content,
    tag: String,
    /// How it differs from the one that was asked for.
    encoding: Option<&'static str>,
    /// Whether other requests for the same path get another file.
    varies: bool,
}

/// Where the bytes of a file are.
enum Content {
    At(PathBuf),
    Open(std::fs::File),
}

impl Content {
    async fn open(self) -> io::Result<File> {
        match self {
            Self::At(path) => File::open(path).await,
            Self::Open(file) => Ok(File::from_std(file)),
        }
    }
}

impl Assets {
    /// What a request is for, where that is one of the files.
    pub(super) fn find<B>(&self, request: &Request<B>) -> Option<Found> {
        let path = decode(self.address.within(request)?)?;
        if !reads(request.method()) {
            return None;
        }
        let known = if is_hashed(&path) { self.collections.len() } else { 1 };
        let mut collections = self.collections.iter().take(known);
        let collected = collections.find_map(|collection| self.find_in(collection, &path, request.headers()));
        collected.or_else(|| self.find_written(&path))
    }

    fn find_written(&self, path: &str) -> Option<Found> {
        let file = self.written.open(path, if is_hashed(path) { 0 } else { self.since })?;
        let metadata = file.metadata().ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let tag = format!("\"{changed:x}-{:x}\"", metadata.len());
        Some(Found { path: path.to_owned(), content: Content::Open(file), tag, encoding: None, varies: false })
    }

    fn find_in(&self, collection: &Collection, path: &str, headers: &HeaderMap) -> Option<Found> {
        let file = |path: &str| match self.store.lookup(&collection.tree, path) {
            Ok(Some(Entry::File { digest, .. })) => Some((collection.directory.join(path), digest)),
            _ => None,
        };
        let plain = file(path)?;
        let smaller: Vec<_> = ENCODINGS
            .into_iter()
            .filter_map(|(encoding, suffix)| Some((encoding, file(&format!("{path}{suffix}"))?)))
            .collect();
        let varies = !smaller.is_empty();
        // A part of a file is a part of what it is, not of how it is sent.
        let wanted = |encoding: &str| !headers.contains_key(header::RANGE) && accepts(headers, encoding);
        let (encoding, (place, digest)) = match smaller.into_iter().find(|(encoding, _)| wanted(encoding)) {
            Some((encoding, file)) => (Some(encoding), file),
            None => (None, plain),
        };
        let tag = format!("\"{}\"", &digest.hex()[..32]);
        Some(Found { path: path.to_owned(), content: Content::At(place), tag, encoding, varies })
    }
}

impl Found {
    /// The answer to the request that it was found for; none where it cannot be read.
    pub(super) async fn answer<B>(self, request: &Request<B>) -> Option<Response<Body>> {
        let mut response = Response::new(empty());
        self.describe(response.headers_mut());
        if is_known(request.headers(), &self.tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Some(response);
        }
        let mut file = self.content.open().await.ok()?;
        let length = file.metadata().await.ok()?.len();
        let part = range(request.headers(), &self.tag, length);
        let (start, count) = match part {
            Range::All => (0, length),
            Range::Part { start, count } => (start, count),
            Range::Nothing => (0, 0),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, count.into());
        let about = match part {
            Range::All => None,
            Range::Part { .. } => {
                Some((StatusCode::PARTIAL_CONTENT, format!("bytes {start}-{}/{length}", start + count - 1)))
            }
            Range::Nothing => Some((StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{length}"))),
        };
        if let Some((status, about)) = about {
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(about).ok()?);
            *response.status_mut() = status;
        }
        if request.method() == Method::GET && count > 0 {
            file.seek(SeekFrom::Start(start)).await.ok()?;
            *response.body_mut() = FilePart::new(file, count).boxed();
        }
        Some(response)
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&self.path)));
        let caching = if is_hashed(&self.path) { FOREVER } else { BRIEFLY };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        // Fonts and modules of these files may be asked for by pages of another host name.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if let Some(encoding) = self.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if self.varies {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
    }
}

/// Takes `%41` apart; nothing where the result isn't text or would leave the tree.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded_once() {
        assert_eq!(decode("a%20b%2Fc").as_deref(), Some("a b/c"));
        assert_eq!(decode("%2541").as_deref(), Some("%41"));
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%ff"), None);
    }
}
