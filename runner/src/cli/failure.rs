//! The one place where errors of the library become a message, hints and an exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use runner::diagnostic::{self, Diagnostic};
use runner::event::{Event, Events, Location};
use runner::plugin::PluginError;
use runner::run::{Project, RunError};
use runner::secret::Masks;
use runner::slug::SlugError;
use runner::store::StoreError;

use crate::report::Paint;

pub(crate) use runner::event::Fault as Kind;

/// The exit codes as `--help` lists them.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a step failed
  2    the command line is wrong, or asks for what cannot be
  3    the pipeline, or what it names, is wrong
  4    a plugin misbehaved
  5    the machine, the network or a registry failed
  6    a step took too long
  7    a release did not come up
  70   a fault of pipe itself
  130  cancelled";

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    /// What failed, and from what: the outermost first. Empty where the user has been told already.
    messages: Vec<String>,
    hints: Vec<String>,
    /// The places of a file that are wrong, each with its own message.
    diagnostics: Vec<Diagnostic>,
    /// The line of a file that it stems from.
    place: Option<Location>,
    /// What the process ends with, where its kind does not say that.
    code: Option<u8>,
}

impl Failure {
    /// A failure found here.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            messages: vec![message.into()],
            hints: Vec::new(),
            diagnostics: Vec::new(),
            place: None,
            code: None,
        }
    }

    /// A failure of the library, with its causes.
    pub(crate) fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| (*error).source());
        Self { messages: causes.map(ToString::to_string).collect(), ..Self::told(kind) }
    }

    /// A pipeline that is wrong at these places.
    pub(crate) fn diagnostics(diagnostics: Vec<Diagnostic>) -> Self {
        let places = match diagnostics.len() {
            1 => "one place".to_owned(),
            count => format!("{count} places"),
        };
        let failure = Self::new(Kind::Pipeline, format!("the pipeline is wrong in {places}; nothing was run"));
        Self { diagnostics, ..failure }
    }

    /// What was to be said cannot be.
    pub(crate) fn unwritten(error: &std::io::Error) -> Self {
        Self::of(Kind::Environment, error).about("cannot write to standard output")
    }

    /// A failure that the events of a run have told of.
    pub(crate) fn told(kind: Kind) -> Self {
        Self { messages: Vec::new(), ..Self::new(kind, String::new()) }
    }

    /// Says what was being done.
    #[must_use]
    pub(crate) fn about(mut self, message: impl Into<String>) -> Self {
        self.messages.insert(0, message.into());
        self
    }

    /// Says from which line of a file it stems, where that is known.
    #[must_use]
    pub(crate) fn at(mut self, place: Option<Location>) -> Self {
        self.place = place;
        self
    }

    /// Says what it came from.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.messages.push(cause.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what the library knows to do about it.
    #[must_use]
    pub(crate) fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// The failure without what nobody must see.
    #[must_use]
    pub(crate) fn masked(mut self, masks: &Masks) -> Self {
        for text in self.messages.iter_mut().chain(&mut self.hints) {
            *text = masks.mask(text).into_owned();
        }
        self
    }

    /// Whose fault it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.unwrap_or(self.kind.exit_code()))
    }

    /// Has the process end with a code that others give a meaning.
    #[must_use]
    pub(crate) fn ends_with(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }

    /// Says it as events, for readers other than the one of standard error; nothing where events have told of it.
    pub(crate) fn tell(&self, events: &Events) {
        for diagnostic in &self.diagnostics {
            events.send(Event::Error {
                fault: self.kind,
                message: diagnostic.message.clone(),
                causes: diagnostic.label.iter().cloned().collect(),
                hints: diagnostic.hints.clone(),
                place: Some(Location::of(&diagnostic.document, diagnostic.span.start)),
            });
        }
        if let Some((message, causes)) = self.messages.split_first() {
            events.send(Event::Error {
                fault: self.kind,
                message: message.clone(),
                causes: causes.to_vec(),
                hints: self.hints.clone(),
                place: self.place.clone(),
            });
        }
    }

    /// The text for standard error.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = diagnostic::render(&self.diagnostics, paint.colour());
        let Some((message, causes)) = self.messages.split_first() else { return text };
        if !text.is_empty() {
            text.push('\n');
        }
        let place = self.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let _ = writeln!(text, "{} {place}{message}", paint.red("error:"));
        for cause in causes {
            let _ = writeln!(text, "  {} {cause}", paint.dim("because:"));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "  {} {}", paint.cyan("hint:"), hint.replace('\n', "\n        "));
        }
        text
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of(Kind::Environment, &error).hints(error.hint())
    }
}

impl From<SlugError> for Failure {
    fn from(error: SlugError) -> Self {
        let kind = match &error {
            SlugError::Unknown { .. } | SlugError::Ambiguous { .. } => Kind::Usage,
            SlugError::NotASlug(_) => Kind::Plugin,
            SlugError::Store(_) | SlugError::Pack(_) | SlugError::File { .. } => Kind::Environment,
        };
        Self::of(kind, &error).hints(error.hint())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let kind = error.fault();
        match error {
            RunError::Pipeline(diagnostics) => Self::diagnostics(diagnostics),
            // The step's last event has said why, and what to do about it.
            RunError::Step { .. } => Self::told(kind),
            error => Self::of(kind, &error).hints(error.hint()),
        }
    }
}

impl Failure {
    /// A failure to run a project, with the line of its pipeline that it stems from.
    pub(crate) fn at_its_place(error: RunError, project: &Project) -> Self {
        let place = project.place_of(&error);
        Self::from(error).at(place)
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        let kind = if error.is_the_files() { Kind::Plugin } else { Kind::Environment };
        Self::of(kind, &error).hints(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_once_and_says_what_to_do() {
        let cause = std::io::Error::other("no space left on device");
        let failure =
            Failure::of(Kind::Environment, &cause).about("cannot write `slug.tar.zst`").hint("make room\nor go");
        assert_eq!(
            failure.render(Paint::PLAIN),
            "error: cannot write `slug.tar.zst`\n  because: no space left on device\n  hint: make room\n        or go\n"
        );
    }

    #[test]
    fn a_failure_that_stems_from_a_line_names_it() {
        let place = Location { file: "release.pipeline".into(), line: 3, column: 10 };
        let failure = Failure::new(Kind::Environment, "no `python3.4` on this machine").at(Some(place));
        let text = failure.render(Paint::PLAIN);
        assert_eq!(text, "error: release.pipeline:3:10: no `python3.4` on this machine\n");
    }

    #[test]
    fn what_the_events_have_told_is_not_told_again() {
        assert_eq!(Failure::told(Kind::Step).render(Paint::PLAIN), "");
    }
}
