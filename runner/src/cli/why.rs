//! `pipe why`.

use std::fmt::Write as _;

use runner::diagnostic;
use runner::event::Events;
use runner::run::{Preview, Project};

use super::failure::Kind;
use super::file::FileArg;
use super::plan;
use super::{Context, Failure};

/// Says why a step would run, or would not: what differs from its nearest earlier run.
#[derive(Debug, clap::Args)]
pub(super) struct WhyArgs {
    /// The step, as the pipeline calls it.
    step: String,
    /// Print it as JSON: the step, and each that it hangs on.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: FileArg,
}

pub(super) fn why(args: &WhyArgs, context: &Context) -> Result<(), Failure> {
    let project = args.file.open_to_look(context)?;
    let names: Vec<&str> = project.pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    if !names.contains(&args.step.as_str()) {
        let failure = Failure::new(Kind::Usage, format!("there is no step `{}`", args.step));
        return Err(match diagnostic::nearest(&args.step, names.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint(format!("the pipeline has {}", diagnostic::quoted(names))),
        });
    }
    let previews = preview(&project)?;
    let chain = chain(&args.step, &previews);
    if args.json {
        return context.print_json(&chain.iter().map(|(step, preview)| plan::json(step, preview)).collect::<Vec<_>>());
    }
    context.show(explained(&chain))
}

/// What would become of each step, with nobody to watch.
pub(super) fn preview(project: &Project) -> Result<Vec<(String, Preview)>, Failure> {
    let (events, _) = Events::channel();
    project.preview(&events).map_err(|error| Failure::at_its_place(error, project))
}

/// A step, and each step that it hangs on, down to one that has a reason of its own.
fn chain<'a>(step: &'a str, previews: &'a [(String, Preview)]) -> Vec<(&'a str, &'a Preview)> {
    let mut chain = Vec::new();
    let mut next = Some(step);
    while let Some((name, preview)) = next.and_then(|next| previews.iter().find(|(name, _)| name == next)) {
        chain.push((name.as_str(), preview));
        next = match preview {
            Preview::Depends(other) => Some(other.as_str()),
            _ => None,
        };
    }
    chain
}

fn explained(chain: &[(&str, &Preview)]) -> String {
    let mut out = String::new();
    for (name, preview) in chain {
        let line = match preview {
            Preview::Cached => "is cached: all that it saw in an earlier run is still so".to_owned(),
            Preview::Runs(why) => format!("runs: {why}"),
            Preview::Depends(other) => format!("depends on what `{other}` gives"),
        };
        let _ = writeln!(out, "`{name}` {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_followed_to_the_step_that_has_it() {
        let previews = [
            ("lock".to_owned(), Preview::Runs("`requirements.txt` has changed".to_owned())),
            ("venv".to_owned(), Preview::Depends("lock".to_owned())),
        ];
        assert_eq!(
            explained(&chain("venv", &previews)),
            "`venv` depends on what `lock` gives\n`lock` runs: `requirements.txt` has changed\n"
        );
    }
}
