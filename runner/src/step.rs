//! One step with its inputs at hand: what it gives is looked up, or it runs and what it gives is kept.
//!
//! There are two look-ups. By the full key: everything that the step could see. Then by what earlier runs of the same plugin,
//! config and grants did see: if all of that still holds, the step would do the same again. Knows nothing of the graph.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Event;
use crate::key::{Explanation, KeyBuilder};
use crate::plan::PlannedStep;
use crate::plugin::{Binding, Call, Code, DETERMINISM, Failure, Observation, Pinned, Plugins, Services, Value, World};
use crate::store::{Claim, Store, StoreError};

/// The contract that plugins are hosted by.
const TRACK: &[u8] = b"pipe:step@0.1";
/// Earlier runs that are asked whether what they saw still holds.
const CANDIDATES: usize = 16;
/// Times that a step is tried when the environment fails it.
const TRIES: u32 = 3;

/// What is kept of a step's run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What it gave.
    pub outputs: Vec<Binding>,
    /// What it saw.
    pub observations: Vec<Observation>,
    /// What its key was made of.
    pub explanation: Explanation,
    /// The ports of its inputs, in order.
    pub ports: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Whether the same inputs would give the same again; only then it is kept.
    pub lasting: bool,
}

impl StepRecord {
    /// The value at an output port.
    pub fn output(&self, port: &str) -> Option<Value> {
        self.outputs.iter().find(|output| output.port == port).map(|output| output.value)
    }

    /// Whether it saw what is not in its key.
    pub fn saw_outside(&self) -> bool {
        self.observations.iter().any(Observation::is_outside)
    }
}

/// Whether a step has to run.
#[derive(Debug)]
pub enum Lookup {
    /// It gave this before, and would again.
    Hit(Box<StepRecord>),
    /// It has to run: why, in one line.
    Miss(String),
}

/// A step, its inputs, and all that its key is made of.
pub struct Prepared<'a> {
    app: &'a str,
    step: &'a PlannedStep,
    inputs: Vec<Binding>,
    key: KeyBuilder,
    family: Digest,
    context: &'a BTreeMap<String, String>,
    pinned: &'a Pinned,
}

impl<'a> Prepared<'a> {
    /// Puts the key together. Each field is here for a reason:
    ///
    /// - `track`, `determinism`: the contract and how plugins run, which could change what a plugin gives;
    /// - `plugin`: the digest of its file;
    /// - `config`: canonical JSON;
    /// - `grants`: a plugin sees whether it is refused;
    /// - `memory`: a plugin sees where it ends. Time is no part of it: it only fails, and failures are not kept;
    /// - `ports`: which ports are bound, and to what kind;
    /// - `context …`: what the pipeline says about the run, the runtime's digest among it;
    /// - `input …`: the digests of the inputs.
    ///
    /// All but the last two name the family, whose runs differ in what they were given only.
    pub fn new(
        app: &'a str,
        step: &'a PlannedStep,
        inputs: Vec<Binding>,
        context: &'a BTreeMap<String, String>,
        pinned: &'a Pinned,
    ) -> Self {
        let mut key = own_fields(step);
        let ports: Vec<_> = inputs.iter().map(|input| format!("{} {}", input.port, input.value.kind())).collect();
        key.add_list("ports", ports.iter().map(String::as_str));
        let family = key.finish();
        for (name, value) in context {
            key.add(&format!("context {name}"), value.as_bytes());
        }
        for (index, input) in inputs.iter().enumerate() {
            key.add(&format!("input {} {index}", input.port), input.value.digest().as_bytes());
        }
        Self { app, step, inputs, key, family, context, pinned }
    }

    /// The full key.
    pub fn key(&self) -> Digest {
        self.key.finish()
    }

    /// Looks for an earlier run that gave what this one would.
    pub fn look_up(&self, store: &Store) -> Result<Lookup, StoreError> {
        if let Some(record) = self.known(store)? {
            return Ok(Lookup::Hit(Box::new(record)));
        }
        for record in store.family(&self.family, CANDIDATES)?.iter().filter_map(|record| read(record)) {
            if self.first_change(store, &record, |_| true)?.is_none() {
                return Ok(Lookup::Hit(Box::new(record)));
            }
        }
        Ok(Lookup::Miss(self.why(store)?))
    }

    /// What an earlier run with all the same gave.
    pub fn known(&self, store: &Store) -> Result<Option<StepRecord>, StoreError> {
        let Some(record) = store.action(&self.key.finish())?.as_deref().and_then(read) else { return Ok(None) };
        Ok(self.first_change(store, &record, Observation::is_outside)?.is_none().then_some(record))
    }

    /// The right to run the step, which one of all runs has at a time; none once `cancelled`.
    pub fn claim(&self, store: &Store, cancelled: &dyn Fn() -> bool) -> Result<Option<Claim>, StoreError> {
        store.claim(&self.key.finish(), cancelled)
    }

    /// Runs the step and keeps what it gives.
    pub fn run(&self, store: &Store, plugins: &Plugins, services: &Services) -> Result<StepRecord, Failure> {
        let started = Instant::now();
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let call = Call {
                config: &self.step.config,
                inputs: &self.inputs,
                services: Services {
                    deadline: started + self.step.limits.time,
                    memory: self.step.limits.program_memory,
                    ..services.clone()
                },
                limits: self.step.limits,
            };
            match plugins.run(&self.step.plugin, call) {
                Err(failure) if failure.retryable && failure.code == Code::Unavailable && tries < TRIES => {
                    let (step, message) = (self.step.name.clone(), failure.to_string());
                    services.events.send(Event::StepRetried { step, message });
                    std::thread::sleep(Duration::from_secs(u64::from(tries)));
                }
                answer => break answer?,
            }
        };
        let record = StepRecord {
            outputs: answer.outputs,
            observations: answer.observations,
            explanation: self.key.explain(),
            ports: self.inputs.iter().map(|input| input.port.clone()).collect(),
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            lasting: answer.lasting,
        };
        if record.lasting {
            self.keep(store, &record)?;
        } else {
            let message = format!(
                "the result of step `{}` is not kept: something that it asked for was not to be had",
                self.step.name
            );
            services.events.warn(message, None);
            store.flush()?;
        }
        Ok(record)
    }

    fn keep(&self, store: &Store, record: &StepRecord) -> Result<(), StoreError> {
        let refs: Vec<Digest> = record.outputs.iter().map(|output| *output.value.digest()).collect();
        let bytes = serde_json::to_vec(&record).expect("a record is plain data");
        store.put_action_of(Some(&self.family), &self.key.finish(), &bytes, &refs)?;
        store.put_action(&latest_key(self.app, &self.step.name), &bytes, &[])
    }

    /// The first thing that an earlier run saw and that is no longer so.
    fn first_change<'r>(
        &self,
        store: &Store,
        record: &'r StepRecord,
        relevant: impl Fn(&Observation) -> bool,
    ) -> Result<Option<&'r Observation>, StoreError> {
        let inputs: Vec<Value> = self.inputs.iter().map(|input| input.value).collect();
        let world = World { context: &|name| self.context.get(name).cloned(), pin: self.pinned };
        for observation in record.observations.iter().filter(|observation| relevant(observation)) {
            if !observation.holds(store, &inputs, &world)? {
                return Ok(Some(observation));
            }
        }
        Ok(None)
    }

    /// What changed since the nearest earlier run of the step of this name, in one line.
    fn why(&self, store: &Store) -> Result<String, StoreError> {
        let Some(record) = latest(store, self.app, &self.step.name)? else {
            return Ok("it has not run before".to_owned());
        };
        let changed = self.key.explain().differences(&record.explanation);
        let own: Vec<&str> = changed
            .iter()
            .filter(|name| !name.starts_with("input ") && !name.starts_with("context "))
            .map(|name| match name.as_str() {
                "plugin" => "the plugin",
                "config" => "the config",
                "grants exec" | "grants fetch" => "a grant",
                "memory" => "the memory limit",
                "ports" => "what its inputs are bound to",
                _ => "the engine",
            })
            .collect();
        if let Some(first) = own.first() {
            return Ok(format!("{first} has changed"));
        }
        Ok(match self.first_change(store, &record, |_| true)? {
            Some(observation) => observation.describe(&record.ports),
            None => "its outputs are no longer in the store".to_owned(),
        })
    }
}

/// What a step is, apart from its inputs.
fn own_fields(step: &PlannedStep) -> KeyBuilder {
    let mut key = KeyBuilder::new("step")
        .field("track", TRACK)
        .field("determinism", &DETERMINISM.to_le_bytes())
        .field("plugin", step.plugin.digest.as_bytes())
        .field("config", step.config.as_bytes())
        .field("memory", &step.limits.memory.to_le_bytes());
    key.add_list("grants exec", step.grants.exec.iter().map(String::as_str));
    key.add_list("grants fetch", step.grants.fetch.iter().map(String::as_str));
    key
}

/// The digest of what a step is, apart from its inputs.
pub(crate) fn own_key(step: &PlannedStep) -> Digest {
    own_fields(step).finish()
}

fn read(bytes: &[u8]) -> Option<StepRecord> {
    serde_json::from_slice(bytes).ok()
}

fn latest_key(app: &str, step: &str) -> Digest {
    KeyBuilder::new("latest").field("app", app.as_bytes()).field("step", step.as_bytes()).finish()
}

/// The latest run of the step of this name in an application.
pub fn latest(store: &Store, app: &str, step: &str) -> Result<Option<StepRecord>, StoreError> {
    Ok(store.action(&latest_key(app, step))?.as_deref().and_then(read))
}
