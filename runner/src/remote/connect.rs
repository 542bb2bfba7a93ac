//! The host's side of a conversation: `pipe agent-connect`, which SSH runs there and which ends with the connection. It passes
//! on to the agent what is for the agent, and does by itself what needs none.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::receive::receive;
use super::wire::{Asked, Call, Heard, Want, greeting, write_line, write_want};
use super::{people, permit};
use crate::agent::protocol::{Answer, Failure, Reply, Request};
use crate::garbage;
use crate::release::{self, Deed, Ending, History, Place, Release, ReleaseError, Who, origin};

/// The subcommand.
pub(crate) const COMMAND: &str = "agent-connect";

/// How whoever asks has come in.
pub(crate) enum Login {
    /// With a shell, as the user of this process: he may do anything.
    Shell,
    /// With a key that is for `pipe` alone.
    Person(Who),
}

/// The longest call that is read, in bytes: a release with all that its environment holds.
const LONGEST_CALL: u64 = 16 << 20;

/// Answers one command. What it writes to standard error, the command shows.
pub(crate) fn connect(home: &Path, login: &Login) -> io::Result<()> {
    let mut to = io::stdout().lock();
    writeln!(to, "{}", greeting())?;
    to.flush()?;
    // Not the standard library's own reader: another thread reads on.
    let mut from = BufReader::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut line = String::new();
    if from.by_ref().take(LONGEST_CALL).read_line(&mut line)? == 0 {
        return Ok(());
    }
    let Asked { by, mut call } = serde_json::from_str(&line)?;
    let who = match login {
        Login::Shell => Who::at(&by, origin().unwrap_or_else(|| "elsewhere".to_owned())),
        Login::Person(who) => who.clone(),
    };
    call.set_who(&who);
    if let Err(refusal) = may(home, &who, &call) {
        return refuse(&call, refusal, &mut to);
    }
    match call {
        Call::Ask(request) => pass_on(home, request, from, &mut to),
        Call::Release { order, slug, runtime } => {
            // With the handle nothing of the slug is let go before the release is in the history.
            let slug = (order.app.as_str(), &slug, runtime.as_ref());
            match receive(home, slug, who.role, &mut from, &mut to) {
                Ok(store) => {
                    pass_on(home, Request::Deploy(order), from, &mut to)?;
                    drop(store);
                    // Nobody runs anything else over here that would. What goes wrong with it is no failure of the release.
                    let _ = garbage::collect_if_due(home);
                    Ok(())
                }
                Err(_) => Ok(()),
            }
        }
        call => write_line(&mut to, &answer(home, &who, call).unwrap_or_else(Heard::Failed)),
    }
}

/// Refuses names that cannot be, and what somebody may not have done.
fn may(home: &Path, who: &Who, call: &Call) -> Result<(), Failure> {
    let asked = permit::Asked::Call(call);
    // Whether that can be written down or not, it is refused.
    let note = |deed: &Deed| {
        let _ = History::open(home).and_then(|history| history.audit(who, deed, &Ending::Refused));
    };
    asked.check_names().inspect_err(|_| note(&Deed::new("ask for a name that no target has")))?;
    let people = people::people(home).map_err(|error| Failure::hinted(&error, error.hint()))?;
    asked.permit(who, &people).inspect_err(|_| note(&asked.deed()))
}

/// Says no in the way in which the command listens.
fn refuse(call: &Call, refusal: Failure, to: &mut impl Write) -> io::Result<()> {
    match call {
        Call::Ask(_) => write_line(to, &Reply::Answer(Answer::Refused(refusal))),
        Call::Release { .. } => write_want(to, &Want::Failed(refusal)),
        Call::Releases { .. }
        | Call::Config { .. }
        | Call::ConfigNames { .. }
        | Call::VariableNames { .. }
        | Call::Audit { .. }
        | Call::People
        | Call::AddPerson { .. }
        | Call::RemovePerson { .. } => write_line(to, &Heard::Failed(refusal)),
    }
}

/// What needs no agent.
fn answer(home: &Path, who: &Who, call: Call) -> Result<Heard, Failure> {
    let failed = |error: ReleaseError| Failure::hinted(&error, error.hint());
    let here = Place::here(home);
    match call {
        Call::Releases { app, target } => releases(home, &app, &target).map(Heard::Releases).map_err(failed),
        Call::Config { app, target } => {
            release::read_config(home, who, &app, &target).map(Heard::Config).map_err(failed)
        }
        Call::ConfigNames { app, target } => here.config_names(&app, &target).map(Heard::ConfigNames).map_err(failed),
        Call::VariableNames { app, target, release } => {
            variable_names(&here, &app, &target, release).map(Heard::VariableNames).map_err(failed)
        }
        Call::Audit { app, target } => here.audit(&app, &target).map(Heard::Audit).map_err(failed),
        Call::People => here.people().map(Heard::People).map_err(failed),
        Call::AddPerson { name, role, key } => Ok(people::add(home, who, &name, role, key).map(|()| Heard::Done)?),
        Call::RemovePerson { name } => Ok(people::remove(home, who, &name).map(|()| Heard::Done)?),
        Call::Ask(_) | Call::Release { .. } => Err(Failure::new("that is for the agent")),
    }
}

/// Asks the agent, and takes it for nobody's wish any more once the connection has ended.
fn pass_on(home: &Path, request: Request, mut from: impl Read + Send + 'static, to: &mut impl Write) -> io::Result<()> {
    let cancel = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&cancel);
    thread::spawn(move || {
        // The command says nothing more, so all that can come is its end.
        let _ = io::copy(&mut from, &mut io::sink());
        gone.store(true, Ordering::Relaxed);
    });
    let mut say = |progress| {
        // The end of the connection is noticed by the thread.
        let _ = write_line(to, &Reply::Progress(progress));
    };
    let answer = Place::here(home)
        .ask(request, &cancel, &mut say)
        .unwrap_or_else(|error| Answer::Failed(Failure::hinted(&error, error.hint()).in_one()));
    write_line(to, &Reply::Answer(answer))
}

/// What environments hold is not for telling.
fn releases(home: &Path, app: &str, target: &str) -> Result<Vec<Release>, ReleaseError> {
    let mut releases = Place::here(home).releases(app, target)?;
    for release in &mut releases {
        release.target.settings.env.clear();
    }
    Ok(releases)
}

fn variable_names(here: &Place, app: &str, target: &str, number: u64) -> Result<Vec<String>, ReleaseError> {
    let releases = here.releases(app, target)?;
    let release = releases.iter().find(|release| release.number == number);
    let release = release.ok_or_else(|| ReleaseError::NoSuchRelease { target: target.to_owned(), number })?;
    Ok(here.variables(release)?.into_names())
}
