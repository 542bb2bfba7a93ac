//! One run of a plugin: a fresh Wasm store, limits, and what comes of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable, ResourceTableError};
use wasmtime::{Engine, ResourceLimiter, UpdateDeadline};

use super::bindings::exports::pipe::step::guest;
use super::bindings::{StepExecFetch, StepExecFetchPre};
use super::host::said::{MESSAGE, NAME, Paced, cut};
use super::host::{Code, Failure, Host, Left, Services, TOO_MANY_HANDLES};
use super::observe::Observation;
use super::wasi::{self, Wasi};
use super::{AUTHORS_FAULT, PluginError, WASI};
use crate::description::{PluginDescription, Port, PortKind};
use crate::digest::Digest;
use crate::store::{Store, StoreError, Until};

/// How often a running plugin is asked whether it is time to stop.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How long a plugin may take to describe itself.
const TIME_TO_DESCRIBE: Duration = Duration::from_secs(20);

/// What passes through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Bytes.
    Blob(Digest),
    /// A directory.
    Tree(Digest),
}

impl Value {
    /// The digest of the bytes, or of the directory.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Blob(digest) | Self::Tree(digest) => digest,
        }
    }

    /// What it is.
    pub const fn kind(&self) -> PortKind {
        match self {
            Self::Blob(_) => PortKind::Blob,
            Self::Tree(_) => PortKind::Tree,
        }
    }
}

/// A value at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The port's name.
    pub port: String,
    /// What is bound to it.
    pub value: Value,
}

/// What a step may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its end, programs and fetches included.
    pub time: Duration,
    /// Bytes of the plugin's own memory, and of what the runner holds in memory for it.
    pub memory: u64,
    /// Bytes of memory of each native program; ample where none.
    pub program_memory: Option<u64>,
    /// Bytes that the plugin writes; and that each native program writes to files.
    pub output: u64,
    /// Bytes that the plugin says, and a hundred for each message; and that each native program writes to standard output and error.
    pub log: u64,
    /// Calls into the runner.
    pub calls: u64,
    /// Handles held at one time.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_hours(1),
            memory: 1 << 30,
            program_memory: None,
            output: 64 << 30,
            log: 64 << 20,
            calls: 10_000_000,
            handles: 1_000_000,
        }
    }
}

/// What a plugin is run with.
pub struct Call<'a> {
    /// A JSON object that fits the plugin's schema.
    pub config: &'a str,
    /// The inputs, in the pipeline's order.
    pub inputs: &'a [Binding],
    /// Everything else that it can ask for.
    pub services: Services,
    /// What it may use up.
    pub limits: Limits,
}

/// What a plugin gave, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A value for each output port.
    pub outputs: Vec<Binding>,
    /// In a fixed order.
    pub observations: Vec<Observation>,
    /// Whether the same inputs would give the same again.
    pub lasting: bool,
}

/// Counts the memory of a running plugin, with what is held for it outside, and remembers whether it wanted too much.
pub(super) struct Memory {
    limit: usize,
    used: usize,
    passed: bool,
}

impl Memory {
    fn new(limit: u64) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), used: 0, passed: false }
    }

    /// What comes of more than the limit is told by [`trapped`].
    pub(super) fn grow(&mut self, by: usize) -> Result<(), Failure> {
        self.used = self.used.saturating_add(by);
        self.passed = self.used > self.limit;
        if self.passed { Err(Failure::new(Code::LimitExceeded, "the memory limit is passed")) } else { Ok(()) }
    }

    pub(super) fn shrink(&mut self, by: usize) {
        self.used = self.used.saturating_sub(by);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))?;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(size_of::<usize>()))?;
        Ok(true)
    }
}

/// Everything that a step can import; WASI only for those that ask for it.
fn linker(engine: &Engine, with_wasi: bool) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    StepExecFetch::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)?;
    if with_wasi {
        wasi::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

/// A plugin with all that it imports.
pub(super) type Ready = StepExecFetchPre<Host>;

/// Gives a component what it imports.
pub(super) fn link(engine: &Engine, component: &Component, with_wasi: bool) -> wasmtime::Result<Ready> {
    StepExecFetchPre::new(linker(engine, with_wasi)?.instantiate_pre(component)?)
}

fn wasm_store(engine: &Engine, store: Store, services: Option<Services>, limits: &Limits) -> wasmtime::Store<Host> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles);
    let listener = services.as_ref().map(|services| (services.events.clone(), services.step.clone()));
    let until = store.until().clone();
    let host = Host {
        store,
        table,
        memory: Memory::new(limits.memory),
        wasi: Wasi::new(listener, limits.log),
        services,
        observations: HashSet::new(),
        left: Left { output: limits.output, log: limits.log, calls: limits.calls },
        progress: Paced::default(),
        lasting: true,
    };
    let mut wasm = wasmtime::Store::new(engine, host);
    wasm.limiter(|host| &mut host.memory);
    // Of each that the table holds the component has one or, while it is lent, two: the table's limit is the one that is met.
    wasm.set_max_component_handles(limits.handles.saturating_mul(2));
    wasm.set_epoch_deadline(1);
    wasm.epoch_deadline_callback(move |_| {
        until.look().map_err(Failure::from)?;
        Ok(UpdateDeadline::Continue(1))
    });
    wasm
}

/// Asks a component to describe itself.
pub(super) fn describe(
    engine: &Engine,
    store: &Store,
    name: &str,
    component: &Component,
    capabilities: Vec<String>,
) -> Result<PluginDescription, PluginError> {
    let with_wasi = capabilities.iter().any(|capability| capability == WASI);
    let step =
        link(engine, component, with_wasi).map_err(|source| PluginError::NotAStep { name: name.to_owned(), source })?;
    let limits = Limits { time: TIME_TO_DESCRIBE, ..Limits::default() };
    let until = Until::default().within(limits.time, Instant::now() + limits.time);
    let mut wasm = wasm_store(engine, store.wanted(until), None, &limits);
    let described = step.instantiate(&mut wasm).and_then(|step| step.pipe_step_guest().call_describe(&mut wasm));
    let said = described.map_err(|error| PluginError::Describe {
        name: name.to_owned(),
        said: wasm.data().wasi.last_words(),
        source: Box::new(trapped(error, wasm.data(), &limits)),
    })?;
    check_names(&said).map_err(|why| PluginError::Description { name: name.to_owned(), why })?;
    let config_schema = serde_json::from_str(&said.config_schema)
        .map_err(|source| PluginError::Schema { name: name.to_owned(), source })?;
    Ok(PluginDescription {
        name: said.name,
        version: said.version,
        summary: said.summary,
        config_schema,
        inputs: said.inputs.into_iter().map(port).collect(),
        outputs: said.outputs.into_iter().map(port).collect(),
        capabilities,
    })
}

/// What a plugin says of itself stands in messages and is what others call it by.
fn check_names(said: &guest::Description) -> Result<(), String> {
    let lengths = |what: &str, text: &str, least, most| match text.len() {
        len if len < least => Err(format!("its {what} is empty")),
        len if len > most => Err(format!("its {what} has {len} bytes, of at most {most}")),
        _ => Ok(()),
    };
    lengths("name", &said.name, 1, NAME)?;
    lengths("version", &said.version, 0, NAME)?;
    lengths("summary", &said.summary, 0, MESSAGE)?;
    for (what, ports) in [("input", &said.inputs), ("output", &said.outputs)] {
        let mut names = HashSet::new();
        for port in ports {
            lengths(&format!("{what}'s name"), &port.name, 1, NAME)?;
            lengths(&format!("{what}'s description"), &port.doc, 0, MESSAGE)?;
            if !names.insert(&port.name) {
                return Err(format!("it has two {what}s `{}`", port.name));
            }
        }
    }
    Ok(())
}

fn port(port: guest::Port) -> Port {
    let kind = match port.kind {
        guest::PortKind::Blob => PortKind::Blob,
        guest::PortKind::Tree => PortKind::Tree,
    };
    Port { name: port.name, kind, required: port.required, many: port.many, doc: port.doc }
}

/// Runs a plugin's `run`.
pub(super) fn run(
    ready: &Ready,
    store: &Store,
    description: &PluginDescription,
    call: Call<'_>,
) -> Result<Answer, Failure> {
    let limits = call.limits;
    let mut wasm = wasm_store(ready.engine(), store.wanted(call.services.until()), Some(call.services), &limits);
    let mut inputs = Vec::with_capacity(call.inputs.len());
    for (index, Binding { port, value }) in call.inputs.iter().enumerate() {
        inputs.push(guest::Binding { port: port.clone(), value: wasm.data_mut().lend(index, value)? });
    }
    let answered =
        ready.instantiate(&mut wasm).and_then(|step| step.pipe_step_guest().call_run(&mut wasm, call.config, &inputs));
    let outputs = match answered {
        Ok(answer) => answer.map_err(Failure::from)?,
        Err(error) => return Err(trapped(error, wasm.data(), &limits)),
    };
    let outputs = outputs
        .into_iter()
        .map(|guest::Binding { port, value }| Ok(Binding { port, value: wasm.data_mut().take(value)? }))
        .collect::<Result<Vec<_>, Failure>>()?;
    check_outputs(description, &outputs)?;
    let Host { observations, lasting, .. } = wasm.into_data();
    let mut observations: Vec<_> = observations.into_iter().collect();
    observations.sort();
    Ok(Answer { outputs, observations, lasting })
}

/// What ended a plugin that did not return.
fn trapped(error: wasmtime::Error, host: &Host, limits: &Limits) -> Failure {
    let raise = |what: &str| match &host.services {
        Some(services) => format!("raise `limits.{what}` of `[steps.{}]`", services.step),
        None => AUTHORS_FAULT.to_owned(),
    };
    if host.memory.passed {
        return Failure::new(
            Code::LimitExceeded,
            format!("used more memory than its limit of {} MiB", limits.memory >> 20),
        )
        .hint(raise("memory"));
    }
    let failure =
        error.downcast::<Failure>().or_else(|error| error.downcast::<ResourceTableError>().map(Failure::from));
    match failure {
        Ok(failure) if failure.message == TOO_MANY_HANDLES => {
            let message = format!("{TOO_MANY_HANDLES} of {}", limits.handles);
            Failure { message, ..failure }.hint(raise("handles"))
        }
        Ok(failure) if failure.message == StoreError::TooLate(limits.time).to_string() => failure.hint(raise("time")),
        Ok(failure) => failure,
        Err(error) => {
            Failure::new(Code::Internal, format!("the plugin crashed: {}", error.root_cause())).hint(AUTHORS_FAULT)
        }
    }
}

/// A plugin that does not give what it said it would is at fault.
fn check_outputs(description: &PluginDescription, outputs: &[Binding]) -> Result<(), Failure> {
    let fault = |message: String| Err(Failure::new(Code::Internal, message).hint(AUTHORS_FAULT));
    for port in &description.outputs {
        let mut bound = outputs.iter().filter(|binding| binding.port == port.name);
        match (bound.next(), bound.next()) {
            (None, _) if port.required => return fault(format!("gave nothing at its output `{}`", port.name)),
            (Some(binding), None) if binding.value.kind() == port.kind => {}
            (None, _) => {}
            (Some(_), None) => return fault(format!("gave a value of the wrong kind at its output `{}`", port.name)),
            (Some(_), Some(_)) => return fault(format!("gave two values at its output `{}`", port.name)),
        }
    }
    match outputs.iter().find(|binding| description.outputs.iter().all(|port| port.name != binding.port)) {
        Some(binding) => {
            fault(format!("gave a value at `{}`, which it never declared", cut(binding.port.clone(), NAME)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_calls_itself_and_its_ports_has_a_length_and_is_told_apart() {
        let port = |name: &str| guest::Port {
            name: name.to_owned(),
            kind: guest::PortKind::Tree,
            required: true,
            many: false,
            doc: String::new(),
        };
        let refused = |name: &str, outputs: &[&str]| {
            let outputs = outputs.iter().map(|name| port(name)).collect();
            let (version, summary, config_schema, meta) = <(String, String, String, Vec<_>)>::default();
            let name = name.to_owned();
            check_names(&guest::Description {
                name,
                version,
                summary,
                config_schema,
                inputs: vec![port("out")],
                outputs,
                meta,
            })
        };
        assert_eq!(refused("name", &["out", "other"]), Ok(()));
        assert_eq!(refused("", &[]), Err("its name is empty".to_owned()));
        assert_eq!(refused(&"n".repeat(101), &[]), Err("its name has 101 bytes, of at most 100".to_owned()));
        assert_eq!(refused("name", &[""]), Err("its output's name is empty".to_owned()));
        assert_eq!(refused("name", &["out", "out"]), Err("it has two outputs `out`".to_owned()));
    }
}
