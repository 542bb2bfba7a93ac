//! What can go wrong with a fetch, in words that name the file, the address, the cause and the remedy, and no secret.

use std::io;

use reqwest::{StatusCode, Url};

use super::Checksum;
use super::credentials;
use crate::store::{FULL, StoreError};

/// Why bytes could not be had. [`FetchError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a digest that a fetch understands.
    #[error("`{0}` is not a digest: expected sha256, sha512, sha1 or blake3, a colon and hex digits")]
    Digest(String),
    /// Not a file's name.
    #[error("`{}` is not the name of a file", .0.escape_debug())]
    Name(String),
    /// Not a source of files.
    #[error("`{0}` is not a source: there are `index`, `npm` and `https`")]
    Source(String),
    /// An address that is not fetched from.
    #[error("{url} is refused: {why}")]
    Address {
        /// The address, without secrets.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server refused.
    #[error("`{name}`: {url} answered {status}")]
    Status {
        /// The file.
        name: String,
        /// The address, without secrets.
        url: String,
        /// The server's host.
        host: String,
        /// What it said.
        status: StatusCode,
    },
    /// The server could not be reached, or the connection broke.
    #[error("`{name}`: cannot fetch {url}")]
    Transport {
        /// The file.
        name: String,
        /// The address, without secrets.
        url: String,
        /// What broke.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Other bytes than those that were asked for.
    #[error("`{name}`: {} gave {actual}, not {expected}", if url.is_empty() { "the file" } else { url.as_str() })]
    Mismatch {
        /// The file.
        name: String,
        /// The address, without secrets.
        url: String,
        /// What was asked for.
        expected: Checksum,
        /// What came.
        actual: Checksum,
    },
    /// More bytes than are taken.
    #[error("`{name}`: {url} gives more than {limit} bytes")]
    TooLarge {
        /// The file.
        name: String,
        /// The address, without secrets.
        url: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// No index and no directory has it.
    #[error("`{name}` is not on {places}")]
    NotFound {
        /// The file or the project.
        name: String,
        /// Where it was looked for.
        places: String,
    },
    /// An index's page that cannot be read.
    #[error("{url} is not a page of a Python index: {why}")]
    Page {
        /// The page's address, without secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// It would have to be fetched, and nothing may go out.
    #[error("`{name}` is not in the store, and this run is offline")]
    Offline {
        /// The file.
        name: String,
    },
    /// Not a commit's full hash.
    #[error("`{0}` is not the full hash of a commit")]
    Commit(String),
    /// `git` failed.
    #[error("commit {commit} of {url}: {message}")]
    Git {
        /// The repository, without secrets.
        url: String,
        /// The commit.
        commit: String,
        /// What `git` said last.
        message: String,
    },
    /// A file could not be written on its way into the store.
    #[error("cannot write into the store")]
    Write(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FetchError {
    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Status { status, host, .. } if matches!(status.as_u16(), 401 | 403 | 407) => format!(
                "give a name and a password for `{host}`: in ~/.netrc, or as {}=name:password",
                credentials::variable(host)
            ),
            Self::Status { status, .. } if status.is_client_error() => {
                "the file has moved or was removed: lock again, or name where it is in `[index]`, or in `[npm]` for a package of npm"
                    .to_owned()
            }
            Self::Status { .. } => "the server has a fault that may pass: run again".to_owned(),
            Self::Transport { .. } => {
                "check the network; HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are honoured".to_owned()
            }
            Self::Mismatch { .. } => {
                "the file is not the one that was locked: don't use it before you know why; if the \
                                      change is meant, lock again"
                    .to_owned()
            }
            Self::NotFound { .. } => {
                "add the index that has it to `[index] extra`, or its directory to `[index] find-links`".to_owned()
            }
            Self::Offline { .. } => {
                "run once with a network, or put the file in a `[index] find-links` directory".to_owned()
            }
            Self::Commit(_) => "pin the full hash, 40 hex digits: a branch or a tag may move".to_owned(),
            Self::Git { .. } => "check that `git fetch` of this address works here without a question".to_owned(),
            Self::Write(_) => FULL.to_owned(),
            Self::Store(error) => return error.hint(),
            _ => return None,
        })
    }

    /// Whether another try may pass.
    pub fn transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Transport { .. } => true,
            _ => false,
        }
    }

    /// Whether the network or a server is to blame, not what was asked for.
    pub fn unavailable(&self) -> bool {
        self.transient() || matches!(self, Self::Offline { .. } | Self::Git { .. })
    }

    /// Whether the same bytes may still be found at another address.
    pub(super) fn elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Transport { .. }
                | Self::NotFound { .. }
                | Self::Address { .. }
                | Self::Offline { .. }
        )
    }

    /// An error while bytes were written.
    pub(super) fn write(error: io::Error) -> Self {
        StoreError::inside(error).map_or_else(Self::Write, Self::Store)
    }

    /// An error while a body was read.
    pub(super) fn body(name: &str, url: &str, source: io::Error) -> Self {
        let (name, url) = (name.to_owned(), url.to_owned());
        // The HTTP client wraps its own errors, which may quote an address with a secret.
        match source.downcast::<reqwest::Error>() {
            Ok(error) => Self::Transport { name, url, source: Box::new(error.without_url()) },
            Err(error) => Self::Transport { name, url, source: Box::new(error) },
        }
    }
}

/// Reads an address.
pub(super) fn address(text: &str) -> Result<Url, FetchError> {
    // What cannot be parsed cannot be masked either, so nothing after the scheme is shown.
    let scheme =
        || text.split_once("://").map_or_else(|| "an address".to_owned(), |(scheme, _)| format!("{scheme}://…"));
    Url::parse(text).map_err(|_| FetchError::Address { url: scheme(), why: "it is not a URL" })
}

/// An address as messages show it: without name, password, query and fragment, any of which may be a secret.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for addresses that cannot have a name at all.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}
