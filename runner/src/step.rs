//! One step with its inputs at hand: what it gives is looked up, or it runs and what it gives is kept.
//!
//! There are two look-ups. By the full key: everything that the step could see. Then by what earlier runs of the same plugin,
//! config and grants did see: if all of that still holds, the step would do the same again. Knows nothing of the graph.

mod why;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Event;
use crate::key::{Explanation, Fields, KeyBuilder};
use crate::plan::PlannedStep;
use crate::plugin::{
    Binding, Call, Code, DETERMINISM, Failure, Grounds, Observation, Pinned, Plugins, Services, Value, World,
};
use crate::secret::{Search, Secrets};
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
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What it gave.
    pub outputs: Vec<Binding>,
    /// What it saw.
    pub observations: Vec<Observation>,
    /// What its key was made of.
    pub explanation: Explanation,
    /// The ports of its inputs, in order.
    pub ports: Vec<String>,
    /// Whether the same inputs would give the same again; only then it is kept.
    pub lasting: bool,
    /// The directories that it saw something in.
    pub grounds: Grounds,
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
    pipeline: &'a str,
    step: &'a PlannedStep,
    inputs: Vec<Binding>,
    /// What is at them.
    values: Vec<Value>,
    given: Given<'a>,
    family: Digest,
    key: Digest,
}

/// What a step can ask about, besides its config and inputs.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// What the pipeline says about the run.
    pub context: &'a BTreeMap<String, String>,
    /// The secrets that it is granted.
    pub secrets: &'a Secrets,
    /// What stands in `pipe.lock`.
    pub pinned: &'a Pinned,
    /// Since when what programs gave is believed.
    pub believed_since: Option<&'a str>,
}

impl<'a> Prepared<'a> {
    /// Puts the key together; what is noted of the step is kept by the name of its `pipeline`.
    pub fn new(pipeline: &'a str, step: &'a PlannedStep, inputs: Vec<Binding>, given: Given<'a>) -> Self {
        let values = inputs.iter().map(|input| input.value).collect();
        let mut prepared =
            Self { pipeline, step, inputs, values, given, family: Digest::of(b""), key: Digest::of(b"") };
        let mut key = KeyBuilder::new("step");
        prepared.own_fields(&mut key);
        prepared.family = key.finish();
        prepared.given_fields(&mut key);
        prepared.key = key.finish();
        prepared
    }

    /// What names the family, whose runs differ only in what they were given. Each field is here for a reason:
    ///
    /// - `track`, `determinism`: the contract and how plugins run, which could change what a plugin gives;
    /// - `believed since`: a step that may run programs believes them, and they may have seen a damaged file before then;
    /// - `plugin`: the digest of its file; its name and version follow from that, and are here for those who read them;
    /// - `config …`: each value of it;
    /// - `grants`: a plugin sees whether it is refused;
    /// - `memory`: a plugin sees where it ends. Time is no part of it: it only fails, and failures are not kept;
    /// - `ports`: which ports are bound, and to what kind.
    fn own_fields(&self, fields: &mut impl Fields) {
        let Self { step, inputs, .. } = self;
        own_fields(step, self.given.believed_since, fields);
        let ports: Vec<_> = inputs.iter().map(|input| format!("{} {}", input.port, input.value.kind())).collect();
        fields.add_list("ports", ports.iter().map(String::as_str));
    }

    /// What runs of one family differ in:
    ///
    /// - `context …`: what the pipeline says about the run, the runtime's digest among it;
    /// - `secret …`: the keyed hash of each secret that it is granted;
    /// - `input …`: the digests of the inputs.
    fn given_fields(&self, fields: &mut impl Fields) {
        for (name, value) in self.given.context {
            fields.add(&format!("context {name}"), value.as_bytes());
        }
        for (name, secret) in self.given.secrets.iter() {
            fields.add_digest(&format!("secret {name}"), secret.mac());
        }
        for (index, input) in self.inputs.iter().enumerate() {
            fields.add_digest(&input_field(index, &input.port), input.value.digest());
        }
    }

    fn explain(&self) -> Explanation {
        let mut explanation = Explanation::default();
        self.own_fields(&mut explanation);
        self.given_fields(&mut explanation);
        explanation
    }

    /// The full key.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// Looks for an earlier run that gave what this one would.
    pub fn look_up(&self, store: &Store) -> Result<Lookup, StoreError> {
        if let Some(record) = self.known(store)? {
            return Ok(Lookup::Hit(Box::new(record)));
        }
        let mut earlier: Vec<StepRecord> = Vec::new();
        let mut changed = None;
        for record in store.family(&self.family, CANDIDATES)?.filter_map(|record| read(&record)) {
            // Runs of one family mostly saw the same in the same order: what stopped one is looked at first in the next.
            let holds = |at: &usize| record.observations.get(*at).map_or(Ok(true), |seen| self.holds(store, seen));
            if changed.as_ref().map_or(Ok(true), holds)? {
                let Some(at) = self.first_change(store, &record, |_| true)? else {
                    return Ok(Lookup::Hit(Box::new(record)));
                };
                changed = Some(at);
            }
            earlier.push(record);
        }
        Ok(Lookup::Miss(self.why(store, earlier)?))
    }

    /// What an earlier run with all the same gave.
    pub fn known(&self, store: &Store) -> Result<Option<StepRecord>, StoreError> {
        let Some(record) = store.action(&self.key)?.as_deref().and_then(read) else { return Ok(None) };
        Ok(self.first_change(store, &record, Observation::is_outside)?.is_none().then_some(record))
    }

    /// The right to run the step, which one of all runs has at a time.
    pub fn claim(&self, store: &Store) -> Result<Claim, StoreError> {
        store.claim(&self.key)
    }

    /// Runs the step and keeps what it gives; where it gives nothing that can be kept, that is noted.
    pub fn run(&self, store: &Store, plugins: &Plugins, services: &Services) -> Result<StepRecord, Failure> {
        let result = self.run_and_keep(store, plugins, services);
        let end = match &result {
            Ok(record) if record.lasting => return result,
            Ok(_) => "what it gave before was not kept",
            Err(failure) if failure.code == Code::Cancelled => "it was stopped when it ran before",
            Err(_) => "it failed when it ran before",
        };
        // Without the note it is only said less well why it runs again.
        let _ = store.put_action(&note_key(FRUITLESS, self.pipeline, &self.step.name), end.as_bytes(), &[]);
        result
    }

    fn run_and_keep(&self, store: &Store, plugins: &Plugins, services: &Services) -> Result<StepRecord, Failure> {
        let started = Instant::now();
        let config = self.step.config.to_string();
        let limits = self.step.limits;
        let services = Services { deadline: started + limits.time, limits, ..services.clone() };
        let until = services.until();
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let call = Call { config: &config, inputs: &self.inputs, services: services.clone(), limits };
            match plugins.run(&self.step.plugin, call) {
                Err(failure) if failure.retryable && failure.code == Code::Unavailable && tries < TRIES => {
                    let (step, message) = (self.step.name.clone(), failure.to_string());
                    services.events.send(Event::StepRetried { step, message });
                    until.sleep(Duration::from_secs(u64::from(tries)))?;
                }
                answer => break answer?,
            }
        };
        if let Some(search) = Search::new(self.given.secrets, until.clone()) {
            self.refuse_secrets(&store.wanted(until), &search, &answer.outputs)?;
        }
        let record = StepRecord {
            grounds: Grounds::of(store, &self.values, &answer.observations)?,
            outputs: answer.outputs,
            observations: answer.observations,
            explanation: self.explain(),
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

    /// What programs leave is looked through as they end; here, what the step itself gives, which may come from its inputs.
    fn refuse_secrets(&self, store: &Store, search: &Search, outputs: &[Binding]) -> Result<(), Failure> {
        for Binding { port, value } in outputs {
            let leak = match value {
                Value::Tree(tree) => {
                    store.check_extent(tree)?;
                    search.tree(store, tree, "")?
                }
                Value::Blob(blob) => search.file(&mut store.open_blob(blob)?, port)?,
            };
            if let Some(leak) = leak {
                return Err(leak.failure(&format!("{}.{port}", self.step.name)));
            }
        }
        Ok(())
    }

    fn keep(&self, store: &Store, record: &StepRecord) -> Result<(), StoreError> {
        let refs: Vec<Digest> = record.outputs.iter().map(|output| *output.value.digest()).collect();
        let bytes = postcard::to_stdvec(&record).expect("a record is plain data");
        store.put_action_of(Some(&self.family), &self.key, &bytes, &refs)?;
        let latest = postcard::to_stdvec(&(record.elapsed_ms, self.key)).expect("plain data");
        store.put_action(&note_key("latest", self.pipeline, &self.step.name), &latest, &[])
    }

    /// Which is the first thing that an earlier run saw and that is no longer so.
    fn first_change(
        &self,
        store: &Store,
        record: &StepRecord,
        relevant: impl Fn(&Observation) -> bool,
    ) -> Result<Option<usize>, StoreError> {
        Ok(self.changes(store, record, relevant, 1)?.pop())
    }

    /// What an earlier run saw and that is no longer so, by its place among all that it saw: `most` of it.
    fn changes(
        &self,
        store: &Store,
        record: &StepRecord,
        relevant: impl Fn(&Observation) -> bool,
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let mut changes = Vec::new();
        let mut standing = None;
        for (at, observation) in record.observations.iter().enumerate().filter(|(_, seen)| relevant(seen)) {
            if changes.len() == most {
                break;
            }
            let standing = match &standing {
                Some(standing) => standing,
                None => standing.insert(record.grounds.standing(store, &self.values)?),
            };
            if !standing.holds(observation) && !self.holds(store, observation)? {
                changes.push(at);
            }
        }
        Ok(changes)
    }

    /// Whether what an earlier run saw is still so.
    fn holds(&self, store: &Store, observation: &Observation) -> Result<bool, StoreError> {
        let Given { context, secrets, pinned, .. } = self.given;
        let world = World { context: &|name| context.get(name).cloned(), secrets, pin: pinned };
        observation.holds(store, &self.values, &world)
    }
}

/// How all steps are run: what could change what a plugin gives.
pub(crate) fn how_they_run(fields: &mut impl Fields, believed_since: Option<&str>) {
    fields.add("track", TRACK);
    fields.add("determinism", DETERMINISM.to_string().as_bytes());
    fields.add_believed_since(believed_since);
}

/// What a step is, apart from its inputs.
fn own_fields(step: &PlannedStep, believed_since: Option<&str>, fields: &mut impl Fields) {
    how_they_run(fields, believed_since.filter(|_| !step.grants.exec.is_empty()));
    fields.add("plugin name", step.plugin.description.name.as_bytes());
    fields.add("plugin version", step.plugin.description.version.as_bytes());
    fields.add_digest("plugin", &step.plugin.digest);
    fields.add_json("config", &step.config);
    fields.add("memory", step.limits.memory.to_string().as_bytes());
    fields.add_list("grants exec", step.grants.exec.iter().map(String::as_str));
    fields.add_list("grants fetch", step.grants.fetch.iter().map(String::as_str));
    fields.add_list("grants secrets", step.grants.secrets.iter().map(String::as_str));
}

fn input_field(index: usize, port: &str) -> String {
    format!("input {index} {port}")
}

fn read(bytes: &[u8]) -> Option<StepRecord> {
    postcard::from_bytes(bytes).ok()
}

/// The name of the note on how a step last ended that never gave anything to keep.
const FRUITLESS: &str = "fruitless";

/// Under what something is noted of a step of a pipeline.
fn note_key(note: &str, pipeline: &str, step: &str) -> Digest {
    KeyBuilder::new(note).field("pipeline", pipeline.as_bytes()).field("step", step.as_bytes()).finish()
}

/// How long the latest run of the step of this name took, in milliseconds.
pub fn latest_took(store: &Store, pipeline: &str, step: &str) -> Result<Option<u64>, StoreError> {
    Ok(latest_note(store, pipeline, step)?.map(|(elapsed_ms, _)| elapsed_ms))
}

/// What is noted of the latest run of a step: how long it took, and its key.
fn latest_note(store: &Store, pipeline: &str, step: &str) -> Result<Option<(u64, Digest)>, StoreError> {
    let note = store.action(&note_key("latest", pipeline, step))?;
    Ok(note.and_then(|note| postcard::from_bytes(&note).ok()))
}
