//! What a run would do, without doing it: each step looked up as far as what it takes in is known.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use petgraph::visit::Topo;

use super::{Build, Project, RunError};
use crate::event::Events;
use crate::pipeline::check::BoundValue;
use crate::plugin::{Binding, Value};
use crate::step::{Given, Lookup, Prepared, StepRecord};

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// It is known what it gives.
    Cached,
    /// It would run: why, in one line.
    Runs(String),
    /// That depends on what a step before it gives.
    Depends(String),
}

impl Project {
    /// Looks all steps up, in the graph's order. Takes the snapshot and resolves the runtime, and runs nothing.
    pub fn preview(&self, events: &Events) -> Result<Vec<(String, Preview)>, RunError> {
        let execution =
            self.execution(&self.runtime()?, Build::default(), events, &Arc::new(AtomicBool::new(false)))?;
        let mut records: Vec<Option<StepRecord>> = vec![None; self.graph.node_count()];
        let mut previews = vec![None; self.graph.node_count()];
        let mut topo = Topo::new(&self.graph);
        while let Some(node) = topo.next(&self.graph) {
            let step = &self.graph[node];
            let unknown =
                step.bindings.iter().find_map(|binding| binding.value.step().filter(|step| records[*step].is_none()));
            let preview = if let Some(unknown) = unknown {
                Preview::Depends(self.pipeline.steps[unknown].name.to_string())
            } else {
                let value = |value: &BoundValue| match value {
                    BoundValue::Source => Some(Value::Tree(execution.source)),
                    BoundValue::Output { step, port } => records[*step].as_ref().and_then(|record| record.output(port)),
                };
                let inputs = step
                    .bindings
                    .iter()
                    .filter_map(|binding| Some(Binding { port: binding.port.clone(), value: value(&binding.value)? }))
                    .collect();
                let services = &execution.services;
                let secrets = services.secrets.only(&step.grants.secrets);
                let given = Given {
                    context: &services.context,
                    secrets: &secrets,
                    pinned: &*execution.pinned,
                    believed_since: self.store.believed_since(),
                };
                match Prepared::new(&execution.pipeline, step, inputs, given).look_up(&self.store)? {
                    Lookup::Hit(record) => {
                        records[node.index()] = Some(*record);
                        Preview::Cached
                    }
                    Lookup::Miss(why) => Preview::Runs(why),
                }
            };
            previews[node.index()] = Some((step.name.clone(), preview));
        }
        Ok(previews.into_iter().flatten().collect())
    }
}
