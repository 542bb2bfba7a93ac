//! What events are made of.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Document, Position};

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It ran, and gave its outputs.
    Ran,
    /// Its outputs were known.
    Cached,
    /// It ran, and gave none.
    Failed,
    /// A step before it failed, or the run was stopped.
    Skipped,
    /// It was stopped while it ran.
    Cancelled,
}

/// How a run or a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As wanted.
    Succeeded,
    /// Not as wanted; earlier events say why.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// Whose fault it is that something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A step, or a program that it ran, failed: the project is to be mended.
    Step,
    /// The command line asks for what cannot be.
    Usage,
    /// The pipeline is wrong, or what it names.
    Pipeline,
    /// A plugin trapped, or broke the contract.
    Plugin,
    /// The network, a registry, the disk or the sandbox failed; another try, or another machine, may pass.
    Environment,
    /// A step took longer than its limit.
    TimedOut,
    /// A release did not come up.
    Release,
    /// A fault of pipe itself.
    Internal,
    /// The user stopped it.
    Cancelled,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailure {
    /// Whose fault it is.
    pub fault: Fault,
    /// What failed and why; may have several lines.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where the pipeline names the step.
    pub place: Location,
}

/// A place in a file of the user's, counted from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// The file, as it was named.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One test of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestCase {
    /// The class or the file that it belongs to; may be empty.
    pub group: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: TestOutcome,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The file that it stands in, where the report says so: from the root of the source, or from where programs see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TestOutcome {
    /// As it should.
    Passed,
    /// What it looked at was not as it should be.
    Failed,
    /// It could not look.
    Error,
    /// It was left out.
    Skipped,
}

impl Fault {
    /// What a process ends with whose fault it is.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Step => 1,
            Self::Usage => 2,
            Self::Pipeline => 3,
            Self::Plugin => 4,
            Self::Environment => 5,
            Self::TimedOut => 6,
            Self::Release => 7,
            Self::Internal => 70,
            Self::Cancelled => 130,
        }
    }

    /// Its name, as events have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Usage => "usage",
            Self::Pipeline => "pipeline",
            Self::Plugin => "plugin",
            Self::Environment => "environment",
            Self::TimedOut => "timed-out",
            Self::Release => "release",
            Self::Internal => "internal",
            Self::Cancelled => "cancelled",
        }
    }
}

impl TestCase {
    /// Its name with that of its group.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.name.clone() } else { format!("{}.{}", self.group, self.name) }
    }
}

impl Location {
    /// The place of a byte of a document.
    pub fn of(document: &Document, offset: usize) -> Self {
        let Position { line, column } = document.position(offset);
        Self { file: document.name.clone(), line, column }
    }
}
