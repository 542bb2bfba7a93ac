//! How much of its clients a target gives to something new: `10%`. Knows nothing of which ones those are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of all clients: more than none, and less than all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Portion(
    /// Of ten thousand.
    u16,
);

/// A text that is no part of all clients.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no part of the clients, such as `10%` or `0.5%`")]
pub struct PortionError(String);

impl Portion {
    /// Of how many it is a part.
    pub(crate) const WHOLE: u16 = 10_000;

    /// The part that so many of ten thousand are.
    pub(crate) fn of_ten_thousand(part: u16) -> Option<Self> {
        (1..Self::WHOLE).contains(&part).then_some(Self(part))
    }

    /// How many of ten thousand it is.
    pub(crate) fn in_ten_thousand(self) -> u16 {
        self.0
    }

    /// Whether a number below [`Self::WHOLE`] is in it.
    pub(crate) fn holds(self, number: u16) -> bool {
        number < self.0
    }
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl FromStr for Portion {
    type Err = PortionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let fail = || PortionError(text.to_owned());
        let (whole, hundredths) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || hundredths.len() > 2 || !is_number(whole) || !is_number(hundredths) {
            return Err(fail());
        }
        let all: u32 = format!("{whole}{hundredths:0<2}").parse().map_err(|_| fail())?;
        u16::try_from(all).ok().and_then(Self::of_ten_thousand).ok_or_else(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        for (text, part) in [("10%", "10%"), ("10", "10%"), ("0.5%", "0.5%"), ("99.99 %", "99.99%"), ("1.10%", "1.1%")]
        {
            assert_eq!(text.parse::<Portion>().map(|part| part.to_string()).ok().as_deref(), Some(part), "{text}");
        }
        for text in ["", "%", "0%", "100%", "0.001%", "-1%", "ten", "1.2.3", "70000%", "+1%", ".5"] {
            assert!(text.parse::<Portion>().is_err(), "{text}");
        }
        let tenth: Portion = "10%".parse().expect("a part");
        assert_eq!((0..Portion::WHOLE).filter(|number| tenth.holds(*number)).count(), 1000);
    }
}
