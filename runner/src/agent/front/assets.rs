//! Collected static files, served out of the slug without asking the application.
//!
//! What is not in the tree is not ours: the request goes on to the application.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

use super::proxy::{Body, BoxError, empty, reads};
use crate::digest::Digest;
use crate::store::Store;
use crate::tree::Entry;

/// How much of a file is sent at once.
const CHUNK: usize = 64 << 10;

/// For files whose name changes with their content.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// For all others: browsers ask again, and mostly get a 304.
const BRIEFLY: &str = "public, max-age=60";

/// The static files of a slug.
pub(crate) struct Assets {
    pub(crate) store: Store,
    /// Their tree.
    pub(crate) tree: Digest,
    /// Where the tree is laid out.
    pub(crate) directory: PathBuf,
    /// The path of their address, with a slash at both ends.
    pub(crate) url: String,
}

impl Assets {
    /// The answer, where the request is for one of the files.
    pub(super) async fn answer(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let path = decode(request.uri().path().strip_prefix(&self.url)?)?;
        if !reads(request.method()) {
            return None;
        }
        let Ok(Some(Entry::File { digest, .. })) = self.store.lookup(&self.tree, &path) else { return None };
        let tag = format!("\"{}\"", &digest.hex()[..32]);
        let mut response = Response::new(empty());
        let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        if known.is_some_and(|known| known.contains(&tag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            let file = File::open(self.directory.join(&path)).await.ok()?;
            let length = file.metadata().await.ok()?.len();
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            if request.method() == Method::GET {
                *response.body_mut() = FileBody(file).boxed();
            }
        }
        describe(response.headers_mut(), &path, &tag);
        Some(response)
    }
}

fn describe(headers: &mut HeaderMap, path: &str, tag: &str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    let caching = if is_hashed(path) { FOREVER } else { BRIEFLY };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    // Fonts and modules of these files may be asked for by pages of another host name.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
}

/// A file, read as it is sent.
struct FileBody(File);

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut chunk = vec![0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        let length = buffer.filled().len();
        chunk.truncate(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(chunk.into()))))
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

/// Whether a name carries the hash of its content, as Django writes it: `base.27e20196a850.css`.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut parts = name.split('.').rev().skip(1);
    parts.any(|part| part.len() == 12 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// What a browser should take a file for, by its name.
fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "eot" => "application/vnd.ms-fontobject",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        assert!(is_hashed("admin/css/base.27e20196a850.css"));
        assert!(is_hashed("main.0123456789ab.js.map"));
        assert!(!is_hashed("admin/css/base.css"));
        assert!(!is_hashed("jquery.min.js"));
        assert!(!is_hashed("27e20196a850/base.css"));
    }

    #[test]
    fn addresses_are_decoded_once() {
        assert_eq!(decode("a%20b%2Fc").as_deref(), Some("a b/c"));
        assert_eq!(decode("%2541").as_deref(), Some("%41"));
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%ff"), None);
    }
}
