//! Ctrl-C: once to stop in order, twice to stop at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::failure::{Failure, Kind};

/// What a shell says of a program that Ctrl-C ended.
const ENDED_BY_CTRL_C: i32 = 130;

/// Watches for Ctrl-C from now on.
pub(super) struct Interrupt {
    /// Set by the first.
    pub(super) cancel: Arc<AtomicBool>,
    /// Nothing is left that would have to be stopped in order.
    at_once: Arc<AtomicBool>,
}

impl Interrupt {
    pub(super) fn watch() -> Result<Self, Failure> {
        let interrupt = Self { cancel: Arc::default(), at_once: Arc::default() };
        let (cancel, at_once) = (Arc::clone(&interrupt.cancel), Arc::clone(&interrupt.at_once));
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Failure::of(Kind::Environment, &error).about("cannot watch for Ctrl-C"))?;
        thread::spawn(move || {
            tokio.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if cancel.swap(true, Ordering::Relaxed) || at_once.load(Ordering::Relaxed) {
                        process::exit(ENDED_BY_CTRL_C);
                    }
                }
            });
        });
        Ok(interrupt)
    }

    /// From now on the first Ctrl-C ends the process: what goes on is someone else's.
    pub(super) fn end_at_once(&self) {
        self.at_once.store(true, Ordering::Relaxed);
        if self.cancel.load(Ordering::Relaxed) {
            process::exit(ENDED_BY_CTRL_C);
        }
    }
}
