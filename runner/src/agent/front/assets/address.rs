//! Where pages ask for static files, as the settings of their application say: a path, or a name of their own and a path there.

use hyper::Request;

use super::super::public::domain_of;

/// What `STATIC_URL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// In lower case; none: the name of the pages themselves.
    pub(crate) host: Option<String>,
    /// With a slash at both ends.
    path: String,
}

impl Address {
    /// None where no front could tell its files from pages.
    pub(crate) fn of(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https:").or_else(|| url.strip_prefix("http:")).unwrap_or(url);
        let (host, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(rest) => {
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let name = host.split_once(':').map_or(host, |(name, _)| name);
                (Some(name.to_ascii_lowercase()), path)
            }
        };
        let path = format!("{}/", path.trim_end_matches('/'));
        (path.starts_with('/') && (path.len() > 1 || host.is_some())).then_some(Self { host, path })
    }

    /// The path of a file that is asked for. Whoever passes files on under another name, such as a CDN, may ask by any name; but the
    /// top of another name is the application's.
    pub(super) fn within<'a, B>(&self, request: &'a Request<B>) -> Option<&'a str> {
        let path = request.uri().path().strip_prefix(&self.path)?;
        let is_host = || {
            domain_of(request)
                .is_some_and(|name| self.host.as_deref().is_some_and(|host| name.eq_ignore_ascii_case(host)))
        };
        (self.path.len() > 1 || is_host()).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_where_their_address_says() {
        let within = |url: &str, host: &str, path: &'static str| {
            let request = Request::get(path).header("host", host).body(()).expect("a request");
            Some(Address::of(url)?.within(&request)?.to_owned())
        };
        assert_eq!(within("/static/", "a.test", "/static/x.css").as_deref(), Some("x.css"));
        for url in ["https://Static.test/", "//static.test", "http://static.test:8000/"] {
            assert_eq!(within(url, "static.test:80", "/css/x.css").as_deref(), Some("css/x.css"), "{url}");
            assert_eq!(within(url, "a.test", "/css/x.css"), None, "{url}");
        }
        assert_eq!(within("https://cdn.test/s/", "a.test", "/s/x.css").as_deref(), Some("x.css"), "a CDN fetches it");
        assert!(Address::of("/").is_none() && Address::of("static/").is_none() && Address::of("").is_none());
    }
}
