//! `pipe lock`.

use runner::event::Events;
use runner::lock::Mode;

use super::file::FileArg;
use super::interrupt::{Interrupt, Silently};
use super::reporting::all_shown;
use super::{Context, Failure};
use crate::report::{self, Form};

/// Resolves what the project leaves open, and writes it down.
///
/// Requirements without digests, and projects without a lock, are resolved into a `pylock.toml` that belongs in the
/// repository. What is locked and fits is left as it is; `pipe run` does the same where it must. What a package without a wheel
/// needs to be built is known once it is unpacked: `pipe run` resolves that, into `pipe.lock`.
#[derive(Debug, clap::Args)]
pub(super) struct LockArgs {
    #[command(flatten)]
    file: FileArg,
    /// Look for newer versions: of one package, or of all. May be given several times.
    #[arg(long, short, value_name = "PKG", num_args = 0..=1, default_missing_value = "")]
    upgrade: Vec<String>,
}

impl LockArgs {
    fn mode(&self) -> Mode {
        match self.upgrade.as_slice() {
            [] => Mode::Keep,
            names if names.iter().any(String::is_empty) => Mode::Upgrade,
            names => Mode::UpgradeOnly(names.to_vec()),
        }
    }
}

pub(super) fn lock(args: &LockArgs, context: &Context) -> Result<(), Failure> {
    let _watched = Interrupt::watch(Silently)?;
    let (events, receiver) = Events::channel();
    let watcher = report::follow(report::shown(Form::of_stdout(false), context.paint), Vec::new(), receiver);
    let project = args.file.open(context, false)?;
    let written = project.lock(&args.mode(), &events);
    let written = written.map_err(|error| Failure::at_its_place(error, &project).masked(&events.masks()))?;
    if written.is_empty() {
        events.send(runner::event::Event::Note {
            message: "nothing to lock: all that is installed is locked already".to_owned(),
        });
    }
    drop(events);
    all_shown(watcher)
}
