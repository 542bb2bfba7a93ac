//! Targets of branches: which branches one is for, and what the target of one of many is called. Knows nothing of git.

use super::{Spanned, Target};
use crate::digest::Digest;

/// What stands for the branch in a target's domains.
pub(super) const PLACEHOLDER: &str = "{branch}";

/// What stands for any text in a target's `branch`.
const ANY: char = '*';

/// The longest name of a target, and the longest part of a domain.
const LONGEST: usize = 63;

impl Target {
    /// Whether each branch has a target of its own.
    pub fn is_of_many_branches(&self) -> bool {
        self.branch.as_ref().is_some_and(|pattern| pattern.contains(ANY))
    }

    /// The target that a branch is released to; none where that is not one of its branches.
    pub fn on(&self, branch: &str) -> Option<Self> {
        let Some(pattern) = &self.branch else { return Some(self.clone()) };
        if !matches(pattern, branch) {
            return None;
        }
        let mut target = Self { branch: Some(Spanned::new(pattern.span(), branch.to_owned())), ..self.clone() };
        if self.is_of_many_branches() {
            let (start, rest) = branch.split_at(pattern.find(ANY).unwrap_or_default());
            let label = label(start, rest, LONGEST);
            let name =
                format!("{}-{}", *self.name, self::label(start, rest, LONGEST.saturating_sub(self.name.len() + 1)));
            target.name = Spanned::new(self.name.span(), name);
            for domain in target.domains.iter_mut().chain(&mut target.host) {
                *domain = Spanned::new(domain.span(), domain.replace(PLACEHOLDER, &label));
            }
        }
        Some(target)
    }
}

/// A branch as a part of a name and of a domain. All of a target's begin alike; where the rest cannot stand there as it is, or is too
/// long, a digest tells it from what would be called the same.
fn label(start: &str, rest: &str, longest: usize) -> String {
    let branch = format!("{start}{rest}");
    let mapped = branch.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let plain = mapped.trim_matches('-');
    let stands = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_plain = !rest.is_empty() && rest.chars().all(stands) && !rest.starts_with('-') && !rest.ends_with('-');
    if is_plain && plain.len() <= longest {
        return plain.to_owned();
    }
    let digest = Digest::of(branch.as_bytes()).short();
    let digest = &digest[..6.min(longest)];
    let room = longest.saturating_sub(digest.len() + 1);
    match plain[..plain.len().min(room)].trim_end_matches('-') {
        "" => digest.to_owned(),
        start => format!("{start}-{digest}"),
    }
}

/// Whether a pattern, in which stars stand for any text, is all of a text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once(ANY) else { return pattern == text };
    text.strip_prefix(start).is_some_and(|left| {
        left.char_indices().map(|(at, _)| at).chain([left.len()]).any(|at| matches(rest, &left[at..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, is_it) in [
            ("main", "main", true),
            ("main", "mainly", false),
            ("feature/*", "feature/a/b", true),
            ("feature/*", "feature/", true),
            ("feature/*", "fix/a", false),
            ("*", "é", true),
            ("*-x-*", "a-x-é", true),
            ("*-x", "a-x-b", false),
        ] {
            assert_eq!(matches(pattern, text), is_it, "{pattern} {text}");
        }
    }

    #[test]
    fn what_a_branch_is_called_says_which_it_is() {
        assert_eq!(label("feature/", "login-2", 63), "feature-login-2");
        assert_eq!(label("", "login", 63), "login");
        for [one, other] in [["Login", "login"], ["a_b", "a-b"], ["a/b", "a-b"], ["a.b", "a/b"], ["-a", "a"], ["", "-"]]
        {
            assert_ne!(label("feature/", one, 63), label("feature/", other, 63), "{one} {other}");
        }
        let long = "x".repeat(90);
        for (rest, longest) in [(long.as_str(), 63), (long.as_str(), 20), ("é", 63), ("x--", 8), ("abcdefgh", 6)] {
            let label = label("fix/", rest, longest);
            assert!(label.len() <= longest && !label.is_empty() && !label.ends_with('-'), "{rest}: {label}");
            assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{label}");
        }
    }
}
