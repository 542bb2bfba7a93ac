//! Settings of a target as a pipeline file has them: read, with the file of names and values that lies beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::env_file::{LineError, Repeated, env_file};
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
    #[error("{path}:{line}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: LineError,
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
            Self::Line { line, .. } => Some(line.hint().into()),
            Self::Reserved { .. } => Some("set `address` to where the target is to listen".into()),
        }
    }
}

impl Target {
    /// A target of a pipeline, and what its `env-file` says more than once.
    pub fn of(pipeline: &Pipeline, target: &pipeline::Target) -> Result<(Self, Vec<Repeated>), SettingsError> {
        let name = target.name.to_string();
        let mut env: BTreeMap<_, _> =
            target.env.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let mut repeated = Vec::new();
        if let Some(file) = &target.env_file {
            let path = pipeline.resolve(file);
            let text = fs::read_to_string(&path).map_err(|source| SettingsError::EnvFile {
                target: name.clone(),
                path: path.clone(),
                source,
            })?;
            // What nobody else may read knows better.
            let file = env_file(&text).map_err(|line| SettingsError::Line { path, line })?;
            env.extend(file.values);
            repeated = file.repeated;
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
            generate: texts(&target.generate),
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
                start: target.limits.start.as_deref().copied().unwrap_or(usual.start),
                memory: target.limits.memory.as_deref().copied().or(usual.memory),
            },
        };
        Ok((Self { app: pipeline.app.name.to_string(), name, settings }, repeated))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_more_than_the_pipeline() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = "[targets.t]\ndriver = \"local\"\nrelease = \"slug\"\nenv = { A = \"1\", B = \"2\" }\nenv-file = \".env\"\n";
        let text = format!("[app]\nname = \"polls\"\n[steps.slug]\nplugin = \"slug\"\n{target}");
        let pipeline = crate::pipeline::parse(&dir.path().join("release.pipeline"), &text).expect("a pipeline");
        fs::write(dir.path().join(".env"), "B=3\nC=4\n").expect("a file");
        let (target, _) = Target::of(&pipeline, &pipeline.targets[0]).expect("a target");
        let expected = [("A", "1"), ("B", "3"), ("C", "4")];
        assert_eq!(target.settings.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
