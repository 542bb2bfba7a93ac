//! The front of a target: listens on its address and gives each request to the release that is current at that moment.
//!
//! A switch is one assignment; requests that the old release has are counted, so that it can be stopped once they are done.
//! Of several processes the one with the fewest requests gets the next. Unaware of releases and processes beyond loopback
//! ports and a tree of static files.

mod assets;
mod certificate;
mod proxy;
mod public;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use assets::{Assets, Collection};
pub(crate) use certificate::{Certificate, Files};
use proxy::{Body, Client, Manner};
pub(crate) use proxy::{Scheme, get};
pub(crate) use public::{Public, Site, Sites, Wanted};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// Bytes of the longest head of a request over HTTP/2; HTTP/1.1 has a bound of its own.
const LONGEST_HEAD: u32 = 64 << 10;

/// Where requests go.
pub(crate) struct Upstream {
    backends: RwLock<Vec<Arc<Backend>>>,
    /// Counts requests, so that processes with equally many take turns.
    turn: AtomicUsize,
    /// What is served without asking one.
    pub(crate) assets: Option<Assets>,
    open: AtomicUsize,
    /// The name that the application is asked for by, where its target says so.
    name: Option<String>,
    /// How it wants to be asked, as its answers have told.
    by_name: AtomicBool,
    over_tls: AtomicBool,
}

/// A process that answers requests.
pub(crate) struct Backend {
    /// Its loopback port.
    port: u16,
    open: AtomicUsize,
}

/// A request that an upstream has; counted until it is dropped.
pub(crate) struct Claim(Arc<Upstream>);

/// A request that a process has; counted until it is dropped.
struct Share(Arc<Backend>);

/// Where a target's requests go at the moment; nowhere before its first release.
pub(crate) type Current = Arc<RwLock<Option<Arc<Upstream>>>>;

/// A listening address.
pub(crate) struct Front {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Upstream {
    pub(crate) fn new(ports: impl IntoIterator<Item = u16>, assets: Option<Assets>, name: Option<String>) -> Arc<Self> {
        let backends = RwLock::new(ports.into_iter().map(Backend::new).collect());
        Arc::new(Self {
            backends,
            turn: AtomicUsize::new(0),
            assets,
            open: AtomicUsize::new(0),
            name,
            by_name: AtomicBool::new(false),
            over_tls: AtomicBool::new(false),
        })
    }

    /// Gives a process its part of the requests.
    pub(crate) fn add(&self, port: u16) {
        self.backends.write().unwrap_or_else(PoisonError::into_inner).push(Backend::new(port));
    }

    /// Gives a process no more requests; it is to finish those that it has.
    pub(crate) fn remove(&self, port: u16) -> Option<Arc<Backend>> {
        let mut backends = self.backends.write().unwrap_or_else(PoisonError::into_inner);
        let at = backends.iter().position(|backend| backend.port == port)?;
        Some(backends.swap_remove(at))
    }

    fn manner(&self) -> Manner {
        let (by_name, over_tls) = (self.by_name.load(Ordering::Relaxed), self.over_tls.load(Ordering::Relaxed));
        Manner { by_name, over_tls }
    }

    fn learn(&self, manner: Manner) {
        self.by_name.fetch_or(manner.by_name, Ordering::Relaxed);
        self.over_tls.fetch_or(manner.over_tls, Ordering::Relaxed);
    }

    /// The process with the fewest requests, of those that were not tried.
    fn share(&self, tried: &[u16]) -> Option<Share> {
        let backends = self.backends.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % backends.len().max(1);
        let in_turn = backends[first..].iter().chain(&backends[..first]);
        let free = in_turn.filter(|backend| !tried.contains(&backend.port));
        let backend = free.min_by_key(|backend| backend.open.load(Ordering::SeqCst))?;
        // Under the lock: whoever has removed it sees every request that went to it.
        backend.open.fetch_add(1, Ordering::SeqCst);
        Some(Share(Arc::clone(backend)))
    }

    /// Waits until all its requests are done, or for so long.
    pub(crate) async fn drained(&self, patience: Duration) {
        drained(&self.open, patience).await;
    }
}

impl Backend {
    fn new(port: u16) -> Arc<Self> {
        Arc::new(Self { port, open: AtomicUsize::new(0) })
    }

    /// Waits until all its requests are done, or for so long.
    pub(crate) async fn drained(&self, patience: Duration) {
        drained(&self.open, patience).await;
    }
}

async fn drained(open: &AtomicUsize, patience: Duration) {
    let began = Instant::now();
    while open.load(Ordering::SeqCst) > 0 && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::ops::Deref for Claim {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Front {
    /// Listens; as long as requests go nowhere, every one is told that nothing is there yet.
    pub(crate) async fn open(address: SocketAddr, current: &Current) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let listening = tokio::spawn(listen(listener, Arc::clone(current)));
        Ok(Self { address, listening })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Connections that are open go on until their requests are done.
        self.listening.abort();
    }
}

fn claim(current: &Current) -> Option<Claim> {
    let current = current.read().unwrap_or_else(PoisonError::into_inner);
    let upstream = Arc::clone(current.as_ref()?);
    // Under the lock: whoever has switched sees every request that went to the old one.
    upstream.open.fetch_add(1, Ordering::SeqCst);
    Some(Claim(upstream))
}

async fn listen(listener: TcpListener, current: Current) {
    loop {
        let (stream, peer) = accept(&listener).await;
        let current = Arc::clone(&current);
        let client = Client { peer, is_secure: false };
        tokio::spawn(async move { converse(stream, Protocol::Http1, client, |_| Ok(claim(&current))).await });
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            // Out of descriptors, or the client was gone already: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Answers all requests of a connection; `route` says where one goes, or answers it.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    client: Client,
    route: impl Fn(&Request<Incoming>) -> Result<Option<Claim>, Box<Response<Body>>>,
) {
    let service = service_fn(|request| {
        let claim = route(&request);
        async move {
            Ok::<_, Infallible>(match claim {
                Ok(claim) => proxy::answer(request, client, claim).await,
                Err(answer) => *answer,
            })
        }
    });
    let stream = TokioIo::new(stream);
    // What goes wrong here is the client's connection, which is gone then.
    match protocol {
        Protocol::Http1 => drop(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(stream, service)
                .with_upgrades()
                .await,
        ),
        Protocol::Http2 => drop(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(LONGEST_HEAD)
                .keep_alive_interval(HEAD_TIMEOUT)
                .serve_connection(stream, service)
                .await,
        ),
    }
}
