//! Answers made smaller on their way, for clients that say what they read. What is small or compressed already, what comes as
//! events, and what is not to be transformed stays as it is. Knows nothing of where an answer comes from.

use std::convert::Infallible;
use std::future::ready;

use http_body_util::BodyExt as _;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::Extensions;
use hyper::{Method, Request, Response, StatusCode, Version};
use tower::Service as _;
use tower_http::compression::Compression;

use super::proxy::{Body, empty, is_stream_of_events};

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

/// What a client reads, and whether it wants the head of an answer alone.
pub(super) struct Accepted {
    encodings: HeaderMap,
    is_head: bool,
}

/// What a client says of itself.
pub(super) fn accepted<B>(request: &Request<B>) -> Accepted {
    let mut encodings = HeaderMap::new();
    // What has no length can only be ended by closing, before HTTP/1.1.
    if request.version() >= Version::HTTP_11 {
        for value in request.headers().get_all(header::ACCEPT_ENCODING) {
            encodings.append(header::ACCEPT_ENCODING, value.clone());
        }
    }
    Accepted { encodings, is_head: request.method() == Method::HEAD }
}

/// An answer as a client reads it that accepts this.
pub(super) async fn compressed(mut response: Response<Body>, accepted: Accepted) -> Response<Body> {
    // What is not sent again was perhaps a text, of which this would have been said.
    let is_known = response.status() == StatusCode::NOT_MODIFIED;
    let is_worth_it = is_worth_it(response.status(), response.headers());
    if is_known || is_worth_it && accepted.encodings.is_empty() {
        vary(response.headers_mut());
    }
    if !is_worth_it || accepted.encodings.is_empty() {
        return response;
    }
    Box::pin(encoded(response, accepted)).await
}

/// An answer in the encoding that its client wants most, of those that it reads.
async fn encoded(response: Response<Body>, accepted: Accepted) -> Response<Body> {
    let mut request = Request::new(());
    *request.headers_mut() = accepted.encodings;
    let mut response = Some(response);
    let answer = tower::service_fn(|_| ready(Ok::<_, Infallible>(response.take().unwrap_or_default())));
    let Ok(mut response) = Compression::new(answer)
        .compress_when(|_: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| true)
        .call(request)
        .await;
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        weaken(response.headers_mut());
    }
    // Nothing compressed has a head and an end.
    response.map(|body| if accepted.is_head { empty() } else { body.boxed() })
}

/// Whoever keeps an answer for others is to know that they may read another.
fn vary(headers: &mut HeaderMap) {
    let name = header::ACCEPT_ENCODING;
    let mut said = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    if !said.any(|names| names.split(',').any(|varies| varies.trim().eq_ignore_ascii_case(name.as_str()))) {
        headers.append(header::VARY, name.into());
    }
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
    let is_text = kind.starts_with("text/") && !is_stream_of_events(headers)
        || TEXTS.iter().any(|text| kind.starts_with(text))
        || kind
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim_end().ends_with("+json") || kind.trim_end().ends_with("+xml"));
    is_whole && !is_small && !is_fixed && is_text
}

#[cfg(test)]
mod tests {
    use hyper::body::{Body as _, Bytes};

    use super::*;

    /// How a page of a type is sent for a request with a method.
    async fn sent(method: Method, kind: &'static str) -> Response<Body> {
        let request =
            Request::builder().method(method).header(header::ACCEPT_ENCODING, "gzip").body(()).expect("a request");
        let page = http_body_util::Full::new(Bytes::from(vec![b'x'; 5000])).map_err(|never| match never {}).boxed();
        let response = Response::builder().header(header::CONTENT_TYPE, kind).body(page).expect("a response");
        compressed(response, accepted(&request)).await
    }

    #[tokio::test]
    async fn a_head_alone_has_nothing_below_it() {
        let response = sent(Method::HEAD, "text/html").await;
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(response.body().is_end_stream());
        assert!(!sent(Method::GET, "text/html").await.body().is_end_stream());
    }

    #[tokio::test]
    async fn who_keeps_a_page_is_told_once_that_others_may_read_another() {
        for (status, said, varies) in [
            (200, None, &["accept-encoding"][..]),
            (304, None, &["accept-encoding"]),
            (304, Some("Cookie, Accept-Encoding"), &["Cookie, Accept-Encoding"]),
            (304, Some("Cookie"), &["Cookie", "accept-encoding"]),
            (204, None, &[]),
        ] {
            let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "text/html");
            if let Some(said) = said {
                response = response.header(header::VARY, said);
            }
            let accepted = accepted(&Request::new(()));
            let response = compressed(response.body(empty()).expect("a response"), accepted).await;
            assert_eq!(
                response.headers().get_all(header::VARY).iter().collect::<Vec<_>>(),
                varies,
                "{status} {said:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_text_and_what_comes_as_events_stays_as_it_is() {
        for (kind, is_compressed) in [
            ("text/css; charset=utf-8", true),
            ("application/ld+json; charset=utf-8", true),
            ("image/svg+xml", true),
            ("image/png", false),
            ("text/event-stream", false),
            ("application/octet-stream", false),
        ] {
            let response = sent(Method::GET, kind).await;
            assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), is_compressed, "{kind}");
        }
    }
}
