//! The texts of events that somebody else wrote: in them may stand what nobody must see. Knows nothing of what that is.

use super::{Event, StepFailure, TestCase};

impl Event {
    /// All texts in it that somebody else wrote; names of steps, targets and files are the pipeline's own.
    pub(super) fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Note { message: text }
            | Self::StepStarted { why: text, .. }
            | Self::StepLog { message: text, .. }
            | Self::StepOutput { text, .. }
            | Self::StepProgress { unit: text, .. }
            | Self::StepRetried { message: text, .. }
            | Self::StepFlaky { message: text, .. }
            | Self::ReleaseOutput { text, .. } => vec![text],
            Self::Warning { message, hint } => std::iter::once(message).chain(hint).collect(),
            Self::Error { fault: _, message, causes, hints, place: _ } => {
                std::iter::once(message).chain(causes).chain(hints).collect()
            }
            Self::ProgramFinished { argv, .. } => argv.iter_mut().collect(),
            Self::StepTests { step: _, tests } => tests.iter_mut().flat_map(TestCase::texts).collect(),
            Self::StepFinished { failure, .. } => failure.iter_mut().flat_map(StepFailure::texts).collect(),
            Self::RunStarted { .. }
            | Self::SlugSent { .. }
            | Self::ReleaseStarted { .. }
            | Self::ReleaseStage { .. }
            | Self::ReleaseFinished { .. }
            | Self::ReleaseUnchanged { .. }
            | Self::RunFinished { .. } => Vec::new(),
        }
    }
}

impl StepFailure {
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { fault: _, message, hint, place: _ } = self;
        std::iter::once(message).chain(hint)
    }
}

impl TestCase {
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { group, name, outcome: _, elapsed_ms: _, message, file, line: _ } = self;
        [group, name].into_iter().chain(message).chain(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Events, Fault, Location, StepOutcome, TestOutcome};

    #[test]
    fn a_secret_in_any_text_of_an_event_is_masked() {
        let text = || "has hunter22 in it".to_owned();
        let step = || "build".to_owned();
        let place = || Location { file: "release.pipeline".to_owned(), line: 1, column: 1 };
        let test = TestCase {
            group: text(),
            name: text(),
            outcome: TestOutcome::Failed,
            elapsed_ms: 1,
            message: Some(text()),
            file: Some(text()),
            line: None,
        };
        let failure = StepFailure { fault: Fault::Step, message: text(), hint: Some(text()), place: place() };
        let all = [
            Event::Error {
                fault: Fault::Step,
                message: text(),
                causes: vec![text(), text()],
                hints: vec![text()],
                place: Some(place()),
            },
            Event::Warning { message: text(), hint: Some(text()) },
            Event::ProgramFinished { step: step(), argv: vec![text(), text()], exit_code: None, elapsed_ms: 1 },
            Event::StepRetried { step: step(), message: text() },
            Event::StepTests { step: step(), tests: vec![test.clone(), test] },
            Event::StepFlaky { step: step(), failed_at: 1, message: text(), place: place() },
            Event::StepFinished { step: step(), outcome: StepOutcome::Failed, elapsed_ms: 1, failure: Some(failure) },
        ];
        let count = all.len();
        let (events, receiver) = Events::channel();
        events.mask(["hunter22"]);
        for event in all {
            events.send(event);
        }
        drop(events);
        let told: Vec<_> = receiver.map(|event| serde_json::to_string(&event).expect("JSON")).collect();
        assert_eq!(told.len(), count);
        for line in told {
            assert!(line.contains("has *** in it") && !line.contains("hunter22"), "{line}");
        }
    }
}
