//! The front of a target: listens on its address and gives each request to the release that is current at that moment.
//!
//! A switch is one assignment; requests that the old release has are counted, so that it can be stopped once they are done.
//! Unaware of releases and processes beyond a loopback port and a tree of static files.

mod assets;
mod proxy;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use assets::{Assets, Collection};
pub(crate) use proxy::get;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// Where requests go.
pub(crate) struct Upstream {
    /// The loopback port of the web process.
    pub(crate) port: u16,
    /// What is served without asking it.
    pub(crate) assets: Option<Assets>,
    open: AtomicUsize,
}

/// A request that an upstream has; counted until it is dropped.
pub(crate) struct Claim(Arc<Upstream>);

/// A listening address.
pub(crate) struct Front {
    address: SocketAddr,
    current: Arc<RwLock<Option<Arc<Upstream>>>>,
    listening: JoinHandle<()>,
}

impl Upstream {
    pub(crate) fn new(port: u16, assets: Option<Assets>) -> Arc<Self> {
        Arc::new(Self { port, assets, open: AtomicUsize::new(0) })
    }

    /// Waits until all its requests are done, or for so long.
    pub(crate) async fn drained(&self, patience: Duration) {
        let began = Instant::now();
        while self.open.load(Ordering::SeqCst) > 0 && began.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
    /// Listens; until the first switch every request is told that nothing is there yet.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let current = Arc::new(RwLock::new(None));
        let listening = tokio::spawn(listen(listener, Arc::clone(&current)));
        Ok(Self { address, current, listening })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives all further requests to another upstream.
    pub(crate) fn switch(&self, to: Arc<Upstream>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Connections that are open go on until their requests are done.
        self.listening.abort();
    }
}

fn claim(current: &RwLock<Option<Arc<Upstream>>>) -> Option<Claim> {
    let current = current.read().unwrap_or_else(PoisonError::into_inner);
    let upstream = Arc::clone(current.as_ref()?);
    // Under the lock: whoever has switched sees every request that went to the old one.
    upstream.open.fetch_add(1, Ordering::SeqCst);
    Some(Claim(upstream))
}

async fn listen(listener: TcpListener, current: Arc<RwLock<Option<Arc<Upstream>>>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(converse(stream, peer, Arc::clone(&current)));
            }
            // Out of descriptors, or the client was gone already: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, current: Arc<RwLock<Option<Arc<Upstream>>>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let claim = claim(&current);
        async move { Ok::<_, std::convert::Infallible>(proxy::answer(request, peer, claim).await) }
    });
    // What goes wrong here is the client's connection, which is gone then.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
