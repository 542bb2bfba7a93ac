//! What sshd runs for whoever comes with the key of a person, in the place of what he asks for: `pipe agent-person NAME`. Who he
//! is stands in that command and nowhere else, and what he may do in the history of this machine. The command that he asks for is
//! read, and never given to a shell.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::{fs, process};

use super::connect::{self, Login};
use super::permit::Asked;
use super::script::{Script, read_line};
use crate::agent::protocol::Failure;
use crate::release::{Deed, Ending, History, Who};

/// The subcommand.
pub(crate) const COMMAND: &str = "agent-person";

/// Where sshd leaves what was asked for.
const ASKED: &str = "SSH_ORIGINAL_COMMAND";

/// What can be asked for with such a key: what `pipe` elsewhere runs at a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// To speak the protocol.
    Connect,
    /// `pipe logs`, with its arguments.
    Logs(Vec<String>),
    /// `pipe exec`, with its arguments.
    Exec(Vec<String>),
    /// A part of setting the host up, with its arguments.
    SetUp { script: Script, arguments: Vec<String> },
}

/// A command line of this program that is to be followed now.
pub(crate) struct Follow {
    /// The program's name among them.
    pub(crate) words: Vec<String>,
    pub(crate) who: Who,
}

/// Does what a person asks for, if that may be done. What is a command of this program is given back, to be followed.
pub(crate) fn admit(home: &Path, name: &str) -> Result<Option<Follow>, Failure> {
    let failed = |error: crate::release::HistoryError| Failure::hinted(&error, error.hint());
    let history = History::open(home).map_err(failed)?;
    let people = history.people().map_err(failed)?;
    let Some(person) = people.iter().find(|person| person.name == name) else {
        return Err(Failure::usage(format!("`{name}` is nobody here any more"))
            .hint(format!("whoever logs in here as `{}` can change that", crate::release::user())));
    };
    let who = Who::person(person);
    let line = std::env::var(ASKED).unwrap_or_default();
    let (command, asked_home) = Command::read(&line).ok_or_else(|| {
        note(&history, &who, &Deed::new("run something else than `pipe`"), &Ending::Refused);
        Failure::usage(format!(
            "the key of `{name}` is for `pipe` alone: there is no shell, and nothing else to be run"
        ))
    })?;
    check_home(home, &asked_home)?;
    let asked = Asked::Command(&command);
    asked.permit(&who, &people).inspect_err(|_| note(&history, &who, &asked.deed(), &Ending::Refused))?;
    match command {
        Command::Connect => {
            connect::connect(home, &Login::Person(who)).map_err(|error| Failure::of(&error))?;
            Ok(None)
        }
        Command::Logs(arguments) => Ok(Some(Follow::of("logs", arguments, who))),
        Command::Exec(arguments) => Ok(Some(Follow::of("exec", arguments, who))),
        Command::SetUp { script, arguments } => {
            if matches!(script, Script::Copy | Script::Boot) {
                let set_up = Command::SetUp { script, arguments: arguments.clone() };
                note(&history, &who, &Asked::Command(&set_up).deed(), &Ending::Done);
            }
            let mut shell = process::Command::new("sh");
            let error = shell.arg("-c").arg(script.text()).arg(home).args(arguments).exec();
            Err(Failure::of(&error))
        }
    }
}

/// Writes down what was asked for; that this fails is no reason to be refused.
fn note(history: &History, who: &Who, deed: &Deed, ending: &Ending) {
    if let Err(error) = history.audit(who, deed, ending) {
        eprintln!("pipe: {error}");
    }
}

impl Follow {
    fn of(command: &str, arguments: Vec<String>, who: Who) -> Self {
        Self { words: ["pipe".to_owned(), command.to_owned()].into_iter().chain(arguments).collect(), who }
    }
}

impl Command {
    /// Reads what was asked for, with the directory of pipe's data that was meant.
    fn read(line: &str) -> Option<(Self, String)> {
        let (text, home, mut arguments) = read_line(line)?;
        let script = Script::ALL.into_iter().find(|script| script.text() == text);
        let command = match script {
            Some(script @ (Script::Probe | Script::Copy | Script::Doctor | Script::Boot)) => {
                Self::SetUp { script, arguments }
            }
            // How the script of another version comes to its program does not matter: it is this program already.
            Some(Script::Pipe) | None => {
                let rest = arguments.split_off(arguments.len().min(1));
                match arguments.first()?.as_str() {
                    connect::COMMAND if rest.is_empty() => Self::Connect,
                    "logs" => Self::Logs(rest),
                    "exec" => Self::Exec(rest),
                    _ => return None,
                }
            }
        };
        Some((command, home))
    }
}

/// A key is for the `pipe` of one directory; an address that names another one means another.
fn check_home(home: &Path, asked: &str) -> Result<(), Failure> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    if asked.is_empty() || real(Path::new(asked)) == real(home) {
        return Ok(());
    }
    Err(Failure::usage(format!("your key is for the targets in `{}`, and not for those in `{asked}`", home.display()))
        .hint(format!("end the address with `{}`", home.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::script::line;

    fn read(script: &str, home: &str, arguments: &[&str]) -> Option<(Command, String)> {
        Command::read(&line(script, home, arguments))
    }

    #[test]
    fn what_pipe_asks_for_is_read_word_by_word() {
        let pipe = Script::Pipe.text();
        assert_eq!(read(&pipe, "", &["agent-connect"]), Some((Command::Connect, String::new())));
        assert_eq!(read("another version's", "/srv/p", &["agent-connect"]), Some((Command::Connect, "/srv/p".into())));
        let exec = ["demo/staging", "--", "sh", "-c", "echo it's; id", ""];
        let read_exec = read(&pipe, "", &[&["exec"], exec.as_slice()].concat());
        assert_eq!(read_exec, Some((Command::Exec(exec.map(str::to_owned).to_vec()), String::new())));
        let copy = read(&Script::Copy.text(), "/srv/p", &["9", "gzip"]);
        let arguments = vec!["9".to_owned(), "gzip".to_owned()];
        assert_eq!(copy, Some((Command::SetUp { script: Script::Copy, arguments }, "/srv/p".into())));
    }

    #[test]
    fn nothing_else_is_read() {
        let pipe = Script::Pipe.text();
        for line in
            ["", "id", "sh", "exec sh -c id", "exec sh -c 'id'", "scp -t .", "exec sh -c 'a' '' agent-connect; id"]
        {
            assert_eq!(Command::read(line), None, "{line}");
        }
        for arguments in [&["agent-connect", "x"][..], &["agent-boot"], &["agent"], &["run"], &["people", "x"], &[]] {
            assert_eq!(read(&pipe, "", arguments), None, "{arguments:?}");
        }
        assert_eq!(read("id", "", &["9", "gzip"]), None);
        let behind = format!("{} && id", line(&pipe, "", &["agent-connect"]));
        assert_eq!(Command::read(&behind), None);
    }
}
