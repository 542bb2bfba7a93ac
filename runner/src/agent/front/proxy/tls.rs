//! Requests that are as private as TLS would make them: from this machine, to a name of its own. An application that answers
//! nothing else is told that they came over TLS, so that its pages are seen without a certificate, and what it says of
//! `https://` is led back to where the browser is. Browsers take such addresses for trustworthy too, and keep `Secure` cookies
//! there. Knows nothing of how requests are sent.

use std::net::{IpAddr, SocketAddr};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};

use super::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, reads};

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

/// How the application is told that it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whether a request, as it came, is from this machine, to a name of this machine alone, and through no other server.
pub(super) fn is_private(request: &Request<Incoming>, peer: SocketAddr) -> bool {
    let headers = request.headers();
    let is_passed_on = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED]
        .iter()
        .any(|name| headers.contains_key(name));
    peer.ip().to_canonical().is_loopback()
        && !is_passed_on
        && host(headers).is_some_and(|host| is_of_this_machine(name_of(host)))
}

fn is_of_this_machine(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// The name in `name:port`.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// Makes a request of ours one that came over TLS: the page that it comes from is said to have, too.
pub(super) fn say_so(headers: &mut HeaderMap) {
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    if let Some(host) = host(headers).map(str::to_owned) {
        for name in [header::ORIGIN, header::REFERER] {
            swap(headers, &name, [HTTP, HTTPS], &host);
        }
    }
}

/// Makes a redirect of this host to `https://` one to where it can be seen.
pub(super) fn lead_back(headers: &mut HeaderMap, host: &str) {
    swap(headers, &header::LOCATION, [HTTPS, HTTP], host);
}

/// Changes the scheme of an address that a header holds, where it is one of this host.
fn swap(headers: &mut HeaderMap, name: &HeaderName, [from, to]: [&str; 2], host: &str) {
    let address = headers.get(name).and_then(|value| value.to_str().ok());
    let rest = address.and_then(|address| address.strip_prefix(from));
    if let Some(rest) = rest.filter(|rest| authority(rest).eq_ignore_ascii_case(host))
        && let Ok(value) = HeaderValue::try_from(format!("{to}{rest}"))
    {
        headers.insert(name, value);
    }
}

/// What is before the path.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// A request that can be sent once more.
pub(super) struct Again {
    request: Request<Empty<Bytes>>,
}

impl Again {
    /// A copy of what only reads.
    pub(super) fn of<B: hyper::body::Body>(request: &Request<B>) -> Option<Self> {
        if !reads(request.method()) || !request.body().is_end_stream() {
            return None;
        }
        let mut again = Request::new(Empty::new());
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.version_mut() = request.version();
        again.headers_mut().clone_from(request.headers());
        say_so(again.headers_mut());
        Some(Self { request: again })
    }

    /// Whether an answer asks for TLS.
    pub(super) fn is_worth_it<B>(&self, answer: &Response<B>) -> bool {
        self.place(answer).is_some()
    }

    /// Whether an answer to the copy does not ask for what the copy said that it was.
    pub(super) fn was_believed<B>(&self, answer: &Response<B>) -> bool {
        let page = self.request.uri().path_and_query().map_or("/", |page| page.as_str());
        self.place(answer).is_none_or(|place| place != page)
    }

    /// Where on this host's `https://` an answer leads.
    fn place<'a, B>(&self, answer: &'a Response<B>) -> Option<&'a str> {
        let location = answer.headers().get(header::LOCATION).filter(|_| answer.status().is_redirection())?;
        let rest = location.to_str().ok()?.strip_prefix(HTTPS)?;
        let (there, here) = (authority(rest), host(self.request.headers())?);
        let place = rest.strip_prefix(there).filter(|place| !place.is_empty()).unwrap_or("/");
        name_of(there).eq_ignore_ascii_case(name_of(here)).then_some(place)
    }

    /// The copy, which says that it came over TLS.
    pub(super) fn request(&self) -> Request<Empty<Bytes>> {
        self.request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for host in ["localhost", "polls.localhost:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"] {
            assert!(is_of_this_machine(name_of(host)), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "192.0.2.1:80", "[2001:db8::1]"] {
            assert!(!is_of_this_machine(name_of(host)), "{host}");
        }
    }

    #[test]
    fn a_page_over_tls_came_from_one_and_leads_to_one_that_can_be_seen() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("host", "localhost:8000"), ("origin", "http://localhost:8000"), ("referer", "http://b.test/")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        say_so(&mut headers);
        assert_eq!(headers["origin"], "https://localhost:8000");
        assert_eq!(headers["referer"], "http://b.test/");
        assert_eq!(headers[FORWARDED_PROTO], "https");
        for (said, seen) in [
            ("https://localhost:8000/a?b", "http://localhost:8000/a?b"),
            ("https://sso.test/", "https://sso.test/"),
            ("/a", "/a"),
        ] {
            headers.insert(header::LOCATION, HeaderValue::from_static(said));
            lead_back(&mut headers, "localhost:8000");
            assert_eq!(headers[header::LOCATION], seen);
        }
    }
}
