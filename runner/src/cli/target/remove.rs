//! `pipe target remove`.

use std::fmt::Write as _;
use std::path::Path;

use runner::diagnostic::quoted;
use runner::release::{self, History, Removed};

use crate::cli::target::TargetArg;
use crate::cli::{Context, Failure};
use crate::report;

/// Takes a target off the machine that it is on: its processes end, and it does not come back after a restart of the machine.
///
/// What it has kept stays, and is named, unless `--data` is given.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    target: TargetArg,
    /// Remove its data, its logs, its releases and its config too. There is no way back.
    #[arg(long)]
    data: bool,
    /// Only forget where it is, for a host that is no more.
    #[arg(long, conflicts_with = "data")]
    forget: bool,
}

pub(super) fn remove(args: &RemoveArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find_or_planned(context)?;
    let name = target.full_name();
    let mut text = String::new();
    if !args.forget {
        let removed = release::remove(&target.place, &target.app, &target.name, args.data)?;
        text = told(&name, &removed, args.data);
        if let Some(server) = target.place.server() {
            // Who may not see them may not remove them either.
            let people = target.place.people().unwrap_or_default();
            let people: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
            let home = removed.directory.ancestors().nth(3).unwrap_or(&removed.directory);
            text.push_str(&shared(&server.to_string(), home, &target.name, &people));
        }
    }
    if let Some(server) = target.place.server() {
        if let Some(history) = History::existing(&context.home()?)? {
            history.forget(&target.app, &target.name)?;
        }
        let _ = writeln!(text, "this machine does not know any more that {name} is at {server}");
    } else if args.forget {
        text = format!("{name} is on this machine: there is nothing to forget\n");
    }
    context.print(text)
}

fn told(name: &str, removed: &Removed, data: bool) -> String {
    let Removed { ran, came_back, directory, left, releases, variables } = removed;
    let mut text = format!("{name} {}\n", if *ran { "is stopped" } else { "was not running" });
    if *came_back {
        text.push_str("it comes back after no restart of the machine any more\n");
    }
    let directory = directory.display();
    if data {
        let _ = writeln!(text, "its data, its logs, its releases and its config are removed: {directory}");
    } else if *left > 0 || *releases > 0 || *variables > 0 {
        let left = report::size(*left);
        let _ = writeln!(
            text,
            "left are {left} of data and logs in {directory}, {releases} releases, and {variables} variables of its config; `--data` removes them"
        );
    }
    text
}

/// What is no single target's.
fn shared(server: &str, home: &Path, target: &str, people: &[&str]) -> String {
    let home = home.display();
    let mut text = format!("what all targets at {server} share stays there: `pipe` and its store in {home}");
    if !people.is_empty() {
        let names = quoted(people.iter().copied());
        let _ = write!(text, ", and the keys of {names}; `pipe people {target} remove NAME` takes one away");
    }
    let _ = writeln!(text, "; `rm -r {home}` there ends it, with whatever targets have left in it");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_at_a_host_is_told_with_how_it_goes() {
        let told = |people: &[&str]| shared("ssh://host", Path::new("/srv/pipe"), "production", people);
        let stays = "what all targets at ssh://host share stays there: `pipe` and its store in /srv/pipe";
        let all = "; `rm -r /srv/pipe` there ends it, with whatever targets have left in it\n";
        assert_eq!(told(&[]), format!("{stays}{all}"));
        let keys = ", and the keys of `ada` and `bo`; `pipe people production remove NAME` takes one away";
        assert_eq!(told(&["ada", "bo"]), format!("{stays}{keys}{all}"));
    }
}
