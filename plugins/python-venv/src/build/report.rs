//! What a failed build says, cut down to what matters, and what may help.

use pipe_sdk::Failure;

/// The most lines that are shown.
const LINES: usize = 30;

/// The last lines of a build's output, which say why it ended.
pub(crate) fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let shown: Vec<String> =
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("  {line}")).collect();
    if shown.is_empty() { "  (it said nothing)".to_owned() } else { shown.join("\n") }
}

/// Words that failed builds use, and what helps; the first that fits counts.
const REMEDIES: [(&[&str], &str); 7] = [
    (
        &["use_2to3", "lib2to3"],
        "it is written for Python 2: set `build-constraints = [\"setuptools<58\"]` in this step's config, or lock a newer \
         version or a fork of it",
    ),
    (
        &["No module named 'pkg_resources'", "No module named 'distutils", "has no attribute 'find_module'"],
        "it needs an older setuptools: set `build-constraints = [\"setuptools<69\"]` in this step's config",
    ),
    (
        &["Cython.Compiler", "cython_sources", ".pyx:"],
        "it may need an older Cython: set `build-constraints = [\"Cython<3\"]` in this step's config",
    ),
    (
        &["pg_config", "libpq-fe.h"],
        "add \"gcc\" and \"libpq-dev\" to `[runtime] build-system`, and \"libpq5\" to `[runtime] system`",
    ),
    (
        &["mysql_config", "mysql.h", "libmariadb"],
        "add \"gcc\" and \"libmariadb-dev\" to `[runtime] build-system`, and \"libmariadb3\" to `[runtime] system`",
    ),
    (
        &["gcc' failed: No such file", "cc' failed: No such file", "cc: not found", "Python.h"],
        "it needs a C compiler: add \"gcc\", \"libc6-dev\" and Python's headers to `[runtime] build-system`",
    ),
    (
        &["fatal error:", "pkg-config", "cannot find -l"],
        "it needs a library: add the Debian package that has it (`lib…-dev`) to `[runtime] build-system`, and the library \
         itself to `[runtime] system`",
    ),
];

/// What to do about it.
pub(crate) fn remedy(said: &str, name: &str) -> String {
    let known = REMEDIES.iter().find(|(words, _)| words.iter().any(|word| said.contains(word)));
    known.map_or_else(
        || {
            format!(
                "limit what it is built with (`build-constraints`), give it what it needs (`[runtime] build-system`), or lock \
                 a version of `{name}` that has a wheel"
            )
        },
        |(_, remedy)| (*remedy).to_owned(),
    )
}

/// One failure that says what each package's own says, each remedy under the name of what it is for.
pub(crate) fn together(mut failures: Vec<(&str, Failure)>) -> Option<Failure> {
    if failures.len() < 2 {
        return failures.pop().map(|(_, failure)| failure);
    }
    failures.sort_by_key(|(name, _)| *name);
    let messages: Vec<&str> = failures.iter().map(|(_, failure)| failure.message.as_str()).collect();
    let remedies = failures.iter().filter_map(|(name, failure)| Some(format!("`{name}`: {}", failure.hint.as_ref()?)));
    let names: Vec<String> = failures.iter().map(|(name, _)| format!("`{name}`")).collect();
    let message = format!("{} packages cannot be built: {}\n{}", names.len(), names.join(", "), messages.join("\n"));
    let remedies: Vec<String> = remedies.collect();
    Some(Failure::failed(message).hint(remedies.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_shown() {
        let said: Vec<String> = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let tail = tail(&said.concat());
        assert!(tail.starts_with("  line 70\n") && tail.ends_with("  line 99"));
    }

    #[test]
    fn no_failure_hides_another() {
        let failure =
            |name: &str| Failure::failed(format!("`{name}` cannot be built:\n  no")).hint(format!("mend {name}"));
        assert!(together(Vec::new()).is_none());
        let one = together(vec![("b", failure("b"))]).expect("a failure");
        assert_eq!(one.message, "`b` cannot be built:\n  no");
        let both = together(vec![("b", failure("b")), ("a", failure("a"))]).expect("a failure");
        assert_eq!(
            both.message,
            "2 packages cannot be built: `a`, `b`\n`a` cannot be built:\n  no\n`b` cannot be built:\n  no"
        );
        assert_eq!(both.hint.as_deref(), Some("`a`: mend a\n`b`: mend b"));
    }

    #[test]
    fn builds_that_fail_in_known_ways_have_a_remedy() {
        for (said, remedy_has) in [
            ("Error: pg_config executable not found.", "libpq-dev"),
            ("ModuleNotFoundError: No module named 'pkg_resources'", "setuptools<69"),
            ("error: command 'gcc' failed: No such file or directory", "[runtime] build-system"),
            ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "a C compiler: add \"gcc\""),
            ("x.c:1:10: fatal error: png.h: No such file", "lib…-dev"),
            ("error in x setup command: use_2to3 is invalid.", "setuptools<58"),
            ("boom", "a version of `x` that has a wheel"),
        ] {
            assert!(remedy(said, "x").contains(remedy_has), "{said}");
        }
    }
}
