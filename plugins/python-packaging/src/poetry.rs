//! Poetry's own words for ranges of versions.

/// Poetry's ranges in PEP 440's words: `^1.2` is `>=1.2,<2`, `~1.2` is `>=1.2,<1.3`, `1.2` is `==1.2`, `*` is everything.
pub fn range(text: &str) -> String {
    let parts = text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty() && *part != "*");
    // `>= 1.2` has a space of its own.
    let mut whole: Vec<String> = Vec::new();
    for part in parts {
        match whole.last_mut().filter(|last| last.chars().all(|c| "<>=!~^".contains(c))) {
            Some(operator) => operator.push_str(part),
            None => whole.push(part.to_owned()),
        }
    }
    whole.iter().map(|part| comparison(part)).collect::<Vec<_>>().join(",")
}

fn comparison(part: &str) -> String {
    let numbers = |text: &str| text.split('.').map_while(|number| number.parse::<u64>().ok()).collect::<Vec<_>>();
    let below = |text: &str, kept: usize| {
        let mut parts = numbers(text);
        parts.truncate(kept + 1);
        if let Some(last) = parts.last_mut() {
            *last += 1;
        }
        let limit: Vec<String> = parts.iter().map(u64::to_string).collect();
        format!(">={text},<{}", limit.join("."))
    };
    if let Some(version) = part.strip_prefix('^') {
        let parts = numbers(version);
        let significant = parts.iter().position(|number| *number > 0).unwrap_or(parts.len().saturating_sub(1));
        return below(version, significant);
    }
    match part.strip_prefix('~') {
        Some(version) if !version.starts_with('=') => below(version, usize::from(numbers(version).len() > 1)),
        _ if part.starts_with(|c: char| c.is_ascii_digit()) => format!("=={part}"),
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pep440_rs::VersionSpecifiers;

    use super::*;

    #[test]
    fn ranges_are_put_in_pep_440s_words() {
        for (poetry, pep440) in [
            ("^1.2.3", ">=1.2.3,<2"),
            ("^0.2.3", ">=0.2.3,<0.3"),
            ("^0.0.3", ">=0.0.3,<0.0.4"),
            ("^0", ">=0,<1"),
            ("~1.2.3", ">=1.2.3,<1.3"),
            ("~1", ">=1,<2"),
            ("~=1.4", "~=1.4"),
            ("1.2.*", "==1.2.*"),
            ("*", ""),
            (">= 3.8, < 4", ">=3.8,<4"),
            (">=3.8 <4", ">=3.8,<4"),
            ("!=3.0.*,>=2.7", "!=3.0.*,>=2.7"),
        ] {
            assert_eq!(range(poetry), pep440, "{poetry}");
            assert!(range(poetry).parse::<VersionSpecifiers>().is_ok(), "{poetry}");
        }
    }
}
