//! `pipe logs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner::agent::log::{Follower, tail};
use runner::diagnostic::{nearest, quoted};
use runner::release::{History, How, Release, target_directory};
use serde_json::json;

use super::elsewhere::pass_on;
use super::failure::Kind;
use super::number::whole;
use super::target::TargetArg;
use super::{Context, Failure};

/// Shows what the processes of a target have written, release commands among them.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    target: TargetArg,
    /// Go on with what is written from now on, by later releases too.
    #[arg(long, short)]
    follow: bool,
    /// Only these processes, such as `web`, or one of them, such as `web.2`; `release` for release commands.
    #[arg(long, short, value_name = "NAME")]
    process: Option<String>,
    /// The release [default: the one that serves, or else the last].
    #[arg(long, short, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    release: Option<u64>,
    /// How many of the last lines of each process.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 200, value_parser = whole::<usize>, allow_negative_numbers = true)]
    lines: usize,
    /// Print one line of a log a line, as JSON.
    #[arg(long)]
    json: bool,
}

/// What one process of a release has written.
#[derive(Clone)]
struct Log {
    release: u64,
    process: String,
    path: PathBuf,
}

pub(super) fn logs(args: &LogsArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    if let Some(server) = target.place.server() {
        let words = args.words(&target.full_name());
        match pass_on(server, &words.iter().map(String::as_str).collect::<Vec<_>>(), false, context)? {}
    }
    let home = context.home()?;
    let history = History::open(&home)?;
    let known = history.releases(&target.app, &target.name)?;
    let releases = match args.release {
        Some(number) if known.iter().all(|release| release.number != number) => {
            return Err(Failure::new(Kind::Usage, format!("there is no release {number} of `{}`", target.name))
                .hint(format!("`pipe releases {}` lists them", target.name)));
        }
        Some(number) => vec![number],
        None => running_since(&known),
    };
    let directory = target_directory(&home, &target.app, &target.name).join("logs");
    let mut logs = all_logs(&directory);
    // Before what is there is read: what comes in the meantime is then shown twice rather than never.
    let followers = logs.iter().map(|log| (log.path.clone(), Follower::from_end(&log.path))).collect();
    let number = releases.first().copied().unwrap_or_default();
    logs.retain(|log| releases.contains(&log.release));
    if let Some(process) = &args.process
        && !logs.iter().any(|log| args.wants(log))
        && !args.follow
    {
        return Err(no_log(process, number, &target.name, &logs));
    }
    logs.retain(|log| args.wants(log));
    let width = logs.iter().map(|log| log.process.len()).max().unwrap_or_default();
    let mut lines: Vec<(&Log, String)> =
        logs.iter().flat_map(|log| tail(&log.path, args.lines).into_iter().map(move |line| (log, line))).collect();
    // Lines begin with their time.
    lines.sort_by(|(_, one), (_, other)| one.get(..24).cmp(&other.get(..24)));
    context.show(lines.iter().map(|(log, line)| args.row(log, width, line)).collect::<String>())?;
    if args.follow {
        follow(args, context, &directory, releases.last().copied().unwrap_or_default(), followers)
    } else {
        Ok(())
    }
}

/// The releases whose processes run: the one that serves, or else the last, and those before of which it only changed the
/// counts.
fn running_since(releases: &[Release]) -> Vec<u64> {
    let Some(last) = releases.iter().find(|release| release.current).or(releases.last()) else { return Vec::new() };
    let mut running = vec![last.number];
    let mut how = &last.how;
    let before = releases.iter().rev().filter(|release| release.stage.is_switched() && release.number < last.number);
    for release in before {
        if !matches!(how, How::Scale { .. }) {
            break;
        }
        running.push(release.number);
        how = &release.how;
    }
    running
}

/// Shows what is written from now on: by processes that start later too and, where no release was named, by later releases.
fn follow(
    args: &LogsArgs,
    context: &Context,
    directory: &Path,
    number: u64,
    mut followers: BTreeMap<PathBuf, Follower>,
) -> Result<(), Failure> {
    loop {
        let mut logs = all_logs(directory);
        logs.retain(|log| {
            args.wants(log) && if args.release.is_some() { log.release == number } else { log.release >= number }
        });
        let width = logs.iter().map(|log| log.process.len()).max().unwrap_or_default();
        for log in &logs {
            let follower = followers.entry(log.path.clone()).or_insert_with_key(|path| Follower::from_start(path));
            for line in follower.read().map_err(|error| Failure::of(Kind::Environment, &error))? {
                context.show(args.row(log, width, &line))?;
            }
        }
        if nobody_reads() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Whether the other end of standard output was closed: by `head`, or by a connection that ended.
fn nobody_reads() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    polled.is_ok() && fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLERR))
}

impl LogsArgs {
    /// The same as a command line of another machine, for its target of that name.
    fn words(&self, target: &str) -> Vec<String> {
        let mut words = vec!["logs".to_owned(), target.to_owned(), format!("--lines={}", self.lines)];
        words.extend(self.json.then(|| "--json".to_owned()));
        words.extend(self.follow.then(|| "--follow".to_owned()));
        words.extend(self.process.as_ref().map(|process| format!("--process={process}")));
        words.extend(self.release.map(|release| format!("--release={release}")));
        words
    }

    fn row(&self, log: &Log, width: usize, line: &str) -> String {
        let (at, text) = line.split_once(' ').unwrap_or((line, ""));
        let Log { process, release, .. } = log;
        if self.json {
            let line = json!({ "at": at, "release": release, "process": process, "text": text });
            return format!("{line}\n");
        }
        format!("{at} {process:<width$} | {text}\n")
    }

    fn wants(&self, log: &Log) -> bool {
        self.process.as_ref().is_none_or(|wanted| {
            let rest = log.process.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

fn no_log(process: &str, number: u64, target: &str, logs: &[Log]) -> Failure {
    // Of what was scaled there are logs of several releases.
    let names: BTreeSet<_> = logs.iter().map(|log| log.process.as_str()).collect();
    let near = nearest(process, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let others = (!names.is_empty()).then(|| format!("these have: {}", quoted(names)));
    let message = format!("no process `{process}` of release {number} of `{target}` has written anything");
    Failure::new(Kind::Usage, message).hints(near).hints(others)
}

/// The logs of a target, by release and process.
fn all_logs(directory: &Path) -> Vec<Log> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut logs: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let (release, process) = path.file_name()?.to_str()?.strip_suffix(".log")?.split_once('-')?;
            Some(Log { release: release.parse().ok()?, process: process.to_owned(), path })
        })
        .collect();
    logs.sort_by(|one, other| (one.release, &one.process).cmp(&(other.release, &other.process)));
    logs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Paint;

    #[test]
    fn a_process_of_several_releases_is_named_once() {
        let log = |release, process: &str| Log { release, process: process.to_owned(), path: PathBuf::new() };
        let logs = [log(1, "web"), log(1, "worker"), log(2, "worker")];
        let told = no_log("wrker", 2, "staging", &logs).render(Paint::PLAIN);
        assert!(
            told.contains("did you mean `worker`?\n") && told.contains("these have: `web` and `worker`\n"),
            "{told}"
        );
    }
}
