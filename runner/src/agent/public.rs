//! The domains of a target: opened at the front that all targets share, with their certificates, before a release goes on; put
//! in place when it has come; and told of. Knows nothing of what the release runs.

use std::sync::Arc;
use std::time::SystemTime;

use instant_acme::LetsEncrypt;

use super::Agent;
use super::acme::Subject;
use super::front::{Certificate, Current, Files, Site, Wanted};
use super::protocol::{CertificateSource, CertificateStatus, DomainStatus, Failure, Progress, Say};
use crate::release::{Settings, Target, Tls};

/// The domains of a target, opened.
pub(super) struct Domains {
    sites: Vec<Arc<Site>>,
    /// Those of them whose certificates are to be obtained.
    subjects: Vec<Subject>,
}

impl Domains {
    /// Where the first of them is found.
    pub(super) fn url(&self) -> Option<String> {
        self.sites.first().map(|site| site.url())
    }

    /// From now on clients are answered where they are listened for.
    pub(super) fn accept(&self) {
        self.sites.iter().for_each(|site| site.accept());
    }

    fn certificates(&self) -> impl Iterator<Item = (&str, &Arc<Certificate>)> {
        self.sites.iter().filter_map(|site| Some((site.domain.as_str(), site.certificate.as_ref()?)))
    }
}

/// What the public front calls a target.
fn owner(app: &str, target: &str) -> String {
    format!("{app}/{target}")
}

impl Agent {
    /// Listens for a target's domains.
    pub(super) async fn open_domains(&self, target: &Target, current: &Current) -> Result<Domains, Failure> {
        let Settings { domains, tls, http, https, .. } = &target.settings;
        let files = |domain: &str| match tls {
            None => None,
            Some(Tls::Files { certificate, key }) => Some(Files { certificate: certificate.clone(), key: key.clone() }),
            Some(Tls::Acme { .. }) => Some(self.acme.files(domain)),
        };
        let owner = owner(&target.app, &target.name);
        let domains = domains.iter().map(|domain| domain.to_ascii_lowercase());
        let domains = domains.map(|domain| (domain.clone(), files(&domain))).collect();
        let wanted = Wanted { owner: &owner, domains, http: *http, https: *https };
        let sites = self.public.open(&wanted, current).await.map_err(|error| Failure::of(&error).hint(error.hint()))?;
        let subject = |site: &Arc<Site>| match (tls, &site.certificate) {
            (Some(Tls::Acme { directory, email }), Some(certificate)) => Some(Subject {
                domain: site.domain.clone(),
                authority: directory.clone().unwrap_or_else(|| LetsEncrypt::Production.url().to_owned()),
                email: email.clone(),
                certificate: Arc::clone(certificate),
            }),
            _ => None,
        };
        Ok(Domains { subjects: sites.iter().filter_map(subject).collect(), sites })
    }

    /// Obtains certificates that are not there yet, and says what is odd about the others.
    pub(super) async fn certify(&self, domains: &Domains, say: &Say) {
        for subject in &domains.subjects {
            if subject.certificate.current().is_some() {
                continue;
            }
            let _ = say.send(match self.acme.obtain(subject).await {
                Ok(()) => Progress::Note(format!("`{}` has a certificate now", subject.domain)),
                Err(error) => {
                    let Failure { message, .. } = Failure::of(&error);
                    let message = format!("{message}; it is tried again, and until then nobody is answered there");
                    Progress::Warning { message, hint: error.hint() }
                }
            });
        }
        for (domain, certificate) in domains.certificates() {
            let Some(current) = certificate.current() else { continue };
            let odd = if !current.is_for(domain) {
                "is for other names"
            } else if !current.is_good(SystemTime::now()) {
                "has expired, or is not valid yet"
            } else {
                continue;
            };
            let hint =
                Some("put another one into the files that the target's `tls` names: it is taken at once".to_owned());
            let _ = say.send(Progress::Warning { message: format!("the certificate of `{domain}` {odd}"), hint });
        }
    }

    /// Leads requests for these domains to the target from now on, and for no others.
    pub(super) fn put_domains(&self, target: &Target, domains: &Domains) {
        let owner = owner(&target.app, &target.name);
        self.public.put(&owner, &domains.sites);
        self.acme.put(&owner, domains.subjects.clone());
    }

    /// Leads requests for no domains to a target any more.
    pub(super) fn close_domains(&self, app: &str, target: &str) {
        self.public.put(&owner(app, target), &[]);
        self.acme.put(&owner(app, target), Vec::new());
    }
}

impl Agent {
    /// All domains that are served.
    pub(super) fn domains(&self) -> Vec<DomainStatus> {
        let subjects = self.acme.subjects();
        let status = |site: &Arc<Site>| {
            let (app, target) = site.owner.split_once('/')?;
            let subject = subjects.iter().find(|subject| subject.domain == site.domain);
            Some(DomainStatus {
                app: app.to_owned(),
                target: target.to_owned(),
                domain: site.domain.clone(),
                url: site.url(),
                certificate: site
                    .certificate
                    .as_deref()
                    .map(|certificate| self.certificate(site, certificate, subject)),
            })
        };
        self.public.sites().all().iter().filter_map(status).collect()
    }

    fn certificate(&self, site: &Site, certificate: &Certificate, subject: Option<&Subject>) -> CertificateStatus {
        let current = certificate.current();
        let failed = subject.and_then(|subject| self.acme.failed(&subject.domain));
        let (source, renewal, failure) = match subject {
            Some(subject) => {
                let again = failed.as_ref().map(|failed| failed.again);
                let due = current.as_ref().map(|current| current.renewal());
                let source = CertificateSource::Acme { authority: subject.authority.clone() };
                (source, again.max(due), failed.map(|failed| failed.why))
            }
            None => {
                let unreadable = certificate.read().err().map(|error| Failure::of(&error).hint(error.hint()));
                (CertificateSource::Files { certificate: certificate.path().to_owned() }, None, unreadable)
            }
        };
        CertificateStatus {
            source,
            issuer: current.as_ref().map(|current| current.issuer.clone()),
            valid: current.as_ref().map(|current| current.valid),
            is_for_it: current.is_none_or(|current| current.is_for(&site.domain)),
            renewal,
            failure,
        }
    }
}

/// Certificates that are in files must be there before anything is started for them.
pub(super) fn refuse_unreadable_certificates(domains: &Domains, settings: &Settings) -> Result<(), Failure> {
    if !matches!(settings.tls, Some(Tls::Files { .. })) {
        return Ok(());
    }
    for (_, certificate) in domains.certificates() {
        certificate.read().map_err(|error| Failure::of(&error).hint(error.hint()))?;
    }
    Ok(())
}
