//! Certificates of domains from an authority that signs them by itself, such as Let's Encrypt: obtained, kept in files, and
//! renewed in good time. Unaware of who serves the domains; only the authority's questions are answered there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use tokio::sync::Notify;

use super::front::{Certificate, Files, Sites};
use super::lock;
use super::log;
use super::protocol::Failure;
use crate::digest::Digest;
use crate::private;

/// How long to wait after a first failure, and at most after many: an authority lets nobody fail often.
const FIRST_WAIT: Duration = Duration::from_mins(1);
const LONGEST_WAIT: Duration = Duration::from_hours(6);

/// How often it is looked whether a certificate is to be renewed, at least.
const LOOK: Duration = Duration::from_hours(1);

/// How long an authority may take for one certificate.
const PATIENCE: Duration = Duration::from_mins(2);

/// The ends of the names of problems that an authority has with what a domain answers.
const OF_ASKING: [&str; 5] = [":connection", ":dns", ":unauthorized", ":incorrectResponse", ":tls"];

/// A domain that is to have a certificate.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) domain: String,
    /// The address of the authority's directory.
    pub(super) authority: String,
    /// Whom it may write to.
    pub(super) email: Option<String>,
    pub(super) certificate: Arc<Certificate>,
}

/// How it stands with a domain that was given no certificate.
#[derive(Clone)]
pub(super) struct Failed {
    /// How often in a row.
    times: u32,
    /// When it is tried again.
    pub(super) again: SystemTime,
    /// Why, the last time.
    pub(super) why: Failure,
}

/// All that an agent knows of certificates that it obtains.
pub(super) struct Acme {
    /// Where they are kept, with the accounts.
    directory: PathBuf,
    sites: Arc<Sites>,
    /// By the targets whose they are.
    subjects: Mutex<BTreeMap<String, Vec<Subject>>>,
    /// The domains that were given no certificate when that was tried last.
    failures: Mutex<BTreeMap<String, Failed>>,
    changed: Notify,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// There is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    /// What the authority says, or that it says nothing.
    #[error("`{authority}` gives no certificate for `{domain}`")]
    Authority {
        /// The domain.
        domain: String,
        /// The authority.
        authority: String,
        /// Why not.
        source: Box<instant_acme::Error>,
    },
    /// It has looked, and the domain does not seem to be ours.
    #[error("`{authority}` gives no certificate for `{domain}`: {why}")]
    Refused {
        /// The domain.
        domain: String,
        /// The authority.
        authority: String,
        /// What it found.
        why: String,
        /// Whether it has asked the domain, and was not answered as it should be.
        asked: bool,
    },
    /// It cannot be kept.
    #[error("cannot write `{path}`", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl AcmeError {
    fn of(subject: &Subject, error: instant_acme::Error) -> Self {
        let (domain, authority) = (subject.domain.clone(), subject.authority.clone());
        match error {
            instant_acme::Error::Api(problem) => {
                let asked =
                    problem.r#type.as_deref().is_some_and(|kind| OF_ASKING.iter().any(|end| kind.ends_with(end)));
                let why = problem.detail.clone().unwrap_or_else(|| problem.to_string());
                Self::Refused { domain, authority, why, asked }
            }
            error => Self::Authority { domain, authority, source: Box::new(error) },
        }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Authority { authority, .. } => Some(format!("can this machine reach `{authority}`?")),
            Self::Refused { domain, asked: true, .. } => {
                Some(format!("does `{domain}` lead to this machine, and can everybody reach its port 80?"))
            }
            Self::Refused { .. } | Self::Write { .. } => None,
        }
    }
}

impl Acme {
    pub(super) fn new(home: &Path, sites: &Arc<Sites>) -> Arc<Self> {
        // The client of the authority asks for whichever is the program's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(Self {
            directory: home.join("agent/certificates"),
            sites: Arc::clone(sites),
            subjects: Mutex::default(),
            failures: Mutex::default(),
            changed: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Where the certificate of a domain is kept, once there is one.
    pub(super) fn files(&self, domain: &str) -> Files {
        let path = self.directory.join(format!("{domain}.pem"));
        Files { certificate: path.clone(), key: path }
    }

    /// Sees to the certificates of a target's domains from now on, and to no others of that target.
    pub(super) fn put(&self, owner: &str, subjects: Vec<Subject>) {
        lock(&self.subjects).insert(owner.to_owned(), subjects);
        self.changed.notify_one();
    }

    /// All domains that are to have a certificate.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        lock(&self.subjects).values().flatten().cloned().collect()
    }

    /// Obtains and renews, for ever.
    pub(super) async fn keep(&self) {
        loop {
            let mut next = Instant::now() + LOOK;
            for subject in self.subjects() {
                let due = self.due(&subject);
                if due <= Instant::now()
                    && let Err(error) = self.obtain(&subject).await
                {
                    log::note(Failure::of(&error).message);
                }
                next = next.min(self.due(&subject));
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// When a domain needs a new certificate, and may be tried.
    fn due(&self, subject: &Subject) -> Instant {
        let now = Instant::now();
        let renewal = subject.certificate.current().map(|current| current.renewal());
        let left = renewal.and_then(|renewal| renewal.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        let again = self.failed(&subject.domain).map(|failed| failed.again);
        let wait = again.and_then(|again| again.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        now + left.max(wait)
    }

    /// Why a domain was given no certificate the last time.
    pub(super) fn failed(&self, domain: &str) -> Option<Failed> {
        lock(&self.failures).get(domain).cloned()
    }

    /// Obtains a certificate, where the domain has none or an old one.
    pub(super) async fn obtain(&self, subject: &Subject) -> Result<(), AcmeError> {
        let _turn = self.turn.lock().await;
        let is_old = |renewal: SystemTime| renewal <= SystemTime::now();
        if subject.certificate.current().is_some_and(|current| !is_old(current.renewal())) {
            return Ok(());
        }
        let outcome = tokio::time::timeout(PATIENCE, self.order(subject)).await.unwrap_or_else(|_| {
            let (domain, authority) = (subject.domain.clone(), subject.authority.clone());
            Err(AcmeError::Refused { domain, authority, why: "it takes too long".into(), asked: false })
        });
        let mut failures = lock(&self.failures);
        match &outcome {
            Ok(()) => {
                failures.remove(&subject.domain);
                subject.certificate.look_again();
            }
            Err(error) => {
                let times = failures.get(&subject.domain).map_or(0, |failed| failed.times);
                let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(times)).min(LONGEST_WAIT);
                let why = Failure::hinted(error, error.hint());
                failures.insert(
                    subject.domain.clone(),
                    Failed { times: times.saturating_add(1), again: SystemTime::now() + wait, why },
                );
            }
        }
        outcome
    }

    async fn order(&self, subject: &Subject) -> Result<(), AcmeError> {
        let failed = |error| AcmeError::of(subject, error);
        let account = self.account(subject).await?;
        let name = [Identifier::Dns(subject.domain.clone())];
        let mut order = account.new_order(&NewOrder::new(&name)).await.map_err(failed)?;
        let mut tokens = Vec::new();
        let answered = self.answer(&mut order, &mut tokens).await.map_err(failed);
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let ready = match answered {
            Ok(()) => order.poll_ready(&policy).await.map_err(failed),
            Err(error) => Err(error),
        };
        for token in tokens {
            self.sites.answer_challenge(&token, None);
        }
        if ready? != OrderStatus::Ready {
            let why = why_not(&mut order).await;
            let (domain, authority) = (subject.domain.clone(), subject.authority.clone());
            return Err(AcmeError::Refused { domain, authority, why, asked: true });
        }
        let key = order.finalize().await.map_err(failed)?;
        let chain = order.poll_certificate(&policy).await.map_err(failed)?;
        let path = self.files(&subject.domain).certificate;
        self.write(&path, format!("{key}{chain}").as_bytes())
    }

    /// Says how the domain answers the authority's questions, and that it may ask.
    async fn answer(&self, order: &mut Order, tokens: &mut Vec<String>) -> Result<(), instant_acme::Error> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization
                .challenge(ChallengeType::Http01)
                .ok_or(instant_acme::Error::Unsupported("asking over HTTP"))?;
            let token = challenge.token.clone();
            self.sites.answer_challenge(&token, Some(challenge.key_authorization().as_str().to_owned()));
            tokens.push(token);
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account at an authority: the one that is kept, or a new one.
    async fn account(&self, subject: &Subject) -> Result<Account, AcmeError> {
        let failed = |error| AcmeError::of(subject, error);
        let name = format!("account-{}.json", Digest::of(subject.authority.as_bytes()).short());
        let path = self.directory.join(name);
        let kept = std::fs::read(&path).ok().and_then(|kept| serde_json::from_slice::<AccountCredentials>(&kept).ok());
        if let Some(kept) = kept {
            return Account::builder().map_err(failed)?.from_credentials(kept).await.map_err(failed);
        }
        let contact = subject.email.iter().map(|email| format!("mailto:{email}")).collect::<Vec<_>>();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let created = Account::builder().map_err(failed)?.create(&account, subject.authority.clone(), None);
        let (account, credentials) = created.await.map_err(failed)?;
        let credentials = serde_json::to_vec(&credentials).map_err(|error| failed(error.into()))?;
        self.write(&path, &credentials)?;
        Ok(account)
    }

    /// Puts a file in its place once it is whole, for nobody else's eyes.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
        let written = private::directory(&self.directory).and_then(|()| private::replace(path, bytes));
        written.map_err(|source| AcmeError::Write { path: path.to_owned(), source })
    }
}

/// What an authority found when it asked.
async fn why_not(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.detail.clone().unwrap_or_else(|| problem.to_string());
        }
    }
    "it does not say why".to_owned()
}
