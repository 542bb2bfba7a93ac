//! `pipe ps`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use runner::agent::log::stamp;
use runner::release::{self, TargetStatus};
use serde_json::{Value, json};

use super::everywhere::everywhere;
use super::target::{Known, find};
use super::{Context, Failure};
use crate::report::{duration as in_short, size};

/// Shows what runs: every process of every target, its state, and where the target answers.
#[derive(Debug, clap::Args)]
pub(super) struct PsArgs {
    /// Only these targets, such as `staging`; `APP/TARGET` where several applications have one of that name [default: all].
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn ps(args: &PsArgs, context: &Context) -> Result<(), Failure> {
    let named = args.targets.iter().map(|name| find(name, context)).collect::<Result<Vec<_>, _>>()?;
    let status = if named.is_empty() {
        everywhere(context, release::status, |found| (&found.app, &found.target))?
    } else {
        of_targets(&named)?
    };
    if args.json {
        return context.print_json(&status.iter().map(json).collect::<Vec<_>>());
    }
    let mut still = String::new();
    for known in named.iter().filter(|known| !status.iter().any(|found| known.is(found))) {
        still.push_str(&known.nothing_runs()?);
    }
    for found in status.iter().filter(|found| found.processes.is_empty()) {
        let _ = writeln!(still, "no process of `{0}` runs: `pipe scale {0} web=1`", found.target);
    }
    if status.is_empty() {
        return context.print(if named.is_empty() { "nothing runs; `pipe run` releases\n" } else { &still });
    }
    let names: Vec<String> = status.iter().map(|target| format!("{}/{}", target.app, target.target)).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default().max(6);
    let heads = ["TARGET", "RELEASE", "PROCESS", "STATE", "FOR", "RESTARTS", "CPU", "MEMORY"];
    let mut text = row(width, heads.map(str::to_owned), "ADDRESS");
    let mut starved = String::new();
    for (name, target) in names.into_iter().zip(&status) {
        let of_canary = target.canary.as_ref().map(|canary| format!("{} of the clients", canary.portion));
        let url = match target.until {
            Some(until) => format!("{}, until {}", target.url, &stamp(until)[..16].replace('T', " ")),
            None => target.url.clone(),
        };
        for process in &target.processes {
            let is_canary = target.canary.as_ref().is_some_and(|canary| canary.release == process.release);
            let address = match &of_canary {
                _ if process.name != "web" => "",
                Some(portion) if is_canary => portion,
                _ => &url,
            };
            let process_name = match process.instance {
                1 => process.name.clone(),
                instance => format!("{}.{instance}", process.name),
            };
            if let Some(at) = process.out_of_memory {
                let _ = writeln!(
                    starved,
                    "`{process_name}` of {name} ran out of memory {} ago, or something that it has started did: give it more, \
                     `memory` in the target's `limits`",
                    since(at)
                );
            }
            let columns = [
                name.clone(),
                process.release.to_string(),
                process_name,
                process.state.to_string(),
                since(process.since),
                process.restarts.to_string(),
                process
                    .cpu
                    .map_or_else(String::new, |cpu| in_short(u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX))),
                process.memory.map_or_else(String::new, size),
            ];
            text.push_str(&row(width, columns, address));
        }
    }
    context.print(text + &starved + &still)
}

/// What runs of the targets that are named. Each machine is asked once.
fn of_targets(named: &[Known]) -> Result<Vec<TargetStatus>, Failure> {
    let mut status = Vec::new();
    for (at, Known { place, .. }) in named.iter().enumerate() {
        if named[..at].iter().any(|before| before.place == *place) {
            continue;
        }
        let is_named =
            |found: &TargetStatus| named.iter().filter(|known| known.place == *place).any(|known| known.is(found));
        status.extend(release::status(place)?.into_iter().filter(is_named));
    }
    Ok(status)
}

fn json(target: &TargetStatus) -> Value {
    let processes = target.processes.iter().map(|process| {
        json!({
            "name": process.name,
            "release": process.release,
            "state": process.state,
            "since": stamp(process.since),
            "restarts": process.restarts,
            "cpu_ms": process.cpu.map(|cpu| cpu.as_millis()),
            "memory": process.memory,
            "out_of_memory": process.out_of_memory.map(stamp),
        })
    });
    json!({
        "app": target.app,
        "target": target.target,
        "release": target.release,
        "url": target.url,
        "until": target.until.map(stamp),
        "canary": target.canary.as_ref().map(|canary| json!({
            "release": canary.release,
            "portion": canary.portion.to_string(),
        })),
        "processes": processes.collect::<Vec<_>>(),
    })
}

fn row(width: usize, columns: [String; 8], address: &str) -> String {
    let [target, release, process, state, since, restarts, cpu, memory] = columns;
    let mut row = String::new();
    let _ = write!(row, "{target:<width$}  {release:>7}  {process:<8}  {state:<13}  {since:>7}  {restarts:>8}  ");
    let _ = write!(row, "{cpu:>7}  {memory:>8}  {address}");
    format!("{}\n", row.trim_end())
}

/// How long something is so already, or how long it is until it will be.
fn since(time: SystemTime) -> String {
    match SystemTime::now().duration_since(time) {
        Ok(passed) => duration(passed),
        Err(until) => format!("in {}", duration(until.duration())),
    }
}

/// The two largest units.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_come_is_told_otherwise_than_what_is() {
        let time = Duration::from_secs(3 * 3600 + 2 * 60 + 30);
        assert_eq!(since(SystemTime::now() - time), "3h 2m");
        assert_eq!(since(SystemTime::now() + time), "in 3h 2m");
    }
}
