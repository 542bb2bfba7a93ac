//! Runs a graph: each step as soon as what it takes in is there, the longest way to the end first.
//!
//! One enum says where a step is and one function changes it, and says so. Knows nothing of how a step is cached or run
//! ([`crate::step`]), nor of who watches: it speaks in events.

mod failures;
mod ready;
mod whole;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use petgraph::visit::Topo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::digest::Digest;
use crate::event::{Event, StepFailure, StepOutcome};
use crate::pipeline::check::BoundValue;
use crate::plan::{Graph, PlannedStep};
use crate::plugin::{Binding, Code, Failure, Pinned, Plugins, Services, Value};
use crate::step::{self, Given, Lookup, Prepared, StepRecord};
use crate::store::{Store, Until};

pub use failures::Failures;
use ready::{Next, Ready};
pub use whole::Whole;

/// How often it is looked whether the run was stopped.
const LOOK_UP: Duration = Duration::from_millis(50);
/// How long steps have to end by themselves once the run was stopped; what they wait for may never come.
const GRACE: Duration = Duration::from_millis(400);

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
    /// The pipeline's name, which what is noted of its steps is kept by.
    pub pipeline: String,
    /// The snapshot of the source.
    pub source: Digest,
    /// How many steps run at one time.
    pub jobs: usize,
    /// For each of the pipeline's pools how many of its steps do.
    pub pools: Vec<usize>,
    /// What failed before.
    pub failures: Arc<Failures>,
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
    /// It is looked up, or runs, since then.
    Running(Instant),
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
    ready: Ready,
    ways: Vec<u64>,
}

/// Runs a graph to its end, or until the services' `cancel` is set.
pub async fn execute(graph: &Graph, execution: &Execution) -> Executed {
    let states = graph.node_indices().map(|_| State::Waiting).collect();
    let (ready, ways) = (Ready::new(&execution.pools), ways(graph, execution));
    let mut dispatcher = Dispatcher { graph, execution, states, ready, ways };
    for node in graph.node_indices() {
        if graph.neighbors_directed(node, Direction::Incoming).next().is_none() {
            dispatcher.set(node, State::Ready);
        }
    }
    dispatcher.run().await;
    dispatcher.leave();
    let steps = dispatcher.states.into_iter().map(|state| match state {
        State::Done(finished) => Ok(finished),
        State::Failed(failure) => Err(Some(failure)),
        State::Waiting | State::Ready | State::Running(_) | State::Skipped => Err(None),
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
            failure: None,
        });
    }
}

/// For each step how long it and all that waits for it took before, in milliseconds.
fn ways(graph: &Graph, execution: &Execution) -> Vec<u64> {
    let mut ways = vec![0; graph.node_count()];
    let mut order = Vec::new();
    let mut topo = Topo::new(graph);
    while let Some(node) = topo.next(graph) {
        order.push(node);
    }
    for node in order.into_iter().rev() {
        let before = step::latest_took(&execution.store, &execution.pipeline, &graph[node].name);
        let own = before.ok().flatten().map_or(1, |elapsed_ms| elapsed_ms.max(1));
        let after = graph.neighbors(node).map(|after| ways[after.index()]).max().unwrap_or(0);
        ways[node.index()] = own + after;
    }
    ways
}

type Ended = (NodeIndex, Result<Finished, Failure>);

impl Dispatcher<'_> {
    async fn run(&mut self) {
        let mut running: JoinSet<Ended> = JoinSet::new();
        let mut last = None;
        loop {
            while running.len() < self.execution.jobs
                && let Some(Next { step, held_up }) = self.next_ready()
            {
                let node = NodeIndex::new(step);
                let (step, inputs) = (self.graph[node].clone(), self.inputs(node));
                let (execution, after) = (self.execution.clone(), last.filter(|_| held_up).map(|last| self.name(last)));
                self.set(node, State::Running(Instant::now()));
                running.spawn_blocking(move || (node, perform(&execution, &step, inputs, after)));
            }
            let Some((node, result)) = self.next_ended(&mut running).await else { return };
            self.ready.ended(self.graph[node].pool);
            self.set(node, result.map_or_else(State::Failed, State::Done));
            last = Some(node);
        }
    }

    /// The next step that ends; none where no step runs, or none ends though the run was stopped.
    async fn next_ended(&self, running: &mut JoinSet<Ended>) -> Option<Ended> {
        let mut stopped = None;
        loop {
            match timeout(LOOK_UP, running.join_next()).await {
                Ok(ended) => match ended? {
                    Ok(ended) => return Some(ended),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                Err(_) if self.cancelled() => {
                    if stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                        return None;
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Gives up what has not come to an end, since the run was stopped.
    fn leave(&mut self) {
        for node in self.graph.node_indices() {
            match self.states[node.index()] {
                State::Running(_) => {
                    self.set(node, State::Failed(Failure::new(Code::Cancelled, "the run was stopped")));
                }
                State::Waiting | State::Ready => self.set(node, State::Skipped),
                State::Done(_) | State::Failed(_) | State::Skipped => {}
            }
        }
    }

    fn name(&self, node: NodeIndex) -> String {
        self.graph[node].name.clone()
    }

    fn cancelled(&self) -> bool {
        self.execution.services.cancel.load(Ordering::Relaxed)
    }

    fn next_ready(&mut self) -> Option<Next> {
        if self.cancelled() { None } else { self.ready.pop() }
    }

    /// The only place where a step's state changes, and where its end is told.
    fn set(&mut self, node: NodeIndex, state: State) {
        let before = std::mem::replace(&mut self.states[node.index()], state);
        let since = if let State::Running(since) = before { Some(since) } else { None };
        self.tell(node, since);
        let after = self.graph.neighbors(node);
        match &self.states[node.index()] {
            State::Ready => {
                self.ready.push(node.index(), self.ways[node.index()], self.graph[node].pool);
            }
            State::Done(_) => {
                for next in after {
                    let mut before = self.graph.neighbors_directed(next, Direction::Incoming);
                    let waits = matches!(self.states[next.index()], State::Waiting);
                    if waits && before.all(|before| matches!(self.states[before.index()], State::Done(_))) {
                        self.set(next, State::Ready);
                    }
                }
            }
            State::Failed(_) if !self.execution.keep_going => {
                self.ready.clear();
                self.skip(self.graph.node_indices());
            }
            State::Failed(_) | State::Skipped => self.skip(after),
            State::Waiting | State::Running(_) => {}
        }
    }

    /// Leaves out those of some steps that have not started.
    fn skip(&mut self, steps: impl Iterator<Item = NodeIndex>) {
        for step in steps {
            if matches!(self.states[step.index()], State::Waiting | State::Ready) {
                self.set(step, State::Skipped);
            }
        }
    }

    /// Says how a step ended, once it has: of one that ran when what it gave is promised, so that a step of which anybody has heard
    /// that it ran need not run again, whatever happens to this process or to the machine.
    fn tell(&self, node: NodeIndex, since: Option<Instant>) {
        let (outcome, failure) = match &self.states[node.index()] {
            State::Waiting | State::Ready | State::Running(_) => return,
            State::Done(Finished { cached: true, .. }) => (StepOutcome::Cached, None),
            State::Done(Finished { cached: false, .. }) => (StepOutcome::Ran, None),
            State::Failed(failure) if failure.code == Code::Cancelled => (StepOutcome::Cancelled, None),
            State::Failed(failure) => (StepOutcome::Failed, Some(failure)),
            State::Skipped => (StepOutcome::Skipped, None),
        };
        let step = &self.graph[node];
        let events = &self.execution.services.events;
        let event = Event::StepFinished {
            step: step.name.clone(),
            outcome,
            elapsed_ms: since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            failure: failure.map(|failure| StepFailure {
                fault: failure.code.fault(),
                message: failure.message.clone(),
                hint: failure.hint.clone(),
                place: step.place.clone(),
            }),
        };
        if outcome == StepOutcome::Ran {
            let promise = self.execution.store.promise();
            events.send_once(event, move || promise.wait());
        } else {
            events.send(event);
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

/// Looks a step up, or runs it; `after` is the step that it had to wait for without needing it.
fn perform(
    execution: &Execution,
    step: &PlannedStep,
    inputs: Vec<Binding>,
    after: Option<String>,
) -> Result<Finished, Failure> {
    let services = Services {
        step: step.name.clone(),
        grants: step.grants.clone(),
        secrets: execution.services.secrets.only(&step.grants.secrets),
        ..execution.services.clone()
    };
    let given = Given {
        context: &services.context,
        secrets: &services.secrets,
        pinned: &*execution.pinned,
        believed_since: execution.store.believed_since(),
    };
    let prepared = Prepared::new(&execution.pipeline, step, inputs, given);
    let why = match prepared.look_up(&execution.store)? {
        Lookup::Hit(record) => return Ok(Finished { record: *record, cached: true }),
        Lookup::Miss(why) => why,
    };
    // Of all runs one does it; what that gives is there once the claim is to be had.
    let _claim = prepared.claim(&execution.store.wanted(Until::cancelled(&services.cancel)))?;
    if let Some(record) = prepared.known(&execution.store)? {
        return Ok(Finished { record, cached: true });
    }
    services.events.send(Event::StepStarted { step: step.name.clone(), why, after });
    let result = prepared.run(&execution.store, &execution.plugins, &services);
    match &result {
        Err(failure) => {
            // It is kept, and without what no reader gets to see.
            let message = services.events.masks().mask(&failure.message).into_owned();
            execution.failures.add(prepared.key(), &Failure { message, ..failure.clone() });
        }
        Ok(record) if !execution.failures.is_empty() && !record.saw_outside() => {
            if let Some(earlier) = execution.failures.get(&prepared.key()) {
                services.events.send(Event::StepFlaky {
                    step: step.name.clone(),
                    failed_at: earlier.at,
                    message: earlier.message,
                    place: step.place.clone(),
                });
            }
        }
        Ok(_) => {}
    }
    Ok(Finished { record: result?, cached: false })
}
