//! The account of a run that a slug's attestation tells: every step before it, with what went in and what came out.

use petgraph::graph::NodeIndex;
use petgraph::visit::{Dfs, Reversed};

use super::{Project, now};
use crate::digest::Digest;
use crate::execute::{Executed, Execution};
use crate::pipeline::check::BoundValue;
use crate::slug::{Manifest, Material, Provenance, StepAccount};

pub(super) fn provenance(
    project: &Project,
    execution: &Execution,
    executed: &Executed,
    slug: NodeIndex,
    (id, manifest): (Digest, &Manifest),
    started: u64,
) -> Provenance {
    let mut before = Vec::new();
    let mut search = Dfs::new(Reversed(&project.graph), slug);
    while let Some(node) = search.next(Reversed(&project.graph)) {
        before.push(node);
    }
    before.sort();
    let mut materials = vec![Material { name: "source".to_owned(), digest: execution.source }];
    if let Ok(bytes) = std::fs::read(project.lock.path()) {
        materials.push(Material { name: "pipe.lock".to_owned(), digest: Digest::of(&bytes) });
    }
    Provenance {
        app: manifest.app.clone(),
        slug: id,
        pipeline: Digest::of(project.pipeline.document.text.as_bytes()),
        runtime: manifest.runtime,
        platform: manifest.platform.clone(),
        materials,
        steps: before.into_iter().map(|node| account(project, execution, executed, node)).collect(),
        started,
        finished: now(),
    }
}

fn account(project: &Project, execution: &Execution, executed: &Executed, node: NodeIndex) -> StepAccount {
    let step = &project.graph[node];
    let input = |value: &BoundValue| match value {
        BoundValue::Source => Some(execution.source),
        BoundValue::Output { step, port } => executed.output(*step, port).map(|value| *value.digest()),
    };
    let granted = |kind: &str, names: &[String]| names.iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>();
    let outputs = executed.steps[node.index()].as_ref().map_or(&[][..], |finished| &finished.record.outputs);
    StepAccount {
        name: step.name.clone(),
        plugin: project.pipeline.steps[node.index()].plugin.name(),
        plugin_digest: step.plugin.digest,
        config: Digest::of(step.config.to_string().as_bytes()),
        grants: [
            granted("exec", &step.grants.exec),
            granted("fetch", &step.grants.fetch),
            granted("secret", &step.grants.secrets),
        ]
        .concat(),
        inputs: step
            .bindings
            .iter()
            .filter_map(|binding| Some((binding.port.clone(), input(&binding.value)?)))
            .collect(),
        outputs: outputs.iter().map(|output| (output.port.clone(), *output.value.digest())).collect(),
    }
}
