//! What a failed build says, cut down to what matters, and what may help.

/// The most lines that are shown.
const LINES: usize = 30;

/// The last lines of a build's output, which say why it ended.
pub(crate) fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let shown: Vec<String> =
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("  {line}")).collect();
    if shown.is_empty() { "  (it said nothing)".to_owned() } else { shown.join("\n") }
}

/// What to do about it, by the words that builds use.
pub(crate) fn remedy(said: &str, name: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&[
        "No module named 'pkg_resources'",
        "No module named 'distutils",
        "has no attribute 'find_module'",
        "use_2to3",
    ]) {
        "it needs an older setuptools: set `build-constraints = [\"setuptools<69\"]` in this step's config".to_owned()
    } else if has(&["Cython.Compiler", "cython_sources", ".pyx:"]) {
        "it may need an older Cython: set `build-constraints = [\"Cython<3\"]` in this step's config".to_owned()
    } else if has(&["pg_config", "libpq-fe.h"]) {
        in_runtime("libpq-dev", "libpq5")
    } else if has(&["mysql_config", "mysql.h", "mysqlclient", "libmariadb"]) {
        in_runtime("libmariadb-dev", "libmariadb3")
    } else if has(&[
        "gcc' failed: No such file",
        "command 'gcc'",
        "unable to execute 'gcc'",
        "cc: not found",
        "Python.h",
    ]) {
        "it needs a C compiler: add \"gcc\", \"libc6-dev\" and Python's headers to `[runtime] build-system`".to_owned()
    } else if has(&["fatal error:", "pkg-config", "cannot find -l"]) {
        "it needs a library: add the Debian package that has it (`lib…-dev`) to `[runtime] build-system`, and the library \
         itself to `[runtime] system`"
            .to_owned()
    } else {
        format!(
            "limit what it is built with (`build-constraints`), give it what it needs (`[runtime] build-system`), or lock a \
             version of `{name}` that has a wheel"
        )
    }
}

fn in_runtime(build: &str, run: &str) -> String {
    format!("add \"gcc\" and \"{build}\" to `[runtime] build-system`, and \"{run}\" to `[runtime] system`")
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
    fn builds_that_fail_in_known_ways_have_a_remedy() {
        for (said, remedy_has) in [
            ("Error: pg_config executable not found.", "libpq-dev"),
            ("ModuleNotFoundError: No module named 'pkg_resources'", "setuptools<69"),
            ("error: command 'gcc' failed: No such file or directory", "[runtime] build-system"),
            ("x.c:1:10: fatal error: png.h: No such file", "lib…-dev"),
            ("boom", "a version of `x` that has a wheel"),
        ] {
            assert!(remedy(said, "x").contains(remedy_has), "{said}");
        }
    }
}
