//! The names that a pipeline's parts know each other by: steps, targets and secrets that exist, and no cycles.
//!
//! Knows nothing of plugins and their ports.

use std::collections::HashMap;
use std::ops::Range;

use super::{Origin, Pipeline, Reference, Spanned};
use crate::diagnostic::Diagnostic;

/// What is wrong with the names that targets use.
pub(super) fn targets(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let names: Vec<&str> = pipeline.targets.iter().map(|target| target.name.as_str()).collect();
    let mut edges: Vec<Vec<(usize, Range<usize>)>> = vec![Vec::new(); names.len()];
    for (from, target) in pipeline.targets.iter().enumerate() {
        match &target.origin {
            Origin::Release(step) if pipeline.step(step).is_none() => {
                let steps = pipeline.steps.iter().map(|step| step.name.as_str());
                errors.push(unknown_step(pipeline, step, step, steps));
            }
            Origin::Release(_) => {}
            Origin::Promote(other) => match names.iter().position(|name| *name == other.as_str()) {
                Some(to) => edges[from].push((to, other.span())),
                None => {
                    let error = pipeline.error(other.span(), format!("unknown target `{other}`"));
                    errors.push(error.suggest(other, names.iter().copied().filter(|name| **target.name != **name)));
                }
            },
        }
    }
    errors.extend(order(pipeline, "targets are promoted from each other", &names, &edges).err());
    errors
}

/// The pools that steps name and nobody made.
pub(super) fn pools(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let names: Vec<&str> = pipeline.pools.iter().map(|pool| pool.name.as_str()).collect();
    let named = pipeline.steps.iter().filter_map(|step| step.pool.as_ref());
    let unknown = named.filter(|pool| !names.contains(&pool.as_str())).map(|pool| {
        let error = pipeline.error(pool.span(), format!("unknown pool `{pool}`"));
        if names.is_empty() {
            error.hint(format!("say how many of its steps run at one time\n[pools]\n{} = 1", pool.as_str()))
        } else {
            error.suggest(pool, names.iter().copied())
        }
    });
    unknown.collect()
}

/// What is wrong with the names that grants of secrets use.
pub(super) fn secrets(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let names: Vec<&str> = pipeline.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let granted = pipeline.steps.iter().flat_map(|step| step.grants.secrets());
    let unknown = granted.filter(|name| !names.contains(&name.as_str())).map(|name| {
        let error = pipeline.error(name.span(), format!("unknown secret `{name}`"));
        let example = format!("declare it:\n[secrets]\n{name} = {{ env = \"…\" }}");
        if names.is_empty() { error.hint(example) } else { error.suggest(name, names.iter().copied()) }
    });
    unknown.collect()
}

/// The steps in an order in which each comes after what it takes in, or the steps that are unknown and the cycle.
pub(super) fn steps(pipeline: &Pipeline) -> Result<Vec<usize>, Vec<Diagnostic>> {
    let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    let positions: HashMap<&str, usize> = names.iter().copied().enumerate().map(|(at, name)| (name, at)).collect();
    let mut errors = Vec::new();
    let mut edges: Vec<Vec<(usize, Range<usize>)>> = vec![Vec::new(); names.len()];
    for (from, step) in pipeline.steps.iter().enumerate() {
        for reference in step.inputs.iter().flat_map(|input| &input.from) {
            let Reference::Step { step: wanted, .. } = &**reference else { continue };
            match positions.get(wanted.as_str()) {
                Some(to) => edges[from].push((*to, reference.span())),
                // A step takes in the source too, but nothing of its own.
                None => {
                    let others = names.iter().copied().filter(|name| *name != names[from]);
                    errors.push(unknown_step(pipeline, reference, wanted, others.chain(["source"])));
                }
            }
        }
    }
    match order(pipeline, "steps need each other", &names, &edges) {
        Ok(order) if errors.is_empty() => Ok(order),
        Ok(_) => Err(errors),
        Err(cycle) => {
            errors.push(cycle);
            Err(errors)
        }
    }
}

fn unknown_step<'n, T>(
    pipeline: &Pipeline,
    place: &Spanned<T>,
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Diagnostic {
    pipeline.error(place.span(), format!("unknown step `{name}`")).suggest(name, known)
}

/// How far the search for cycles has come with a node.
#[derive(Clone, Copy, PartialEq)]
enum Visit {
    New,
    Open,
    Done,
}

/// Nodes, each after those that its edges lead to; or the first cycle, named.
fn order(
    pipeline: &Pipeline,
    what: &str,
    names: &[&str],
    edges: &[Vec<(usize, Range<usize>)>],
) -> Result<Vec<usize>, Diagnostic> {
    let mut visits = vec![Visit::New; names.len()];
    let mut done = Vec::with_capacity(names.len());
    for start in 0..names.len() {
        let mut path = Vec::new();
        if let Some(closing) = visit(start, edges, &mut visits, &mut path, &mut done) {
            let (first, span) = closing;
            let cycle: Vec<&str> = path.into_iter().skip_while(|node| *node != first).map(|node| names[node]).collect();
            let named = cycle.iter().copied().chain([names[first]]).collect::<Vec<_>>().join("` → `");
            let error = pipeline.error(span, format!("{what} in a cycle: `{named}`"));
            return Err(error.hint("take one of these names out of where it is used"));
        }
    }
    Ok(done)
}

/// Follows edges depth first; gives the node that an edge leads back to, and that edge's place.
fn visit(
    node: usize,
    edges: &[Vec<(usize, Range<usize>)>],
    visits: &mut [Visit],
    path: &mut Vec<usize>,
    done: &mut Vec<usize>,
) -> Option<(usize, Range<usize>)> {
    if visits[node] == Visit::Done {
        return None;
    }
    visits[node] = Visit::Open;
    path.push(node);
    for (next, span) in &edges[node] {
        if visits[*next] == Visit::Open {
            return Some((*next, span.clone()));
        }
        if let Some(found) = visit(*next, edges, visits, path, done) {
            return Some(found);
        }
    }
    path.pop();
    visits[node] = Visit::Done;
    done.push(node);
    None
}
