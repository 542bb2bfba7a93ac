//! The certificate of a domain and its key, in files that somebody renews: they are read again once they have changed. Unaware
//! of who renews them, and of who asks for them.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::super::lock;

/// How often it is looked whether the files have changed, at most.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read `{path}`", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{path}` holds no {what}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// They are not of one pair.
    #[error("the key in `{key}` is not that of the certificate in `{certificate}`", key = .key.display(), certificate = .certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
}

impl CertificateError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that runs the target read it".into()
            }
            Self::Read { .. } => "`tls` names the files on the machine that the target is on".into(),
            Self::Content { .. } => {
                "both files are PEM: the certificate with those above it, and the key without a passphrase".into()
            }
            Self::Pair { .. } => {
                "name the two that were made together, such as `fullchain.pem` and `privkey.pem`".into()
            }
        }
    }
}

/// Where a certificate and its key are; in one file, both names are of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate that is kept up to date with its files.
pub(crate) struct Certificate {
    files: Files,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    read: Option<Arc<Read>>,
    /// The files, as they were when they were read.
    seen: Option<[Seen; 2]>,
    looked: Option<Instant>,
    /// Why they could not be read the last time.
    wrong: Option<String>,
}

/// What was in the files.
pub(crate) struct Read {
    pub(crate) key: Arc<CertifiedKey>,
    /// Who has signed it, in a few words.
    pub(crate) issuer: String,
    names: Vec<String>,
    /// From when on it is good, and until when.
    pub(crate) valid: (SystemTime, SystemTime),
}

/// What tells that a file is another one.
type Seen = (u64, u64, i64, i64);

impl Certificate {
    /// A certificate that may come later.
    pub(crate) fn at(files: Files) -> Arc<Self> {
        Arc::new(Self { files, kept: Mutex::default() })
    }

    /// The file that it is in.
    pub(crate) fn path(&self) -> &Path {
        &self.files.certificate
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<Arc<Read>, CertificateError> {
        Read::from(&self.files).map(Arc::new)
    }

    /// Has the files looked at the next time, however shortly that was done before.
    pub(crate) fn look_again(&self) {
        lock(&self.kept).looked = None;
    }

    /// What the files hold now; where they hold nothing that can be used, what they held before.
    pub(crate) fn current(&self) -> Option<Arc<Read>> {
        let mut kept = lock(&self.kept);
        if kept.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            kept.looked = Some(Instant::now());
            kept.look(&self.files);
        }
        kept.read.clone()
    }
}

impl Kept {
    fn look(&mut self, files: &Files) {
        let seen = seen(&files.certificate).zip(seen(&files.key)).map(|(certificate, key)| [certificate, key]);
        if seen.is_none() || seen == self.seen {
            return;
        }
        match Read::from(files) {
            Ok(read) => (self.read, self.wrong, self.seen) = (Some(Arc::new(read)), None, seen),
            // One file may be there before the other: it is read once more the next time.
            Err(error) => {
                let error = error.to_string();
                if self.wrong.as_ref() != Some(&error) {
                    crate::agent::log::note(&error);
                }
                self.wrong = Some(error);
            }
        }
    }
}

impl Read {
    fn from(files: &Files) -> Result<Self, CertificateError> {
        let [certificate, key] = [&files.certificate, &files.key]
            .map(|path| fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source }));
        let (certificate, key) = (certificate?, key?);
        let none = |path: &Path, what| CertificateError::Content { path: path.to_owned(), what };
        let no_certificate = || none(&files.certificate, "certificate");
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
        let first = chain.first().ok_or_else(no_certificate)?.clone();
        let (_, parsed) = X509Certificate::from_der(&first).map_err(|_| no_certificate())?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| none(&files.key, "private key"))?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Pair { certificate: files.certificate.clone(), key: files.key.clone() }
            }
            _ => none(&files.key, "private key that can be used"),
        })?;
        let validity = parsed.validity();
        let valid = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Self { key: Arc::new(key), issuer: issuer(&parsed), names: names(&parsed), valid })
    }

    /// Whether it is for a domain.
    pub(crate) fn is_for(&self, domain: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => domain.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(domain),
        })
    }

    /// Whether it is good at a time.
    pub(crate) fn is_good(&self, at: SystemTime) -> bool {
        let (from, until) = self.valid;
        (from..=until).contains(&at)
    }

    /// When a new one is to be had: after two thirds of its time.
    pub(crate) fn renewal(&self) -> SystemTime {
        let (from, until) = self.valid;
        from + until.duration_since(from).unwrap_or_default() * 2 / 3
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.files).finish()
    }
}

/// Who has signed a certificate: an organisation and which of its names, or all that it says of itself.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer();
    let said = issuer.iter_organization().chain(issuer.iter_common_name()).filter_map(|part| part.as_str().ok());
    let said = said.collect::<Vec<_>>().join(" ");
    if said.is_empty() { issuer.to_string() } else { said }
}

/// The domains that a certificate is for.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let of_domain = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.into_iter().flatten().filter_map(of_domain).collect()
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn seen(path: &Path) -> Option<Seen> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
