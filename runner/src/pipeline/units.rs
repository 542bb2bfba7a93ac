//! The small texts of a pipeline file: names, durations, sizes.

use std::time::Duration;

/// What a step, a target and an application may be called, as a regular expression for the schema.
pub(super) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,62}$";
/// What [`duration`] reads.
pub(super) const DURATION_PATTERN: &str = r"^(\d+(ms|s|m|h|d))+$";
/// What [`size`] reads.
pub(super) const SIZE_PATTERN: &str = r"^\d+ ?(B|kB|MB|GB|KiB|MiB|GiB)$";

/// Whether a step, a target or an application may be called this.
pub(crate) fn is_name(text: &str) -> bool {
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
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    (!total.is_zero()).then_some(total)
}

/// Reads `512MiB`, `2GiB`, `100 kB`; more than nothing.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let scale = match unit.strip_prefix(' ').unwrap_or(unit) {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(scale).filter(|&bytes| bytes > 0)
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
    fn a_name_is_made_of_what_is_none() {
        for (text, name) in [("My App", Some("my-app")), ("2fast", Some("fast")), ("été!", Some("t")), ("42", None)] {
            assert_eq!(as_name(text).as_deref(), name, "{text}");
        }
    }
}
