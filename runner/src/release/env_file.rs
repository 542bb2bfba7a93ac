//! Files of names and values, as `env-file` of a target names one and `pipe config` imports them. Knows nothing of files as such.

use std::collections::BTreeMap;
use std::fmt;

use crate::pipeline::{VariableError, check_variable};

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// The names and values.
    pub values: BTreeMap<String, String>,
    /// What it gives more than once.
    pub repeated: Vec<Repeated>,
}

/// A name that has been given before.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The name.
    pub name: String,
    /// In which line it was before.
    pub before: usize,
    /// In which line it is given again.
    pub line: usize,
}

/// A line that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {why}")]
pub struct LineError {
    /// Which line, from 1.
    line: usize,
    /// Why not.
    why: LineFault,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LineFault {
    #[error("not `NAME=value`")]
    Form,
    #[error(transparent)]
    Variable(VariableError),
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, line } = self;
        write!(f, "{line}: `{name}` is given already, in line {before}: the last counts")
    }
}

impl LineError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match &self.why {
            LineFault::Form => "write one `NAME=value` a line; `#` begins a comment",
            LineFault::Variable(error) => error.hint(),
        }
    }
}

/// Reads lines of `NAME=value`, as shells and other tools write them: comments, `export` and quotes are understood, and quotes
/// that are closed on a later line. Of a name that is given again the last value counts.
pub fn env_file(text: &str) -> Result<EnvFile, LineError> {
    let mut file = EnvFile::default();
    let mut lines = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, below) = first_line(rest);
        let is_said = !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if !is_said {
            rest = below;
            continue;
        }
        let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let at = |why| LineError { line: number, why };
        let (name, value) = rest.split_once('=').filter(|_| line.contains('=')).ok_or_else(|| at(LineFault::Form))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        let (value, below) = quoted(value.trim_start_matches([' ', '\t'])).unwrap_or_else(|| {
            let (value, below) = first_line(value);
            (value.split_once(" #").map_or(value, |(value, _)| value).trim().to_owned(), below)
        });
        check_variable(name, &value).map_err(|error| at(LineFault::Variable(error)))?;
        if let Some(before) = lines.insert(name.to_owned(), number) {
            file.repeated.push(Repeated { name: name.to_owned(), before, line: number });
        }
        file.values.insert(name.to_owned(), value);
        rest = below;
    }
    Ok(file)
}

fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// The value that a text begins with, where it is in quotes, and the lines below it. After the closing quote a line has nothing
/// more, or a comment; any other quote is a part of the value.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    let inner = &text[1..];
    let is_escaped = |at: usize| {
        let before = inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        quote == '"' && before % 2 == 1
    };
    inner.match_indices(quote).filter(|(at, _)| !is_escaped(*at)).find_map(|(at, _)| {
        let (after, below) = first_line(&inner[at + 1..]);
        let is_end = after.trim().is_empty() || after.trim_start().starts_with('#');
        let value = &inner[..at];
        is_end.then(|| (if quote == '"' { unescaped(value) } else { value.to_owned() }, below))
    })
}

/// `\n`, `\"` and `\\` as what they stand for; every other backslash is one.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match (char, rest.clone().next()) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(next @ ('"' | '\\'))) => plain.push(next),
            _ => {
                plain.push(char);
                continue;
            }
        }
        rest.next();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_tools_are_read() {
        let text = "# comment\n\nA=1\nexport B = 'x y' \nC=\"a\\nb\"\nD=p#q # note\nE=\nF=a=b\n";
        let env = env_file(text).expect("an environment").values;
        let expected = [("A", "1"), ("B", "x y"), ("C", "a\nb"), ("D", "p#q"), ("E", ""), ("F", "a=b")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn quotes_may_be_closed_on_a_later_line_and_a_comment_may_follow() {
        let text = "A=\"-----BEGIN-----\r\nx=y\n# no comment\n-----END-----\"\nB='{\n  \"b\": 1\n}' # note\nC=\"{\"c\": \\\"1\\\"}\"\nD=\"it\nE=1";
        let env = env_file(text).expect("an environment").values;
        let pem = "-----BEGIN-----\r\nx=y\n# no comment\n-----END-----";
        let expected = [("A", pem), ("B", "{\n  \"b\": 1\n}"), ("C", "{\"c\": \"1\"}"), ("D", "\"it"), ("E", "1")];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let long = format!("A=1\nB={}", "x".repeat(200_000));
        for (text, told) in [
            ("A='1\n2'\nB\nC=1", "3: not `NAME=value`"),
            ("A=1\nB", "2: not `NAME=value`"),
            ("A B=1", "1: `A B` cannot be the name of a variable"),
            ("A=1\n\n2FA=1", "3: `2FA` cannot be the name of a variable"),
            ("A=1\nB=a\0b", "2: the value of `B` has a NUL byte in it, which no process can be given"),
            (
                &long,
                "2: `B` is 200002 bytes long with its value: no process can be given more than 131071 in one variable",
            ),
        ] {
            assert_eq!(env_file(text).expect_err("refused").to_string(), told);
        }
    }

    #[test]
    fn of_a_name_that_is_given_again_the_last_value_counts_and_it_is_told() {
        let file = env_file("A=1\nB=2\n\nA=3\nA=4\n").expect("an environment");
        assert_eq!(file.values["A"], "4");
        let told: Vec<String> = file.repeated.iter().map(ToString::to_string).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(
            told,
            [
                "4: `A` is given already, in line 1: the last counts",
                "5: `A` is given already, in line 4: the last counts"
            ]
        );
    }
}
