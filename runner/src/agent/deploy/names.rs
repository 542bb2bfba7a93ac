//! The names that Django answers to, asked in a process of its own where it refuses those that it was asked by. Knows nothing of how
//! a program is run.

use crate::shell::quoted;

/// How a line of ours begins.
const ALLOWED: &str = "-- allowed: ";

/// The command that asks, for a shell where `manage.py` is.
pub(super) fn command() -> String {
    let asks =
        format!("from django.conf import settings\nfor name in settings.ALLOWED_HOSTS: print('{ALLOWED}' + name)");
    format!("exec python manage.py shell -c {}", quoted(&asks))
}

/// The names in an answer. One for all that end with it (`.example.org`) is a name itself.
pub(super) fn allowed(answer: &str) -> Vec<String> {
    let names = answer.lines().filter_map(|line| line.strip_prefix(ALLOWED));
    names.map(|name| name.trim_start_matches('.')).filter(|name| *name != "*").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_django_allows_are_read() {
        let answer =
            "8 objects imported automatically\n-- allowed: www.example.org\n-- allowed: .example.org\n-- allowed: *\n";
        assert_eq!(allowed(answer), ["www.example.org", "example.org"]);
    }
}
