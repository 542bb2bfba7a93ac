//! The names of projects, as PEP 503 compares them.

/// Normalises a project's name: lower case, and `-` for each run of `-`, `_` and `.`.
pub fn normalise(name: &str) -> String {
    let mut normalised = String::with_capacity(name.len());
    for c in name.trim().chars() {
        if !matches!(c, '-' | '_' | '.') {
            normalised.extend(c.to_lowercase());
        } else if !normalised.ends_with('-') {
            normalised.push('-');
        }
    }
    normalised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_as_pep_503_says() {
        for name in ["Friendly-Bard", "FRIENDLY_BARD", "friendly.bard", "friendly__bard", "friendly-.-bard"] {
            assert_eq!(normalise(name), "friendly-bard");
        }
    }
}
