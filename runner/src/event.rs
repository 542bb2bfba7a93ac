//! What happens in a run, as data: the only source of what the terminal, plain lines and `--json` show.
//!
//! Knows nothing of who reads; a reader takes [`Event`]s off the other end of the channel.

pub mod log;

use std::collections::BTreeMap;
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use crate::release::Stage;

/// The version of the event log's shape; raised when a field changes its meaning or goes away.
pub const EVENTS_VERSION: u32 = 1;

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins; the first event of its log.
    RunStarted {
        /// [`EVENTS_VERSION`].
        version: u32,
        /// The pipeline file as it was named, or `built-in`.
        pipeline: String,
        /// The application's name.
        app: String,
        /// How many steps the pipeline has.
        steps: usize,
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
    /// A step was not in the cache and starts to run.
    StepStarted {
        /// The step's name.
        step: String,
        /// Why it runs, in one line: what changed since the nearest earlier run.
        why: String,
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
    /// A step has ended.
    StepFinished {
        /// The step's name.
        step: String,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
        /// Why it failed or was skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
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
        /// Whether it is now what the target runs.
        outcome: Outcome,
        /// Where it answers.
        url: Option<String>,
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

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every detail.
    Trace,
    /// What only someone who looks for a fault wants to see.
    Debug,
    /// What a user may want to know.
    Info,
    /// What a user should look at.
    Warn,
    /// What went wrong.
    Error,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It ran, and gave its outputs.
    Ran,
    /// Its outputs were known.
    Cached,
    /// It ran, and gave none.
    Failed,
    /// A step before it failed.
    Skipped,
    /// The run was stopped.
    Cancelled,
}

/// How a run or a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As wanted.
    Succeeded,
    /// Not as wanted; earlier events say why.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// Where events go in. Cheap to clone; events of a reader that has gone are dropped.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<Event>);

impl Events {
    /// A pair of where events go in and where they come out.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Says that something happened.
    pub fn send(&self, event: Event) {
        // Nobody listens any more: the run goes on all the same.
        let _ = self.0.send(event);
    }

    /// Says that a user should look at something.
    pub fn warn(&self, message: impl Into<String>, hint: Option<String>) {
        self.send(Event::Warning { message: message.into(), hint });
    }
}
