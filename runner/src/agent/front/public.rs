//! The front of all domains of this machine: by the name that is asked for it finds the target, over TLS where that has a
//! certificate. Whoever comes without is sent to `https://`. Unaware of releases, and of where certificates come from.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::certificate::{Certificate, Files};
use super::proxy::{Body, exactly, plain};
use super::{Current, Entrance, Listener, Listeners, Routed, claim};

/// Where everybody asks, without TLS and with it.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Below which path somebody who signs certificates asks whether a domain is ours.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The protocols that are offered over TLS, the best first.
pub(super) const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

/// All domains of an agent, and where they are listened for.
pub(crate) struct Public {
    sites: Arc<Sites>,
    tls: TlsAcceptor,
    listeners: Arc<Listeners>,
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
    pub(crate) owner: String,
    current: Current,
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Where it is asked for over TLS.
    port: u16,
    listeners: Vec<Arc<Listener>>,
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
    pub(crate) fn new(listeners: &Arc<Listeners>) -> Self {
        let sites = Arc::<Sites>::default();
        Self { tls: acceptor(&sites), sites, listeners: Arc::clone(listeners) }
    }

    /// Where clients come in.
    pub(crate) fn entrance(&self, is_secure: bool) -> Entrance {
        Entrance::Domains { sites: Arc::clone(&self.sites), tls: is_secure.then(|| self.tls.clone()) }
    }

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
            sites.push(Arc::new(Site { domain, owner, current, certificate, port, listeners }));
        }
        Ok(sites)
    }

    /// Leads requests for these domains to a target, and those for no others.
    pub(crate) fn put(&self, owner: &str, sites: &[Arc<Site>]) {
        let mut by_domain = self.sites.by_domain.write().unwrap_or_else(PoisonError::into_inner);
        by_domain.retain(|_, site| site.owner != owner);
        by_domain.extend(sites.iter().map(|site| (site.domain.clone(), Arc::clone(site))));
    }

    /// From now on clients of all domains are answered.
    pub(crate) fn accept(&self) {
        self.sites.all().iter().for_each(|site| site.accept());
    }

    /// The domains, for whoever sees to their certificates.
    pub(crate) fn sites(&self) -> &Arc<Sites> {
        &self.sites
    }

    async fn listener(&self, address: Option<SocketAddr>, is_secure: bool) -> Result<Arc<Listener>, PublicError> {
        let port = if is_secure { HTTPS } else { HTTP };
        let address = address.unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, port).into());
        let listener = self.listeners.listen(address, self.entrance(is_secure)).await;
        listener.map_err(|source| PublicError::Listen { address, source })
    }
}

impl Site {
    /// From now on clients are answered where it is listened for.
    pub(crate) fn accept(&self) {
        for listener in &self.listeners {
            listener.accept();
        }
    }

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

    fn of<B>(&self, request: &Request<B>) -> Option<Arc<Site>> {
        self.find(domain_of(request)?)
    }

    /// Where a request goes that came without TLS.
    pub(super) fn route<B>(&self, request: &Request<B>) -> Routed {
        if let Some(answer) = self.challenge(request.uri().path()) {
            return Err(Box::new(exactly(StatusCode::OK, answer)));
        }
        let site = self.of(request).ok_or_else(|| Box::new(unknown()))?;
        if site.certificate.is_some() {
            Err(Box::new(to_tls(&site, request)))
        } else {
            Ok(claim(&site.current, request.headers()))
        }
    }

    pub(super) fn route_over_tls<B>(&self, request: &Request<B>) -> Routed {
        let site = self.of(request).filter(|site| site.certificate.is_some()).ok_or_else(|| Box::new(unknown()))?;
        Ok(claim(&site.current, request.headers()))
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
pub(super) fn domain_of<B>(request: &Request<B>) -> Option<&str> {
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

/// What agrees with clients on keys, by the certificates of the domains that they ask for.
fn acceptor(sites: &Arc<Sites>) -> TlsAcceptor {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(sites) as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the provider knows the versions that it is made for");
    let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn unknown() -> Response<Body> {
    plain(StatusCode::MISDIRECTED_REQUEST, "no application has this name here")
}

/// Sends a client to the same page over TLS, once there is a certificate.
fn to_tls<B>(site: &Site, request: &Request<B>) -> Response<Body> {
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
