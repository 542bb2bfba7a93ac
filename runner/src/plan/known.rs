//! What was read from a pipeline's text and planned before: the same text gives the same again, to the very same program and with
//! the same plugins. So a pipeline is read and checked once, and not in each run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Graph, PlanError, faults, graph, load_all, plan};
use crate::diagnostic::Document;
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::pipeline::check::Binding;
use crate::pipeline::{self, Pipeline};
use crate::plugin::{Plugin, Plugins};

/// A pipeline that was found to be right.
#[derive(Serialize, Deserialize)]
struct Known<P> {
    pipeline: P,
    /// Of the plugins that it was held against.
    plugins: Digest,
    bindings: Vec<Vec<Binding>>,
}

/// Reads a pipeline and plans it, or takes what came of that before; `path` is where the text is from.
pub fn read(path: &Path, text: &str, plugins: &Plugins) -> Result<(Pipeline, Graph), PlanError> {
    let name = name(path, text);
    if let Some(name) = &name
        && let Some(known) = find(name, path, text, plugins)?
    {
        return Ok(known);
    }
    let pipeline = match pipeline::parse(path, text) {
        Ok(pipeline) => pipeline,
        Err(malformed) => return Err(PlanError::Pipeline(faults(malformed, plugins)?)),
    };
    let graph = plan(&pipeline, plugins)?;
    if let Some(name) = name {
        let bindings = graph.node_weights().map(|step| step.bindings.clone()).collect();
        let plugins_of_steps = digest_of(graph.node_weights().map(|step| &*step.plugin));
        let known = Known { pipeline: &pipeline, plugins: plugins_of_steps, bindings };
        // What cannot be kept is read again.
        let _ = plugins.keep_made(&name, &postcard::to_stdvec(&known).expect("plain data"));
    }
    Ok((pipeline, graph))
}

/// What is known under a name; none where a plugin is another now.
fn find(name: &Digest, path: &Path, text: &str, plugins: &Plugins) -> Result<Option<(Pipeline, Graph)>, PlanError> {
    let made = plugins.made(name);
    let Some(known) = made.and_then(|made| postcard::from_bytes::<Known<Pipeline>>(&made).ok()) else {
        return Ok(None);
    };
    let mut pipeline = known.pipeline;
    pipeline.document = Document::new(path.display().to_string(), text);
    let (loaded, errors) = load_all(&pipeline, plugins)?;
    let loaded: Vec<Arc<Plugin>> = loaded.into_iter().flatten().collect();
    let is_as_it_was = errors.is_empty() && digest_of(loaded.iter().map(Arc::as_ref)) == known.plugins;
    Ok(is_as_it_was.then(|| {
        let graph = graph(&pipeline, loaded, known.bindings);
        (pipeline, graph)
    }))
}

/// The name of what comes of a text; none where it is not known which program this is.
fn name(path: &Path, text: &str) -> Option<Digest> {
    let program = fs::metadata("/proc/self/exe").ok()?;
    let parts = [program.dev(), program.ino(), program.size(), program.mtime().cast_unsigned()];
    let mut identity: Vec<u8> = parts.into_iter().flat_map(u64::to_le_bytes).collect();
    identity.extend_from_slice(&program.mtime_nsec().to_le_bytes());
    let key = KeyBuilder::new("plan").field("version", env!("CARGO_PKG_VERSION").as_bytes());
    let key = key.field("program", &identity).field("path", path.as_os_str().as_encoded_bytes());
    Some(key.field("text", text.as_bytes()).finish())
}

/// Of the plugins of all steps, in order.
pub(crate) fn digest_of<'p>(plugins: impl Iterator<Item = &'p Plugin>) -> Digest {
    let digests: Vec<u8> = plugins.flat_map(|plugin| *plugin.digest.as_bytes()).collect();
    Digest::of(&digests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlannedStep;
    use crate::store::Store;

    const TEXT: &str = r#"
[app]
name = "known"

[pools]
one-at-a-time = 1

[steps.one]
plugin = "./step.wasm"
inputs = { project = "source" }
config = { from = "docs", text = "é" }
limits = { time = "90s", memory = "512MiB" }
pool = "one-at-a-time"

[steps.two]
plugin = "slug"
inputs = { project = "source", venv = "one" }

[targets.staging]
driver = "ssh"
server = "ssh://deploy@example.org"
release = "two"
address = "127.0.0.1:8000"
env = { DEBUG = "0" }
"#;

    #[test]
    fn a_text_that_was_read_is_known_until_its_plugin_is_another() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let plugins = Plugins::open(home.path(), &store).expect("plugins");
        let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps");
        let (path, step) = (home.path().join("release.pipeline"), home.path().join("step.wasm"));
        fs::copy(steps.join("concat.wasm"), &step).expect("copied");
        let known = |text: &str| find(&name(&path, text).expect("a program"), &path, text, &plugins).expect("looked");
        assert!(known(TEXT).is_none());
        let read_now = read(&path, TEXT, &plugins).expect("a pipeline");
        let shown = |(pipeline, graph): (Pipeline, Graph)| {
            let steps = graph.node_weights().map(|step| {
                let PlannedStep { name, plugin, config, bindings, grants, limits, pool, place } = step;
                format!("{name} {} {config} {bindings:?} {grants:?} {limits:?} {pool:?} {place:?}", plugin.digest)
            });
            (format!("{pipeline:?}"), steps.collect::<Vec<_>>(), graph.edge_count())
        };
        assert_eq!(known(TEXT).map(shown), Some(shown(read_now)));
        assert!(known(&TEXT.replace("docs", "doc")).is_none());
        fs::copy(steps.join("probe.wasm"), &step).expect("copied");
        assert!(known(TEXT).is_none());
        assert!(matches!(read(&path, TEXT, &plugins), Err(PlanError::Pipeline(_))), "it has other ports");
    }
}
