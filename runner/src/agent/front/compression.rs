//! Answers made smaller on their way, for clients that say what they read. What is small or compressed already, what comes as
//! events, and what is not to be transformed stays as it is. Knows nothing of where an answer comes from.

use std::convert::Infallible;
use std::future::ready;

use http_body_util::BodyExt as _;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::Extensions;
use hyper::{Request, Response, StatusCode, Version};
use tower::Service as _;
use tower_http::compression::Compression;

use super::proxy::Body;

/// What is shorter is sent in one packet anyway.
const WORTH_IT: u64 = 1024;

/// The beginnings of the types whose files are texts or nearly so, beside all below `text/`.
const TEXTS: [&str; 9] = [
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
];

/// What a client reads, where it says so.
pub(super) fn accepted<B>(request: &Request<B>) -> HeaderMap {
    let mut accepted = HeaderMap::new();
    // What has no length can only be ended by closing, before HTTP/1.1.
    if request.version() >= Version::HTTP_11 {
        for value in request.headers().get_all(header::ACCEPT_ENCODING) {
            accepted.append(header::ACCEPT_ENCODING, value.clone());
        }
    }
    accepted
}

/// An answer as a client reads it that accepts this.
pub(super) async fn compressed(mut response: Response<Body>, accepted: HeaderMap) -> Response<Body> {
    if !is_worth_it(response.status(), response.headers()) {
        return response;
    }
    if accepted.is_empty() {
        // Whoever keeps it for others is to know that they may read another.
        response.headers_mut().append(header::VARY, header::ACCEPT_ENCODING.into());
        return response;
    }
    let mut request = Request::new(());
    *request.headers_mut() = accepted;
    let mut response = Some(response);
    let answer = tower::service_fn(|_| ready(Ok::<_, Infallible>(response.take().unwrap_or_default())));
    let Ok(mut response) = Compression::new(answer)
        .compress_when(|_: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| true)
        .call(request)
        .await;
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        weaken(response.headers_mut());
    }
    response.map(|body| body.boxed())
}

/// The tag of an answer is of its bytes; of those that were compressed it says no more than that they mean the same.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes) else { return };
    if !tag.starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat())
    {
        headers.insert(header::ETAG, weak);
    }
}

fn is_worth_it(status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_whole = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT)
        && !status.is_informational();
    let is_small = text(header::CONTENT_LENGTH)
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length < WORTH_IT);
    let is_fixed = headers.contains_key(header::CONTENT_ENCODING)
        || text(header::CACHE_CONTROL).is_some_and(|caching| caching.contains("no-transform"));
    let kind = text(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let is_text = kind.starts_with("text/") && !kind.starts_with("text/event-stream")
        || TEXTS.iter().any(|text| kind.starts_with(text))
        || kind
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim_end().ends_with("+json") || kind.trim_end().ends_with("+xml"));
    is_whole && !is_small && !is_fixed && is_text
}
