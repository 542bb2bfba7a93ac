//! A graph as Mermaid reads it, and so as it shows in Markdown.

use std::fmt::Write as _;

use super::{NodeKind, Picture};

/// The graph in Mermaid's language.
pub fn mermaid(picture: &Picture) -> String {
    let mut out = String::from("flowchart LR\n");
    for (place, node) in picture.nodes.iter().enumerate() {
        let label = format!("\"{}<br><small>{}</small>\"", escaped(&node.name), escaped(&node.detail));
        let (open, close) = match node.kind {
            NodeKind::Source => ("[/", "/]"),
            NodeKind::Step => ("[", "]"),
            NodeKind::Target => ("([", "])"),
        };
        let _ = writeln!(out, "  n{place}{open}{label}{close}");
    }
    for edge in &picture.edges {
        let _ = writeln!(out, "  n{} -->|{}| n{}", edge.from, escaped(&edge.label), edge.to);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_node_and_edge_is_named() {
        let expected = r#"flowchart LR
  n0[/"source<br><small>polls</small>"/]
  n1["lock<br><small>python-lock</small>"]
  n2["slug<br><small>./my &quot;slug&quot;.wasm</small>"]
  n3(["staging<br><small>target</small>"])
  n4(["production<br><small>target</small>"])
  n0 -->|project| n1
  n1 -->|lock| n2
  n0 -->|project| n2
  n2 -->|release| n3
  n3 -->|promote| n4
"#;
        assert_eq!(super::mermaid(&super::super::sample()), expected);
    }
}
