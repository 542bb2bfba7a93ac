//! Why a release does not come up, and what to do about that: out of how a process ended, what it wrote, and what the release brings.

use std::path::Path;

use hyper::StatusCode;

use super::super::front;
use super::super::health::{self, Healthy};
use super::super::instance::Exit;
use super::super::log;
use super::super::process::{Process, Slot};
use super::super::protocol::Failure;
use super::super::{lock, starved};
use super::{Deploy, LONGEST_ANSWER, hidden, migrations, names, raised, remarks, remedy};

/// Which of the release commands, as logs have it, ask Django for a page, and for the names that it answers to.
const RAISED: u32 = 3;
const NAMES: u32 = 4;

/// How many of the last lines of a process are shown when it fails.
const SHOWN_LINES: usize = 60;

impl Deploy<'_> {
    pub(super) fn failure(&self, what: &str, process: &Slot, exit: &Exit) -> Failure {
        let failure = ended(&self.root.log(self.number, process), what, exit);
        let output = failure.output.as_deref();
        let hint = self.hidden_from(exit, output).or_else(|| self.dropped(output?)).or(failure.hint);
        Failure { hint, ..failure }
    }

    pub(super) fn unhealthy(&self, process: &Slot, message: String) -> Failure {
        let output = self.tail(process);
        Failure { hint: output.as_deref().and_then(|output| self.remedy(output)), output, ..Failure::new(message) }
    }

    /// The failure of a release that refuses all names, where what serves does not: nobody would be answered any more.
    pub(super) async fn refuses_all(&self, process: &Slot, page: &Healthy, hosts: &[String]) -> Option<Failure> {
        let port = self.serving.filter(|_| page.status == StatusCode::BAD_REQUEST)?;
        let now = health::now(port, self.root.health(), hosts).await?;
        let Healthy { path, status, host, .. } = page;
        let message = format!("`GET {path}` is answered with {status}, and by what serves with {now}");
        let hint = remarks::refused_name(host);
        (!now.is_client_error() && !now.is_server_error()).then(|| self.unhealthy(process, message).hint(hint))
    }

    /// What to do about what a process has written that does not come up.
    fn remedy(&self, output: &str) -> Option<String> {
        self.hidden(output).or_else(|| self.dropped(output)).or_else(|| remedy::remedy(output))
    }

    /// What to do where a table is missing that a migration of this release has taken away.
    fn dropped(&self, output: &str) -> Option<String> {
        let table = remedy::missing_table(remedy::known(output)?)?;
        let (_, changes) = self.migrations()?;
        let slug = lock(&self.release).slug.tree;
        migrations::that_dropped(&self.agent.store, &slug, self.brought(&changes), table).ok()?
    }

    /// What to do where files are missing that the target hides.
    fn hidden(&self, output: &str) -> Option<String> {
        hidden::remedy(&self.agent.store, &lock(&self.release), output)
    }

    /// The same of a process that has ended; one that something else has ended lacks no files.
    pub(super) fn hidden_from(&self, exit: &Exit, output: Option<&str>) -> Option<String> {
        matches!(exit, Exit::Code(_)).then(|| self.hidden(output.unwrap_or_default())).flatten()
    }

    /// A page that is an error, and what is behind it: what the application has written, or else what Django says when it is asked.
    pub(super) async fn error_page(&self, path: &str, process: &Process, page: &Healthy) -> Failure {
        let Healthy { path: end, status, .. } = page;
        let leads = if end == path { String::new() } else { format!(" leads to `{end}`, which") };
        let failure = self.unhealthy(&process.slot, format!("`GET {path}`{leads} is answered with {status}"));
        if let Some(other) = self.other_name(process, page).await {
            return failure.hint(remarks::other_name(page, &other));
        }
        let says_why = |output: &str| raised::is_traceback(output) || remedy::known(output).is_some();
        if failure.output.as_deref().is_some_and(says_why) {
            return failure;
        }
        match self.raised(page).await {
            Some(output) => {
                let hint = self.remedy(&output).unwrap_or_else(remedy::asked_again);
                Failure { output: Some(output), ..failure.hint(hint) }
            }
            None if failure.hint.is_some() => failure,
            None => failure.hint(remedy::silent()),
        }
    }

    /// The page by another name that may be the application's, where it comes by that and is refused by the name that counts.
    pub(super) async fn other_name(&self, process: &Process, page: &Healthy) -> Option<Healthy> {
        if !front::refuses_name(page.status) {
            return None;
        }
        let settings = &self.root.settings;
        let mut names = settings.domains.clone();
        if settings.name().is_none() && settings.preflight && self.root.is_django() {
            let slot = self.ask(NAMES, &names::command()).await;
            names.extend(names::allowed(&self.last_lines(&slot, LONGEST_ANSWER).unwrap_or_default()));
        }
        names.retain(|name| *name != page.host);
        health::by_name(process.port, self.root.health(), &names).await
    }

    /// What Django raises when it is asked for a page in a process of its own.
    async fn raised(&self, page: &Healthy) -> Option<String> {
        if !self.root.settings.preflight || !self.root.is_django() {
            return None;
        }
        let slot = self.ask(RAISED, &raised::command(page)).await;
        let written = self.last_lines(&slot, LONGEST_ANSWER);
        written.is_some_and(|output| raised::is_traceback(&output)).then(|| self.tail(&slot)).flatten()
    }

    fn tail(&self, process: &Slot) -> Option<String> {
        self.last_lines(process, SHOWN_LINES)
    }

    pub(super) fn last_lines(&self, process: &Slot, most: usize) -> Option<String> {
        last_lines(&self.root.log(self.number, process), most)
    }
}

/// That a process has ended which should not have, with what it wrote.
pub(super) fn ended(log: &Path, what: &str, exit: &Exit) -> Failure {
    let output = last_lines(log, SHOWN_LINES);
    let hint = match exit {
        Exit::NotStarted { hint, .. } => hint.clone(),
        Exit::OutOfMemory => Some(starved::REMEDY.to_owned()),
        _ => output.as_deref().and_then(remedy::remedy),
    };
    Failure { hint, output, ..Failure::new(format!("{what} {exit}")) }
}

/// The last lines of a log, where it has any.
fn last_lines(path: &Path, most: usize) -> Option<String> {
    let lines = log::tail(path, most);
    (!lines.is_empty()).then(|| lines.iter().map(|line| log::text(line)).collect::<Vec<_>>().join("\n"))
}
