//! Holding a pipeline against the plugins that it names: inputs against ports, kinds, grants, and each config against its
//! plugin's own schema.
//!
//! Works on descriptions only; knows nothing of how they are come by.

mod config;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Input, Origin, Pipeline, Reference, Spanned, Step, references};
use crate::description::{PluginDescription, Port, PortKind};
use crate::diagnostic::Diagnostic;

use config::Schemas;

/// The output port whose tree is a slug.
pub(crate) const SLUG_PORT: &str = "slug";

/// How the steps of a pipeline that fits its plugins hang together. Steps are meant by their index in the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// All steps, each after those that it takes in.
    pub order: Vec<usize>,
    /// For each step what is bound to its ports, in the file's order.
    pub bindings: Vec<Vec<Binding>>,
}

/// One value bound to one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The plugin's input port.
    pub port: String,
    /// What is bound to it.
    pub value: BoundValue,
}

/// Where a bound value is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BoundValue {
    /// The snapshot of the source directory.
    Source,
    /// An output of a step.
    Output {
        /// The step.
        step: usize,
        /// Its port.
        port: String,
    },
}

/// Checks all that depends on plugins. A step that `describe` knows nothing of is left out, so that the errors of all others
/// are found beside whatever kept its plugin from loading.
pub fn check<'p>(
    pipeline: &Pipeline,
    describe: impl Fn(&Step) -> Option<&'p PluginDescription>,
) -> Result<Wiring, Vec<Diagnostic>> {
    let plugins = pipeline.steps.iter().map(describe).collect();
    let positions = pipeline.steps.iter().enumerate().map(|(index, step)| (step.name.as_str(), index)).collect();
    let mut check = Check { pipeline, plugins, positions, schemas: Schemas::default(), errors: Vec::new() };
    let order = references::steps(pipeline).unwrap_or_else(|errors| {
        check.errors.extend(errors);
        Vec::new()
    });
    let bindings = (0..pipeline.steps.len()).map(|index| check.step(index)).collect();
    check.targets();
    if check.errors.is_empty() { Ok(Wiring { order, bindings }) } else { Err(check.errors) }
}

/// The message for a step whose plugin is none of the built-in ones.
pub fn unknown_plugin<'a>(pipeline: &Pipeline, step: &Step, built_in: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    let name = pipeline.document.text.get(step.plugin.span()).unwrap_or_default().trim_matches(['"', '\'']);
    let error = pipeline.error(step.plugin.span(), format!("unknown plugin `{name}`"));
    let mut built_in = built_in.into_iter().peekable();
    if built_in.peek().is_none() {
        return error.hint("this `pipe` was compiled without its own plugins: `make build` compiles both");
    }
    error.suggest(name, built_in).hint("a plugin of your own is named by its path: `plugin = \"./my-step.wasm\"`")
}

struct Check<'a> {
    pipeline: &'a Pipeline,
    plugins: Vec<Option<&'a PluginDescription>>,
    positions: HashMap<&'a str, usize>,
    schemas: Schemas<'a>,
    errors: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    fn step(&mut self, index: usize) -> Vec<Binding> {
        let pipeline = self.pipeline;
        let step = &pipeline.steps[index];
        let Some(plugin) = self.plugins[index] else { return Vec::new() };
        for port in plugin.inputs.iter().filter(|port| port.required) {
            if !step.inputs.iter().any(|input| *input.port == port.name && !input.from.is_empty()) {
                self.errors.push(self.missing_input(step, plugin, port));
            }
        }
        self.grants(step, plugin);
        self.secrets(step, plugin);
        let errors = self.schemas.check(pipeline, step, plugin);
        self.errors.extend(errors);
        step.inputs.iter().flat_map(|input| self.input(input, plugin)).collect()
    }

    fn missing_input(&self, step: &Step, plugin: &PluginDescription, port: &Port) -> Diagnostic {
        let provides = |other: &&Step| {
            let described = self.plugins[self.position(&other.name).unwrap_or_default()];
            other.name != step.name
                && described.and_then(|other| other.output(None)).is_some_and(|out| out.name == port.name)
        };
        let value = match self.pipeline.steps.iter().find(provides) {
            Some(other) => other.name.as_str(),
            None if port.name == "project" => "source",
            None => "…",
        };
        self.pipeline
            .error(step.name.span(), format!("step `{}` has nothing at its input `{}`", step.name, port.name))
            .label(format!("`{}` needs a {}: {}", plugin.name, port.kind, port.doc))
            .hint(format!("add to its inputs: `{} = \"{value}\"`", port.name))
    }

    fn input(&mut self, input: &'a Input, plugin: &PluginDescription) -> Vec<Binding> {
        let Some(port) = plugin.input(&input.port) else {
            let error =
                self.pipeline.error(input.port.span(), format!("`{}` has no input `{}`", plugin.name, input.port));
            self.errors.push(error.suggest(&input.port, plugin.inputs.iter().map(|port| port.name.as_str())));
            return Vec::new();
        };
        if let Some(second) = input.from.get(1).filter(|_| !port.many) {
            let message = format!("the input `{}` of `{}` takes one value only", port.name, plugin.name);
            self.errors.push(self.pipeline.error(second.span(), message));
        }
        let values = input.from.iter().filter_map(|reference| self.value(reference, port));
        let values: Vec<_> = values.collect::<Vec<_>>().into_iter().filter_map(|found| self.keep(found)).collect();
        values.into_iter().map(|value| Binding { port: port.name.clone(), value }).collect()
    }

    fn keep<T>(&mut self, found: Result<T, Diagnostic>) -> Option<T> {
        found.map_err(|error| self.errors.push(error)).ok()
    }

    /// What a reference means; none where its step is unknown or not described, which is told elsewhere.
    fn value(&self, reference: &Spanned<Reference>, port: &Port) -> Option<Result<BoundValue, Diagnostic>> {
        let (kind, value, named) = match &**reference {
            Reference::Source => (PortKind::Tree, BoundValue::Source, "source".to_owned()),
            Reference::Step { step, port: wanted } => {
                let index = self.position(step)?;
                let plugin = self.plugins[index]?;
                let Some(output) = plugin.output(wanted.as_deref()) else {
                    return Some(Err(self.unknown_output(reference, step, wanted.as_deref(), plugin)));
                };
                let value = BoundValue::Output { step: index, port: output.name.clone() };
                (output.kind, value, format!("{step}.{}", output.name))
            }
        };
        if kind == port.kind {
            return Some(Ok(value));
        }
        let message = format!("the input `{}` takes a {}, but `{named}` is a {kind}", port.name, port.kind);
        Some(Err(self
            .pipeline
            .error(reference.span(), message)
            .label(format!("expected a {}: {}", port.kind, port.doc))))
    }

    fn unknown_output(
        &self,
        place: &Spanned<Reference>,
        step: &str,
        wanted: Option<&str>,
        plugin: &PluginDescription,
    ) -> Diagnostic {
        match wanted {
            None => self
                .pipeline
                .error(place.span(), format!("step `{step}` gives nothing: `{}` has no outputs", plugin.name)),
            Some(wanted) => self
                .pipeline
                .error(place.span(), format!("step `{step}` has no output `{wanted}`"))
                .suggest(wanted, plugin.outputs.iter().map(|port| port.name.as_str())),
        }
    }

    fn grants(&mut self, step: &Step, plugin: &PluginDescription) {
        let fetch: Vec<&str> = step.grants.fetch().collect();
        let exec: Vec<&str> = step.grants.exec().collect();
        let given = [("fetch", &fetch, &step.grants.fetch, "index"), ("exec", &exec, &step.grants.exec, "python")];
        for (capability, names, written, _) in &given {
            if let Some(list) = written.as_ref().filter(|_| !plugin.asks_for(capability)) {
                let message = format!("`{}` does not ask for `{capability}`", plugin.name);
                self.errors.push(self.pipeline.error(list.span(), message).hint("take this grant out"));
            } else if names.is_empty() && plugin.asks_for(capability) {
                let all = given.iter().filter(|(other, ..)| plugin.asks_for(other));
                let secrets: Vec<&str> = step.grants.secrets().map(|name| name.as_str()).collect();
                let kept = (!secrets.is_empty()).then(|| grant("secrets", &secrets, ""));
                let all = all.map(|(other, names, _, example)| grant(other, names, example));
                let all: Vec<String> = all.chain(kept).collect();
                let message =
                    format!("`{}` needs the grant `{capability}`, and step `{}` has none", plugin.name, step.name);
                let error = self.pipeline.error(step.plugin.span(), message).label(asks(capability));
                self.errors.push(error.hint(format!("to allow it, write\ngrants = {{ {} }}", all.join(", "))));
            }
        }
    }

    /// Only programs see secrets: without them a grant could only be a mistake.
    fn secrets(&mut self, step: &Step, plugin: &PluginDescription) {
        if let Some(list) = step.grants.secrets.as_ref().filter(|_| !plugin.asks_for("exec")) {
            let message = format!("`{}` runs no programs, and only programs see secrets", plugin.name);
            self.errors.push(self.pipeline.error(list.span(), message).hint("take this grant out"));
        }
    }

    fn targets(&mut self) {
        for target in &self.pipeline.targets {
            let Origin::Release(step) = &target.origin else { continue };
            let Some(plugin) = self.position(step).and_then(|index| self.plugins[index]) else { continue };
            if plugin.output(Some(SLUG_PORT)).is_none_or(|output| output.kind != PortKind::Tree) {
                let message = format!("target `{}` cannot release what step `{step}` gives", target.name);
                let error = self.pipeline.error(step.span(), message).label("expected a step that gives a slug");
                self.errors.push(error.hint("one with `plugin = \"slug\"` does, of a project and its environment"));
            }
        }
    }

    fn position(&self, step: &str) -> Option<usize> {
        self.positions.get(step).copied()
    }
}

fn grant(capability: &str, names: &[&str], example: &str) -> String {
    let names = if names.is_empty() { &[example] } else { names };
    format!("{capability} = [{}]", names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "))
}

fn asks(capability: &str) -> &'static str {
    match capability {
        "fetch" => "it fetches files by their digest",
        _ => "it runs native programs in the sandbox",
    }
}
