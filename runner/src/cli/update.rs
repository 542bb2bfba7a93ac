//! `pipe update`.

use std::path::PathBuf;

use runner::update::{self, Source, UpdateError, Version};

use super::failure::Kind;
use super::{Context, Failure};

/// Replaces this `pipe` by the newest release.
///
/// What a release address gives is believed if it is signed with the key of those who make `pipe`, and takes this one's place once it
/// has run. Targets go on: the agent makes way for the new one with the next change.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    /// Only tell whether there is a newer one.
    #[arg(long)]
    check: bool,
    /// The version to go to, which may be an older one [default: the newest].
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
    /// The release address [default: `PIPE_RELEASES`, or the one that this `pipe` comes from].
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The file with the public key of those who make the releases [default: the key that this `pipe` was made with].
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    key: Option<PathBuf>,
}

pub(super) fn update(args: &UpdateArgs, context: &Context) -> Result<(), Failure> {
    let source = Source::new(args.from.clone(), args.key.as_deref())?;
    let release = source.release(args.to)?;
    let (version, own) = (release.version, update::own_version());
    let is_wanted = match args.to {
        Some(_) => version != own,
        None => update::is_newer(version)?,
    };
    if !is_wanted {
        return context.print(format!("this is pipe {own} already\n"));
    }
    if args.check {
        return context.print(format!("pipe {version} is there, and this is {own}; `pipe update` takes it\n"));
    }
    let program = update::own_program()?;
    source.install(&release, &program)?;
    context.print(format!("{} is pipe {version} now; it was {own}\n", program.display()))
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        let kind = match &error {
            UpdateError::NoAddress | UpdateError::NoKey | UpdateError::Key { .. } | UpdateError::Older { .. } => {
                Kind::Usage
            }
            _ => Kind::Environment,
        };
        Self::of(kind, &error).hints(error.hint())
    }
}
