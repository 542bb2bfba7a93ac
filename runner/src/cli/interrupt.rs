//! Ctrl-C: once to stop in order, twice to stop at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::ctrl_c;

use super::failure::{Failure, Kind};

/// What a shell says of a program that Ctrl-C ended.
const ENDED_BY_CTRL_C: i32 = 130;

/// After so long a stop in order is explained.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches for Ctrl-C from now on.
pub(super) struct Interrupt {
    /// Set by the first.
    pub(super) cancel: Arc<AtomicBool>,
    /// Whether somebody looks at `cancel`, so that the first is to be left to them.
    in_order: Arc<AtomicBool>,
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
    /// Until [`Interrupt::stop_in_order`] the first Ctrl-C ends the process.
    pub(super) fn watch(last: impl Last) -> Result<Self, Failure> {
        let interrupt = Self { cancel: Arc::default(), in_order: Arc::default() };
        let (cancel, in_order) = (Arc::clone(&interrupt.cancel), Arc::clone(&interrupt.in_order));
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::of(Kind::Environment, &error).about("cannot watch for Ctrl-C"))?;
        thread::spawn(move || {
            tokio.block_on(async {
                if ctrl_c().await.is_err() {
                    return;
                }
                cancel.store(true, Ordering::SeqCst);
                if in_order.load(Ordering::SeqCst) {
                    let again = ctrl_c();
                    tokio::pin!(again);
                    if tokio::time::timeout(PATIENCE, &mut again).await.is_err() {
                        last.waiting();
                        let _ = again.await;
                    }
                }
                last.now();
                process::exit(ENDED_BY_CTRL_C);
            });
        });
        Ok(interrupt)
    }

    /// From now on the first Ctrl-C is left to whoever looks at `cancel`.
    pub(super) fn stop_in_order(&self) {
        self.in_order.store(true, Ordering::SeqCst);
    }
}
