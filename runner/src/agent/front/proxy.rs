//! One request on its way to a process and its answer back: headers for the application, bodies as streams, upgrades as tunnels.

mod kept;
mod local;
pub(super) mod received;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::{Claim, Share, Upstream, go_on_for_ever};

pub(super) use kept::Idle;
use kept::{Answer, Kept};
pub(crate) use local::{Manner, Scheme, refuses_name};
pub(super) use received::Received;

/// The body of an answer.
pub(super) type Body = BoxBody<Bytes, BoxError>;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a request waits for a process that is being started again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the longest head of a request.
pub(super) const LONGEST_HEAD: u32 = 64 << 10;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// By which a request is found again in the logs of all that had to do with it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What servers before this one may say of who asks, beside all `X-Forwarded-*`; only one of this machine, which speaks TLS for
/// us, is believed.
const SAID_BY_SERVERS: [&str; 5] = ["forwarded", "front-end-https", "x-real-ip", "x-request-id", "x-url-scheme"];

/// Headers that are about one connection, and stay there.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    /// Whether the connection is over TLS.
    pub(super) is_secure: bool,
}

/// Answers a request: from the static files, from the process, or with why neither is possible.
pub(super) async fn answer(request: Request<Received>, client: Client, claim: Option<Claim>) -> Response<Body> {
    let Some(mut claim) = claim else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "nothing runs here at the moment: see `pipe releases`");
    };
    // Who is given the old pages may still be asked for a file of the new ones, by whoever keeps no cookies.
    let of_trial = claim.part.as_ref().filter(|part| !part.is_new).and_then(|part| part.upstream().assets.as_ref());
    for assets in claim.assets.iter().chain(of_trial) {
        if let Some(file) = assets.find(&request)
            && let Some(answer) = Box::pin(file.answer(&request)).await
        {
            return answer;
        }
    }
    if claim.is_empty() {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "no process answers requests here: see `pipe ps`, and `pipe scale` changes it",
        );
    }
    let part = claim.part.take();
    let mut response = match forward(request, client, claim).await {
        Ok(response) => response,
        Err(error) if error.is::<Elapsed>() => plain(
            StatusCode::GATEWAY_TIMEOUT,
            "the application has not begun to answer: `answer` in the target's `limits` says how long it may take",
        ),
        Err(_) => plain(StatusCode::BAD_GATEWAY, "the application does not answer"),
    };
    if let Some(part) = part {
        part.answered(response.status(), response.headers_mut());
    }
    response
}

/// Asks a process for a page, the way the front would.
pub(crate) async fn get(
    port: u16,
    path: &str,
    host: &str,
    scheme: Scheme,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "pipe-health")
        .header(header::CONNECTION, "close")
        .header(FORWARDED_FOR, "127.0.0.1")
        .header(FORWARDED_PROTO, scheme.as_str())
        .header(FORWARDED_HOST, host)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn forward(mut request: Request<Received>, client: Client, mut claim: Claim) -> Result<Response<Body>, BoxError> {
    let upgrade = upgrade_of(request.headers());
    let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let is_local = local::is_local(&request, client.peer);
    prepare(&mut request, client, upgrade.as_ref(), claim.name.as_deref());
    let original = if is_local { local::Original::of(&request, claim.name.as_deref()) } else { None };
    let (answered, manner) = if upgrade.is_none() && local::is_repeatable(&request) {
        ask(&request.map(|_| Empty::new()), original.as_ref(), &claim).await?
    } else {
        let manner = claim.manner();
        if let Some(original) = &original {
            original.adapt(request.headers_mut(), manner);
        }
        // On the heap, as all that is seldom: each connection has room for what its requests may need beside each other.
        (Box::pin(timeout(claim.limits.answer, send(request, &claim))).await??, manner)
    };
    let Answered { mut response, kept, mut share } = answered;
    if let Some(original) = &original {
        original.lead_back(response.headers_mut(), manner);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgraded
    {
        let server = hyper::upgrade::on(&mut response);
        go_on_for_ever(&mut claim, &mut share);
        tokio::spawn(tunnel(client, server, (claim, share)));
        return Ok(response.map(|_| empty()));
    }
    if is_stream_of_events(response.headers()) {
        go_on_for_ever(&mut claim, &mut share);
    }
    strip(response.headers_mut(), None);
    Ok(response.map(|body| Answer::new(body, kept, (claim, share)).boxed()))
}

/// What a process answers.
struct Answered {
    response: Response<Incoming>,
    kept: Option<Kept>,
    share: Share,
}

/// Asks for what may be asked for more than once, in the manner that the application wants, as far as its answers tell.
async fn ask(
    request: &Request<Empty<Bytes>>,
    original: Option<&local::Original>,
    claim: &Claim,
) -> Result<(Answered, Manner), BoxError> {
    let mut manner = claim.manner();
    let adapted = original.filter(|_| manner != Manner::default()).map(|original| original.again(request, manner));
    let mut answered = timeout(claim.limits.answer, send_again(adapted.as_ref().unwrap_or(request), claim)).await??;
    while let Some(original) = original
        && let Some(next) = original.next(manner, &answered.response)
    {
        let adapted = original.again(request, next);
        let second = Box::pin(timeout(claim.limits.answer, send_again(&adapted, claim))).await??;
        if !original.is_better(manner, next, &second.response) {
            break;
        }
        claim.learn(next);
        (answered, manner) = (second, next);
    }
    Ok((answered, manner))
}

/// Asks a process, once.
async fn send(request: Request<Received>, claim: &Claim) -> Result<Answered, BoxError> {
    let (stream, share) = connect(claim, claim.share(&[])).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(Answered { response: sender.send_request(request).await?, kept: None, share })
}

/// Asks a process what may be asked twice: over a connection that is kept, and where that fails over one of its own.
async fn send_again(request: &Request<Empty<Bytes>>, claim: &Claim) -> Result<Answered, BoxError> {
    let mut share = claim.share(&[]);
    if let Some(found) = share.take() {
        if let Some(mut kept) = found.backend.idle.take() {
            let began = Instant::now();
            match kept.ask(request.clone()).await {
                Ok(response) => return Ok(Answered { response, kept: Some(kept), share: found }),
                // It had been begun with, and whatever ended that would do so again.
                Err(error) if began.elapsed() > kept::AT_ONCE => return Err(error.into()),
                Err(_) => {}
            }
        }
        share = Some(found);
    }
    Box::pin(send_over_new(request.clone(), claim, share)).await
}

/// Asks a process over a connection that is kept afterwards.
async fn send_over_new(
    request: Request<Empty<Bytes>>,
    claim: &Claim,
    first: Option<Share>,
) -> Result<Answered, BoxError> {
    let (stream, share) = connect(claim, first).await?;
    let mut kept = Kept::new(stream).await?;
    Ok(Answered { response: kept.ask(request).await?, kept: Some(kept), share })
}

/// Connects to a process, the first of all to one; where all are just being started again, the first to come is waited for.
async fn connect(upstream: &Upstream, mut first: Option<Share>) -> io::Result<(TcpStream, Share)> {
    let began = Instant::now();
    let mut tried = Vec::new();
    loop {
        let Some(share) = first.take().or_else(|| upstream.share(&tried)) else {
            if began.elapsed() > CONNECT_PATIENCE {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            tried.clear();
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        match TcpStream::connect((Ipv4Addr::LOCALHOST, share.backend.port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok((stream, share));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => tried.push(share.backend.port),
            Err(error) => return Err(error),
        }
    }
}

/// Carries bytes both ways until one side has enough.
async fn tunnel(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade, held: (Claim, Share)) {
    if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
    drop(held);
}

/// Makes a client's request into the application's: `Host` stays, hop-by-hop headers go, and who asked is said.
fn prepare<B>(request: &mut Request<B>, client: Client, upgrade: Option<&HeaderValue>, name: Option<&str>) {
    let ip = client.peer.ip().to_canonical();
    if let Some(path) = request.uri().path_and_query().cloned() {
        // A client may send the whole address; applications are only asked for paths.
        if request.headers().get(header::HOST).is_none()
            && let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        *request.uri_mut() = path.into();
    }
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    strip(headers, upgrade);
    join_cookies(headers);
    let host = headers.get(header::HOST).cloned();
    if host.is_none() {
        // Of HTTP/1.0; those of HTTP/1.1 are refused.
        let name = name.and_then(|name| HeaderValue::from_str(name).ok());
        headers.insert(header::HOST, name.unwrap_or(HeaderValue::from_static("localhost")));
    }
    let addresses = match headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}, {ip}"),
        None => ip.to_string(),
    };
    if let Ok(addresses) = HeaderValue::try_from(addresses) {
        headers.insert(FORWARDED_FOR, addresses);
    }
    if client.is_secure {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    } else {
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    }
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

/// Takes from a request what only a server before this one may say, and what applications would take for that; gives it the name
/// by which it is found again.
pub(super) fn identify<B>(request: &mut Request<B>, client: Client) -> HeaderValue {
    let is_believed = client.peer.ip().to_canonical().is_loopback();
    let headers = request.headers_mut();
    let is_odd = |name: &HeaderName| {
        let name = name.as_str();
        // To an application `SCRIPT_NAME` and `Script-Name` are one, and the first may be the server's to say.
        name.contains('_') || !is_believed && (name.starts_with("x-forwarded-") || SAID_BY_SERVERS.contains(&name))
    };
    let odd: Vec<HeaderName> = headers.keys().filter(|name| is_odd(name)).cloned().collect();
    for name in odd {
        headers.remove(name);
    }
    headers.entry(REQUEST_ID).or_insert_with(request_id).clone()
}

/// Refuses a request that servers would understand each in its own way: of no host, or of two, or in pieces that are something
/// else besides.
pub(super) fn refuse_ambiguous<B>(request: &Request<B>) -> Result<(), Box<Response<Body>>> {
    let headers = request.headers();
    let is_odd = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if headers.get(header::TRANSFER_ENCODING).is_some_and(is_odd) {
        let why = "a body comes whole or in pieces, and in no other encoding";
        return Err(Box::new(plain(StatusCode::NOT_IMPLEMENTED, why)));
    }
    let is_clear = match headers.get_all(header::HOST).iter().count() {
        0 => request.version() < Version::HTTP_11 || request.uri().authority().is_some(),
        hosts => hosts == 1,
    };
    // Nobody is named where there is nothing; a path or a space is of no name.
    let is_name = |host: &HeaderValue| host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
    if is_clear && headers.get(header::HOST).is_none_or(is_name) {
        return Ok(());
    }
    Err(Box::new(plain(StatusCode::BAD_REQUEST, "a request is for one host")))
}

/// Refuses a request with a longer head than anybody needs.
pub(super) fn refuse_long<B>(request: &Request<B>) -> Result<(), Box<Response<Body>>> {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if headers.sum::<usize>() + path <= LONGEST_HEAD as usize {
        return Ok(());
    }
    Err(Box::new(plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of a request is too long")))
}

/// A new one, unlike all others: 32 hexadecimal digits.
fn request_id() -> HeaderValue {
    let half = || RandomState::new().build_hasher().finish().to_be_bytes();
    let bytes = [half(), half()];
    let digits = bytes.as_flattened().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let text: Vec<u8> = digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]).collect();
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits")
}

/// HTTP/2 lets a client send each cookie by itself; applications of HTTP/1.1 expect one line.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Removes what concerns one connection only, but asks for an upgrade where that is wanted.
fn strip(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let listed = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Whom a request is for is no matter of one connection, whoever says so.
        .filter(|name| *name != header::HOST);
    // Most have none of them, which is seen sooner than looked up.
    let there = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let gone: Vec<HeaderName> = listed.chain(there).collect();
    for name in &gone {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
}

/// The protocol that a client asks to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?;
    let asked = connection.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    asked.then(|| headers.get(header::UPGRADE).cloned()).flatten()
}

/// Whether an answer tells of things as they happen.
pub(super) fn is_stream_of_events(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let begins =
        |kind: &HeaderValue| kind.as_bytes().get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS));
    headers.get(header::CONTENT_TYPE).is_some_and(begins)
}

/// A short answer of our own, in a line.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    exactly(status, format!("{text}\n"))
}

/// A text of our own, to the last byte.
pub(super) fn exactly(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Whether a request only reads.
pub(super) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_an_id_and_keeps_one_that_is_believed() {
        let identified = |peer: [u8; 4], id: Option<&str>| {
            let mut request = Request::get("/").header("host", "demo.test");
            if let Some(id) = id {
                request = request.header(REQUEST_ID, id);
            }
            let mut request = request.body(()).expect("a request");
            let id = identify(&mut request, Client { peer: (peer, 1).into(), is_secure: false });
            assert_eq!(request.headers()[REQUEST_ID], id);
            id.to_str().expect("a text").to_owned()
        };
        let ids = [
            identified([192, 0, 2, 1], None),
            identified([192, 0, 2, 1], None),
            identified([192, 0, 2, 1], Some("mine")),
        ];
        assert!(ids.iter().all(|id| id.len() == 32) && ids[0] != ids[1], "{ids:?}");
        assert_eq!(identified([127, 0, 0, 1], Some("of-nginx")), "of-nginx");
    }

    #[test]
    fn nobody_says_what_only_servers_may() {
        let names =
            ["x-forwarded-for", "x-forwarded-prefix", "x-forwarded-ssl", "x-real-ip", "forwarded", "script_name"];
        let left = |peer: [u8; 4]| {
            let mut request = Request::get("/").header("x-other", "1");
            for name in names {
                request = request.header(name, "1");
            }
            let mut request = request.body(()).expect("a request");
            identify(&mut request, Client { peer: (peer, 1).into(), is_secure: false });
            names.iter().filter(|name| request.headers().contains_key(**name)).copied().collect::<Vec<_>>()
        };
        assert_eq!(left([192, 0, 2, 1]), Vec::<&str>::new());
        assert_eq!(left([127, 0, 0, 1]), names[..5]);
    }

    #[test]
    fn a_request_is_for_one_host() {
        let is_refused = |version, hosts: &[&str]| {
            let mut request = Request::get("/").version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            refuse_ambiguous(&request.body(()).expect("a request")).is_err()
        };
        assert!(!is_refused(Version::HTTP_11, &["a"]) && !is_refused(Version::HTTP_10, &[]));
        assert!(is_refused(Version::HTTP_11, &[]) && is_refused(Version::HTTP_11, &["a", "a"]));
        for name in ["a_b.test:80", "[::1]:80", "127.0.0.1", ""] {
            assert!(!is_refused(Version::HTTP_11, &[name]), "{name}");
        }
        for none in ["a/b", "a b", "a?b", "a,b/"] {
            assert!(is_refused(Version::HTTP_11, &[none]), "{none}");
        }
    }

    #[test]
    fn what_is_about_one_connection_stays_there_and_the_host_does_not() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, Host, x-own"), ("host", "a.test"), ("x-own", "1"), ("te", "trailers")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip(&mut headers, None);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["host"]);
    }

    #[test]
    fn cookies_that_come_one_by_one_are_one_line() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
