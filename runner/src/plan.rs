//! From a pipeline to a graph: plugins loaded, everything checked, edges drawn where a step takes in what another gives.
//!
//! Nothing runs here but plugins describing themselves. Knows nothing of what is cached.

mod known;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error as _;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::diagnostic::Diagnostic;
use crate::event::Location;
use crate::pipeline::check::{self, Binding, BoundValue, Wiring};
use crate::pipeline::{Malformed, Pipeline, PluginRef, Step};
use crate::plugin::{Grants, Limits, Plugin, PluginError, Plugins, builtins};

pub(crate) use known::digest_of;
pub use known::read;

/// A pipeline that can run. Node `n` is the pipeline's step `n`; an edge goes from a step to one that takes in what it gives.
pub type Graph = DiGraph<PlannedStep, ()>;

/// A step that can run as soon as its inputs are there.
#[derive(Clone)]
pub struct PlannedStep {
    /// Its name in the pipeline.
    pub name: String,
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its config, names in order.
    pub config: Arc<serde_json::Value>,
    /// Where its inputs come from.
    pub bindings: Vec<Binding>,
    /// What it may do.
    pub grants: Grants,
    /// What it may use up.
    pub limits: Limits,
    /// Its pool, by the place in the pipeline's list.
    pub pool: Option<usize>,
    /// Where the pipeline names it.
    pub place: Location,
}

/// Why a pipeline cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The pipeline is wrong: every place of it that is.
    #[error("the pipeline is wrong")]
    Pipeline(Vec<Diagnostic>),
    /// A plugin, or the engine, is at fault.
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

/// Loads the plugins of a pipeline and checks it against them.
pub fn plan(pipeline: &Pipeline, plugins: &Plugins) -> Result<Graph, PlanError> {
    let (loaded, mut errors) = load_all(pipeline, plugins)?;
    match hold(pipeline, &loaded) {
        Ok(wiring) if errors.is_empty() => Ok(graph(pipeline, loaded.into_iter().flatten().collect(), wiring.bindings)),
        Ok(_) => Err(PlanError::Pipeline(errors)),
        Err(more) => {
            errors.extend(more);
            Err(PlanError::Pipeline(errors))
        }
    }
}

/// Everything that is wrong with a malformed pipeline: its shape, and of what could be read all that plugins find.
fn faults(malformed: Malformed, plugins: &Plugins) -> Result<Vec<Diagnostic>, PluginError> {
    let Malformed { mut errors, rest } = malformed;
    if let Some((pipeline, whole)) = rest.as_deref() {
        let (mut loaded, unknown) = load_all(pipeline, plugins)?;
        errors.extend(unknown);
        // What a step seems to lack may stand where it could not be read.
        loaded.iter_mut().zip(whole).filter(|(_, whole)| !**whole).for_each(|(plugin, _)| *plugin = None);
        errors.extend(hold(pipeline, &loaded).err().into_iter().flatten());
    }
    errors.sort_by_key(|error| error.span.start);
    Ok(errors)
}

/// Holds a pipeline against the plugins of its steps, those that there are.
fn hold(pipeline: &Pipeline, loaded: &[Option<Arc<Plugin>>]) -> Result<Wiring, Vec<Diagnostic>> {
    let names = pipeline.steps.iter().map(|step| step.name.as_str());
    let described: HashMap<&str, &Plugin> =
        names.zip(loaded).filter_map(|(name, plugin)| Some((name, plugin.as_deref()?))).collect();
    check::check(pipeline, |step| described.get(step.name.as_str()).map(|plugin| &plugin.description))
}

/// The plugins of all steps in their order, and what is wrong with those that are missing.
type Loaded = (Vec<Option<Arc<Plugin>>>, Vec<Diagnostic>);

/// Loads the plugins of all steps, each once.
fn load_all(pipeline: &Pipeline, plugins: &Plugins) -> Result<Loaded, PluginError> {
    let mut errors = Vec::new();
    let mut known: HashMap<&PluginRef, Arc<Plugin>> = HashMap::new();
    let mut loaded = Vec::with_capacity(pipeline.steps.len());
    for step in &pipeline.steps {
        if matches!(&*step.plugin, PluginRef::BuiltIn(name) if name.is_empty()) {
            // The file names none that could be read, which is told already.
            loaded.push(None);
            continue;
        }
        loaded.push(match known.entry(&*step.plugin) {
            Entry::Occupied(plugin) => Some(Arc::clone(plugin.get())),
            Entry::Vacant(place) => match load(pipeline, step, plugins)? {
                Ok(plugin) => Some(Arc::clone(place.insert(plugin))),
                Err(error) => {
                    errors.push(*error);
                    None
                }
            },
        });
    }
    Ok((loaded, errors))
}

/// The graph of a pipeline that is right, with the plugin and the bindings of each step.
fn graph(pipeline: &Pipeline, plugins: Vec<Arc<Plugin>>, bindings: Vec<Vec<Binding>>) -> Graph {
    let mut graph = Graph::with_capacity(plugins.len(), plugins.len());
    for ((step, plugin), bindings) in pipeline.steps.iter().zip(plugins).zip(bindings) {
        graph.add_node(planned(pipeline, step, plugin, bindings));
    }
    for node in graph.node_indices() {
        let mut before: Vec<_> = graph[node].bindings.iter().filter_map(|binding| binding.value.step()).collect();
        before.sort_unstable();
        before.dedup();
        for step in before {
            graph.add_edge(NodeIndex::new(step), node, ());
        }
    }
    graph
}

impl BoundValue {
    /// The step that gives this value.
    pub const fn step(&self) -> Option<usize> {
        match self {
            Self::Source => None,
            Self::Output { step, .. } => Some(*step),
        }
    }
}

/// The plugin of a step; or what is wrong with its name, which is the user's to mend.
fn load(
    pipeline: &Pipeline,
    step: &Step,
    plugins: &Plugins,
) -> Result<Result<Arc<Plugin>, Box<Diagnostic>>, PluginError> {
    match &*step.plugin {
        PluginRef::BuiltIn(name) => match builtins().iter().find(|builtin| builtin.name == name) {
            Some(builtin) => plugins.load(name, builtin.bytes).map(Ok),
            None => {
                let known = builtins().iter().map(|builtin| builtin.name);
                Ok(Err(Box::new(check::unknown_plugin(pipeline, step, known))))
            }
        },
        PluginRef::File(path) => match std::fs::read(pipeline.resolve(path)) {
            Ok(bytes) => match plugins.load(&path.display().to_string(), bytes) {
                Err(error) if error.is_the_files() => {
                    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
                    let message = causes.fold(error.to_string(), |message, cause| format!("{message}: {cause}"));
                    let diagnostic = pipeline.error(step.plugin.span(), message);
                    Ok(Err(Box::new(error.hint().into_iter().fold(diagnostic, Diagnostic::hint))))
                }
                loaded => loaded.map(Ok),
            },
            Err(error) => {
                let message = format!("cannot read the plugin `{}`: {error}", path.display());
                let hint = "the path is relative to the pipeline file; build the plugin first";
                Ok(Err(Box::new(pipeline.error(step.plugin.span(), message).hint(hint))))
            }
        },
        PluginRef::Oci(reference) => {
            let message = format!("plugins from a registry are not supported yet: `oci://{reference}`");
            let hint = "download the component and name its file: `plugin = \"./step.wasm\"`";
            Ok(Err(Box::new(pipeline.error(step.plugin.span(), message).hint(hint))))
        }
    }
}

fn planned(pipeline: &Pipeline, step: &Step, plugin: Arc<Plugin>, bindings: Vec<Binding>) -> PlannedStep {
    let defaults = Limits::default();
    PlannedStep {
        name: step.name.to_string(),
        plugin,
        config: Arc::clone(step.config.value()),
        bindings,
        grants: Grants {
            exec: step.grants.exec().map(str::to_owned).collect(),
            fetch: step.grants.fetch().map(str::to_owned).collect(),
            secrets: step.grants.secrets().map(ToString::to_string).collect(),
        },
        limits: Limits {
            time: step.limits.time.as_ref().map_or(defaults.time, |time| **time),
            memory: step.limits.memory.as_ref().map_or(defaults.memory, |memory| **memory),
            program_memory: step.limits.memory.as_ref().map(|memory| **memory),
            output: step.limits.output.as_ref().map_or(defaults.output, |output| **output),
            log: step.limits.log.as_ref().map_or(defaults.log, |log| **log),
            calls: step.limits.calls.as_ref().map_or(defaults.calls, |calls| **calls),
            handles: step
                .limits
                .handles
                .as_ref()
                .map_or(defaults.handles, |handles| usize::try_from(**handles).unwrap_or(usize::MAX)),
        },
        pool: step.pool.as_ref().and_then(|pool| pipeline.pools.iter().position(|known| known.name == *pool)),
        place: Location::of(&pipeline.document, step.name.span().start),
    }
}
