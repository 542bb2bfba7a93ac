//! A whole graph as one action: where nothing has changed that any of its steps could see, one look-up gives what all of them
//! gave, and no step is looked at by itself.
//!
//! The key is made of the pipeline's text and its plugins, which all that steps are follows from, and of all that is not a
//! step's: the source, what the pipeline says about the run, and the keyed hashes of its secrets. A graph with a step that may
//! fetch has none, since what stands in `pipe.lock` has a say in it.

use super::{Executed, Execution, Finished};
use crate::digest::Digest;
use crate::key::{Fields as _, KeyBuilder};
use crate::pipeline::Pipeline;
use crate::plan::{self, Graph};
use crate::plugin::{Binding, Value};
use crate::step::{self, StepRecord};
use crate::store::StoreError;

/// The name of all that a graph gives.
pub struct Whole(Digest);

impl Whole {
    /// The name of a run of a pipeline; none where more than its key decides what it gives.
    pub fn of(pipeline: &Pipeline, graph: &Graph, execution: &Execution) -> Option<Self> {
        if graph.node_weights().any(|step| !step.grants.fetch.is_empty()) {
            return None;
        }
        let mut key = KeyBuilder::new("graph").field("source", execution.source.as_bytes());
        for (name, value) in &*execution.services.context {
            key.add(name, value.as_bytes());
        }
        for (name, secret) in execution.services.secrets.iter() {
            key.add(&format!("secret {name}"), secret.mac().as_bytes());
        }
        step::how_they_run(&mut key, execution.store.believed_since());
        // Another version may make other steps of the same text.
        key.add("version", env!("CARGO_PKG_VERSION").as_bytes());
        key.add("text", pipeline.document.text.as_bytes());
        key.add_digest("plugins", &plan::digest_of(graph.node_weights().map(|step| &*step.plugin)));
        Some(Self(key.finish()))
    }

    /// What all steps gave, if the graph ran to its end before and all of that is still there.
    pub fn look_up(&self, graph: &Graph, execution: &Execution) -> Result<Option<Executed>, StoreError> {
        let Some(record) = execution.store.action(&self.0)? else { return Ok(None) };
        let outputs: Vec<Vec<Binding>> = postcard::from_bytes(&record).unwrap_or_default();
        if outputs.len() != graph.node_count() {
            return Ok(None);
        }
        let steps = outputs.into_iter().map(|outputs| {
            let record = StepRecord { outputs, ..StepRecord::default() };
            Ok(Finished { record, cached: true })
        });
        Ok(Some(Executed { steps: steps.collect() }))
    }

    /// Keeps what all steps gave, if all of them did and would again.
    pub fn keep(&self, executed: &Executed, execution: &Execution) -> Result<(), StoreError> {
        let outputs = |step: &Result<Finished, _>| match step {
            Ok(Finished { record, .. }) if record.lasting => Some(record.outputs.clone()),
            _ => None,
        };
        let Some(outputs) = executed.steps.iter().map(outputs).collect::<Option<Vec<_>>>() else { return Ok(()) };
        let mut refs: Vec<Digest> = outputs.iter().flatten().map(|binding| *Value::digest(&binding.value)).collect();
        refs.sort_unstable();
        refs.dedup();
        let record = postcard::to_stdvec(&outputs).expect("a record is plain data");
        execution.store.put_action(&self.0, &record, &refs)
    }
}
