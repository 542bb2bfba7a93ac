//! One connection of a client: over TLS or not, its requests answered one after the other, and given to another agent at a pause
//! between two of them, so that an agent can end without ending it. Unaware of where requests go.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::compression;
use super::listener::Way;
use super::proxy::{self, Body, Client, LONGEST_HEAD, Received, received};
use super::public::H2;
use super::{Claim, Entrance};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a client may take until it has agreed on how to speak.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may read nothing of what it is sent.
const UNREAD: Duration = Duration::from_mins(1);

/// How long a connection of HTTP/2 has to begin before it is told that it has to end.
const BEGINNING: Duration = Duration::from_secs(1);

/// A connection that somebody else goes on with, beside its socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) way: Way,
    pub(crate) peer: SocketAddr,
    /// What the client has sent that nobody has understood yet.
    pub(crate) unread: Vec<u8>,
}

/// The same with its socket. Where the connection is over TLS, the other end of that is in the agent which agreed on the keys.
pub(crate) type Connection = (Left, OwnedFd);

/// Who gets connections that are given away.
pub(crate) type Heir = mpsc::UnboundedSender<Connection>;

/// Nobody, as long as the agent goes on.
pub(super) type Heirs = watch::Receiver<Option<Heir>>;

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// A socket that another process can go on with.
    fn into_socket(self) -> io::Result<OwnedFd>;
}

impl Stream for TcpStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl Stream for UnixStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl Stream for TlsStream<TcpStream> {
    /// The keys stay here: what comes in is passed on without them.
    fn into_socket(mut self) -> io::Result<OwnedFd> {
        let (mut ours, theirs) = UnixStream::pair()?;
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut self, &mut ours).await });
        theirs.into_socket()
    }
}

/// Agrees with a client on how to speak, and answers its requests.
pub(super) async fn welcome(stream: std::net::TcpStream, peer: SocketAddr, entrance: Arc<Entrance>, heirs: Heirs) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Some(acceptor) = entrance.acceptor() else {
        return one_by_one(stream, Bytes::new(), peer, &entrance, heirs).await;
    };
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        side_by_side(stream, peer, entrance, heirs).await;
    } else {
        one_by_one(stream, Bytes::new(), peer, &entrance, heirs).await;
    }
}

/// Goes on with a connection that another agent had.
pub(super) async fn go_on((left, socket): Connection, entrance: Entrance, heirs: Heirs) {
    let unread = left.unread.into();
    // What has no socket any more has no client either.
    if entrance.acceptor().is_some() {
        let socket = std::os::unix::net::UnixStream::from(socket);
        let Ok(stream) = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket)) else { return };
        one_by_one(stream, unread, left.peer, &entrance, heirs).await;
    } else {
        let socket = std::net::TcpStream::from(socket);
        let Ok(stream) = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) else { return };
        one_by_one(stream, unread, left.peer, &entrance, heirs).await;
    }
}

/// Answers the requests of a connection of HTTP/1.
async fn one_by_one(stream: impl Stream, unread: Bytes, peer: SocketAddr, entrance: &Entrance, mut heirs: Heirs) {
    let client = Client { peer, is_secure: entrance.acceptor().is_some() };
    let pause = Arc::new(Pause::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (entrance, pause) = (&entrance, &pause);
        let request = pause.begin(request);
        async move {
            let response = respond(request, client, entrance).await;
            pause.answer(&response);
            Ok::<_, Infallible>(response)
        }
    });
    let lent = Lent { stream, unread, pause: Arc::clone(&pause), unsent: None };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(lent), service)
        .with_upgrades();
    let heir = tokio::select! {
        // What goes wrong here is the client's connection, which is gone then.
        _ = &mut connection => return,
        heir = next_heir(&mut heirs) => heir,
    };
    pause.wanted.store(true, Ordering::Relaxed);
    Pin::new(&mut connection).graceful_shutdown();
    let at_once = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut connection).poll(context))).await;
    let (was_idle, ended) = match at_once {
        Poll::Ready(ended) => (true, ended),
        Poll::Pending => (false, (&mut connection).await),
    };
    let Some(parts) = connection.into_parts().filter(|_| ended.is_ok()) else { return };
    let Lent { mut stream, unread, .. } = parts.io.into_inner();
    if pause.is_end(was_idle) {
        let _ = stream.shutdown().await;
        return;
    }
    let unread = [parts.read_buf, unread].concat();
    if let Ok(socket) = stream.into_socket() {
        let _ = heir.send((Left { way: entrance.way(), peer, unread }, socket));
    }
}

/// Answers the requests of a connection of HTTP/2. Such a client can be told in time that it has to connect anew.
async fn side_by_side(stream: impl Stream, peer: SocketAddr, entrance: Arc<Entrance>, mut heirs: Heirs) {
    let client = Client { peer, is_secure: true };
    let service = service_fn(|request: Request<Incoming>| {
        let entrance = Arc::clone(&entrance);
        async move { Ok::<_, Infallible>(respond(request, client, &entrance).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(LONGEST_HEAD)
        .keep_alive_interval(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ending = async {
        next_heir(&mut heirs).await;
        tokio::time::sleep(BEGINNING).await;
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ending => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Answers a request, as its client reads it.
async fn respond<B>(mut request: Request<B>, client: Client, entrance: &Entrance) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let accepted = compression::accepted(&request);
    let id = proxy::identify(&mut request, client);
    let response = match take(request, entrance).await {
        Ok((request, claim)) => proxy::answer(request, client, claim).await,
        Err(answer) => *answer,
    };
    let mut response = compression::compressed(response, accepted).await;
    response.headers_mut().entry(proxy::REQUEST_ID).or_insert(id);
    response
}

/// A request with all of its body, and where it goes.
async fn take<B>(
    request: Request<B>,
    entrance: &Entrance,
) -> Result<(Request<Received>, Option<Claim>), Box<Response<Body>>>
where
    B: hyper::body::Body<Data = Bytes>,
{
    proxy::refuse_long(&request)?;
    proxy::refuse_ambiguous(&request)?;
    let claim = entrance.route(&request)?;
    let Some(limits) = claim.as_ref().map(|claim| claim.limits).filter(|_| !request.body().is_end_stream()) else {
        return Ok((request.map(|_| received::nothing()), claim));
    };
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let body =
        Box::pin(received::receive(body, limits.body, waits)).await.map_err(|refused| Box::new(refused.answer()))?;
    let request = Request::from_parts(head, body);
    // While a client sends, what serves may change; where nothing does any more, what did is asked, as long as it is there.
    let claim = entrance.route(&request)?.or(claim);
    Ok((request, claim))
}

/// Waits until connections are to be given away.
async fn next_heir(heirs: &mut Heirs) -> Heir {
    if let Ok(heir) = heirs.wait_for(Option::is_some).await
        && let Some(heir) = heir.clone()
    {
        return heir;
    }
    // The agent ends, and all connections with it.
    std::future::pending().await
}

/// Whether a connection comes to a pause, after which somebody else can go on with it, or to its end.
#[derive(Debug, Default)]
struct Pause {
    /// Somebody else is to go on.
    wanted: AtomicBool,
    /// The client wants no more than the request that it has sent, or was told that this is the last.
    is_last: AtomicBool,
    /// The client may still be sending the body of the last request.
    is_sending: AtomicBool,
}

impl Pause {
    fn begin(self: &Arc<Self>, request: Request<Incoming>) -> Request<Sent> {
        self.is_last.store(!keeps_alive(request.version(), request.headers()), Ordering::Relaxed);
        let request = request.map(|body| Sent { body, pause: Arc::clone(self) });
        request.body().look();
        request
    }

    fn answer<B>(&self, response: &Response<B>) {
        // From here on hyper says of itself that an answer is the last.
        let is_last = self.wanted.load(Ordering::Relaxed) || response.status() == StatusCode::SWITCHING_PROTOCOLS;
        self.is_last.fetch_or(is_last, Ordering::Relaxed);
    }

    /// Whether hyper is to leave the connection open when it has done with it.
    fn spares(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && !self.is_last.load(Ordering::Relaxed)
    }

    fn is_end(&self, was_idle: bool) -> bool {
        !self.spares() || self.is_sending.load(Ordering::Relaxed) && !was_idle
    }
}

/// The body of a request, of which it is known when the client has sent all of it.
struct Sent {
    body: Incoming,
    pause: Arc<Pause>,
}

impl Sent {
    fn look(&self) {
        self.pause.is_sending.store(!self.body.is_end_stream(), Ordering::Relaxed);
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match frame {
            Poll::Ready(None) => self.pause.is_sending.store(false, Ordering::Relaxed),
            _ => self.look(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a client expects to send more requests over a connection.
fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says = |wanted: &str| {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(wanted))
    };
    if version >= Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

/// A connection as hyper has it: what was read of it earlier comes first, and at a pause it is not shut down.
struct Lent<S> {
    stream: S,
    unread: Bytes,
    pause: Arc<Pause>,
    /// Since when the client takes nothing, while it does not.
    unsent: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream> AsyncRead for Lent<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buf);
        }
        let length = buf.remaining().min(self.unread.len());
        buf.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S> Lent<S> {
    /// What came of sending, and an error where the client has read nothing for too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.unsent = None;
            return sent;
        }
        let unsent = self.unsent.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNREAD)));
        unsent.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> AsyncWrite for Lent<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pause.spares() {
            return self.poll_flush(context);
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, connection: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static(connection));
        keeps_alive(version, &headers)
    }

    #[test]
    fn who_asks_for_more_than_one_page_is_known() {
        assert!(keeps_alive(Version::HTTP_11, &HeaderMap::new()) && asked(Version::HTTP_11, "upgrade"));
        assert!(!asked(Version::HTTP_11, "x, Close"));
        assert!(!keeps_alive(Version::HTTP_10, &HeaderMap::new()) && asked(Version::HTTP_10, "Keep-Alive"));
    }
}
