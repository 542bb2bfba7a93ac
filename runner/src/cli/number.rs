//! Whole numbers on the command line. Knows nothing of what they count.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

/// Reads one, or says what is wanted instead.
pub(super) fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "it is too large".to_owned(),
        IntErrorKind::Zero => "expected a whole number, 1 or more".to_owned(),
        _ => "expected a whole number, such as `7`".to_owned(),
    })
}
