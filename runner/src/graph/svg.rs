//! A graph as a picture for pages and documents; it follows the reader's light or dark theme.

use std::fmt::Write as _;

use super::layout::{Spot, layout, precise};
use super::{NodeKind, Picture};

const BOX_WIDTH: f64 = 132.0;
const BOX_HEIGHT: f64 = 46.0;
const COLUMN_GAP: f64 = 64.0;
const ROW_GAP: f64 = 26.0;
const MARGIN: f64 = 12.0;

const STYLE: &str = "\
    text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1f2328 }
    .detail { font-size: 11px; fill: #59636e }
    rect { fill: #f6f8fa; stroke: #8c959f }
    .source rect { stroke-dasharray: 4 3 }
    .target rect { fill: #dafbe1; stroke: #1a7f37 }
    path { fill: none; stroke: #8c959f; stroke-width: 1.4 }
    marker path { fill: #8c959f; stroke: none }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .detail { fill: #9198a1 }
      rect { fill: #161b22; stroke: #6e7681 } .target rect { fill: #12261e; stroke: #3fb950 }
    }
";

/// The graph as an SVG document.
pub fn svg(picture: &Picture) -> String {
    let layout = layout(picture);
    let canvas = Canvas { middle: MARGIN + precise(layout.rows) * (BOX_HEIGHT + ROW_GAP) / 2.0 - ROW_GAP / 2.0 };
    let width = 2.0 * MARGIN + precise(layout.columns) * (BOX_WIDTH + COLUMN_GAP) - COLUMN_GAP;
    let height = canvas.middle * 2.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\">\n  <style>\n{STYLE}  </style>\n  <marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"7\" \
         refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker>\n"
    );
    for (edge, spots) in picture.edges.iter().zip(&layout.edges) {
        let title = format!("{} → {}: {}", picture.nodes[edge.from].name, picture.nodes[edge.to].name, edge.label);
        let _ = writeln!(
            out,
            "  <path d=\"{}\" marker-end=\"url(#end)\"><title>{}</title></path>",
            canvas.way(spots),
            escaped(&title)
        );
    }
    for (node, spot) in picture.nodes.iter().zip(&layout.nodes) {
        let (left, middle) = canvas.place(*spot);
        let class = match node.kind {
            NodeKind::Source => "source",
            NodeKind::Step => "step",
            NodeKind::Target => "target",
        };
        let center = left + BOX_WIDTH / 2.0;
        let _ = writeln!(
            out,
            "  <g class=\"{class}\"><rect x=\"{left}\" y=\"{}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"7\"/>\
             <text x=\"{center}\" y=\"{}\">{}</text><text class=\"detail\" x=\"{center}\" y=\"{}\">{}</text></g>",
            middle - BOX_HEIGHT / 2.0,
            middle - 3.0,
            escaped(&cut(&node.name)),
            middle + 14.0,
            escaped(&cut(&node.detail))
        );
    }
    out.push_str("</svg>\n");
    out
}

struct Canvas {
    /// The line that rows are counted from.
    middle: f64,
}

impl Canvas {
    /// The left edge of a spot, and its middle from above.
    fn place(&self, spot: Spot) -> (f64, f64) {
        (MARGIN + precise(spot.column) * (BOX_WIDTH + COLUMN_GAP), self.middle + spot.row * (BOX_HEIGHT + ROW_GAP))
    }

    /// A way out of the first box, straight through the lanes, into the last.
    fn way(&self, spots: &[Spot]) -> String {
        let mut way = String::new();
        for pair in spots.windows(2) {
            let ((left, from), (right, to)) = (self.place(pair[0]), self.place(pair[1]));
            let start = left + BOX_WIDTH;
            if way.is_empty() {
                let _ = write!(way, "M{start} {from}");
            } else {
                let _ = write!(way, "H{start}");
            }
            let bend = f64::midpoint(start, right);
            let _ = write!(way, "C{bend} {from} {bend} {to} {right} {to}");
        }
        way
    }
}

/// As much of a text as fits in a box.
fn cut(text: &str) -> String {
    const FITS: usize = 20;
    match text.char_indices().nth(FITS) {
        Some(_) => text.chars().take(FITS - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_node_and_edge_is_drawn_and_texts_are_escaped() {
        let svg = super::svg(&super::super::sample());
        assert_eq!(svg.matches("<rect ").count(), 5);
        assert_eq!(svg.matches("marker-end").count(), 5);
        assert!(svg.contains("&quot;slug&quot;"));
        assert!(svg.contains("<title>staging → production: promote</title>"));
    }
}
