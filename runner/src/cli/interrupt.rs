//! Ctrl-C, and being told to end by another process: once to stop in order, twice to stop at once.

use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::{Pid, getsid};
use runner::store::{self, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Failure, Kind};

/// After so long work that was to stop soon is given up; in order, it is explained what is waited for.
const PATIENCE: Duration = Duration::from_millis(800);

/// What becomes of a first Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Manner {
    /// The process ends: nobody looks at whether to go on.
    AtOnce,
    /// Whoever looks at `cancel` has until [`PATIENCE`] is over. Sandboxes end with this process.
    Soon,
    /// It is left to whoever looks at `cancel`, however long that takes.
    InOrder,
}

/// Watches for Ctrl-C from now on.
pub(super) struct Interrupt {
    /// Set by the first.
    pub(super) cancel: Arc<AtomicBool>,
    manner: Arc<AtomicU8>,
}

/// What to tell a user who waits, and what to do last.
pub(super) trait Last: Send + 'static {
    /// Stopping takes a while.
    fn waiting(&self) {}

    /// The process ends now.
    fn now(self);
}

/// Nothing is left to be said.
pub(super) struct Silently;

impl Last for Silently {
    fn now(self) {}
}

impl Interrupt {
    /// Until told otherwise, the first Ctrl-C ends the process.
    pub(super) fn watch(last: impl Last) -> Result<Self, Failure> {
        let interrupt = Self { cancel: Arc::default(), manner: Arc::new(AtomicU8::new(Manner::AtOnce as u8)) };
        let (cancel, manner) = (Arc::clone(&interrupt.cancel), Arc::clone(&interrupt.manner));
        let failed = |error: std::io::Error| Failure::of(Kind::Environment, &error).about("cannot watch for Ctrl-C");
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut signals = tokio.block_on(async { Signals::new() }).map_err(failed)?;
        thread::spawn(move || {
            tokio.block_on(async {
                signals.next().await;
                cancel.store(true, Ordering::SeqCst);
                let is = |wanted: Manner| manner.load(Ordering::SeqCst) == wanted as u8;
                if !is(Manner::AtOnce)
                    && tokio::time::timeout(PATIENCE, signals.next()).await.is_err()
                    && is(Manner::InOrder)
                {
                    last.waiting();
                    signals.next().await;
                }
                last.now();
                end_children();
                store::leave();
                process::exit(Kind::Cancelled.exit_code().into());
            });
        });
        Ok(interrupt)
    }

    /// From now on the work looks at `cancel`, and what it waits for does not matter.
    pub(super) fn stop_soon(&self) {
        self.manner.store(Manner::Soon as u8, Ordering::SeqCst);
    }

    /// Removes what a build that was stopped has left in the store; another Ctrl-C does not wait for that.
    pub(super) fn clear_up(&self, store: &Store) {
        if self.cancel.load(Ordering::SeqCst) {
            self.stop_in_order();
            store.clear_up();
        }
    }

    /// From now on the first Ctrl-C is left to whoever looks at `cancel`.
    pub(super) fn stop_in_order(&self) {
        self.manner.store(Manner::InOrder as u8, Ordering::SeqCst);
    }
}

/// Ends the tools that this process has started, which are in its session: uv, git. Sandboxes end by themselves when it does,
/// and the agent is to go on.
fn end_children() {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let own = getsid(None);
    for child in lists.collect::<Vec<_>>().iter().flat_map(|list| list.split_whitespace()) {
        let Ok(child) = child.parse().map(Pid::from_raw) else { continue };
        if getsid(Some(child)) == own {
            // It may have ended by itself.
            let _ = kill(child, nix::sys::signal::SIGTERM);
        }
    }
}

/// All that asks a process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
