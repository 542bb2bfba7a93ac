//! The front of a target: gives each request that comes to its address to the release that is current at that moment.
//!
//! A switch is one assignment; requests that the old release has are counted, so that it can be stopped once they are done.
//! Of several processes the one with the fewest requests gets the next. Unaware of releases and processes beyond loopback
//! ports and a tree of static files.

mod assets;
mod certificate;
mod compression;
mod connection;
mod file;
mod listener;
mod proxy;
mod public;
mod threads;
mod trial;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use hyper::{Request, Response};
use tokio_rustls::TlsAcceptor;

use super::DRAIN;
use crate::release::{Limits, Settings};

pub(crate) use assets::{Address, Assets, Collection};
pub(crate) use certificate::{Certificate, Files};
pub(crate) use connection::{Connection, Left};
pub(crate) use listener::{Inherited, Listener, Listeners, Way};
use proxy::{Body, Idle, Manner};
pub(crate) use proxy::{Scheme, get, refuses_name};
pub(crate) use public::{Public, Site, Sites, Wanted};
pub(crate) use threads::Threads;
use trial::Part;
pub(crate) use trial::{Counts, Trial};

/// Where requests go.
pub(crate) struct Upstream {
    backends: RwLock<Vec<Arc<Backend>>>,
    /// Counts requests, so that processes with equally many take turns.
    turn: AtomicUsize,
    /// What is served without asking one.
    pub(crate) assets: Option<Assets>,
    load: Load,
    /// The name that the application is asked for by, where its target says so.
    name: Option<String>,
    /// How it wants to be asked, as its answers have told.
    by_name: AtomicBool,
    over_tls: AtomicBool,
    /// What a request may take.
    limits: Limits,
    /// The release that some of the clients are given instead.
    trial: RwLock<Option<Arc<Trial>>>,
}

/// A process that answers requests.
pub(crate) struct Backend {
    /// Its loopback port.
    port: u16,
    load: Load,
    /// Its connections that nobody uses at the moment.
    idle: Idle,
}

/// The requests that somebody has.
#[derive(Default)]
struct Load {
    open: AtomicUsize,
    /// Those among them that end when somebody has enough, and else never.
    endless: AtomicUsize,
}

/// A request that an upstream has; counted until it is dropped.
pub(crate) struct Claim {
    upstream: Arc<Upstream>,
    is_endless: bool,
    /// What is to be seen to while a release is on trial.
    part: Option<Part>,
}

/// A request that a process has; counted until it is dropped.
struct Share {
    backend: Arc<Backend>,
    is_endless: bool,
}

/// Where a target's requests go at the moment; nowhere before its first release.
pub(crate) type Current = Arc<RwLock<Option<Arc<Upstream>>>>;

/// Where clients come in: it says where their requests go.
pub(crate) enum Entrance {
    /// The front of a target.
    Target { app: String, target: String, current: Current },
    /// The front of all domains; over TLS with what agrees on the keys.
    Domains { sites: Arc<Sites>, tls: Option<TlsAcceptor> },
}

/// Where a request goes, or the answer to it.
type Routed = Result<Option<Claim>, Box<Response<Body>>>;

impl Upstream {
    pub(crate) fn new(ports: impl IntoIterator<Item = u16>, assets: Option<Assets>, settings: &Settings) -> Arc<Self> {
        let backends = RwLock::new(ports.into_iter().map(Backend::new).collect());
        Arc::new(Self {
            backends,
            turn: AtomicUsize::new(0),
            assets,
            load: Load::default(),
            name: settings.name().map(str::to_owned),
            by_name: AtomicBool::new(false),
            over_tls: AtomicBool::new(false),
            limits: settings.limits,
            trial: RwLock::default(),
        })
    }

    /// Whether no process answers requests: of a release that has none, or none any more.
    fn is_empty(&self) -> bool {
        self.backends.read().unwrap_or_else(PoisonError::into_inner).is_empty()
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

    /// Gives some of the clients to a release on trial, or to none any more.
    pub(crate) fn try_out(&self, trial: Option<Arc<Trial>>) {
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = trial;
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
        let backend = free.min_by_key(|backend| backend.load.open.load(Ordering::SeqCst))?;
        // Under the lock: whoever has removed it sees every request that went to it.
        backend.load.open.fetch_add(1, Ordering::SeqCst);
        Some(Share { backend: Arc::clone(backend), is_endless: false })
    }

    /// Waits until its requests are done.
    pub(crate) async fn drained(&self) {
        self.load.drained(self.limits.answer).await;
    }
}

impl Backend {
    fn new(port: u16) -> Arc<Self> {
        Arc::new(Self { port, load: Load::default(), idle: Idle::default() })
    }

    /// Waits until its requests are done, which may each take so long.
    pub(crate) async fn drained(&self, longest: Duration) {
        self.load.drained(longest).await;
    }
}

impl Load {
    /// Waits until nothing is open. What ends never has a while; all others have as long as an answer may take.
    async fn drained(&self, longest: Duration) {
        self.drained_within(DRAIN, longest).await;
    }

    async fn drained_within(&self, a_while: Duration, longest: Duration) {
        let began = Instant::now();
        let count = |requests: &AtomicUsize| requests.load(Ordering::SeqCst);
        loop {
            let waited = began.elapsed();
            let is_done = match count(&self.open) {
                0 => true,
                open => waited >= a_while && (waited >= longest || open <= count(&self.endless)),
            };
            if is_done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn close(&self, is_endless: bool) {
        if is_endless {
            self.endless.fetch_sub(1, Ordering::SeqCst);
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a request to those that end never.
fn go_on_for_ever(claim: &mut Claim, share: &mut Share) {
    for (load, is_endless) in
        [(&claim.upstream.load, &mut claim.is_endless), (&share.backend.load, &mut share.is_endless)]
    {
        if !std::mem::replace(is_endless, true) {
            load.endless.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.backend.load.close(self.is_endless);
    }
}

impl std::ops::Deref for Claim {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.upstream.load.close(self.is_endless);
    }
}

impl Entrance {
    fn way(&self) -> Way {
        match self {
            Self::Target { app, target, .. } => Way::Target { app: app.clone(), target: target.clone() },
            Self::Domains { tls: None, .. } => Way::Domains,
            Self::Domains { tls: Some(_), .. } => Way::DomainsOverTls,
        }
    }

    fn acceptor(&self) -> Option<&TlsAcceptor> {
        match self {
            Self::Target { .. } => None,
            Self::Domains { tls, .. } => tls.as_ref(),
        }
    }

    /// As long as requests go nowhere, every one is told that nothing is there yet.
    fn route<B>(&self, request: &Request<B>) -> Routed {
        match self {
            Self::Target { current, .. } => Ok(claim(current, request.headers())),
            Self::Domains { sites, tls: None } => sites.route(request),
            Self::Domains { sites, tls: Some(_) } => sites.route_over_tls(request),
        }
    }
}

fn claim(current: &Current, headers: &HeaderMap) -> Option<Claim> {
    let current = current.read().unwrap_or_else(PoisonError::into_inner);
    let serving = current.as_ref()?;
    let trial = serving.trial.read().unwrap_or_else(PoisonError::into_inner);
    let part = trial.as_ref().map(|trial| trial.part(headers));
    let upstream = part.as_ref().filter(|part| part.is_new).map_or(serving, Part::upstream);
    // Under the locks: whoever has switched sees every request that went to the old one.
    upstream.load.open.fetch_add(1, Ordering::SeqCst);
    Some(Claim { upstream: Arc::clone(upstream), is_endless: false, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_is_waited_for_as_long_as_it_may_take_and_what_never_does_for_a_while() {
        let millis = Duration::from_millis;
        let waited = async |open: usize, endless: usize, longest: Duration| {
            let load = Load { open: open.into(), endless: endless.into() };
            let began = Instant::now();
            tokio::join!(load.drained_within(millis(50), longest), async {
                tokio::time::sleep(millis(200)).await;
                // One that ends.
                load.open.fetch_sub(usize::from(open > endless), Ordering::SeqCst);
            });
            began.elapsed()
        };
        let never = Duration::from_hours(1);
        assert!(waited(2, 1, never).await >= millis(200));
        assert!(waited(3, 1, millis(600)).await >= millis(600), "another one took too long");
        waited(1, 1, never).await;
    }
}
