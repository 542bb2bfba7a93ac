//! The JSON schema of a pipeline file, for editors; made from the very types that the file is read into.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::Pipeline;

/// The schema as JSON.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(without_null))
        .with_transform(RecursiveTransform(without_empty_default));
    settings.into_generator().into_root_schema_for::<Pipeline>().to_value()
}

/// TOML has no `null`: what is optional is left out.
fn without_null(schema: &mut Schema) {
    let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) else { return };
    types.retain(|kind| kind != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        schema.insert("type".to_owned(), only);
    }
}

/// What stands for a key that is left out is told where it is a value that could be written; the rest is how it is in memory.
fn without_empty_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(|value| value.is_null() || value.is_array() || value.is_object()) {
        schema.remove("default");
    }
}

/// A value or a list of values.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum OneOrMany {
    /// A step, `step.port` or `source`.
    One(String),
    /// Several of these, for a port that takes a list.
    Many(Vec<String>),
}

/// What native programs stand on; which keys apply depends on `kind`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Runtime {
    /// `host`: the machine's own; `packages`: Debian packages, pinned; `archive`: a standalone Python.
    #[schemars(extend("enum" = ["host", "packages", "archive"]))]
    kind: Option<String>,
    /// The interpreter (`host`).
    python: Option<String>,
    /// Debian packages at build and in production (`packages`).
    system: Option<Vec<String>>,
    /// Debian packages for builds only (`packages`).
    build_system: Option<Vec<String>>,
    /// The Debian mirror (`packages`).
    mirror: Option<String>,
    /// The Debian release (`packages`).
    suite: Option<String>,
    /// Where the archive is (`archive`).
    url: Option<String>,
    /// What the archive's bytes must be, in hex (`archive`).
    sha256: Option<String>,
}

/// Where a secret is read.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields, extend("oneOf" = [{ "required": ["env"] }, { "required": ["file"] }]))]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Secret {
    /// The variable of `pipe`'s environment that holds it.
    env: Option<String>,
    /// The file that it is in, relative to the pipeline file.
    file: Option<String>,
}

/// Where certificates for a target's domains come from.
#[derive(JsonSchema)]
#[schemars(untagged, deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Tls {
    /// Let's Encrypt.
    #[schemars(extend("enum" = ["acme"]))]
    Usual(String),
    /// An authority that signs them by itself.
    Acme {
        /// The address of its directory, or `letsencrypt`.
        acme: String,
        /// Whom it may write to.
        email: Option<String>,
    },
    /// Files that somebody else renews.
    Files {
        /// The certificate, with those above it, as PEM.
        certificate: String,
        /// Its key.
        key: String,
    },
}

/// Where a target's slugs come from.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Origin {
    /// The step whose slug runs here.
    release: Option<String>,
    /// The target whose slug runs here after it, never rebuilt.
    promote: Option<String>,
}
