//! One GET: with credentials, retried where the fault may pass, redirected only to where a file may come from.

use std::io::Read;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use reqwest::{Url, redirect};

use super::credentials::Credentials;
use super::error::{FetchError, shown};
use crate::store::Until;

/// How often a passing fault is retried.
const RETRIES: u32 = 4;
/// The longest that a server may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How often a request may be sent elsewhere.
const REDIRECTS: usize = 10;

/// A client, made when it is first needed: a run that has all that it wants opens no socket and reads no certificate.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Arc<OnceLock<Client>>,
    credentials: Credentials,
    offline: bool,
    retry_after: Duration,
    until: Until,
}

impl Http {
    pub(super) fn new(credentials: Credentials, offline: bool, retry_after: Duration) -> Self {
        Self { client: Arc::default(), credentials, offline, retry_after, until: Until::default() }
    }

    /// The same, for as long as that is wanted.
    pub(super) fn wanted(&self, until: Until) -> Self {
        Self { until, ..self.clone() }
    }

    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(super) fn offline(&self) -> bool {
        self.offline
    }

    /// Gets `url` and gives its body to `read`, which starts anew with each try. `name` is for messages.
    pub(super) fn get<T>(
        &self,
        name: &str,
        url: &Url,
        accept: Option<&str>,
        read: impl Fn(&mut Response) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        if self.offline {
            return Err(FetchError::Offline { name: name.to_owned() });
        }
        let mut wait = self.retry_after;
        for retry in 0.. {
            self.until.look()?;
            let mut asked = None;
            let result = self.send(name, url, accept, &mut asked).and_then(|mut response| read(&mut response));
            match result {
                Err(error) if error.transient() && retry < RETRIES => {
                    self.until.sleep(asked.unwrap_or(wait).min(LONGEST_WAIT))?;
                    wait *= 2;
                }
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }

    /// Sends one request; how long a server that is busy asks us to wait goes to `asked`.
    fn send(
        &self,
        name: &str,
        url: &Url,
        accept: Option<&str>,
        asked: &mut Option<Duration>,
    ) -> Result<Response, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Address { url: shown(url), why: "only http and https are fetched" });
        }
        let broken = |source: reqwest::Error| FetchError::Transport {
            name: name.to_owned(),
            url: shown(url),
            source: Box::new(source.without_url()),
        };
        let client = self.client().map_err(broken)?;
        let request = self.credentials.apply(url, |url| client.get(url).timeout(self.until.left().min(SILENCE)));
        let request = match accept {
            Some(types) => request.header(ACCEPT, types),
            // A file is wanted as it is: a server that compresses an archive once more makes other bytes of it.
            None => request.header(ACCEPT_ENCODING, "identity"),
        };
        let response = request.send().map_err(|error| match refusal(&error) {
            Some(why) => FetchError::Address { url: shown(url), why },
            None => broken(error),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            // The client itself follows to http and https only.
            return Err(FetchError::Address { url: shown(url), why: "it redirects to what is neither http nor https" });
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        *asked = seconds.map(Duration::from_secs);
        let host = response.url().host_str().unwrap_or_default().to_owned();
        Err(FetchError::Status { name: name.to_owned(), url: shown(url), host, status })
    }

    fn client(&self) -> Result<&Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        install_crypto();
        let client = Client::builder()
            .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::custom(follow))
            .referer(false)
            .connect_timeout(SILENCE / 2)
            // For a blocking client this is how long each single read may take.
            .timeout(SILENCE)
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Why a redirect was not followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let safe = |url: &Url| url.scheme() == "https";
    let was_safe = attempt.previous().last().is_some_and(safe);
    if was_safe && !safe(attempt.url()) {
        attempt.error(Refused("it redirects from https to http"))
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error(Refused("it redirects without end"))
    } else {
        attempt.follow()
    }
}

fn refusal(error: &reqwest::Error) -> Option<&'static str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Refused(why)) = error.downcast_ref() {
            return Some(why);
        }
        cause = error.source();
    }
    None
}

/// Tells rustls once which implementation of cryptography it uses.
pub(super) fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where another part of the process has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Reads a page of text that is not endless.
pub(super) fn text(name: &str, url: &Url, response: &mut Response, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let body = |source| FetchError::body(name, &shown(url), source);
    response.take(limit + 1).read_to_end(&mut bytes).map_err(body)?;
    if bytes.len() as u64 > limit {
        return Err(FetchError::TooLarge { name: name.to_owned(), url: shown(url), limit });
    }
    Ok(bytes)
}
