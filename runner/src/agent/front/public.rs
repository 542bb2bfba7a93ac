//! The front of all domains of this machine: by the name that is asked for it finds the target, over TLS where that has a
//! certificate. Whoever comes without is sent to `https://`. Unaware of releases, and of where certificates come from.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::lock;
use super::certificate::{Certificate, Files};
use super::proxy::{Body, Client, exactly, plain};
use super::{Current, Protocol, accept, claim, converse};

/// Where everybody asks, without TLS and with it.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// How long a client may take until it has agreed on how to speak.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Below which path somebody who signs certificates asks whether a domain is ours.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The protocols that are offered over TLS, the best first.
const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

/// All domains of an agent, and where they are listened for.
#[derive(Default)]
pub(crate) struct Public {
    sites: Arc<Sites>,
    /// What listens, as long as a site holds it.
    listeners: Mutex<BTreeMap<(SocketAddr, bool), Weak<Listener>>>,
}

/// The domains by their names, and the answers to who asks whether they are ours.
#[derive(Default)]
pub(crate) struct Sites {
    by_domain: RwLock<BTreeMap<String, Arc<Site>>>,
    challenges: RwLock<BTreeMap<String, String>>,
}

/// A domain of a target.
pub(crate) struct Site {
    /// In lower case.
    pub(crate) domain: String,
    /// The target: `app/name`.
    owner: String,
    current: Current,
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Where it is asked for over TLS.
    port: u16,
    _listeners: Vec<Arc<Listener>>,
}

/// What a target wants of the public front.
pub(crate) struct Wanted<'a> {
    pub(crate) owner: &'a str,
    /// Its domains in lower case, each with where its certificate is, where it has one.
    pub(crate) domains: Vec<(String, Option<Files>)>,
    /// Where to listen; none: at the usual ports of all addresses.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

/// Why a domain cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicError {
    /// It is another target's.
    #[error("`{domain}` is a domain of `{owner}`")]
    Taken {
        /// The domain.
        domain: String,
        /// The other target.
        owner: String,
    },
    /// The port.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl PublicError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Taken { owner, .. } => {
                format!("take it out of the `domains` of one of the two, and release `{owner}` if that is the one")
            }
            Self::Listen { address, source } if source.kind() == io::ErrorKind::PermissionDenied => format!(
                "let users listen there (`sudo sysctl net.ipv4.ip_unprivileged_port_start={}`), or name other ports in the target's \
                 `http` and `https`",
                address.port()
            ),
            Self::Listen { .. } => {
                "end what listens there, or name other addresses in the target's `http` and `https`".into()
            }
        }
    }
}

impl Public {
    /// Listens for a target's domains; nobody is led to the target before [`Public::put`].
    pub(crate) async fn open(&self, wanted: &Wanted<'_>, current: &Current) -> Result<Vec<Arc<Site>>, PublicError> {
        if let Some((domain, owner)) = self.sites.of_others(wanted.owner, &wanted.domains) {
            return Err(PublicError::Taken { domain, owner });
        }
        let mut sites = Vec::new();
        for (domain, files) in &wanted.domains {
            let certificate = files.clone().map(Certificate::at);
            let mut listeners = vec![self.listener(wanted.http, false).await?];
            if certificate.is_some() {
                listeners.push(self.listener(wanted.https, true).await?);
            }
            let port = listeners.last().map_or(HTTPS, |listener| listener.address.port());
            let (domain, owner) = (domain.clone(), wanted.owner.to_owned());
            let current = Arc::clone(current);
            sites.push(Arc::new(Site { domain, owner, current, certificate, port, _listeners: listeners }));
        }
        Ok(sites)
    }

    /// Leads requests for these domains to a target, and those for no others.
    pub(crate) fn put(&self, owner: &str, sites: &[Arc<Site>]) {
        let mut by_domain = self.sites.by_domain.write().unwrap_or_else(PoisonError::into_inner);
        by_domain.retain(|_, site| site.owner != owner);
        by_domain.extend(sites.iter().map(|site| (site.domain.clone(), Arc::clone(site))));
    }

    /// The domains, for whoever sees to their certificates.
    pub(crate) fn sites(&self) -> &Arc<Sites> {
        &self.sites
    }

    async fn listener(&self, address: Option<SocketAddr>, is_secure: bool) -> Result<Arc<Listener>, PublicError> {
        let port = if is_secure { HTTPS } else { HTTP };
        let key = (address.unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, port).into()), is_secure);
        let held = |listeners: &Mutex<BTreeMap<_, Weak<Listener>>>| lock(listeners).get(&key).and_then(Weak::upgrade);
        if let Some(listener) = held(&self.listeners) {
            return Ok(listener);
        }
        let bound = match TcpListener::bind(key.0).await {
            // A machine without IPv6.
            Err(error) if address.is_none() && is_no_family(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            bound => bound,
        };
        let bound = match bound {
            Ok(bound) => bound,
            // Another release has just been quicker.
            Err(source) => return held(&self.listeners).ok_or(PublicError::Listen { address: key.0, source }),
        };
        let sites = Arc::clone(&self.sites);
        let task =
            if is_secure { tokio::spawn(listen_for_tls(bound, sites)) } else { tokio::spawn(listen(bound, sites)) };
        let listener = Arc::new(Listener { address: key.0, task });
        let mut listeners = lock(&self.listeners);
        listeners.retain(|_, listener| listener.strong_count() > 0);
        listeners.insert(key, Arc::downgrade(&listener));
        Ok(listener)
    }
}

fn is_no_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

/// A port that is listened to until nobody holds it any more.
struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Connections that are open go on until their requests are done.
        self.task.abort();
    }
}

impl Site {
    /// Where a browser finds it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}/", self.domain, self.port())
    }

    /// The port as it is in an address, where it is not the usual one.
    fn port(&self) -> String {
        let usual = if self.certificate.is_some() { HTTPS } else { HTTP };
        if self.port == usual { String::new() } else { format!(":{}", self.port) }
    }

    /// Its certificate, once there is one.
    fn key(&self) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certificate.as_ref()?.current()?.key))
    }
}

impl Sites {
    /// A domain that another target has.
    fn of_others(&self, owner: &str, domains: &[(String, Option<Files>)]) -> Option<(String, String)> {
        let by_domain = self.by_domain.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = domains.iter().filter_map(|(domain, _)| by_domain.get(domain));
        found.find(|site| site.owner != owner).map(|site| (site.domain.clone(), site.owner.clone()))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Site>> {
        self.by_domain.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn find(&self, domain: &str) -> Option<Arc<Site>> {
        let by_domain = self.by_domain.read().unwrap_or_else(PoisonError::into_inner);
        by_domain.get(&domain.trim_end_matches('.').to_ascii_lowercase()).cloned()
    }

    fn of(&self, request: &Request<Incoming>) -> Option<Arc<Site>> {
        self.find(domain_of(request)?)
    }

    /// Answers who asks for a token; none: the question is answered.
    pub(crate) fn answer_challenge(&self, token: &str, answer: Option<String>) {
        let mut challenges = self.challenges.write().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => challenges.insert(token.to_owned(), answer),
            None => challenges.remove(token),
        };
    }

    fn challenge(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(CHALLENGES)?;
        self.challenges.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// The name that is asked for, without the port.
fn domain_of(request: &Request<Incoming>) -> Option<&str> {
    let host = match request.headers().get(header::HOST) {
        Some(host) => host.to_str().ok()?,
        None => request.uri().authority()?.as_str(),
    };
    Some(host.rsplit_once(':').map_or(host, |(name, _)| name))
}

/// Finds the certificate for the name that a client asks for; a client that names none is given some.
impl ResolvesServerCert for Sites {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) => self.find(name)?.key(),
            None => self.all().iter().find_map(|site| site.key()),
        }
    }
}

impl std::fmt::Debug for Sites {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sites")
    }
}

async fn listen(listener: TcpListener, sites: Arc<Sites>) {
    loop {
        let (stream, peer) = accept(&listener).await;
        let (sites, client) = (Arc::clone(&sites), Client { peer, is_secure: false });
        tokio::spawn(async move {
            let route = |request: &Request<Incoming>| {
                if let Some(answer) = sites.challenge(request.uri().path()) {
                    return Err(Box::new(exactly(StatusCode::OK, answer)));
                }
                let site = sites.of(request).ok_or_else(|| Box::new(unknown()))?;
                if site.certificate.is_some() {
                    Err(Box::new(to_tls(&site, request)))
                } else {
                    Ok(claim(&site.current))
                }
            };
            converse(stream, Protocol::Http1, client, route).await;
        });
    }
}

async fn listen_for_tls(listener: TcpListener, sites: Arc<Sites>) {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&sites) as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let Ok(config) = config else { return };
    let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, peer) = accept(&listener).await;
        let (sites, acceptor) = (Arc::clone(&sites), acceptor.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            let protocol = if is_h2 { Protocol::Http2 } else { Protocol::Http1 };
            let route = |request: &Request<Incoming>| {
                let site =
                    sites.of(request).filter(|site| site.certificate.is_some()).ok_or_else(|| Box::new(unknown()))?;
                Ok(claim(&site.current))
            };
            converse(stream, protocol, Client { peer, is_secure: true }, route).await;
        });
    }
}

fn unknown() -> Response<Body> {
    plain(StatusCode::MISDIRECTED_REQUEST, "no application has this name here")
}

/// Sends a client to the same page over TLS, once there is a certificate.
fn to_tls(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    if site.key().is_none() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "there is no certificate for this name yet");
    }
    let page = request.uri().path_and_query().map_or("/", |page| page.as_str());
    let location = format!("https://{}{}{page}", site.domain, site.port());
    let mut response = plain(StatusCode::PERMANENT_REDIRECT, "this page is asked for over TLS");
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
