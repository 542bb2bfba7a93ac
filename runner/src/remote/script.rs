//! The scripts that are run at a host, and the command line that each of them stands in: written for whatever shell a user has over
//! there, and read where a person's key lets nothing else be run. Knows nothing of what they are for.

use crate::shell::quoted;

/// Finds the directory of pipe's data at the host, as `pipe` itself does there.
const HOME: &str = "PIPE_HOME=${0:-${PIPE_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/pipe}}; export PIPE_HOME; ";

/// A script of `sh` for a host; it finds the directory of pipe's data in `PIPE_HOME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// Becomes the `pipe` over there, with the arguments.
    Pipe,
    /// Says what the host is, in lines of `name=value`.
    Probe,
    /// Takes a program from standard input, of so many bytes, and puts it in its place only once it is whole.
    Copy,
    /// Has the program say what the host can do; that it runs at all comes first.
    Doctor,
    /// Has the program see to it that a target comes back after a restart of the host.
    Boot,
}

impl Script {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::Pipe, Self::Probe, Self::Copy, Self::Doctor, Self::Boot];

    /// What `sh` is given.
    pub(super) fn text(self) -> String {
        let script = match self {
            Self::Pipe => r#"exec "$PIPE_HOME/bin/pipe" "$@""#,
            Self::Probe => {
                r#"
echo "home=$PIPE_HOME"
echo "system=$(uname -s)"
echo "machine=$(uname -m)"
if command -v gzip >/dev/null 2>&1; then echo gzip=yes; fi
if [ -x "$PIPE_HOME/bin/pipe" ]; then echo "sha256=$(sha256sum <"$PIPE_HOME/bin/pipe" | cut -c1-64)"; fi"#
            }
            Self::Copy => {
                r#"
new="$PIPE_HOME/bin/.pipe-$$"
mkdir -p "$PIPE_HOME/bin" || exit 1
find "$PIPE_HOME/bin" -name '.pipe-*' -mmin +60 -exec rm -f {} +
trap 'rm -f "$new"' EXIT
if [ "$2" = gzip ]; then gzip -dc >"$new"; else cat >"$new"; fi || exit 1
[ "$(wc -c <"$new")" -eq "$1" ] || { echo "only a part of the program has come" >&2; exit 1; }
chmod 755 "$new" && mv -f "$new" "$PIPE_HOME/bin/pipe""#
            }
            Self::Doctor => {
                r#""$PIPE_HOME/bin/pipe" --version >/dev/null || exit 1; "$PIPE_HOME/bin/pipe" doctor --json; true"#
            }
            Self::Boot => r#"exec "$PIPE_HOME/bin/pipe" agent-boot "$1""#,
        };
        format!("{HOME}{script}")
    }
}

/// One command line for whatever shell the user has over there: all of it is a script of `sh` and words in quotes. `home` is the
/// directory of pipe's data there, where it is named.
pub(super) fn line(script: &str, home: &str, arguments: &[&str]) -> String {
    let words: Vec<String> = [home].iter().chain(arguments).map(|word| quoted(word)).collect();
    format!("exec sh -c {} {}", quoted(script), words.join(" "))
}

/// The script, the directory and the arguments of a command line that [`line()`] has written; none of any other.
pub(super) fn read_line(line: &str) -> Option<(String, String, Vec<String>)> {
    let mut rest = line.strip_prefix("exec sh -c")?;
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, after) = first_quoted(rest.strip_prefix(' ')?)?;
        words.push(word);
        rest = after;
    }
    let mut words = words.into_iter();
    Some((words.next()?, words.next()?, words.collect()))
}

/// The word at the beginning of a text that [`quoted`] has written, and what follows it.
fn first_quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut rest = text.strip_prefix('\'')?;
    loop {
        let (part, after) = rest.split_once('\'')?;
        word.push_str(part);
        let Some(more) = after.strip_prefix(r"\''") else { return Some((word, after)) };
        word.push('\'');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_words_over_there() {
        let line = line(&format!("{HOME}exec echo \"$PIPE_HOME\" \"$@\""), "/srv/pipe", &["it's", "$(id)", "a b"]);
        let said = Command::new("sh").arg("-c").arg(line).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "/srv/pipe it's $(id) a b\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(script in any::<String>(), home in any::<String>(), arguments in any::<Vec<String>>()) {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            prop_assert_eq!(read_line(&line(&script, &home, &words)), Some((script, home, arguments)));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text in "exec sh -c( ['a \\\\;]{0,5}){0,4}") {
            if let Some((script, home, arguments)) = read_line(&text) {
                let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                prop_assert_eq!(line(&script, &home, &words), text);
            }
        }
    }
}
