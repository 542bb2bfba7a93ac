//! A graph as Graphviz reads it.

use std::fmt::Write as _;

use super::{NodeKind, Picture};

/// The graph in the DOT language.
pub fn dot(picture: &Picture) -> String {
    let mut out = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n");
    for (place, node) in picture.nodes.iter().enumerate() {
        let style = match node.kind {
            NodeKind::Source => " shape=folder",
            NodeKind::Step => "",
            NodeKind::Target => " style=bold",
        };
        let label = quoted(&format!("{}\n{}", node.name, node.detail));
        let _ = writeln!(out, "  n{place} [label={label}{style}];");
    }
    for edge in &picture.edges {
        let _ = writeln!(out, "  n{} -> n{} [label={}];", edge.from, edge.to, quoted(&edge.label));
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_node_and_edge_is_named() {
        let expected = r#"digraph pipeline {
  rankdir=LR;
  node [shape=box];
  n0 [label="source\npolls" shape=folder];
  n1 [label="lock\npython-lock"];
  n2 [label="slug\n./my \"slug\".wasm"];
  n3 [label="staging\ntarget" style=bold];
  n4 [label="production\ntarget" style=bold];
  n0 -> n1 [label="project"];
  n1 -> n2 [label="lock"];
  n0 -> n2 [label="project"];
  n2 -> n3 [label="release"];
  n3 -> n4 [label="promote"];
}
"#;
        assert_eq!(super::dot(&super::super::sample()), expected);
    }
}
