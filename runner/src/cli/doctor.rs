//! `pipe doctor`.

use std::fmt::Write as _;

use runner::doctor::{self, Status};

use super::failure::Kind;
use super::{Context, Failure};

/// Says whether this machine can run pipelines, what is missing, and what to do about it.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(args: &DoctorArgs, context: &Context) -> Result<(), Failure> {
    let checks = doctor::checks(&context.home()?);
    let paint = context.paint;
    let mut out = String::new();
    if args.json {
        let json = serde_json::to_string_pretty(&checks).map_err(|error| Failure::of(Kind::Internal, &error))?;
        let _ = writeln!(out, "{json}");
    } else {
        for check in &checks {
            let mark = match check.status {
                Status::Ok => paint.green("ok     "),
                Status::Warning => paint.yellow("warning"),
                Status::Failed => paint.red("failed "),
            };
            let _ = writeln!(out, "{mark} {} {}", paint.bold(&format!("{:<16}", check.name)), check.detail);
            if let Some(remedy) = &check.remedy {
                let _ = writeln!(out, "{:25}{} {remedy}", "", paint.cyan("hint:"));
            }
        }
    }
    context.print(out)?;
    match checks.iter().filter(|check| check.status == Status::Failed).count() {
        0 => Ok(()),
        failed => Err(Failure::new(Kind::Environment, format!("{failed} of {} checks failed", checks.len()))),
    }
}
