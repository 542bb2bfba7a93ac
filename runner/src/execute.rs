//! Runs a graph: each step as soon as what it takes in is there, the longest way to the end first.
//!
//! One enum says where a step is and one function changes it. Knows nothing of how a step is cached or run ([`crate::step`]), nor
//! of who watches: it speaks in events.

mod whole;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use petgraph::visit::Topo;
use tokio::task::JoinSet;

use crate::digest::Digest;
use crate::event::{Event, StepOutcome};
use crate::pipeline::check::BoundValue;
use crate::plan::{Graph, PlannedStep};
use crate::plugin::{Binding, Code, Failure, Pinned, Plugins, Services, Value};
use crate::step::{self, Lookup, Prepared, StepRecord};
use crate::store::Store;

pub use whole::Whole;

/// What a graph is run with.
#[derive(Clone)]
pub struct Execution {
    /// Where everything is kept.
    pub store: Store,
    /// What runs plugins.
    pub plugins: Arc<Plugins>,
    /// What each step is run with; name, grants and deadline are set for each.
    pub services: Services,
    /// What stands in `pipe.lock`.
    pub pinned: Arc<Pinned>,
    /// The application's name.
    pub app: String,
    /// The snapshot of the source.
    pub source: Digest,
    /// How many steps run at one time.
    pub jobs: usize,
    /// Whether steps that do not need the failed one still run.
    pub keep_going: bool,
}

/// Where a step is.
#[derive(Debug)]
enum State {
    /// What it takes in is not all there.
    Waiting,
    /// It can start.
    Ready,
    /// It is looked up, or runs.
    Running,
    /// It gave its outputs.
    Done(Finished),
    /// It gave none.
    Failed(Failure),
    /// A step that it needs failed, or the run was stopped.
    Skipped,
}

/// A step that gave its outputs.
#[derive(Debug)]
pub struct Finished {
    /// What it gave, and saw.
    pub record: StepRecord,
    /// Whether it did not have to run.
    pub cached: bool,
}

/// What came of a graph: for each node what it gave, or why not; neither where it was skipped.
pub struct Executed {
    /// In the graph's order.
    pub steps: Vec<Result<Finished, Option<Failure>>>,
}

impl Executed {
    /// The first failure, with its node.
    pub fn failure(&self) -> Option<(usize, &Failure)> {
        self.steps.iter().enumerate().find_map(|(index, step)| match step {
            Err(Some(failure)) => Some((index, failure)),
            _ => None,
        })
    }

    /// How many steps came from the cache.
    pub fn cached(&self) -> usize {
        self.steps.iter().filter(|step| step.as_ref().is_ok_and(|finished| finished.cached)).count()
    }

    /// A value that a step gave.
    pub fn output(&self, step: usize, port: &str) -> Option<Value> {
        self.steps.get(step)?.as_ref().ok()?.record.output(port)
    }
}

struct Dispatcher<'a> {
    graph: &'a Graph,
    execution: &'a Execution,
    states: Vec<State>,
    priorities: Vec<u64>,
}

/// Runs a graph to its end, or until the services' `cancel` is set.
pub async fn execute(graph: &Graph, execution: &Execution) -> Executed {
    let states = graph.node_indices().map(|_| State::Waiting).collect();
    let priorities = priorities(graph, execution);
    let mut dispatcher = Dispatcher { graph, execution, states, priorities };
    for node in graph.node_indices() {
        if graph.neighbors_directed(node, Direction::Incoming).next().is_none() {
            dispatcher.set(node, State::Ready);
        }
    }
    dispatcher.run().await;
    let steps = dispatcher.states.into_iter().map(|state| match state {
        State::Done(finished) => Ok(finished),
        State::Failed(failure) => Err(Some(failure)),
        State::Waiting | State::Ready | State::Running | State::Skipped => Err(None),
    });
    Executed { steps: steps.collect() }
}

/// Says of all steps that what they give is known.
pub fn tell_cached(graph: &Graph, execution: &Execution) {
    for step in graph.node_weights() {
        execution.services.events.send(Event::StepFinished {
            step: step.name.clone(),
            outcome: StepOutcome::Cached,
            elapsed_ms: 0,
            message: None,
            hint: None,
        });
    }
}

/// For each step how long it and all that waits for it took before, in milliseconds.
fn priorities(graph: &Graph, execution: &Execution) -> Vec<u64> {
    let mut priorities = vec![0; graph.node_count()];
    let mut order = Vec::new();
    let mut topo = Topo::new(graph);
    while let Some(node) = topo.next(graph) {
        order.push(node);
    }
    for node in order.into_iter().rev() {
        let before = step::latest(&execution.store, &execution.app, &graph[node].name);
        let own = before.ok().flatten().map_or(1, |record| record.elapsed_ms.max(1));
        let after = graph.neighbors(node).map(|after| priorities[after.index()]).max().unwrap_or(0);
        priorities[node.index()] = own + after;
    }
    priorities
}

type Ended = (NodeIndex, Result<Finished, Failure>);

impl Dispatcher<'_> {
    async fn run(&mut self) {
        let mut running: JoinSet<Ended> = JoinSet::new();
        loop {
            while running.len() < self.execution.jobs
                && let Some(node) = self.next_ready()
            {
                let prepared = (self.graph[node].clone(), self.inputs(node));
                let execution = self.execution.clone();
                self.set(node, State::Running);
                running.spawn_blocking(move || (node, perform(&execution, &prepared.0, prepared.1)));
            }
            match running.join_next().await {
                Some(Ok((node, Ok(finished)))) => self.set(node, State::Done(finished)),
                Some(Ok((node, Err(failure)))) => self.set(node, State::Failed(failure)),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => return,
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.execution.services.cancel.load(Ordering::Relaxed)
    }

    fn next_ready(&self) -> Option<NodeIndex> {
        if self.cancelled() {
            return None;
        }
        let ready = self.graph.node_indices().filter(|node| matches!(self.states[node.index()], State::Ready));
        ready.max_by_key(|node| (self.priorities[node.index()], std::cmp::Reverse(node.index())))
    }

    /// The only place where a step's state changes.
    fn set(&mut self, node: NodeIndex, state: State) {
        let failed = matches!(state, State::Failed(_) | State::Skipped);
        let done = matches!(state, State::Done(_));
        if matches!(state, State::Skipped) {
            self.execution.services.events.send(Event::StepFinished {
                step: self.graph[node].name.clone(),
                outcome: StepOutcome::Skipped,
                elapsed_ms: 0,
                message: None,
                hint: None,
            });
        }
        self.states[node.index()] = state;
        let after: Vec<_> = self.graph.neighbors(node).collect();
        if done {
            for next in after {
                let mut before = self.graph.neighbors_directed(next, Direction::Incoming);
                if before.all(|before| matches!(self.states[before.index()], State::Done(_))) {
                    self.set(next, State::Ready);
                }
            }
        } else if failed {
            let rest = if self.execution.keep_going { after } else { self.graph.node_indices().collect() };
            for next in rest {
                if matches!(self.states[next.index()], State::Waiting | State::Ready) {
                    self.set(next, State::Skipped);
                }
            }
        }
    }

    /// The values that a ready step takes in.
    fn inputs(&self, node: NodeIndex) -> Vec<Binding> {
        let bindings = self.graph[node].bindings.iter();
        let value = |value: &BoundValue| match value {
            BoundValue::Source => Some(Value::Tree(self.execution.source)),
            BoundValue::Output { step, port } => match &self.states[*step] {
                State::Done(finished) => finished.record.output(port),
                _ => None,
            },
        };
        // An output that its plugin may leave out is an input that is not there.
        bindings
            .filter_map(|binding| Some(Binding { port: binding.port.clone(), value: value(&binding.value)? }))
            .collect()
    }
}

/// Looks a step up, or runs it, and says what comes of it.
fn perform(execution: &Execution, step: &PlannedStep, inputs: Vec<Binding>) -> Result<Finished, Failure> {
    let started = Instant::now();
    let services = Services { step: step.name.clone(), grants: step.grants.clone(), ..execution.services.clone() };
    let prepared = Prepared::new(&execution.app, step, inputs, &services.context, &*execution.pinned);
    let result = prepared.look_up(&execution.store).map_err(Failure::from).and_then(|found| match found {
        Lookup::Hit(record) => Ok(Finished { record: *record, cached: true }),
        Lookup::Miss(why) => {
            let cancelled = || services.cancel.load(Ordering::Relaxed);
            // Of all runs one does it; what that gives is there once the claim is to be had.
            let Some(_claim) = prepared.claim(&execution.store, &cancelled)? else {
                return Err(Failure::new(Code::Cancelled, "the run was stopped"));
            };
            if let Some(record) = prepared.known(&execution.store)? {
                return Ok(Finished { record, cached: true });
            }
            services.events.send(Event::StepStarted { step: step.name.clone(), why });
            let record = prepared.run(&execution.store, &execution.plugins, &services)?;
            Ok(Finished { record, cached: false })
        }
    });
    let (outcome, failure) = match &result {
        Ok(Finished { cached: true, .. }) => (StepOutcome::Cached, None),
        Ok(Finished { cached: false, .. }) => (StepOutcome::Ran, None),
        Err(failure) if failure.code == Code::Cancelled => (StepOutcome::Cancelled, Some(failure)),
        Err(failure) => (StepOutcome::Failed, Some(failure)),
    };
    services.events.send(Event::StepFinished {
        step: step.name.clone(),
        outcome,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        message: failure.map(|failure| failure.message.clone()),
        hint: failure.and_then(|failure| failure.hint.clone()),
    });
    result
}
