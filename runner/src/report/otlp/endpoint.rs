//! Where traces are sent to, and the sending. The variables are those of OpenTelemetry's exporters.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::thread;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// How long sending may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is waited before a server that is busy is asked again.
const PAUSE: Duration = Duration::from_millis(300);

/// A server that takes traces.
#[derive(Debug)]
pub(crate) struct Endpoint {
    url: Url,
    headers: HeaderMap,
    patience: Duration,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// Not an address.
    #[error("`{url}` is not an address of an OTLP server: {why}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A protocol that is not spoken here.
    #[error("traces are sent by OTLP over HTTP, and OTEL_EXPORTER_OTLP_PROTOCOL asks for `{0}`")]
    Protocol(String),
    /// The server is not there, or is too slow.
    #[error("the trace was not sent to {url}: {why}")]
    NotSent {
        /// Where to.
        url: String,
        /// Why not.
        why: String,
    },
    /// The server did not keep all of it.
    #[error("{url} refused {spans} spans: {why}")]
    Refused {
        /// The server.
        url: String,
        /// How many.
        spans: u64,
        /// What it says.
        why: String,
    },
}

impl Endpoint {
    /// A server by its address, to which `/v1/traces` is added.
    pub(crate) fn at(base: &str) -> Result<Self, EndpointError> {
        let base = base.trim_end_matches('/');
        let suffix = if base.ends_with("/v1/traces") { "" } else { "/v1/traces" };
        Self::new(&format!("{base}{suffix}"), |name| std::env::var(name).ok())
    }

    /// The one that the environment names, if it names one.
    pub(crate) fn of_environment() -> Result<Option<Self>, EndpointError> {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, EndpointError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let url = match (set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), set("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            _ if off => return Ok(None),
            (Some(url), _) => url,
            (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
            (None, None) => return Ok(None),
        };
        let protocol = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        match protocol {
            Some(protocol) if !protocol.starts_with("http/") => Err(EndpointError::Protocol(protocol)),
            _ => Self::new(&url, variable).map(Some),
        }
    }

    fn new(address: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointError> {
        let wrong = |why: String| EndpointError::Address { url: address.to_owned(), why };
        let url = Url::parse(address).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it starts with neither http:// nor https://".to_owned()));
        }
        let of = |name: &str| {
            let specific = name.replace("OTLP_", "OTLP_TRACES_");
            variable(&specific).or_else(|| variable(name)).filter(|value| !value.is_empty())
        };
        let headers = of("OTEL_EXPORTER_OTLP_HEADERS").map(|text| headers(&text)).unwrap_or_default();
        let patience = of("OTEL_EXPORTER_OTLP_TIMEOUT").and_then(|text| text.parse().ok());
        Ok(Self { url, headers, patience: patience.map_or(PATIENCE, Duration::from_millis) })
    }

    /// Sends a request; a server that is busy is asked again while there is time.
    pub(super) fn post(&self, request: &Value) -> Result<(), EndpointError> {
        // Fails only where another part of the process has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let not_sent = |why: String| EndpointError::NotSent { url: self.url.to_string(), why };
        let broken = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::iter::successors(std::error::Error::source(&error), |error| error.source()).last();
            not_sent(cause.map_or_else(|| error.to_string(), ToString::to_string))
        };
        let began = Instant::now();
        let client =
            Client::builder().user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION"))).build().map_err(broken)?;
        loop {
            let left = self.patience.saturating_sub(began.elapsed());
            let sent = client.post(self.url.clone()).headers(self.headers.clone()).timeout(left).json(request).send();
            let answer = sent.map_err(broken)?;
            let status = answer.status();
            if status.is_success() {
                return self.understood(&answer.json().unwrap_or_default());
            }
            let passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            if !passing || began.elapsed() + PAUSE >= self.patience {
                return Err(not_sent(format!("it answers {status}")));
            }
            thread::sleep(PAUSE);
        }
    }

    /// A server may take some spans and refuse others.
    fn understood(&self, answer: &Value) -> Result<(), EndpointError> {
        let partial = &answer["partialSuccess"];
        // 64-bit numbers are texts in this JSON, and some servers write them as numbers.
        let count = &partial["rejectedSpans"];
        let spans = count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0);
        if spans == 0 {
            return Ok(());
        }
        let why = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
        Err(EndpointError::Refused { url: self.url.to_string(), spans, why })
    }
}

/// Headers as `name=value,name=value`, values percent-encoded; what is none is left out.
fn headers(text: &str) -> HeaderMap {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.filter_map(|(name, value)| {
        let mut value = HeaderValue::from_bytes(&decoded(value.trim())).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
    });
    pairs.collect()
}

fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Endpoint>, EndpointError> {
        Endpoint::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_names_a_server_in_opentelemetrys_words() {
        let url = |variables: &[(&str, &str)]| of(variables).expect("right").map(|endpoint| endpoint.url.to_string());
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[base]).as_deref(), Some("http://collector:4318/v1/traces"));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example.org/in");
        assert_eq!(url(&[base, own]).as_deref(), Some("https://traces.example.org/in"));
        assert_eq!(url(&[base, ("OTEL_SDK_DISABLED", "true")]), None);
        assert_eq!(url(&[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert!(matches!(of(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Err(EndpointError::Protocol(_))));
        let wrong = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")]);
        assert!(matches!(wrong, Err(EndpointError::Address { .. })));
    }

    #[test]
    fn headers_are_decoded() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let endpoint = of(&[base, ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc==, x-team=a%2Cb")]);
        let headers = endpoint.expect("right").expect("some").headers;
        assert_eq!(headers["authorization"], "Basic abc==");
        assert_eq!(headers["x-team"], "a,b");
    }
}
