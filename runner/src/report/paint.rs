//! Colours, where they are wanted, and signs, where they can be shown.

use std::borrow::Cow;
use std::io::IsTerminal;

use clap::ColorChoice;
use runner::diagnostic::Colour;

use super::ci::{Ci, github};
use super::neutral::neutral;

/// Colours text, or doesn't; and knows which signs a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    colour: bool,
    unicode: bool,
}

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
        // A file is read by who knows what; a terminal says what it can.
        Self { colour: wanted, unicode: !stream.is_terminal() || is_unicode(|name| std::env::var(name).ok()) }
    }

    /// Plain text.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false, unicode: true };

    /// For what the library renders.
    pub(crate) fn colour(self) -> Colour {
        if self.colour { Colour::Always } else { Colour::Never }
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

    /// What stands between the steps of a way.
    pub(crate) fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }

    /// A sign that turns.
    pub(crate) fn spinner(self, frame: usize) -> char {
        const BRAILLE: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
        const ASCII: [char; 4] = ['|', '/', '-', '\\'];
        if self.unicode { BRAILLE[frame % BRAILLE.len()] } else { ASCII[frame % ASCII.len()] }
    }

    /// What was written by others, as it may be shown here: colours where there are colours, and nothing else that is no text.
    pub(crate) fn shown(self, text: &str) -> Cow<'_, str> {
        match (neutral(text, self.colour), Ci::found()) {
            (shown, Some(Ci::GitHub)) => Cow::Owned(github::tame(&shown)),
            (shown, _) => shown,
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the locale's characters are UTF-8: the first variable that is set decides, as for every program.
fn is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_those_of_the_locale() {
        let of = |variables: &[(&str, &str)]| {
            is_unicode(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[("LANG", "en_GB.UTF-8")]));
        assert!(of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!of(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
        assert!(!of(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!of(&[]));
    }
}
