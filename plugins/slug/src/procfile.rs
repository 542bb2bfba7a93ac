//! Reads a `Procfile`: `name: command` a line. Knows nothing of what the commands mean.

use std::collections::BTreeMap;

use pipe_sdk::{Failure, Tree};

/// A `Procfile`, and where it stands in the project.
#[derive(Debug, Default)]
pub(crate) struct Procfile {
    pub(crate) directory: String,
    pub(crate) processes: BTreeMap<String, String>,
}

/// The `Procfile` at the top of the project, or else beside `manage.py`.
pub(crate) fn find(source: &Tree, directory: &str) -> Result<Option<Procfile>, Failure> {
    for directory in ["", directory] {
        let path = if directory.is_empty() { "Procfile".to_owned() } else { format!("{directory}/Procfile") };
        if let Some(blob) = source.open(&path)? {
            let processes = parse(&path, &pipe_sdk::read_to_string(&blob, &path)?)?;
            return Ok(Some(Procfile { directory: directory.to_owned(), processes }));
        }
    }
    Ok(None)
}

fn parse(path: &str, text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut processes = BTreeMap::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, command) = line
            .split_once(':')
            .map(|(name, command)| (name.trim_end(), command.trim()))
            .filter(|(name, command)| is_name(name) && !command.is_empty())
            .ok_or_else(|| {
                Failure::invalid(format!("{path}:{number}: expected `name: command`, found `{line}`"))
                    .hint("name a process by letters, digits, `-` and `_`; start a comment with `#`")
            })?;
        if processes.insert(name.to_owned(), command.to_owned()).is_some() {
            return Err(Failure::invalid(format!("{path}:{number}: the process `{name}` is there twice"))
                .hint("give each process its own name"));
        }
    }
    Ok(processes)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_and_comments_are_not() {
        let processes = parse(
            "Procfile",
            "# of the site\r\nweb: gunicorn a:b --bind 0.0.0.0:$PORT\r\n\r\nrelease: ./manage.py migrate\n",
        )
        .expect("a Procfile");
        assert_eq!(processes["web"], "gunicorn a:b --bind 0.0.0.0:$PORT");
        assert_eq!(processes["release"], "./manage.py migrate");
        assert_eq!(processes.len(), 2);
    }

    #[test]
    fn what_is_no_process_is_named_with_its_line() {
        for (text, message) in [
            ("web gunicorn", "Procfile:1: expected `name: command`, found `web gunicorn`"),
            ("\nweb:", "Procfile:2: expected `name: command`, found `web:`"),
            ("my web: x", "Procfile:1: expected `name: command`, found `my web: x`"),
            ("web: a\nweb: b", "Procfile:2: the process `web` is there twice"),
        ] {
            assert_eq!(parse("Procfile", text).expect_err("not a Procfile").message, message);
        }
    }
}
