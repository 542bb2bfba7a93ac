//! Connections to a process that stay open from one request to the next.
//!
//! A process may close one at the very moment in which it is used again, and nobody can tell then whether it has begun with the
//! request. So only requests that may be sent twice go over them, and those are, over a connection of their own, where that became
//! known at once. The connection is
//! driven by whoever waits for the answer: nothing of a request waits for another task. Knows nothing of which process to ask.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::super::lock;
use super::super::{Claim, Share};
use super::BoxError;

/// How long a connection stays that is not used: for less than servers let it, which seldom close it first then. Those that give
/// each connection a worker of its own have it back soon.
const IDLE: Duration = Duration::from_secs(1);

/// A process that has closed a connection while it was not used says so within this time, when that is used again.
pub(super) const AT_ONCE: Duration = Duration::from_secs(5);

/// How often it is looked for those.
const LOOK: Duration = Duration::from_millis(500);

/// What goes over a connection: requests that have nothing to say.
type Asked = Empty<Bytes>;

/// A connection to a process.
pub(super) struct Kept {
    sender: SendRequest<Asked>,
    /// Until it has ended.
    connection: Option<Box<Connection<TokioIo<TcpStream>, Asked>>>,
    used: Instant,
}

/// The connections of a process that nobody uses at the moment.
#[derive(Default)]
pub(in super::super) struct Idle(Arc<Mutex<Pool>>);

#[derive(Default)]
struct Pool {
    /// By the thread that drives them: another one would wait for it.
    kept: HashMap<ThreadId, Vec<Kept>>,
    /// Whether somebody sees to it that they do not stay too long.
    is_watched: bool,
}

impl Idle {
    /// The one of this thread that was used last, of those that still seem to be open.
    pub(super) fn take(&self) -> Option<Kept> {
        let here = thread::current().id();
        loop {
            let mut kept = lock(&self.0).kept.get_mut(&here)?.pop()?;
            if kept.is_open() {
                return Some(kept);
            }
        }
    }

    fn put(&self, kept: Kept) {
        let mut pool = lock(&self.0);
        pool.kept.entry(thread::current().id()).or_default().push(kept);
        if !std::mem::replace(&mut pool.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
    }
}

/// Closes connections that were not used for too long; ends with the last of them.
async fn watch(pool: Weak<Mutex<Pool>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut pool = lock(&pool);
        for kept in pool.kept.values_mut() {
            kept.retain(|kept| kept.used.elapsed() < IDLE);
        }
        if pool.kept.values().all(Vec::is_empty) {
            pool.is_watched = false;
            return;
        }
    }
}

impl Kept {
    /// Begins to speak over a connection.
    pub(super) async fn new(stream: TcpStream) -> hyper::Result<Self> {
        // Nothing is sent that is not one piece.
        let (sender, connection) = http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(Box::new(connection)), used: Instant::now() })
    }

    /// Whether another request may be sent, as far as this side knows.
    fn is_open(&mut self) -> bool {
        let looked = self.drive(&mut Context::from_waker(std::task::Waker::noop()));
        looked.is_pending() && self.sender.is_ready() && self.used.elapsed() < IDLE
    }

    /// Sends and receives what there is to; ready once the connection has ended.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(context).is_pending()
        {
            return Poll::Pending;
        }
        // What went wrong is told to who waits for the answer.
        self.connection = None;
        Poll::Ready(())
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(&mut self, request: Request<Asked>) -> hyper::Result<Response<Incoming>> {
        let mut answer = pin!(self.sender.send_request(request));
        poll_fn(|context| {
            if let Some(connection) = &mut self.connection
                && Pin::new(connection).poll(context).is_ready()
            {
                self.connection = None;
            }
            answer.as_mut().poll(context)
        })
        .await
    }
}

/// The body of an answer, which its upstream counts as open until it has been sent.
pub(super) struct Answer {
    body: Incoming,
    has_ended: bool,
    /// The connection that it comes over; afterwards it is free for the next request.
    kept: Option<Kept>,
    held: (Claim, Share),
}

impl Answer {
    /// The body of an answer that comes over a connection of its own, driven by somebody else, or over one that is kept.
    pub(super) fn new(body: Incoming, kept: Option<Kept>, held: (Claim, Share)) -> Self {
        Self { body, has_ended: false, kept, held }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take()
            && (self.has_ended || self.body.is_end_stream())
        {
            self.held.1.backend.idle.put(Kept { used: Instant::now(), ..kept });
        }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(context);
        if frame.is_pending()
            && let Some(kept) = &mut this.kept
        {
            let _ = kept.drive(context);
            frame = Pin::new(&mut this.body).poll_frame(context);
        }
        this.has_ended |= matches!(frame, Poll::Ready(None));
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, Full};
    use hyper::{Method, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::super::{Current, Upstream, claim};
    use super::super::{Client, Received, answer};
    use crate::release::Settings;

    use super::*;

    /// A server that counts its connections and requests, and closes each connection on so many requests without an answer.
    struct Server {
        port: u16,
        connections: Arc<AtomicUsize>,
        requests: Arc<AtomicUsize>,
    }

    impl Server {
        async fn start(answers: usize, head: &'static str) -> Self {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let (connections, requests) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
            let server = Self { port, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    connections.fetch_add(1, Ordering::SeqCst);
                    let requests = Arc::clone(&requests);
                    tokio::spawn(async move {
                        for number in 0.. {
                            let mut request = Vec::new();
                            while !request.ends_with(b"\r\n\r\n") {
                                let Ok(byte) = stream.read_u8().await else { return };
                                request.push(byte);
                            }
                            let is_post = request.starts_with(b"POST");
                            if is_post {
                                stream.read_exact(&mut [0; 4]).await.expect("its body");
                            }
                            requests.fetch_add(1, Ordering::SeqCst);
                            if number == answers {
                                return;
                            }
                            let body = if request.starts_with(b"HEAD") { "" } else { "page" };
                            let page = format!("HTTP/1.1 200 OK\r\n{head}content-length: 4\r\n\r\n{body}");
                            stream.write_all(page.as_bytes()).await.expect("sent");
                        }
                    });
                }
            });
            server
        }

        fn counted(&self) -> [usize; 2] {
            [&self.connections, &self.requests].map(|count| count.load(Ordering::SeqCst))
        }
    }

    async fn ask(current: &Current, method: Method) -> (StatusCode, String) {
        let body = if method == Method::POST { "ping" } else { "" };
        let request = Request::builder().method(method).uri("/").header("host", "demo.test");
        let request = request.body(Received::Left(Full::from(body))).expect("a request");
        let client = Client { peer: ([192, 0, 2, 1], 1).into(), is_secure: false };
        let claimed = claim(current, request.headers());
        let answer = answer(request, client, claimed).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn upstream(server: &Server) -> Current {
        Arc::new(std::sync::RwLock::new(Some(Upstream::new([server.port], None, &Settings::default()))))
    }

    #[tokio::test]
    async fn requests_that_only_read_go_over_one_connection_and_others_over_their_own() {
        let server = Server::start(usize::MAX, "").await;
        let current = upstream(&server);
        for method in [Method::GET, Method::HEAD, Method::GET] {
            assert_eq!(ask(&current, method).await.0, StatusCode::OK);
        }
        assert_eq!(server.counted(), [1, 3]);
        for method in [Method::POST, Method::POST] {
            assert_eq!(ask(&current, method).await, (StatusCode::OK, "page".into()));
        }
        assert_eq!(server.counted(), [3, 5]);
    }

    #[tokio::test]
    async fn a_connection_that_ends_under_a_request_is_followed_by_another_and_nothing_else_is_sent_twice() {
        let server = Server::start(2, "").await;
        let current = upstream(&server);
        for _ in 0..5 {
            assert_eq!(ask(&current, Method::GET).await, (StatusCode::OK, "page".into()));
        }
        // The third and the fifth were sent twice.
        assert_eq!(server.counted(), [3, 7]);
        let deaf = Server::start(0, "").await;
        let current = upstream(&deaf);
        for method in [Method::GET, Method::POST] {
            assert_eq!(ask(&current, method).await.0, StatusCode::BAD_GATEWAY);
        }
        assert_eq!(deaf.counted(), [2, 2], "an application that does not answer is asked once");
    }

    #[tokio::test]
    async fn a_request_that_was_begun_with_is_not_begun_with_again() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let current = Arc::new(std::sync::RwLock::new(Some(Upstream::new([port], None, &Settings::default()))));
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 1000]).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
            let _ = stream.read(&mut [0; 1000]).await.expect("a second request");
            // Works on it, until it is killed over it.
            tokio::time::sleep(AT_ONCE + LOOK).await;
            drop(stream);
            tokio::time::timeout(LOOK, listener.accept()).await.is_ok()
        });
        assert_eq!(ask(&current, Method::GET).await.0, StatusCode::OK);
        assert_eq!(ask(&current, Method::GET).await.0, StatusCode::BAD_GATEWAY);
        assert!(!serving.await.expect("no panic"), "it was asked again");
    }

    #[tokio::test]
    async fn a_process_that_wants_to_close_may_and_what_is_not_used_is_closed() {
        let server = Server::start(usize::MAX, "connection: close\r\n").await;
        let current = upstream(&server);
        for _ in 0..3 {
            assert_eq!(ask(&current, Method::GET).await.0, StatusCode::OK);
        }
        assert_eq!(server.counted(), [3, 3]);
        let server = Server::start(usize::MAX, "").await;
        let current = upstream(&server);
        for _ in 0..2 {
            assert_eq!(ask(&current, Method::GET).await.0, StatusCode::OK);
            tokio::time::sleep(IDLE + 2 * LOOK).await;
        }
        assert_eq!(server.counted(), [2, 2]);
        let idle = current.read().expect("no panic").as_ref().map(|upstream| upstream.share(&[]).expect("a process"));
        assert!(idle.expect("it serves").backend.idle.take().is_none());
    }
}
