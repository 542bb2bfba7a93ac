//! Requests that a person at this machine makes, to a name of the machine's own, and how an application that refuses such is
//! asked instead: by its own name where it answers to no other, and over TLS where it redirects to that. Such a request is as
//! private as TLS would make it, and browsers trust the address as much; so its pages are seen at the address that was printed,
//! without a certificate and without another name for this machine. What the application says of itself is led back to where
//! the browser is. Knows nothing of how requests are sent.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Version};

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

/// Whether a request, as it came, is from this machine, to a name of this machine alone, and through no other server, as far as
/// those say so: some that add nothing speak an older HTTP.
pub(super) fn is_local<B>(request: &Request<B>, peer: SocketAddr) -> bool {
    let headers = request.headers();
    let is_passed_on = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED, header::VIA]
        .iter()
        .any(|name| headers.contains_key(name));
    peer.ip().to_canonical().is_loopback()
        && !is_passed_on
        && request.version() >= Version::HTTP_11
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

/// How an application wants to be asked, as far as its answers have told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// By the name that the target says is its own.
    pub(crate) by_name: bool,
    pub(crate) over_tls: bool,
}

/// Whether an answer may be one to the name that was asked by: 400 by Django itself, 404 where no site or tenant is found by it, 500
/// where that is not caught, or the page that tells of it is an error too.
pub(crate) fn refuses_name(status: StatusCode) -> bool {
    [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR].contains(&status)
}

/// Where a request is seen: the application may be asked for it elsewhere.
pub(super) struct Original {
    host: HeaderValue,
    page: Option<PathAndQuery>,
    /// The name that the target says is its own.
    name: Option<HeaderValue>,
}

impl Original {
    /// Of a request that nobody has adapted.
    pub(super) fn of<B>(request: &Request<B>, name: Option<&str>) -> Option<Self> {
        Some(Self {
            host: request.headers().get(header::HOST)?.clone(),
            page: request.uri().path_and_query().cloned(),
            name: name.and_then(|name| HeaderValue::from_str(name).ok()),
        })
    }

    fn host(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// Asks in some manner: the page that a request comes from is said to have been asked for the same way.
    pub(super) fn adapt(&self, headers: &mut HeaderMap, manner: Manner) {
        if manner == Manner::default() {
            return;
        }
        if manner.over_tls {
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        if let Some(name) = self.name.as_ref().filter(|_| manner.by_name) {
            headers.insert(header::HOST, name.clone());
            headers.insert(FORWARDED_HOST, name.clone());
        }
        let asked = self.asked(manner);
        for name in [header::ORIGIN, header::REFERER] {
            swap(headers, &name, &format!("{HTTP}{}", self.host()), &asked);
        }
    }

    /// The request once more, in some manner.
    pub(super) fn again<B: Clone>(&self, request: &Request<B>, manner: Manner) -> Request<B> {
        let mut request = request.clone();
        self.adapt(request.headers_mut(), manner);
        request
    }

    /// The manner to try next after an answer, where it refuses the one that it was asked in.
    pub(super) fn next<B>(&self, manner: Manner, answer: &Response<B>) -> Option<Manner> {
        if refuses_name(answer.status()) && self.name.is_some() && !manner.by_name {
            return Some(Manner { by_name: true, ..manner });
        }
        let wants_tls = !manner.over_tls && self.place_over_tls(manner, answer).is_some();
        wants_tls.then_some(Manner { over_tls: true, ..manner })
    }

    /// Whether an answer in a new manner is no refusal of the same kind.
    pub(super) fn is_better<B>(&self, before: Manner, now: Manner, answer: &Response<B>) -> bool {
        if now.by_name != before.by_name {
            return !refuses_name(answer.status());
        }
        let page = self.page.as_ref().map_or("/", PathAndQuery::as_str);
        self.place_over_tls(now, answer).is_none_or(|place| place != page)
    }

    /// Makes a redirect to the application's own address one to where it can be seen.
    pub(super) fn lead_back(&self, headers: &mut HeaderMap, manner: Manner) {
        if manner == Manner::default() {
            return;
        }
        let seen = format!("{HTTP}{}", self.host());
        swap(headers, &header::LOCATION, &self.asked(manner), &seen);
        // Some say `https://` of themselves whatever they are asked.
        swap(headers, &header::LOCATION, &self.asked(Manner { over_tls: !manner.over_tls, ..manner }), &seen);
    }

    /// Where the application takes itself to be: a scheme and a host.
    fn asked(&self, manner: Manner) -> String {
        let name = self.name.as_ref().filter(|_| manner.by_name).and_then(|name| name.to_str().ok());
        let name = name.unwrap_or_else(|| self.host());
        format!("{}{name}", if manner.over_tls { HTTPS } else { HTTP })
    }

    /// Where on its own `https://` an answer leads.
    fn place_over_tls<'a, B>(&self, manner: Manner, answer: &'a Response<B>) -> Option<&'a str> {
        let location = answer.headers().get(header::LOCATION).filter(|_| answer.status().is_redirection())?;
        let rest = location.to_str().ok()?.strip_prefix(HTTPS)?;
        let (there, asked) = (authority(rest), self.asked(manner));
        let here = authority(asked.trim_start_matches(HTTPS).trim_start_matches(HTTP));
        let place = rest.strip_prefix(there).filter(|place| !place.is_empty()).unwrap_or("/");
        name_of(there).eq_ignore_ascii_case(name_of(here)).then_some(place)
    }
}

/// Changes where an address that a header holds is, where that is `from`: a scheme and a host.
fn swap(headers: &mut HeaderMap, name: &HeaderName, from: &str, to: &str) {
    let address = headers.get(name).and_then(|value| value.to_str().ok());
    let rest = address.and_then(|address| Some((address.get(..from.len())?, address.get(from.len()..)?)));
    let is_it = |(start, rest): &(&str, &str)| start.eq_ignore_ascii_case(from) && authority(rest).is_empty();
    if let Some((_, rest)) = rest.filter(is_it)
        && let Ok(value) = HeaderValue::try_from(format!("{to}{rest}"))
    {
        headers.insert(name, value);
    }
}

/// What is before the path.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Whether a request may be sent again: it only reads, and has nothing to say.
pub(super) fn is_repeatable<B: hyper::body::Body>(request: &Request<B>) -> bool {
    reads(request.method()) && request.body().is_end_stream()
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

    fn request() -> Request<()> {
        let request = Request::get("/a?b")
            .header("host", "localhost:8000")
            .header("origin", "http://localhost:8000")
            .header("referer", "http://localhost:80001/");
        request.body(()).expect("a request")
    }

    fn original(name: Option<&str>) -> Original {
        Original::of(&request(), name).expect("it is for a host")
    }

    fn answer(status: u16, location: &str) -> Response<()> {
        Response::builder().status(status).header("location", location).body(()).expect("an answer")
    }

    const PLAIN: Manner = Manner { by_name: false, over_tls: false };
    const NAMED: Manner = Manner { by_name: true, over_tls: false };
    const OVER_TLS: Manner = Manner { by_name: false, over_tls: true };
    const BOTH: Manner = Manner { by_name: true, over_tls: true };

    #[test]
    fn a_request_is_one_piece_in_every_manner() {
        let original = original(Some("polls.test"));
        for (manner, host, proto, origin) in [
            (OVER_TLS, "localhost:8000", Some("https"), "https://localhost:8000"),
            (NAMED, "polls.test", None, "http://polls.test"),
            (BOTH, "polls.test", Some("https"), "https://polls.test"),
        ] {
            let request = original.again(&request(), manner);
            let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!([header("host"), header("x-forwarded-proto")], [Some(host), proto]);
            assert_eq!([header("origin"), header("referer")], [Some(origin), Some("http://localhost:80001/")]);
        }
    }

    #[test]
    fn what_an_answer_refuses_is_tried_otherwise() {
        let with_name = original(Some("polls.test"));
        for status in [400, 404, 500] {
            assert_eq!(with_name.next(PLAIN, &answer(status, "")), Some(NAMED));
        }
        assert_eq!(with_name.next(PLAIN, &answer(403, "")), None);
        assert_eq!(with_name.next(NAMED, &answer(400, "")), None);
        assert_eq!(with_name.next(NAMED, &answer(301, "https://polls.test/a?b")), Some(BOTH));
        assert_eq!(with_name.next(BOTH, &answer(301, "https://polls.test/a?b")), None);
        assert!(!with_name.is_better(NAMED, BOTH, &answer(301, "https://polls.test/a?b")));
        assert!(with_name.is_better(NAMED, BOTH, &answer(302, "https://polls.test/other")));
        assert!(with_name.is_better(PLAIN, NAMED, &answer(301, "https://polls.test/a?b")));
        assert!(!with_name.is_better(PLAIN, NAMED, &answer(404, "")));
        let without = original(None);
        assert_eq!(without.next(PLAIN, &answer(400, "")), None);
        assert_eq!(without.next(PLAIN, &answer(301, "https://localhost/a?b")), Some(OVER_TLS));
        assert_eq!(without.next(PLAIN, &answer(302, "https://sso.test/")), None);
    }

    #[test]
    fn redirects_lead_to_where_the_browser_is() {
        let original = original(Some("polls.test"));
        for (manner, said, seen) in [
            (BOTH, "https://polls.test/a?b", "http://localhost:8000/a?b"),
            (BOTH, "http://polls.test", "http://localhost:8000"),
            (NAMED, "https://polls.test/", "http://localhost:8000/"),
            (OVER_TLS, "https://localhost:8000/", "http://localhost:8000/"),
            (BOTH, "https://polls.test.evil/", "https://polls.test.evil/"),
            (BOTH, "/a", "/a"),
            (PLAIN, "https://localhost:8000/", "https://localhost:8000/"),
        ] {
            let mut answer = answer(302, said);
            original.lead_back(answer.headers_mut(), manner);
            assert_eq!(answer.headers()["location"], seen);
        }
    }
}
