//! `pipe logs`.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use runner::agent::log::{Follower, tail};
use runner::release::{History, target_directory};

use super::failure::Kind;
use super::target::TargetArg;
use super::{Context, Failure};

/// Shows what the processes of a target have written, release commands among them.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    target: TargetArg,
    /// Go on with what is written from now on.
    #[arg(long, short)]
    follow: bool,
    /// Only this process, such as `web`, or `release` for release commands.
    #[arg(long, short, value_name = "NAME")]
    process: Option<String>,
    /// The release [default: the one that serves, or else the last].
    #[arg(long, short, value_name = "N")]
    release: Option<u64>,
    /// How many of the last lines of each process.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 200)]
    lines: usize,
}

pub(super) fn logs(args: &LogsArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    let home = context.home()?;
    let history = History::open(&home)?;
    let number = match args.release {
        Some(number) => number,
        None => match history.current(&target.app, &target.name)? {
            Some(current) => current.number,
            None => history.releases(&target.app, &target.name)?.last().map_or(0, |last| last.number),
        },
    };
    let directory = target_directory(&home, &target.app, &target.name).join("logs");
    let mut files = files(&directory, number);
    files.retain(|(process, _)| args.process.as_ref().is_none_or(|wanted| wanted == process));
    if files.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("release {number} of `{}` has written nothing", target.name)));
    }
    let width = files.iter().map(|(process, _)| process.len()).max().unwrap_or_default();
    let show = |process: &str, line: &str| {
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        format!("{time} {process:<width$} | {text}\n")
    };
    let mut followers: Vec<_> = files.iter().map(|(name, path)| (name, Follower::from_end(path))).collect();
    let mut lines: Vec<(&String, String)> = files
        .iter()
        .flat_map(|(process, path)| tail(path, args.lines).into_iter().map(move |line| (process, line)))
        .collect();
    // Lines begin with their time.
    lines.sort_by(|(_, one), (_, other)| one.get(..24).cmp(&other.get(..24)));
    context.print(lines.iter().map(|(process, line)| show(process, line)).collect::<String>())?;
    if !args.follow {
        return Ok(());
    }
    loop {
        for (process, follower) in &mut followers {
            for line in follower.read().map_err(|error| Failure::of(Kind::Environment, &error))? {
                context.print(show(process, &line))?;
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The logs of a release, by process.
fn files(directory: &std::path::Path, number: u64) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let process = name.strip_prefix(&format!("{number}-"))?.strip_suffix(".log")?.to_owned();
            Some((process, path))
        })
        .collect();
    files.sort();
    files
}
