//! A pipeline as a picture: what flows into what, as SVG, DOT, Mermaid and JSON.
//!
//! Knows nothing of running: a picture is the same before a run and after it.

use serde::Serialize;

use crate::pipeline::{Origin, Pipeline, PluginRef, Reference};

mod dot;
mod layout;
mod mermaid;
mod svg;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

/// What there is to draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Picture {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// The source, a step or a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Node {
    name: String,
    kind: NodeKind,
    /// What the node is, in a word: a step's plugin, a target's driver.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum NodeKind {
    Source,
    Step,
    Target,
}

/// A value that flows, between nodes by their place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Edge {
    from: usize,
    to: usize,
    /// The port that takes the value in; for a target, how it gets there.
    label: String,
}

impl Picture {
    /// The picture of a pipeline: its source, its steps and its targets.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut picture = Self { nodes: Vec::new(), edges: Vec::new() };
        picture.node("source", NodeKind::Source, &pipeline.source.path.display().to_string());
        for step in &pipeline.steps {
            picture.node(&step.name, NodeKind::Step, &plugin(&step.plugin));
        }
        for target in &pipeline.targets {
            picture.node(&target.name, NodeKind::Target, "target");
        }
        for step in &pipeline.steps {
            for input in &step.inputs {
                for reference in &input.from {
                    let from = match &**reference {
                        Reference::Source => picture.place(NodeKind::Source, "source"),
                        Reference::Step { step, .. } => picture.place(NodeKind::Step, step),
                    };
                    picture.edge(from, picture.place(NodeKind::Step, &step.name), &input.port);
                }
            }
        }
        for target in &pipeline.targets {
            let (kind, from, label) = match &target.origin {
                Origin::Release(step) => (NodeKind::Step, step, "release"),
                Origin::Promote(other) => (NodeKind::Target, other, "promote"),
            };
            picture.edge(picture.place(kind, from), picture.place(NodeKind::Target, &target.name), label);
        }
        picture
    }

    /// As JSON, for other programs: nodes by their names, edges by the names of their ends.
    pub fn json(&self) -> serde_json::Value {
        let edges = self.edges.iter().map(|edge| {
            serde_json::json!({
                "from": self.nodes[edge.from].name,
                "to": self.nodes[edge.to].name,
                "label": edge.label,
            })
        });
        serde_json::json!({ "nodes": self.nodes, "edges": edges.collect::<Vec<_>>() })
    }

    fn node(&mut self, name: &str, kind: NodeKind, detail: &str) {
        let detail = if detail.is_empty() { "." } else { detail };
        self.nodes.push(Node { name: name.to_owned(), kind, detail: detail.to_owned() });
    }

    fn place(&self, kind: NodeKind, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.kind == kind && node.name == name)
    }

    /// Adds an edge, once, where both ends are there.
    fn edge(&mut self, from: Option<usize>, to: Option<usize>, label: &str) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let edge = Edge { from, to, label: label.to_owned() };
        if !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }
}

fn plugin(plugin: &PluginRef) -> String {
    match plugin {
        PluginRef::BuiltIn(name) => name.clone(),
        PluginRef::File(path) => path.display().to_string(),
        PluginRef::Oci(image) => format!("oci://{image}"),
    }
}

/// A graph for the tests of every form: a chain with a value that skips ahead, and two targets.
#[cfg(test)]
fn sample() -> Picture {
    let mut picture = Picture { nodes: Vec::new(), edges: Vec::new() };
    picture.node("source", NodeKind::Source, "polls");
    picture.node("lock", NodeKind::Step, "python-lock");
    picture.node("slug", NodeKind::Step, "./my \"slug\".wasm");
    picture.node("staging", NodeKind::Target, "target");
    picture.node("production", NodeKind::Target, "target");
    for (from, to, label) in
        [(0, 1, "project"), (1, 2, "lock"), (0, 2, "project"), (2, 3, "release"), (3, 4, "promote")]
    {
        picture.edge(Some(from), Some(to), label);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_drawn_from_its_source_to_its_targets() {
        let text = "[app]\nname = \"a\"\n[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n\
                    [targets.staging]\ndriver = \"local\"\nrelease = \"lock\"\n\
                    [targets.production]\ndriver = \"local\"\npromote = \"staging\"\n";
        let pipeline = crate::pipeline::parse(std::path::Path::new("release.pipeline"), text).expect("a pipeline");
        let picture = Picture::of(&pipeline).json();
        let edges: Vec<String> = picture["edges"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|edge| format!("{} {} {}", edge["from"], edge["label"], edge["to"]).replace('"', ""))
            .collect();
        assert_eq!(edges, ["source project lock", "lock release staging", "staging promote production"]);
        assert_eq!(picture["nodes"][1], serde_json::json!({ "name": "lock", "kind": "step", "detail": "python-lock" }));
    }
}
