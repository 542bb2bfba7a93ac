//! The words between a command and the agent: JSON, one message a line, over a socket that only the owner can open.
//!
//! A command sends one [`Request`]; the agent answers with any number of [`Progress`] and then one [`Answer`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::release::{Formation, How, Portion, SlugRef, Stage, Target, Who};

/// Raised with every change of the messages; agents and commands of different versions don't talk, the older agent makes way. What
/// they must understand of each other for that never changes: [`Request::Hello`], [`Request::Succeed`] and [`Request::Retire`].
pub(crate) const PROTOCOL: u32 = 16;

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Who is there?
    Hello,
    /// Make a release. The connection's end before the switch takes it back.
    Deploy(Box<Order>),
    /// What runs?
    Status,
    /// Which domains are served?
    Domains,
    /// Stop a target, or all.
    Stop {
        /// Application and name; none: all of them.
        target: Option<(String, String)>,
        /// Who asks.
        who: Who,
    },
    /// Stop a target, and have it come back after no restart of the machine.
    Remove {
        /// The application.
        app: String,
        /// The target.
        target: String,
        /// Whether its data, its releases and its config go too.
        data: bool,
        /// Who asks.
        who: Who,
    },
    /// Give the place to whoever asks, see [`super::handover`].
    Succeed,
    /// End, and leave the processes to the next agent.
    Retire,
}

/// A release that is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) app: String,
    pub(crate) target: String,
    pub(crate) wish: Wish,
    pub(crate) who: Who,
}

/// What is to differ from what the target runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wish {
    /// The slug, and what the pipeline file says of the target; at first for some of the clients only, where that is said.
    Slug { target: Box<Target>, slug: SlugRef, how: How, canary: Option<Portion> },
    /// Nothing: it is to be what it was at that release.
    Back { number: u64 },
    /// The config.
    Config(ConfigChange),
    /// The counts of these processes.
    Scale(Formation),
    /// What becomes of the release that some of the clients were given.
    Canary(CanaryWish),
}

/// What is to differ of a target's config.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Names with their values, or without one where they go.
    pub values: BTreeMap<String, Option<String>>,
    /// Whether a file says so.
    pub is_import: bool,
}

/// What is to become of a release that some of the clients were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CanaryWish {
    /// It is given to this part of them.
    Portion(Portion),
    /// It is given to all.
    Finish,
    /// It is taken back.
    Abort,
}

/// What the agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "value", rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// More is to come.
    Progress(Progress),
    /// The end.
    Answer(Answer),
}

/// How a release is going.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// It has a number.
    Started { release: u64, slug: Digest },
    /// It has come to a stage.
    Stage(Stage),
    /// The release phase or a process wrote something.
    Output(String),
    /// Something is odd.
    Warning { message: String, hint: Option<String> },
    /// Something to know.
    Note(String),
}

/// Where the progress of a release goes; nobody has to listen.
pub(super) type Say = mpsc::UnboundedSender<Progress>;

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// To [`Request::Hello`].
    Hello { protocol: u32, build: String },
    /// To [`Request::Deploy`]. Where no process answers requests, the address is empty.
    Released { number: u64, url: String },
    /// To [`Request::Deploy`]: a run gave what this release serves already.
    Unchanged { number: u64, url: String },
    /// To [`Request::Deploy`]: some of the clients are given this release.
    Canary { number: u64, portion: Portion, url: String },
    /// To [`Request::Deploy`]: nobody is given this release any more.
    TakenBack { number: u64 },
    /// To [`Request::Deploy`]: nothing runs, so that it counts from the next release on.
    Kept,
    /// To [`Request::Deploy`].
    NotReleased(Failure),
    /// To [`Request::Status`].
    Status(Vec<TargetStatus>),
    /// To [`Request::Domains`].
    Domains(Vec<DomainStatus>),
    /// To [`Request::Stop`]: the targets that were running.
    Stopped(Vec<String>),
    /// To [`Request::Remove`].
    Removed(Removed),
    /// To [`Request::Retire`].
    Retiring,
    /// To anything, from a host: whoever asks may not have it done.
    Refused(Failure),
    /// To anything: the agent itself has failed.
    Failed(String),
}

/// A target that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whether anything of it ran.
    pub ran: bool,
    /// Whether it would have come back after a restart of the machine.
    pub came_back: bool,
    /// Where its data and logs are, or were.
    pub directory: PathBuf,
    /// How many bytes those are that are left.
    pub left: u64,
    /// How many releases are left in its history.
    pub releases: u64,
    /// How many variables are left in its config.
    pub variables: u64,
}

/// Why a slug was not released.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Failure {
    /// The release's number, if it came that far.
    pub number: Option<u64>,
    /// What went wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The end of what the failing process wrote.
    pub output: Option<String>,
    /// Where the release answers all the same, where only a process beside `web` has ended.
    pub serves: Option<String>,
    /// Whether nothing failed, but nobody wanted it any more.
    pub cancelled: bool,
    /// Whether nothing failed, but what was asked for cannot be, or not by whoever asks.
    pub usage: bool,
}

/// What a target runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The application's name.
    pub app: String,
    /// The target's name.
    pub target: String,
    /// The number of the release that takes requests.
    pub release: u64,
    /// Where it answers.
    pub url: String,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
    /// The release that some of the clients are given.
    pub canary: Option<CanaryStatus>,
    /// When all of it is removed.
    pub until: Option<SystemTime>,
}

/// How a release does that some of the clients are given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// Its number.
    pub release: u64,
    /// The part of the clients.
    pub portion: Portion,
    /// What it has answered lately.
    pub new: Answered,
    /// What the others were answered meanwhile.
    pub old: Answered,
}

/// What was answered in the last half minute to a minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// How often.
    pub answers: u32,
    /// How many of these were errors: 500 and above.
    pub errors: u32,
    /// Within which time nine of ten of them began.
    pub within: Duration,
}

/// A domain that is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DomainStatus {
    /// The application's name.
    pub app: String,
    /// The target's name.
    pub target: String,
    /// The domain.
    pub domain: String,
    /// Where it answers. Over TLS, everybody who comes without is sent there.
    pub url: String,
    /// Its certificate; none: it is not reached over TLS.
    pub certificate: Option<CertificateStatus>,
}

/// How it stands with the certificate of a domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Where it comes from.
    pub source: CertificateSource,
    /// Who has signed it; none: there is none yet, and nobody is answered.
    pub issuer: Option<String>,
    /// From when on it is good, and until when.
    pub valid: Option<(SystemTime, SystemTime)>,
    /// Whether the domain is one of its names.
    pub is_for_it: bool,
    /// When another one is obtained; none: that is for somebody else to do.
    pub renewal: Option<SystemTime>,
    /// Why the last one could not be obtained, or read.
    pub failure: Option<Failure>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    /// A file, which somebody renews.
    Files {
        /// It.
        certificate: PathBuf,
    },
    /// An authority that signs them by itself.
    Acme {
        /// The address of its directory.
        authority: String,
    },
}

/// How a process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name in the slug: `web`.
    pub name: String,
    /// Which one of that name, from 1.
    pub instance: u32,
    /// What it is doing.
    pub state: ProcessState,
    /// Since when; of what waits for its time, when that comes.
    pub since: SystemTime,
    /// How often it was started again.
    pub restarts: u32,
    /// The release that it belongs to.
    pub release: u64,
    /// What it has taken of processors since it was started, with all that it has started; where it runs.
    #[serde(default)]
    pub cpu: Option<Duration>,
    /// What it holds of memory, in bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// When the kernel last ended it, or something that it has started, for want of memory.
    #[serde(default)]
    pub out_of_memory: Option<SystemTime>,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// It runs.
    Running,
    /// It ended, and is started again after a while.
    Waiting,
    /// It has ended so often that it is started again only now and then.
    CrashLooping,
    /// It waits for the time at which it is due.
    Scheduled,
    /// The same, and its last run failed.
    Failed,
    /// It was told to stop.
    Stopping,
    /// It is gone.
    Ended,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::CrashLooping => "crash-looping",
            Self::Scheduled => "scheduled",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        })
    }
}

impl Failure {
    /// A failure with nothing to show but its message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The end of work that nobody waits for.
    pub(crate) fn cancelled() -> Self {
        Self { cancelled: true, ..Self::new("cancelled") }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// No failure of anything, but of what was asked for.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message) }
    }

    /// With what to do about it, where there is only one text for both.
    pub(crate) fn in_one(self) -> String {
        match self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message,
        }
    }

    /// From an error that knows what to do about it.
    pub(crate) fn hinted(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self { hint, ..Self::of(error) }
    }

    /// From an error, with its causes.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(message)
    }
}
