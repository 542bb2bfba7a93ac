//! Settings of a target as a pipeline file has them: read, with the file of names and values that lies beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::target::{Limits, Settings, Target, Tls};
use crate::pipeline::{self, Pipeline};

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file that `env-file` names.
    #[error("cannot read `{path}`, the `env-file` of target `{target}`")]
    EnvFile {
        /// The target.
        target: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of that file.
    #[error("{path}:{line}: not `NAME=value`", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// A name that `env` and the file cannot set.
    #[error("target `{target}` sets `{name}`, which is the front's to choose")]
    Reserved {
        /// The target.
        target: String,
        /// The name.
        name: String,
    },
}

impl SettingsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::EnvFile { path, .. } => Some(format!("write `{}`: one `NAME=value` a line", path.display())),
            Self::Line { .. } => Some("write one `NAME=value` a line; `#` begins a comment".into()),
            Self::Reserved { .. } => Some("set `address` to where the target is to listen".into()),
        }
    }
}

impl Target {
    /// A target of a pipeline.
    pub fn of(pipeline: &Pipeline, target: &pipeline::Target) -> Result<Self, SettingsError> {
        let name = target.name.to_string();
        let mut env: BTreeMap<_, _> =
            target.env.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        if let Some(file) = &target.env_file {
            let path = pipeline.resolve(file);
            let text = fs::read_to_string(&path).map_err(|source| SettingsError::EnvFile {
                target: name.clone(),
                path: path.clone(),
                source,
            })?;
            // What nobody else may read knows better.
            env.extend(env_file(&text).map_err(|line| SettingsError::Line { path, line })?);
        }
        if env.contains_key("PORT") {
            return Err(SettingsError::Reserved { target: name, name: "PORT".into() });
        }
        let texts = |list: &[pipeline::Spanned<String>]| list.iter().map(ToString::to_string).collect();
        let usual = Limits::default();
        let settings = Settings {
            env,
            branch: target.branch.as_ref().map(ToString::to_string),
            expires: target.expires.as_deref().copied(),
            release_commands: texts(&target.release_commands),
            cron: target.cron.iter().map(|(name, entry)| (name.clone(), entry.to_string())).collect(),
            data: texts(&target.data),
            address: target.address.as_ref().map(|address| **address),
            host: target.host.as_ref().map(ToString::to_string),
            domains: texts(&target.domains),
            tls: target.tls.as_deref().map(|tls| resolved(tls, pipeline)),
            http: target.http.as_deref().copied(),
            https: target.https.as_deref().copied(),
            preflight: target.preflight,
            health: target.health.as_ref().map(ToString::to_string),
            limits: Limits {
                body: target.limits.body.as_deref().copied().unwrap_or(usual.body),
                answer: target.limits.answer.as_deref().copied().unwrap_or(usual.answer),
                release: target.limits.release.as_deref().copied().unwrap_or(usual.release),
                memory: target.limits.memory.as_deref().copied().or(usual.memory),
            },
        };
        Ok(Self { app: pipeline.app.name.to_string(), name, settings })
    }
}

/// Files are named from where the pipeline file is; the agent works elsewhere.
fn resolved(tls: &Tls, pipeline: &Pipeline) -> Tls {
    let resolve = |path: &Path| {
        let path = pipeline.resolve(path);
        std::path::absolute(&path).unwrap_or(path)
    };
    match tls {
        Tls::Files { certificate, key } => Tls::Files { certificate: resolve(certificate), key: resolve(key) },
        acme @ Tls::Acme { .. } => acme.clone(),
    }
}

/// Reads lines of `NAME=value`, as shells and other tools write them: comments, `export` and quotes are understood, and quotes
/// that are closed on a later line. The error is the number of a line that is none.
pub fn env_file(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut env = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, below) = first_line(rest);
        let is_said = !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if !is_said {
            rest = below;
            continue;
        }
        let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let (name, value) = rest.split_once('=').filter(|_| line.contains('=')).ok_or(number)?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !is_name {
            return Err(number);
        }
        let (value, below) = quoted(value.trim_start_matches([' ', '\t'])).unwrap_or_else(|| {
            let (value, below) = first_line(value);
            (value.split_once(" #").map_or(value, |(value, _)| value).trim().to_owned(), below)
        });
        env.insert(name.to_owned(), value);
        rest = below;
    }
    Ok(env)
}

fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// The value that a text begins with, where it is in quotes, and the lines below it. After the closing quote a line has nothing
/// more, or a comment; any other quote is a part of the value.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    let inner = &text[1..];
    let is_escaped = |at: usize| {
        let before = inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        quote == '"' && before % 2 == 1
    };
    inner.match_indices(quote).filter(|(at, _)| !is_escaped(*at)).find_map(|(at, _)| {
        let (after, below) = first_line(&inner[at + 1..]);
        let is_end = after.trim().is_empty() || after.trim_start().starts_with('#');
        let value = &inner[..at];
        is_end.then(|| (if quote == '"' { unescaped(value) } else { value.to_owned() }, below))
    })
}

/// `\n`, `\"` and `\\` as what they stand for; every other backslash is one.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match (char, rest.clone().next()) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(next @ ('"' | '\\'))) => plain.push(next),
            _ => {
                plain.push(char);
                continue;
            }
        }
        rest.next();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_tools_are_read() {
        let text = "# comment\n\nA=1\nexport B = 'x y' \nC=\"a\\nb\"\nD=p#q # note\nE=\nF=a=b\n";
        let env = env_file(text).expect("an environment");
        let expected = [("A", "1"), ("B", "x y"), ("C", "a\nb"), ("D", "p#q"), ("E", ""), ("F", "a=b")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn quotes_may_be_closed_on_a_later_line_and_a_comment_may_follow() {
        let text = "A=\"-----BEGIN-----\r\nx=y\n# no comment\n-----END-----\"\nB='{\n  \"b\": 1\n}' # note\nC=\"{\"c\": \\\"1\\\"}\"\nD=\"it\nE=1";
        let env = env_file(text).expect("an environment");
        let pem = "-----BEGIN-----\r\nx=y\n# no comment\n-----END-----";
        let expected = [("A", pem), ("B", "{\n  \"b\": 1\n}"), ("C", "{\"c\": \"1\"}"), ("D", "\"it"), ("E", "1")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn the_file_says_more_than_the_pipeline() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = "[targets.t]\ndriver = \"local\"\nrelease = \"slug\"\nenv = { A = \"1\", B = \"2\" }\nenv-file = \".env\"\n";
        let text = format!("[app]\nname = \"polls\"\n[steps.slug]\nplugin = \"slug\"\n{target}");
        let pipeline = crate::pipeline::parse(&dir.path().join("release.pipeline"), &text).expect("a pipeline");
        fs::write(dir.path().join(".env"), "B=3\nC=4\n").expect("a file");
        let target = Target::of(&pipeline, &pipeline.targets[0]).expect("a target");
        let expected = [("A", "1"), ("B", "3"), ("C", "4")];
        assert_eq!(target.settings.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        assert_eq!(env_file("A='1\n2'\nB\nC=1"), Err(3));
        assert_eq!(env_file("A=1\nB"), Err(2));
        assert_eq!(env_file("A B=1"), Err(1));
    }
}
