//! What happens in a run, as data: the only source of what the terminal, plain lines, `--json`, traces and reports show.
//!
//! Knows nothing of who reads; a reader takes [`Stamped`] events off the other end of the channel. `runner/EVENTS.md` is the page
//! on all of them, made from the documentation of the types here.

pub mod junit;
pub mod log;
mod part;
mod schema;
mod texts;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::release::Stage;
use crate::secret::Masks;

pub use part::{Fault, Level, Location, Outcome, StepFailure, StepOutcome, TestCase, TestOutcome};
pub use schema::schema;

/// The version of the event log's shape; raised when a field changes its meaning or goes away. New events, new fields and new
/// words for what a field says may come without that: a reader passes over what it does not know.
pub const EVENTS_VERSION: u32 = 2;

/// An event with its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stamped {
    /// When it happened, in milliseconds since 1970 in UTC.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins; the first event of its log.
    RunStarted {
        /// The version of the log's shape: 2.
        version: u32,
        /// The run's own name: 32 hex digits, never twice the same.
        id: String,
        /// The pipeline file as it was named, or `built-in`.
        pipeline: String,
        /// The application's name.
        app: String,
        /// The directory that is built, as seen from where the run was started.
        source: String,
        /// How many steps the pipeline has.
        steps: usize,
        /// How many of them run at one time.
        jobs: usize,
        /// The `TRACEPARENT` that the run was started with (W3C Trace Context).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace_parent: Option<String>,
        /// For each step that takes in what others give, those steps.
        needs: BTreeMap<String, Vec<String>>,
    },
    /// Something that a user should look at, though the run goes on.
    Warning {
        /// What is odd.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something that a user may want to know.
    Note {
        /// What to know.
        message: String,
    },
    /// The command failed, and not because of a step; comes right before the end.
    Error {
        /// Whose fault it is.
        fault: Fault,
        /// What failed.
        message: String,
        /// What that came from, the nearest first.
        causes: Vec<String>,
        /// What to do about it.
        hints: Vec<String>,
        /// The place in the pipeline that is wrong, where one is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Location>,
    },
    /// A step was not in the cache and starts to run.
    StepStarted {
        /// The step's name.
        step: String,
        /// Why it runs, in one line: what changed since the nearest earlier run.
        why: String,
        /// The step whose end gave it its place, where it had to wait for one: all jobs, or its pool, were busy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// A step says how far it is.
    StepProgress {
        /// The step's name.
        step: String,
        /// How much is done.
        done: u64,
        /// Out of how much, where that is known.
        total: Option<u64>,
        /// Of what.
        unit: String,
    },
    /// A step says something.
    StepLog {
        /// The step's name.
        step: String,
        /// How important it is.
        level: Level,
        /// What it says.
        message: String,
    },
    /// A native program of a step wrote something.
    StepOutput {
        /// The step's name.
        step: String,
        /// What was written, whole lines where possible.
        text: String,
    },
    /// A native program of a step has ended. One whose outcome was known did not run, and is not told of.
    ProgramFinished {
        /// The step's name.
        step: String,
        /// The program and its arguments.
        argv: Vec<String>,
        /// What it ended with; none where it was ended by its limits or by the run's stop.
        exit_code: Option<i32>,
        /// How long it took, its sandbox included, in milliseconds.
        elapsed_ms: u64,
    },
    /// A step that the environment failed is tried again.
    StepRetried {
        /// The step's name.
        step: String,
        /// What failed.
        message: String,
    },
    /// The tests that a program of a step ran: a file in JUnit's XML was among what was collected.
    StepTests {
        /// The step's name.
        step: String,
        /// Each test, in the order of the report.
        tests: Vec<TestCase>,
    },
    /// A step has passed that had failed with the same key: what it gives depends on more than what it sees.
    StepFlaky {
        /// The step's name.
        step: String,
        /// When it had failed, in milliseconds since 1970 in UTC.
        failed_at: u64,
        /// Why it had failed.
        message: String,
        /// Where the pipeline names it.
        place: Location,
    },
    /// A step has ended.
    StepFinished {
        /// The step's name.
        step: String,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<StepFailure>,
    },
    /// A slug, with its runtime, is on the machine of a target: what was not there before was sent.
    SlugSent {
        /// The target's name.
        target: String,
        /// The slug's id.
        slug: String,
        /// The machine.
        server: String,
        /// How many bytes went over the connection for it, both ways.
        bytes: u64,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// A target begins to take a release.
    ReleaseStarted {
        /// The target's name.
        target: String,
        /// The release's number.
        release: u64,
        /// The slug's id.
        slug: String,
    },
    /// A release has come to its next stage.
    ReleaseStage {
        /// The target's name.
        target: String,
        /// The release's number.
        release: u64,
        /// The stage.
        stage: Stage,
    },
    /// The release phase or a starting process wrote something.
    ReleaseOutput {
        /// The target's name.
        target: String,
        /// What was written.
        text: String,
    },
    /// A target has taken a release, or has not.
    ReleaseFinished {
        /// The target's name.
        target: String,
        /// The release's number.
        release: u64,
        /// Whether it is now what the target runs, as a whole.
        outcome: Outcome,
        /// Where it answers; also where it has failed because a process beside `web` ended at once.
        url: Option<String>,
    },
    /// What was built is what a target runs already, with the same settings: no release was made.
    ReleaseUnchanged {
        /// The target's name.
        target: String,
        /// The release that serves.
        release: u64,
        /// Where it answers; empty where the target is scaled to no web process.
        url: String,
    },
    /// The run has ended; the last event of its log.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// How many steps the run looked at.
        steps: usize,
        /// How many of them came from the cache.
        cached: usize,
        /// The id of the slug, where one was built.
        slug: Option<String>,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
        /// Where the released slug answers.
        url: Option<String>,
    },
}

/// Bytes that steps may say ahead of their reader.
const AHEAD: usize = 1 << 20;

/// How long a step that is ahead waits for a reader who does not go on, each time.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where events go in. Cheap to clone; events of a reader that has gone are dropped. What is masked, no reader gets to see.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::Sender<Said>,
    masks: Arc<RwLock<Masks>>,
    ahead: Arc<Ahead>,
}

/// Where events come out, one after the other, in the order in which they went in.
pub struct Told {
    receiver: mpsc::Receiver<Said>,
    ahead: Arc<Ahead>,
}

/// How many bytes of what steps say are on their way. A step that says more than its reader takes in goes on as fast as that does:
/// what is told would lag behind what happens, and lie in memory.
#[derive(Debug, Default)]
struct Ahead {
    bytes: Mutex<usize>,
    less: Condvar,
}

/// An event on its way to its reader, and what the reader waits for first.
struct Said {
    stamped: Stamped,
    until: Option<Box<dyn FnOnce() + Send>>,
}

impl Events {
    /// A pair of where events go in and where they come out.
    pub fn channel() -> (Self, Told) {
        let (sender, receiver) = mpsc::channel();
        let ahead = Arc::default();
        (Self { sender, masks: Arc::default(), ahead: Arc::clone(&ahead) }, Told { receiver, ahead })
    }

    /// Masks texts in all events from now on.
    pub fn mask<'t>(&self, texts: impl IntoIterator<Item = &'t str>) {
        self.masks.write().unwrap_or_else(PoisonError::into_inner).add(texts);
    }

    /// What is masked.
    pub fn masks(&self) -> Masks {
        self.masks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that something happened.
    pub fn send(&self, event: Event) {
        self.say(event, None);
    }

    /// Says that something happened, which no reader gets to see before `until` has returned. What is said later waits for it too.
    pub fn send_once(&self, event: Event, until: impl FnOnce() + Send + 'static) {
        self.say(event, Some(Box::new(until)));
    }

    fn say(&self, mut event: Event, until: Option<Box<dyn FnOnce() + Send>>) {
        let masks = self.masks.read().unwrap_or_else(PoisonError::into_inner);
        if !masks.is_empty() {
            for text in event.texts() {
                if let Cow::Owned(masked) = masks.mask(text) {
                    *text = masked;
                }
            }
        }
        drop(masks);
        self.ahead.add(event.said());
        // Nobody listens any more: the run goes on all the same.
        let _ = self.sender.send(Said { stamped: Stamped::now(event), until });
    }

    /// Says that a user should look at something.
    pub fn warn(&self, message: impl Into<String>, hint: Option<String>) {
        self.send(Event::Warning { message: message.into(), hint });
    }
}

impl Told {
    /// The next event, if there is one within a time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Stamped, mpsc::RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map(|said| self.settle(said))
    }

    fn settle(&self, said: Said) -> Stamped {
        self.ahead.take(said.stamped.event.said());
        if let Some(until) = said.until {
            until();
        }
        said.stamped
    }
}

/// All events until nobody can say any more.
impl Iterator for Told {
    type Item = Stamped;

    fn next(&mut self) -> Option<Stamped> {
        self.receiver.recv().ok().map(|said| self.settle(said))
    }
}

impl Ahead {
    fn add(&self, size: usize) {
        if size > 0 {
            let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.less.wait_timeout_while(bytes, PATIENCE, |bytes| *bytes > AHEAD);
            *waited.unwrap_or_else(PoisonError::into_inner).0 += size;
        }
    }

    fn take(&self, size: usize) {
        if size > 0 {
            *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= size;
            self.less.notify_all();
        }
    }
}

impl Event {
    /// Bytes that a step says.
    fn said(&self) -> usize {
        match self {
            Self::StepOutput { text, .. } => text.len(),
            Self::StepLog { message, .. } => message.len(),
            _ => 0,
        }
    }
}

impl Stamped {
    /// An event that happens now.
    pub fn now(event: Event) -> Self {
        Self { at: now_ms(), event }
    }
}

/// Milliseconds since 1970 in UTC.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
