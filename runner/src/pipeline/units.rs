//! The small texts of a pipeline file: names, durations, sizes.

use std::time::Duration;

/// What a step, a target and an application may be called, as a regular expression for the schema.
pub(super) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,62}$";
/// What [`duration`] reads.
pub(super) const DURATION_PATTERN: &str = r"^(\d+(ms|s|m|h|d))+$";
/// What [`size`] reads.
pub(super) const SIZE_PATTERN: &str = r"^\d+ ?(B|kB|MB|GB|KiB|MiB|GiB)$";

/// Units of time in milliseconds, the longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of size in bytes, the largest first.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Whether a step, a target or an application may be called this.
pub fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

/// The name nearest to a text that is none, if one is left of it.
pub(super) fn as_name(text: &str) -> Option<String> {
    let mapped: String =
        text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name: String = mapped.trim_start_matches(|c: char| !c.is_ascii_lowercase()).chars().take(63).collect();
    let name = name.trim_end_matches(['-', '_']);
    is_name(name).then(|| name.to_owned())
}

/// Reads `90s`, `10m`, `1h30m`, `7d`; more than nothing.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let millis = scale(&TIMES, unit)?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    (!total.is_zero()).then_some(total)
}

/// Reads `512MiB`, `2GiB`, `100 kB`; more than nothing.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let scale = scale(&SIZES, unit.strip_prefix(' ').unwrap_or(unit))?;
    number.checked_mul(scale).filter(|&bytes| bytes > 0)
}

/// A duration as [`duration`] reads it, to the millisecond.
pub(crate) fn duration_text(time: Duration) -> String {
    exact(&TIMES, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A number of bytes as [`size`] reads it, to the last one.
pub(crate) fn size_text(bytes: u64) -> String {
    exact(&SIZES, bytes)
}

fn scale(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, scale)| *scale)
}

/// In the largest of the units that leaves no rest.
fn exact(units: &[(&str, u64)], number: u64) -> String {
    let fitting = units.iter().find(|(_, scale)| number.is_multiple_of(*scale));
    fitting.map_or_else(|| number.to_string(), |(unit, scale)| format!("{}{unit}", number / scale))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(len);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1000ms", 1), ("1d", 86_400)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "10 m", "0s", "-1s", "1.5h", "1w", "99999999999999999999s", "9999999999999999999h"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("1B", 1), ("2GiB", 2 << 30), ("512 MiB", 512 << 20), ("3kB", 3000)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "2", "GiB", "0MiB", "2gib", "2G", "1.5GiB", "99999999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_read_is_written_in_the_largest_unit_that_leaves_no_rest() {
        for (text, same) in [("90s", "90s"), ("600s", "10m"), ("1h30m", "90m"), ("1500ms", "1500ms"), ("24h", "1d")] {
            assert_eq!(duration_text(duration(text).expect("a duration")), same);
        }
        for (text, same) in [("100MB", "100MB"), ("1024 MiB", "1GiB"), ("1500kB", "1500kB"), ("2049B", "2049B")] {
            assert_eq!(size_text(size(text).expect("a size")), same);
        }
    }

    #[test]
    fn a_name_is_made_of_what_is_none() {
        for (text, name) in [("My App", Some("my-app")), ("2fast", Some("fast")), ("été!", Some("t")), ("42", None)] {
            assert_eq!(as_name(text).as_deref(), name, "{text}");
        }
    }
}
