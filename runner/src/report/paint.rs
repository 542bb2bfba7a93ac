//! Colours, where they are wanted.

use std::io::IsTerminal;

use clap::ColorChoice;
use runner::diagnostic::Colour;

/// Colours text, or doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// What suits a stream: `choice` where it is not `auto`, then `NO_COLOR` and `CLICOLOR_FORCE`, then whether the stream
    /// is a terminal.
    pub(crate) fn of(stream: &impl IsTerminal, choice: ColorChoice) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let wanted = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => {
                set("CLICOLOR_FORCE")
                    || stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self(wanted)
    }

    /// Plain text.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self(false);

    /// For what the library renders.
    pub(crate) fn colour(self) -> Colour {
        if self.0 { Colour::Always } else { Colour::Never }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
