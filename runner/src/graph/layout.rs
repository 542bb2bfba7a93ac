//! Where the parts of a picture go: nodes in columns from left to right, each behind all that it takes in.
//!
//! An edge that skips columns gets a free lane in each of them, so that it never runs behind a box.

use super::Picture;

/// A place of the picture, in units of the caller: columns to the right, rows down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spot {
    pub(super) column: usize,
    /// Rows from the middle of the picture; above is negative.
    pub(super) row: f64,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) columns: usize,
    /// How many rows the fullest column has.
    pub(super) rows: usize,
    /// For each node, where it is.
    pub(super) nodes: Vec<Spot>,
    /// For each edge, the spots that it passes, with its ends.
    pub(super) edges: Vec<Vec<Spot>>,
}

/// What is in a column: a node, or the lane of an edge, by their places in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Node(usize),
    Lane(usize),
}

pub(super) fn layout(picture: &Picture) -> Layout {
    let depth = depths(picture);
    let mut columns: Vec<Vec<Item>> = vec![Vec::new(); depth.iter().max().map_or(0, |deepest| deepest + 1)];
    for (node, column) in depth.iter().enumerate() {
        columns[*column].push(Item::Node(node));
    }
    for (place, edge) in picture.edges.iter().enumerate() {
        for column in &mut columns[depth[edge.from] + 1..depth[edge.to]] {
            column.push(Item::Lane(place));
        }
    }
    for column in 1..columns.len() {
        let (before, from) = columns.split_at_mut(column);
        let before = &before[column - 1];
        // Where what an item comes from is, on average: crossings are rare when items are in that order.
        let weight = |item: &Item| {
            let sources = picture.edges.iter().enumerate().filter(|(place, edge)| match item {
                Item::Node(node) => edge.to == *node,
                Item::Lane(lane) => place == lane,
            });
            let rows: Vec<f64> = sources
                .filter_map(|(place, edge)| row_in(before, Item::Lane(place)).or(row_in(before, Item::Node(edge.from))))
                .collect();
            if rows.is_empty() { 0.0 } else { rows.iter().sum::<f64>() / precise(rows.len()) }
        };
        from[0].sort_by(|a, b| weight(a).total_cmp(&weight(b)));
    }
    let spot = |item: Item, column: usize| Spot { column, row: row_in(&columns[column], item).unwrap_or_default() };
    Layout {
        columns: columns.len(),
        rows: columns.iter().map(Vec::len).max().unwrap_or(0),
        nodes: depth.iter().enumerate().map(|(node, &column)| spot(Item::Node(node), column)).collect(),
        edges: picture
            .edges
            .iter()
            .enumerate()
            .map(|(place, edge)| {
                let (start, end) = (depth[edge.from], depth[edge.to]);
                let lanes = (start + 1..end).map(|column| spot(Item::Lane(place), column));
                std::iter::once(spot(Item::Node(edge.from), start))
                    .chain(lanes)
                    .chain([spot(Item::Node(edge.to), end)])
                    .collect()
            })
            .collect(),
    }
}

/// The number of edges on the longest way to each node. The graph of a pipeline has no cycles; in one that has, the way is
/// cut once it is longer than any could be.
fn depths(picture: &Picture) -> Vec<usize> {
    let mut depth = vec![0; picture.nodes.len()];
    for _ in 0..picture.nodes.len() {
        for edge in &picture.edges {
            depth[edge.to] = depth[edge.to].max(depth[edge.from] + 1).min(picture.nodes.len());
        }
    }
    depth
}

fn row_in(column: &[Item], item: Item) -> Option<f64> {
    let place = column.iter().position(|other| *other == item)?;
    Some(precise(place) - precise(column.len() - 1) / 2.0)
}

/// A count as a number to reckon with.
pub(super) fn precise(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_behind_all_that_it_takes_in_and_a_long_edge_has_its_own_lane() {
        let layout = layout(&super::super::sample());
        let columns: Vec<usize> = layout.nodes.iter().map(|spot| spot.column).collect();
        assert_eq!(columns, [0, 1, 2, 3, 4]);
        let long = &layout.edges[2];
        assert_eq!(long.len(), 3);
        assert!((long[1].row - layout.nodes[1].row).abs() >= 1.0, "the lane is not behind `lock`");
    }
}
