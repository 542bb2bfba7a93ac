//! `pipe people`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use runner::agent::log::stamp;
use runner::release::{Person, PublicKey, Role};
use serde_json::{Value, json};

use super::failure::Kind;
use super::target::{Known, TargetArg};
use super::{Context, Failure};

/// The people who may speak to the host of a target, each with a key of his own, and what they may do there.
///
/// Without a subcommand they are listed. Such a key is for `pipe` alone: it opens no shell at the host. A viewer sees what runs, what
/// was released and what processes write; a deployer also changes what targets run; an admin does all else. Whoever can log in as the
/// user that targets are kept by is an admin, with or without a name here.
#[derive(Debug, clap::Args)]
pub(super) struct PeopleArgs {
    #[command(flatten)]
    target: TargetArg,
    /// List them as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<PeopleCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum PeopleCommand {
    /// Lets somebody in, or gives another role or key to who is there.
    Add {
        /// The name: small letters, digits, `-` and `_`.
        name: String,
        /// What may be done: `viewer`, `deployer` or `admin`.
        #[arg(long)]
        role: Role,
        /// The file with the public key, such as `ada.pub`; who is there keeps the key that is known.
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        key: Option<PathBuf>,
    },
    /// Lets somebody in no longer.
    Remove {
        /// The name.
        name: String,
    },
}

pub(super) fn people(args: &PeopleArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.find_or_planned(context)?;
    match &args.command {
        None => list(&target, args.json, context),
        Some(PeopleCommand::Add { name, role, key }) => {
            let key = key.as_deref().map(read).transpose()?;
            let known = key.as_ref().map(|key| format!(", {}", key.fingerprint())).unwrap_or_default();
            target.place.add_person(name, *role, key)?;
            context.print(format!("{name} is {role} at {}{known}\n", place(&target)))
        }
        Some(PeopleCommand::Remove { name }) => {
            target.place.remove_person(name)?;
            context.print(format!("{name} is nobody at {} any more\n", place(&target)))
        }
    }
}

fn place(target: &Known) -> String {
    target.place.server().map_or_else(|| "this machine".to_owned(), ToString::to_string)
}

fn read(file: &Path) -> Result<PublicKey, Failure> {
    let about = |failure: Failure| failure.about(format!("cannot take the key in `{}`", file.display()));
    let text = fs::read_to_string(file).map_err(|error| about(Failure::of(Kind::Usage, &error)))?;
    text.parse().map_err(|error: runner::release::KeyError| {
        about(Failure::of(Kind::Usage, &error))
            .hint("name the file that ends with `.pub`: `ssh-keygen -t ed25519` makes one")
    })
}

fn list(target: &Known, json: bool, context: &Context) -> Result<(), Failure> {
    let people = target.place.people()?;
    if json {
        return context.print_json(&people.iter().map(as_json).collect::<Vec<_>>());
    }
    if people.is_empty() {
        return context
            .print(format!("nobody but who can log in; `pipe people {} add` lets somebody in\n", target.name));
    }
    let width = people.iter().map(|person| person.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for person in &people {
        let Person { name, role, key, since } = person;
        let role = role.name();
        let _ = writeln!(text, "{name:<width$}  {role:<8}  {}  since {}", key.fingerprint(), &stamp(*since)[..10]);
    }
    context.print(text)
}

fn as_json(person: &Person) -> Value {
    json!({
        "name": person.name,
        "role": person.role,
        "key": person.key.as_str(),
        "fingerprint": person.key.fingerprint(),
        "since": stamp(person.since),
    })
}
