//! How a slug came about, as an in-toto statement with SLSA's provenance (<https://slsa.dev/spec/v1.0/provenance>).
//!
//! It is about the slug's id and stands beside it: plugins built by another compiler change the attestation, not a slug that
//! is the same. Knows nothing of runs; a run gives the account as plain data.

use serde_json::{Value, json};

use super::SlugError;
use crate::digest::Digest;

/// The shape of the parameters below; raised when they change their meaning.
const BUILD_TYPE: &str = "urn:pipe:build:1";
/// Who builds.
const BUILDER: &str = "urn:pipe:runner";

/// An account of a run, up to its slug.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The application's name.
    pub app: String,
    /// The slug's id.
    pub slug: Digest,
    /// The pipeline file's bytes.
    pub pipeline: Digest,
    /// What native programs ran on.
    pub runtime: Digest,
    /// The platform that the pipeline builds for.
    pub platform: String,
    /// What came from outside: the source, the lock and whatever else is known by digest.
    pub materials: Vec<Material>,
    /// The steps, in the order of the graph.
    pub steps: Vec<StepAccount>,
    /// When the run began and ended, in seconds since 1970.
    pub started: u64,
    /// See [`Provenance::started`].
    pub finished: u64,
}

/// Something from outside of the run.
#[derive(Debug, Clone)]
pub struct Material {
    /// What it is called: `source`, `lock`, `pipe.lock`.
    pub name: String,
    /// What it is.
    pub digest: Digest,
}

/// One step of the run.
#[derive(Debug, Clone)]
pub struct StepAccount {
    /// Its name in the pipeline.
    pub name: String,
    /// Its plugin, as the pipeline names it.
    pub plugin: String,
    /// The component's bytes.
    pub plugin_digest: Digest,
    /// Its canonical config.
    pub config: Digest,
    /// What it was granted: `exec python`, `fetch index`.
    pub grants: Vec<String>,
    /// What went in, by port, in the pipeline's order.
    pub inputs: Vec<(String, Digest)>,
    /// What came out, by port.
    pub outputs: Vec<(String, Digest)>,
}

/// Writes the statement.
pub fn attest(provenance: &Provenance) -> Vec<u8> {
    let plugins = provenance.steps.iter().map(|step| resource(&format!("plugin {}", step.plugin), &step.plugin_digest));
    let materials = provenance.materials.iter().map(|material| resource(&material.name, &material.digest));
    let mut dependencies: Vec<Value> = materials.chain([resource("runtime", &provenance.runtime)]).collect();
    for plugin in plugins {
        if !dependencies.contains(&plugin) {
            dependencies.push(plugin);
        }
    }
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [resource(&provenance.app, &provenance.slug)],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "pipeline": resource("pipeline", &provenance.pipeline), "platform": provenance.platform },
                "internalParameters": { "steps": provenance.steps.iter().map(step).collect::<Vec<_>>() },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "pipe": env!("CARGO_PKG_VERSION") } },
                "metadata": { "startedOn": timestamp(provenance.started), "finishedOn": timestamp(provenance.finished) },
            },
        },
    });
    pretty(&statement)
}

/// The same statement, about an exported file as well.
pub(super) fn about_file(statement: &[u8], name: &str, sha256: &str) -> Result<Vec<u8>, SlugError> {
    let mut statement: Value = serde_json::from_slice(statement)
        .map_err(|error| SlugError::NotASlug(format!("its attestation cannot be read: {error}")))?;
    if let Some(subjects) = statement["subject"].as_array_mut() {
        subjects.push(json!({ "name": name, "digest": { "sha256": sha256 } }));
    }
    Ok(pretty(&statement))
}

fn step(step: &StepAccount) -> Value {
    let values =
        |values: &[(String, Digest)]| values.iter().map(|(port, digest)| resource(port, digest)).collect::<Vec<_>>();
    json!({
        "name": step.name,
        "plugin": resource(&step.plugin, &step.plugin_digest),
        "config": { "digest": digest_set(&step.config) },
        "grants": step.grants,
        "inputs": values(&step.inputs),
        "outputs": values(&step.outputs),
    })
}

/// A resource descriptor: a name and a set of digests.
fn resource(name: &str, digest: &Digest) -> Value {
    json!({ "name": name, "digest": digest_set(digest) })
}

fn digest_set(digest: &Digest) -> Value {
    json!({ "blake3": digest.hex() })
}

fn pretty(statement: &Value) -> Vec<u8> {
    let mut text = format!("{statement:#}");
    text.push('\n');
    text.into_bytes()
}

/// Seconds since 1970 as RFC 3339 in UTC.
fn timestamp(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01: years begin in March, so that a leap day is the last of its year.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_392_324, "2026-11-23T00:05:24Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }

    #[test]
    fn a_statement_names_the_slug_and_each_plugin_once() {
        let digest = Digest::of(b"x");
        let step = |name: &str| StepAccount {
            name: name.to_owned(),
            plugin: "files".to_owned(),
            plugin_digest: digest,
            config: digest,
            grants: Vec::new(),
            inputs: vec![("project".to_owned(), digest)],
            outputs: vec![("out".to_owned(), digest)],
        };
        let provenance = Provenance {
            app: "polls".to_owned(),
            slug: digest,
            pipeline: digest,
            runtime: digest,
            platform: "linux-x86_64-gnu".to_owned(),
            materials: vec![Material { name: "source".to_owned(), digest }],
            steps: vec![step("a"), step("b")],
            started: 0,
            finished: 1,
        };
        let statement = about_file(&attest(&provenance), "polls.tar.zst", "00").expect("a statement");
        let statement: Value = serde_json::from_slice(&statement).expect("JSON");
        assert_eq!(statement["subject"][0], json!({ "name": "polls", "digest": { "blake3": digest.hex() } }));
        assert_eq!(statement["subject"][1]["digest"]["sha256"], "00");
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(definition["resolvedDependencies"].as_array().map(Vec::len), Some(3));
        assert_eq!(definition["internalParameters"]["steps"][1]["name"], "b");
    }
}
