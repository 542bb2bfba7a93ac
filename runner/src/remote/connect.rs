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
use super::wire::{Call, Heard, greeting, write_line};
use crate::agent::protocol::{Answer, Failure, Reply, Request};
use crate::garbage;
use crate::release::{Place, Release, ReleaseError};

/// The subcommand.
pub(crate) const COMMAND: &str = "agent-connect";

/// Answers one command. What it writes to standard error, the command shows.
pub(crate) fn connect(home: &Path) -> io::Result<()> {
    let mut to = io::stdout().lock();
    writeln!(to, "{}", greeting())?;
    to.flush()?;
    // Not the standard library's own reader: another thread reads on.
    let mut from = BufReader::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(());
    }
    match serde_json::from_str(&line)? {
        Call::Ask(request) => pass_on(home, request, from, &mut to),
        Call::Release { order, slug, runtime } => {
            // With the handle nothing of the slug is let go before the release is in the history.
            match receive(home, (&order.app, &slug, runtime.as_ref()), &mut from, &mut to) {
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
        Call::Releases { app, target } => {
            write_line(&mut to, &heard(releases(home, &app, &target).map(Heard::Releases)))
        }
        Call::Config { app, target } => {
            write_line(&mut to, &heard(Place::here(home).config(&app, &target).map(Heard::Config)))
        }
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

fn heard(result: Result<Heard, ReleaseError>) -> Heard {
    result.unwrap_or_else(|error| Heard::Failed(Failure::hinted(&error, error.hint())))
}
