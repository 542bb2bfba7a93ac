//! Names and passwords of private indexes: from the environment, from netrc, or from an index's own address.
//!
//! `PIPE_INDEX_<HOST>`, the host in capitals and `_` for all but letters and digits, holds `name:password` or a bearer token.

use std::collections::HashMap;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::blocking::RequestBuilder;

/// What the machine knows about private indexes. Never printed.
#[derive(Clone, Default)]
pub struct Credentials {
    /// By scheme, host and port.
    origins: HashMap<String, Secret>,
    /// By the host as a variable's name spells it.
    variables: HashMap<String, Secret>,
    /// By host; the empty one is for all others.
    netrc: HashMap<String, Secret>,
}

#[derive(Clone)]
enum Secret {
    Basic { name: String, password: String },
    Bearer(String),
}

/// Where a variable's name begins.
const VARIABLE: &str = "PIPE_INDEX_";

impl Credentials {
    /// Reads the variables `PIPE_INDEX_…` and the file that `NETRC` names, or `~/.netrc`.
    pub fn from_environment() -> Self {
        let path = std::env::var_os("NETRC")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".netrc")));
        let netrc = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::new(variables, &netrc)
    }

    /// Credentials of given variables and a given netrc.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, netrc: &str) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| {
            let host = name.strip_prefix(VARIABLE)?.to_owned();
            let secret = match value.split_once(':') {
                Some((name, password)) => Secret::Basic { name: name.to_owned(), password: password.to_owned() },
                None => Secret::Bearer(value),
            };
            Some((host, secret))
        });
        Self { origins: HashMap::new(), variables: variables.collect(), netrc: parse_netrc(netrc) }
    }

    /// Takes name and password out of an address, and keeps them for wherever that server is asked.
    pub(super) fn take_from(&mut self, mut url: Url) -> Url {
        if let Some(secret) = take(&mut url) {
            self.origins.insert(origin(&url), secret);
        }
        url
    }

    /// Adds what is known about a server to a request for `url`, and takes name and password out of `url` itself.
    pub(super) fn apply(&self, url: &Url, request: impl FnOnce(Url) -> RequestBuilder) -> RequestBuilder {
        let mut url = url.clone();
        let own = take(&mut url);
        let secret = own.as_ref().or_else(|| self.find(&url));
        let request = request(url);
        match secret {
            Some(Secret::Basic { name, password }) => request.basic_auth(name, Some(password)),
            Some(Secret::Bearer(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    /// All passwords and tokens, as they are and as an address spells them.
    pub(super) fn texts(&self) -> Vec<String> {
        let all = self.origins.values().chain(self.variables.values()).chain(self.netrc.values());
        let texts = all.map(|(Secret::Basic { password: text, .. } | Secret::Bearer(text))| text.clone());
        texts.flat_map(|text| encoded(&text).into_iter().chain([text])).collect()
    }

    fn find(&self, url: &Url) -> Option<&Secret> {
        let host = url.host_str()?;
        self.origins
            .get(&origin(url))
            .or_else(|| self.variables.get(variable_host(host).as_str()))
            .or_else(|| self.netrc.get(host))
            .or_else(|| self.netrc.get(""))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The variable that holds the credentials of a host.
pub(super) fn variable(host: &str) -> String {
    format!("{VARIABLE}{}", variable_host(host))
}

fn variable_host(host: &str) -> String {
    host.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn take(url: &mut Url) -> Option<Secret> {
    let name = decode(url.username());
    let password = decode(url.password().unwrap_or_default());
    if name.is_empty() && password.is_empty() {
        return None;
    }
    // Both only fail for addresses that cannot have a name at all.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(Secret::Basic { name, password })
}

/// A password as an address spells it.
fn encoded(text: &str) -> Option<String> {
    let mut url = Url::parse("https://name@host").ok()?;
    url.set_password(Some(text)).ok()?;
    url.password().map(str::to_owned)
}

/// Undoes the percent encoding of an address.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads `machine`, `default`, `login` and `password`; macros are passed over.
fn parse_netrc(text: &str) -> HashMap<String, Secret> {
    let mut entries = HashMap::new();
    let mut current: Option<(String, String, String)> = None;
    let mut keep = |entry: Option<(String, String, String)>| {
        if let Some((host, name, password)) = entry {
            entries.entry(host).or_insert(Secret::Basic { name, password });
        }
    };
    let mut in_macro = false;
    for line in text.lines() {
        in_macro &= !line.trim().is_empty();
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        while let (false, Some(word)) = (in_macro, words.next()) {
            match word {
                "machine" => {
                    let host = words.next().unwrap_or_default().to_owned();
                    keep(current.replace((host, String::new(), String::new())));
                }
                "default" => keep(current.replace(<_>::default())),
                "macdef" => in_macro = true,
                "login" | "password" | "account" => {
                    let value = words.next().unwrap_or_default().to_owned();
                    match (word, &mut current) {
                        ("login", Some((_, name, _))) => *name = value,
                        ("password", Some((_, _, password))) => *password = value,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
    keep(current);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(credentials: &Credentials, url: &str) -> Option<String> {
        let url = Url::parse(url).expect("an address");
        super::super::http::install_crypto();
        let client = reqwest::blocking::Client::new();
        let request = credentials.apply(&url, |url| client.get(url)).build().expect("a request");
        assert_eq!(request.url().username(), "");
        request.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn the_nearest_word_about_a_server_wins() {
        let netrc = "machine a.example login netrc password one # why\nmacdef x\n machine b.example login no\n\n\
                     machine c.example\n  login u\n  password p";
        let variables =
            [("PIPE_INDEX_A_EXAMPLE".into(), "env:two".into()), ("PIPE_INDEX_T_EXAMPLE".into(), "tok".into())];
        let mut credentials = Credentials::new(variables, netrc);
        assert_eq!(sent(&credentials, "https://a.example/x").as_deref(), Some("Basic ZW52OnR3bw=="));
        assert_eq!(sent(&credentials, "https://b.example/x"), None);
        assert_eq!(sent(&credentials, "https://c.example/x").as_deref(), Some("Basic dTpw"));
        assert_eq!(sent(&credentials, "https://t.example/x").as_deref(), Some("Bearer tok"));
        let url = credentials.take_from(Url::parse("https://me:p%40ss@a.example/simple").expect("an address"));
        assert_eq!(url.as_str(), "https://a.example/simple");
        assert_eq!(sent(&credentials, "https://a.example/x").as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(format!("{credentials:?}"), "Credentials(…)");
        for text in ["p@ss", "p%40ss", "two", "tok", "p"] {
            assert!(credentials.texts().iter().any(|known| known == text), "{text}");
        }
    }

    #[test]
    fn any_text_is_a_netrc() {
        pipe_fuzz::attack("netrc", |bytes| drop(parse_netrc(&String::from_utf8_lossy(bytes))));
    }
}
