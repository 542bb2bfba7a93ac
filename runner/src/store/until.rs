//! Until when work on the store is wanted. All that takes long there looks at it again and again, and gives up soon after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::StoreError;

/// Until when somebody wants what comes of some work; for ever, unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct Until {
    cancel: Option<Arc<AtomicBool>>,
    over: Option<Over>,
}

/// When time is over, and how much there was of it.
#[derive(Debug, Clone, Copy)]
struct Over {
    at: Instant,
    limit: Duration,
}

impl Until {
    /// The longest pause of whoever waits before another look.
    pub(crate) const PAUSE: Duration = Duration::from_millis(20);

    /// Until this is set.
    pub fn cancelled(cancel: &Arc<AtomicBool>) -> Self {
        Self { cancel: Some(Arc::clone(cancel)), over: None }
    }

    /// And until so much time is over, which ends then.
    #[must_use]
    pub fn within(self, limit: Duration, at: Instant) -> Self {
        Self { over: Some(Over { at, limit }), ..self }
    }

    /// How much time is left.
    pub fn left(&self) -> Duration {
        self.over.map_or(Duration::MAX, |over| over.at.saturating_duration_since(Instant::now()))
    }

    /// Waits; an error as soon as it is over.
    pub fn sleep(&self, time: Duration) -> Result<(), StoreError> {
        let end = Instant::now() + time;
        loop {
            self.look()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => thread::sleep(left.min(Self::PAUSE)),
            }
        }
    }

    /// An error once it is over.
    pub fn look(&self) -> Result<(), StoreError> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(StoreError::Stopped);
        }
        match self.over {
            Some(Over { at, limit }) if at <= Instant::now() => Err(StoreError::TooLate(limit)),
            _ => Ok(()),
        }
    }
}
