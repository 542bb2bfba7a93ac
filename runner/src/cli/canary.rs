//! `pipe canary`.

use std::time::Duration;

use runner::release::{self, Answered, CanaryStatus, CanaryWish, Portion, Release};
use serde_json::{Value, json};

use super::failure::Kind;
use super::reporting::reporting;
use super::target::{Known, TargetArg};
use super::{Context, Failure};

/// Shows how a release does that was given to a part of the clients, and says what becomes of it.
///
/// `pipe release` and `pipe promote` begin one with `--canary 10%`. It is taken back by itself where its answers are errors more
/// often than those of what serves the other clients, or take much longer.
#[derive(Debug, clap::Args)]
pub(super) struct CanaryArgs {
    #[command(flatten)]
    target: TargetArg,
    /// Give it to this part of the clients; those that have it keep it where that is larger than before.
    #[arg(long, value_name = "PERCENT", group = "wish")]
    portion: Option<Portion>,
    /// Give it to all clients: it is what the target runs then.
    #[arg(long, group = "wish")]
    finish: bool,
    /// Take it back: all clients have what served before.
    #[arg(long, group = "wish")]
    abort: bool,
    /// As JSON; with a wish, one event a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn canary(args: &CanaryArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find(context)?;
    let wish = match args.portion {
        Some(portion) => CanaryWish::Portion(portion),
        None if args.finish => CanaryWish::Finish,
        None if args.abort => CanaryWish::Abort,
        None => return show(&target, args.json, context),
    };
    let released = reporting(args.json, context, |events, interrupt| {
        release::canary(&target.place, &target.app, &target.name, wish, events, &interrupt.cancel)
    })?;
    match released {
        Some(released) if wish == CanaryWish::Finish && !args.json => {
            context.print(format!("release {} answers all clients at {}\n", released.number, released.url))
        }
        _ => Ok(()),
    }
}

fn show(target: &Known, json: bool, context: &Context) -> Result<(), Failure> {
    let mut all = release::status(&target.place)?;
    all.retain(|found| (&found.app, &found.target) == (&target.app, &target.name));
    let status = all.pop();
    let canary = status.as_ref().and_then(|status| status.canary.as_ref());
    if json {
        return context.print_json(&canary.map(as_json));
    }
    let (Some(status), Some(canary)) = (&status, canary) else {
        let none = format!("no release of `{}` is given to a part of the clients", target.name);
        let failure =
            Failure::new(Kind::Usage, none).hint("`pipe release` and `pipe promote` do that with `--canary 10%`");
        let last = target.place.releases(&target.app, &target.name)?.pop().filter(Release::is_taken_back);
        return Err(match last.and_then(|last| Some((last.number, last.failure?))) {
            Some((number, why)) => failure.because(format!("the last was release {number}: {why}")),
            None => failure,
        });
    };
    context.print(format!(
        "release {} is given to {} of the clients, release {} to the others; in the last minute\n  release {:<4}  {}\n  release {:<4}  {}\n",
        canary.release,
        canary.portion,
        status.release,
        canary.release,
        told(&canary.new),
        status.release,
        told(&canary.old),
    ))
}

fn told(answered: &Answered) -> String {
    let Answered { answers, errors, within } = answered;
    match answers {
        0 => "answered nothing".to_owned(),
        1 => format!("answered once, {errors} errors, in {}", millis(*within)),
        _ => format!("answered {answers} times, {errors} errors, nine of ten within {}", millis(*within)),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn as_json(canary: &CanaryStatus) -> Value {
    let answered = |of: &Answered| json!({ "answers": of.answers, "errors": of.errors, "within_ms": of.within.as_secs_f64() * 1e3 });
    json!({
        "release": canary.release,
        "portion": canary.portion.to_string(),
        "new": answered(&canary.new),
        "old": answered(&canary.old),
    })
}
