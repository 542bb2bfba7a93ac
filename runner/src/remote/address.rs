//! Where a host is, as other programs write it: `ssh://user@host:port/home`. The path is the directory of pipe's data there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    home: Option<String>,
}

/// A text that is no address of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a host: {why}")]
pub struct AddressError {
    /// What was read.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Address {
    /// The host's name, which may be one that the user's configuration of SSH knows.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it is named.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The directory of pipe's data there, where it is named.
    pub(super) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// Whom to log in as and where, for `ssh`'s command line.
    pub(super) fn destination(&self) -> String {
        self.user.as_ref().map_or_else(|| self.host.clone(), |user| format!("{user}@{}", self.host))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why| AddressError { text: text.to_owned(), why };
        let rest = text.strip_prefix("ssh://").ok_or_else(|| wrong("it does not begin with `ssh://`"))?;
        let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        let (host, port) = split_port(place).ok_or_else(|| wrong("its port is no number"))?;
        // Nothing that `ssh` or a shell could take for something else.
        let is_plain = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|char| char.is_ascii_alphanumeric() || "._-".contains(char) || more.contains(char))
        };
        if !is_plain(host, ":") {
            return Err(wrong("it names no host"));
        }
        if user.is_some_and(|user| !is_plain(user, "+")) {
            return Err(wrong("its user cannot be one"));
        }
        let path = path.trim_end_matches('/');
        if !path.is_empty() && !is_plain(path, "/+@~") {
            return Err(wrong("its directory has more than letters, digits and `/._-+@~` in it"));
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            home: (!path.is_empty()).then(|| format!("/{path}")),
        })
    }
}

/// A host and its port; a host with colons in it is in brackets.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some(parts) => parts,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if rest.is_empty() {
        return Some((host, None));
    }
    Some((host, Some(rest.strip_prefix(':')?.parse().ok()?)))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.home.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_as_they_were() {
        for text in ["ssh://example.org", "ssh://deploy@10.0.0.1:2222", "ssh://a@[::1]:22/srv/pipe", "ssh://web/opt/p"]
        {
            assert_eq!(text.parse::<Address>().expect("an address").to_string(), text);
        }
        let slash: Address = "ssh://web/".parse().expect("an address");
        assert_eq!(slash.home(), None);
    }

    #[test]
    fn what_ssh_or_a_shell_would_take_for_something_else_is_refused() {
        for text in ["example.org", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://-l@web", "ssh://web:x"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!("ssh://web/srv/$(id)".parse::<Address>().is_err());
        assert!("ssh://web/it's".parse::<Address>().is_err());
    }
}
