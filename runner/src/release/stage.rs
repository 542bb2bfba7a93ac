//! How far a release has come: one enum, and which step may follow which. Knows nothing of what is done in a stage.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a release has come. Written to the journal before the work of a stage begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It has a number; its slug was checked.
    Prepared,
    /// Its release commands run.
    ReleasePhase,
    /// Its processes come up, and take no requests.
    Starting,
    /// It answers.
    Healthy,
    /// Requests of some clients go to it; those of all others go where they went before.
    Canary,
    /// Requests go to it; what served before finishes those that it has.
    Switched,
    /// It alone runs.
    Drained,
    /// It did not come up, or was interrupted or taken back before the switch; what served before goes on.
    Failed,
}

/// A text that is no stage.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a stage of a release")]
pub struct StageError(String);

impl Stage {
    const ALL: [Self; 8] = [
        Self::Prepared,
        Self::ReleasePhase,
        Self::Starting,
        Self::Healthy,
        Self::Canary,
        Self::Switched,
        Self::Drained,
        Self::Failed,
    ];

    /// Whether a release in this stage may go on to `next`: one forward, where few are [`Stage::Canary`], or to [`Stage::Failed`]
    /// before the switch.
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::Prepared => false,
            Self::Failed => !self.is_switched() && self != Self::Failed,
            Self::Switched if self == Self::Healthy => true,
            _ => self != Self::Failed && next as u8 == self as u8 + 1,
        }
    }

    /// Whether requests were given to the release, so that it was healthy once.
    pub fn is_switched(self) -> bool {
        matches!(self, Self::Switched | Self::Drained)
    }

    /// The stage's name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::ReleasePhase => "release-phase",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Canary => "canary",
            Self::Switched => "switched",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(|| StageError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_goes_forward_one_stage_at_a_time() {
        for (at, stage) in Stage::ALL.into_iter().enumerate().take(7) {
            for (to, next) in Stage::ALL.into_iter().enumerate().take(7) {
                let skips = (stage, next) == (Stage::Healthy, Stage::Switched);
                assert_eq!(stage.may_become(next), to == at + 1 || skips, "{stage} to {next}");
            }
        }
    }

    #[test]
    fn after_the_switch_a_release_cannot_fail() {
        assert!(Stage::Healthy.may_become(Stage::Failed) && Stage::Canary.may_become(Stage::Failed));
        assert!(!Stage::Switched.may_become(Stage::Failed));
        assert!(!Stage::Drained.may_become(Stage::Failed));
        assert!(!Stage::Failed.may_become(Stage::Starting));
    }
}
