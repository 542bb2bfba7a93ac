//! WASI for the components that import it, without anything of this machine: no files, no network, no environment, a clock
//! that stands still, and the same random bytes every time.

use std::time::Duration;

use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::host::Host;

/// 1980-01-01 00:00:01 UTC, as seconds since 1970.
const NOW: Duration = Duration::from_secs(315_532_801);

struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        NOW
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

fn seeded(name: &str) -> Deterministic {
    let mut bytes = vec![0; 1 << 12];
    blake3::Hasher::new_derive_key("pipe 2026 wasi random").update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    Deterministic::new(bytes)
}

pub(super) fn nothing_ambient() -> WasiCtx {
    WasiCtx::builder()
        .wall_clock(Stopped)
        .monotonic_clock(Stopped)
        .secure_random(seeded("secure"))
        .insecure_random(seeded("insecure"))
        .insecure_random_seed(0)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
