//! `pipe doctor`.

use std::fmt::Write as _;

use runner::doctor::{self, Check, Status};

use super::failure::Kind;
use super::{Context, Failure};
use crate::report::Paint;

/// Says whether this machine can run pipelines, what is missing, and what to do about it.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(args: &DoctorArgs, context: &Context) -> Result<(), Failure> {
    let checks = doctor::checks(&context.home()?);
    if args.json {
        context.print_json(&checks)?;
    } else {
        context.print(table(&checks, context.paint))?;
    }
    match checks.iter().filter(|check| check.status == Status::Failed).count() {
        0 => Ok(()),
        failed => Err(Failure::new(Kind::Environment, format!("{failed} of {} checks failed", checks.len()))),
    }
}

fn table(checks: &[Check], paint: Paint) -> String {
    let mut out = String::new();
    for check in checks {
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
    out
}
