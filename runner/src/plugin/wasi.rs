//! WASI for the components that import it, without anything of this machine: no files, no network, no environment, the same
//! random bytes every time, and a date that stands still. The clock moves on by what is waited for and by nothing else, so that
//! no wait takes time. What a component writes to its standard streams is heard like what a native program writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult, subscribe};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxView, WasiView, async_trait};

use super::host::said::EACH;
use super::host::{Code, Failure, Host};
use crate::event::{Event, Events};
use crate::exec::shown;

/// 1980-01-01 00:00:01 UTC, as seconds since 1970.
const NOW: Duration = Duration::from_secs(315_532_801);

/// The most that one write to a standard stream takes, in bytes.
const MAX_WRITE: usize = 64 << 10;

/// How much of what was written last is kept for whoever asks, in bytes.
const KEPT: usize = 4 << 10;

/// What a component that imports WASI has of its own.
pub(super) struct Wasi {
    ctx: WasiCtx,
    /// In nanoseconds, from zero at the start of each run.
    clock: u64,
    said: Said,
}

impl Wasi {
    /// Standard streams go to `listener`, the events and a step's name, where there is one, up to a `limit` in bytes.
    pub(super) fn new(listener: Option<(Events, String)>, limit: u64) -> Self {
        let said =
            Said(Arc::new(Mutex::new(Speech { listener, limit, left: limit, begun: Vec::new(), last: Vec::new() })));
        let ctx = WasiCtx::builder()
            .wall_clock(Stopped)
            .secure_random(seeded("secure"))
            .insecure_random(seeded("insecure"))
            .insecure_random_seed(0)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .stdout(said.clone())
            .stderr(said.clone())
            .build();
        Self { ctx, clock: 0, said }
    }

    /// The last that was written to a standard stream.
    pub(super) fn last_words(&self) -> String {
        let speech = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&speech.last).trim_end().to_owned()
    }

    fn wait(&mut self, until: u64) {
        self.clock = self.clock.max(until);
    }
}

/// Makes WASI importable.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // A wait on the clock that comes with it would not be ended by a step's time limit.
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi.ctx, table: &mut self.table }
    }
}

struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        NOW
    }
}

impl monotonic_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi.clock)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wasi.wait(when);
        over(&mut self.table)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wasi.wait(self.wasi.clock.saturating_add(duration));
        over(&mut self.table)
    }
}

/// A wait that is over.
struct Over;

fn over(table: &mut ResourceTable) -> wasmtime::Result<Resource<DynPollable>> {
    let over = table.push(Over)?;
    subscribe(table, over)
}

#[async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

fn seeded(name: &str) -> Deterministic {
    let mut bytes = vec![0; 1 << 12];
    blake3::Hasher::new_derive_key("pipe 2026 wasi random").update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    Deterministic::new(bytes)
}

/// Both standard streams.
#[derive(Clone)]
struct Said(Arc<Mutex<Speech>>);

struct Speech {
    listener: Option<(Events, String)>,
    /// Bytes that may be written in all, and still.
    limit: u64,
    left: u64,
    /// The beginning of a line.
    begun: Vec<u8>,
    last: Vec<u8>,
}

impl Speech {
    fn tell(&self, bytes: &[u8]) {
        if let Some((events, step)) = self.listener.as_ref().filter(|_| !bytes.is_empty()) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            events.send(Event::StepOutput { step: step.clone(), text });
        }
    }
}

impl Drop for Speech {
    fn drop(&mut self) {
        self.tell(&self.begun);
    }
}

impl IsTerminal for Said {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Said {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only asked for by later versions of WASI than are lent here.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Said {
    async fn ready(&mut self) {}
}

impl OutputStream for Said {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut speech = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = if bytes.contains(&b'\n') { EACH } else { 0 };
        let Some(left) = speech.left.checked_sub((bytes.len() + each) as u64) else {
            let step = speech.listener.as_ref().map_or("", |(_, step)| step.as_str());
            let message = format!("said more than its limit of {}", shown(speech.limit));
            let failure = Failure::new(Code::LimitExceeded, message)
                .hint(format!("raise `limits.log` of `[steps.{step}]`, if the plugin is right to"));
            return Err(StreamError::Trap(failure.into()));
        };
        speech.left = left;
        speech.begun.extend_from_slice(&bytes);
        if let Some(end) = speech.begun.iter().rposition(|byte| *byte == b'\n') {
            let rest = speech.begun.split_off(end + 1);
            let lines = std::mem::replace(&mut speech.begun, rest);
            speech.tell(&lines);
        }
        speech.last.extend_from_slice(&bytes);
        let surplus = speech.last.len().saturating_sub(KEPT);
        speech.last.drain(..surplus);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}
