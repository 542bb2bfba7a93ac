//! `pipe runs`.

use std::time::{Duration, UNIX_EPOCH};

use runner::agent::log::stamp;
use runner::diagnostic;
use runner::event::log::{LogError, Logs};
use runner::event::{Event, Outcome, Stamped};
use serde::Serialize;

use super::failure::Kind;
use super::number::whole;
use super::run::Reports;
use super::{Context, Failure};
use crate::report;

/// Lists past runs, or shows one of them again.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    /// How many to list.
    #[arg(long, short, value_name = "N", default_value_t = 20, value_parser = whole::<usize>, allow_negative_numbers = true)]
    limit: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum RunsCommand {
    /// Shows a run as it was shown then, the latest where none is named.
    Show {
        /// The number of the run, as `pipe runs` lists it.
        #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
        number: Option<u64>,
        /// Print its events, one a line, as JSON, each with its time.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reports: Reports,
    },
}

pub(super) fn runs(args: &RunsArgs, context: &Context) -> Result<(), Failure> {
    let logs = Logs::of(&context.home()?);
    match &args.command {
        None => list(&logs, args, context),
        Some(RunsCommand::Show { number, json, reports }) => {
            let number = number
                .or_else(|| logs.numbers().first().copied())
                .ok_or_else(|| Failure::new(Kind::Usage, "nothing was run yet").hint("`pipe run` runs the pipeline"))?;
            let events = logs.read(number).map_err(|error| unreadable(&error, &logs))?;
            for file in reports.files()? {
                let failed =
                    |error: std::io::Error| Failure::of(Kind::Environment, &error).about("cannot write a report");
                file.write(&events).map_err(failed)?;
            }
            if let Some(otlp) = reports.otlp()? {
                otlp.send(&events).map_err(|error| Failure::of(Kind::Environment, &error))?;
            }
            if *json {
                context.print(lines(&events))
            } else if reports.any() {
                Ok(())
            } else {
                context.print(report::retold(&events, context.paint))
            }
        }
    }
}

fn unreadable(error: &LogError, logs: &Logs) -> Failure {
    match error {
        LogError::Unknown(_) => {
            let known: Vec<String> = logs.numbers().iter().take(5).map(u64::to_string).collect();
            let failure = Failure::of(Kind::Usage, error);
            if known.is_empty() {
                return failure.hint("nothing was run yet");
            }
            failure.hint(format!("the latest are {}", diagnostic::quoted(known.iter().map(String::as_str))))
        }
        LogError::Newer { .. } => Failure::of(Kind::Usage, error).hint("the `pipe` that ran it can show it"),
        LogError::Io { .. } => Failure::of(Kind::Environment, error),
    }
}

fn lines(events: &[Stamped]) -> String {
    events.iter().filter_map(|event| serde_json::to_string(event).ok()).map(|line| line + "\n").collect()
}

fn list(logs: &Logs, args: &RunsArgs, context: &Context) -> Result<(), Failure> {
    // Two lists at once, or a run that ends one: what has gone meanwhile is not listed.
    let runs = logs.numbers().into_iter().take(args.limit);
    let runs = runs.filter_map(|number| Summary::of(number, &logs.read(number).ok()?));
    if args.json {
        return context.print_json(&runs.collect::<Vec<_>>());
    }
    let mut text =
        format!("{:>5}  {:<19}  {:<16}  {:>6}  {:>6}  {:>8}  OUTCOME\n", "#", "WHEN", "APP", "STEPS", "CACHED", "TIME");
    for run in runs {
        text.push_str(&run.row());
    }
    context.print(text)
}

/// One run of a list.
#[derive(Serialize)]
struct Summary {
    number: u64,
    at: String,
    app: String,
    steps: usize,
    /// Nothing where it goes on, or was killed.
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Serialize)]
struct End {
    outcome: Outcome,
    cached: usize,
    elapsed_ms: u64,
    slug: Option<String>,
}

impl Summary {
    fn of(number: u64, events: &[Stamped]) -> Option<Self> {
        let first = events.first()?;
        let Event::RunStarted { app, steps, .. } = &first.event else { return None };
        let end = match &events.last()?.event {
            Event::RunFinished { outcome, cached, elapsed_ms, slug, .. } => {
                Some(End { outcome: *outcome, cached: *cached, elapsed_ms: *elapsed_ms, slug: slug.clone() })
            }
            _ => None,
        };
        let at = stamp(UNIX_EPOCH + Duration::from_millis(first.at));
        Some(Self { number, at, app: app.clone(), steps: *steps, end })
    }

    fn row(&self) -> String {
        let when = &self.at.replace('T', " ")[..19];
        let begun = format!("{:>5}  {when:<19}  {:<16}  {:>6}  ", self.number, self.app, self.steps);
        let Some(end) = &self.end else {
            return format!("{begun}{:>6}  {:>8}  goes on, or was killed\n", "", "");
        };
        let outcome = match end.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let slug = end.slug.as_deref().map(|slug| format!(" {}", &slug[..slug.len().min(19)])).unwrap_or_default();
        format!("{begun}{:>6}  {:>8}  {outcome}{slug}\n", end.cached, report::duration(end.elapsed_ms))
    }
}
