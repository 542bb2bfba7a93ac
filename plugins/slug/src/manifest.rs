//! What a slug is, as canonical JSON: keys in order, no white space, content only. Knows nothing of how it came about.

use std::collections::BTreeMap;

use serde::Serialize;

/// Raised when a field changes its meaning.
pub(crate) const FORMAT: u32 = 1;

/// The manifest; its fields stand in alphabetical order, since that is the order of the keys.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    /// The application's name.
    pub(crate) app: String,
    /// Where in `/app/src` processes and release commands start.
    pub(crate) directory: String,
    /// Names of the variables that a target must set, sorted.
    pub(crate) environment: Vec<String>,
    pub(crate) format: u32,
    /// Links outside of `/app` that the project's settings count on.
    pub(crate) links: Vec<Link>,
    pub(crate) platform: String,
    /// Shell commands by process.
    pub(crate) processes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<String>,
    /// The `release` line of a `Procfile`: a command to run before a release serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<String>,
    /// The digest of the runtime that it was built on and runs on.
    pub(crate) runtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) static_url: Option<String>,
    pub(crate) trees: Trees,
}

/// A symbolic link.
#[derive(Debug, Serialize)]
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) target: String,
}

/// The digests of what is at `/app`.
#[derive(Debug, Serialize)]
pub(crate) struct Trees {
    pub(crate) src: String,
    pub(crate) r#static: String,
    pub(crate) venv: String,
}

impl Manifest {
    /// The bytes whose hash is the slug's id.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest holds only texts and numbers")
    }
}

/// Names in order, each once.
pub(crate) fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding is a contract: a change here gives every slug another id.
    #[test]
    fn the_encoding_is_pinned() {
        let manifest = Manifest {
            app: "polls".into(),
            directory: String::new(),
            environment: sorted(vec!["SECRET_KEY".into(), "A".into(), "A".into()]),
            format: FORMAT,
            links: vec![Link { path: "/var/www".into(), target: "/app/static".into() }],
            platform: "linux-x86_64-gnu".into(),
            processes: BTreeMap::from([("web".into(), "gunicorn".into())]),
            python: Some("3.11".into()),
            release: None,
            runtime: "blake3:r".into(),
            static_url: Some("/static/".into()),
            trees: Trees { src: "blake3:a".into(), r#static: "blake3:b".into(), venv: "blake3:c".into() },
        };
        assert_eq!(
            String::from_utf8(manifest.encode()).expect("JSON is UTF-8"),
            r#"{"app":"polls","directory":"","environment":["A","SECRET_KEY"],"format":1,"links":[{"path":"/var/www","target":"/app/static"}],"platform":"linux-x86_64-gnu","processes":{"web":"gunicorn"},"python":"3.11","runtime":"blake3:r","static_url":"/static/","trees":{"src":"blake3:a","static":"blake3:b","venv":"blake3:c"}}"#
        );
    }
}
