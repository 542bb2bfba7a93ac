//! Where the content of a package comes from, by its entry in the lock. Plain data.

use std::fmt::Write as _;

use pipe_sdk::Failure;

use crate::lock::{Package, join};

/// The registry that stands for the pipeline's own: the runner puts that in its place.
const REGISTRY: &str = "https://registry.npmjs.org";

/// Where a package's content comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An archive, known by its hash.
    Archive(Archive),
    /// A commit of a git repository.
    Git { url: String, commit: String },
    /// An archive in the project.
    File(String),
    /// A directory of the project, copied.
    Directory(String),
    /// A symbolic link.
    Link(String),
    /// Nothing to fetch: it comes inside of another package.
    Bundled,
}

/// An archive to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The grant that covers it: `npm`, or `https` where it is on no registry.
    pub(crate) source: &'static str,
    pub(crate) url: String,
    /// For messages: `name@version`.
    pub(crate) name: String,
    /// `sha512:…` and the like.
    pub(crate) digest: String,
}

impl Origin {
    /// Reads it off the lock's entry for `place`; `root` is the lock's directory in the project.
    pub(crate) fn of(place: &str, package: &Package, root: &str) -> Result<Self, Failure> {
        if package.in_bundle {
            return Ok(Self::Bundled);
        }
        let resolved = package.resolved.as_deref();
        if package.link {
            let target = resolved.ok_or_else(|| damaged(place, "is a link that leads nowhere"))?;
            return Ok(Self::Link(relative(place, target)));
        }
        match resolved {
            Some(path) if path.starts_with("file:") => Ok(Self::in_project(&path["file:".len()..], root)),
            Some(url) if url.starts_with("git") => Self::commit(place, url),
            resolved => Archive::of(place, package, resolved).map(Self::Archive),
        }
    }

    fn in_project(path: &str, root: &str) -> Self {
        let place = normal(&join(root, path));
        if [".tgz", ".tar.gz", ".tar"].iter().any(|ending| place.ends_with(ending)) {
            Self::File(place)
        } else {
            Self::Directory(place)
        }
    }

    /// `git+ssh://git@github.com/user/name.git#<commit>`: nobody has a key in a build, so it is fetched by HTTPS.
    fn commit(place: &str, url: &str) -> Result<Self, Failure> {
        let (url, commit) =
            url.rsplit_once('#').ok_or_else(|| damaged(place, "names a git repository and no commit"))?;
        let url = url.strip_prefix("git+").unwrap_or(url);
        let url = match url.strip_prefix("ssh://git@").or_else(|| url.strip_prefix("git://")) {
            Some(rest) => format!("https://{}", rest.replacen(':', "/", 1)),
            None => url.to_owned(),
        };
        Ok(Self::Git { url, commit: commit.to_owned() })
    }
}

impl Archive {
    fn of(place: &str, package: &Package, resolved: Option<&str>) -> Result<Self, Failure> {
        let name = package.name(place);
        let version = package.version.as_deref().unwrap_or_default();
        let integrity = package.integrity.as_deref().ok_or_else(|| damaged(place, "has no `integrity`"))?;
        let digest = digest(integrity).ok_or_else(|| damaged(place, "has an `integrity` that is no hash"))?;
        let url = match resolved {
            Some(url) => url.to_owned(),
            // npm leaves it out where it is told to, and then this is what it is.
            None if !version.is_empty() => {
                let file = name.rsplit('/').next().unwrap_or(name);
                format!("{REGISTRY}/{name}/-/{file}-{version}.tgz")
            }
            None => return Err(damaged(place, "has neither an address nor a version")),
        };
        let source = if url.contains("/-/") { "npm" } else { "https" };
        Ok(Self { source, url, name: format!("{name}@{version}"), digest })
    }
}

fn damaged(place: &str, why: &str) -> Failure {
    Failure::invalid(format!("`{place}` of the lock {why}"))
        .hint("write the lock anew: remove `node_modules` and `package-lock.json`, and run `npm install`")
}

/// The strongest hash of a Subresource Integrity text, as a digest: `sha512-<base64>` is `sha512:<hex>`.
fn digest(integrity: &str) -> Option<String> {
    ["sha512", "sha256", "sha1"].into_iter().find_map(|function| {
        let mut hashes = integrity.split_whitespace().filter_map(|hash| hash.strip_prefix(function)?.strip_prefix('-'));
        let hash = hashes.next()?;
        Some(format!("{function}:{}", hex_of_base64(hash.split('?').next().unwrap_or(hash))?))
    })
}

/// Standard base64 as lower-case hex; none where it is not that.
fn hex_of_base64(text: &str) -> Option<String> {
    let (mut hex, mut bits, mut held) = (String::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            write!(hex, "{:02x}", (bits >> held) & 0xff).ok()?;
        }
    }
    Some(hex)
}

/// What a link at `place` says to lead to `target`, both paths from the lock's directory.
pub(crate) fn relative(place: &str, target: &str) -> String {
    let (directory, target) = (place.rsplit_once('/').map_or("", |(directory, _)| directory), normal(target));
    let from: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let parts: Vec<&str> = from[shared..].iter().map(|_| "..").chain(to[shared..].iter().copied()).collect();
    parts.join("/")
}

/// A path without `.` and, as far as it does not start with one, `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(place: &str, entry: &str) -> Result<Origin, Failure> {
        let package: Package = pipe_sdk::serde_json::from_str(entry).expect("an entry of a lock");
        Origin::of(place, &package, "ui")
    }

    #[test]
    fn integrity_becomes_a_digest() {
        assert_eq!(
            digest("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=").expect("a hash"),
            "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        let both = "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(both).expect("a hash"), sha256);
        assert_eq!(digest("md5-abc"), None);
        assert_eq!(digest("sha1-!"), None);
    }

    #[test]
    fn an_address_that_was_left_out_is_the_registrys() {
        let entry = r#"{"version":"7.1.0","integrity":"sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}"#;
        let Origin::Archive(archive) = origin("node_modules/@vitejs/plugin", entry).expect("an origin") else {
            panic!("it is an archive");
        };
        assert_eq!(archive.url, "https://registry.npmjs.org/@vitejs/plugin/-/plugin-7.1.0.tgz");
        assert_eq!((archive.source, archive.name.as_str()), ("npm", "@vitejs/plugin@7.1.0"));
    }

    #[test]
    fn an_archive_of_no_registry_needs_another_grant() {
        let entry = r#"{"version":"1.0.0","resolved":"https://example.org/a.tgz",
            "integrity":"sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}"#;
        let Origin::Archive(archive) = origin("node_modules/a", entry).expect("an origin") else {
            panic!("it is an archive");
        };
        assert_eq!((archive.source, archive.url.as_str()), ("https", "https://example.org/a.tgz"));
    }

    #[test]
    fn without_a_hash_nothing_is_fetched() {
        let failure = origin("node_modules/a", r#"{"version":"1.0.0","resolved":"https://example.org/a.tgz"}"#);
        assert_eq!(failure.expect_err("a failure").message, "`node_modules/a` of the lock has no `integrity`");
    }

    #[test]
    fn a_git_dependency_is_its_commit() {
        let entry = r#"{"resolved":"git+ssh://git@github.com/user/a.git#0123abc","integrity":"sha512-x"}"#;
        let (url, commit) = ("https://github.com/user/a.git".to_owned(), "0123abc".to_owned());
        assert_eq!(origin("node_modules/a", entry).expect("an origin"), Origin::Git { url, commit });
        assert!(origin("node_modules/a", r#"{"resolved":"git+https://github.com/user/a.git"}"#).is_err());
    }

    #[test]
    fn files_are_found_from_the_locks_directory() {
        let of = |entry| origin("node_modules/a", entry).expect("an origin");
        assert_eq!(of(r#"{"resolved":"file:../vendor/a.tgz"}"#), Origin::File("vendor/a.tgz".to_owned()));
        assert_eq!(of(r#"{"resolved":"file:lib/a"}"#), Origin::Directory("ui/lib/a".to_owned()));
        assert_eq!(of(r#"{"inBundle":true,"version":"1"}"#), Origin::Bundled);
    }

    #[test]
    fn links_are_relative_to_their_own_place() {
        assert_eq!(relative("node_modules/@s/w", "packages/w"), "../../packages/w");
        assert_eq!(relative("node_modules/w", "../shared"), "../../shared");
        assert_eq!(relative("packages/a/node_modules/b", "packages/b"), "../../b");
    }
}
