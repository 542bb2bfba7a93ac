//! Where a target is: on this machine, or on a host that is reached over SSH. What is asked of a target is asked here; who
//! answers is the agent of that machine, and what it did is in the history there. Unaware of what is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::history::{History, Release};
use super::{Deed, Ending, Person, PublicKey, ReleaseError, Role, SlugRef, Trail, Variables, Who, is_idle};
use crate::agent::client;
use crate::agent::protocol::{Answer, Order, Progress, Request};
use crate::digest::Digest;
use crate::remote::{Address, Sent, Session, people};
use crate::slug::Registry;
use crate::store::Store;

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// This machine's directory of pipe's data.
    home: PathBuf,
    server: Option<Address>,
}

impl Place {
    /// On this machine, with this directory of pipe's data.
    pub fn here(home: &Path) -> Self {
        Self { home: home.to_owned(), server: None }
    }

    /// On a host, or on this machine where none is named.
    pub fn at(home: &Path, server: Option<&Address>) -> Self {
        Self { home: home.to_owned(), server: server.cloned() }
    }

    /// The host.
    pub fn server(&self) -> Option<&Address> {
        self.server.as_ref()
    }

    /// The releases of a target, oldest first.
    pub fn releases(&self, app: &str, target: &str) -> Result<Vec<Release>, ReleaseError> {
        match self.session()? {
            None => Ok(History::existing(&self.home)?.map_or(Ok(Vec::new()), |history| history.releases(app, target))?),
            Some(session) => Ok(session.releases(app, target)?),
        }
    }

    /// The names and values of a target's config. That somebody has read them is written down.
    pub fn config(&self, app: &str, target: &str) -> Result<BTreeMap<String, String>, ReleaseError> {
        match self.session()? {
            None => read_config(&self.home, &Who::here(), app, target),
            Some(session) => Ok(session.config(app, target)?),
        }
    }

    /// The names that a target's config sets, without what they are set to.
    pub fn config_names(&self, app: &str, target: &str) -> Result<Vec<String>, ReleaseError> {
        match self.session()? {
            None => Ok(config(&self.home, app, target)?.into_keys().collect()),
            Some(session) => Ok(session.config_names(app, target)?),
        }
    }

    /// What was done to a target, and to the machine that it is on.
    pub fn audit(&self, app: &str, target: &str) -> Result<Trail, ReleaseError> {
        match self.session()? {
            None => {
                Ok(History::existing(&self.home)?.map_or(Ok(Trail::default()), |history| history.trail(app, target))?)
            }
            Some(session) => Ok(session.audit(app, target)?),
        }
    }

    /// Who may speak to the `pipe` there with a key of his own.
    pub fn people(&self) -> Result<Vec<Person>, ReleaseError> {
        match self.session()? {
            None => Ok(people::people(&self.home)?),
            Some(session) => Ok(session.people()?),
        }
    }

    /// Adds somebody there, or gives another role to who is there, and another key where one is given.
    pub fn add_person(&self, name: &str, role: Role, key: Option<PublicKey>) -> Result<(), ReleaseError> {
        match self.session()? {
            None => Ok(people::add(&self.home, &Who::here(), name, role, key)?),
            Some(session) => Ok(session.add_person(name, role, key)?),
        }
    }

    /// Removes somebody there.
    pub fn remove_person(&self, name: &str) -> Result<(), ReleaseError> {
        match self.session()? {
            None => Ok(people::remove(&self.home, &Who::here(), name)?),
            Some(session) => Ok(session.remove_person(name)?),
        }
    }

    /// All variables that a release gives to its processes.
    pub fn variables(&self, release: &Release) -> Result<Variables, ReleaseError> {
        let (app, target) = (&release.target.app, &release.target.name);
        if let Some(session) = self.session()? {
            return Ok(Variables::Names(session.variable_names(app, target, release.number)?));
        }
        let mut variables = release.target.settings.env.clone();
        if let Some(history) = History::existing(&self.home)? {
            variables.extend(history.config(app, target, release.config)?);
        }
        Ok(Variables::Values(variables))
    }

    fn session(&self) -> Result<Option<Session>, ReleaseError> {
        Ok(self.server.as_ref().map(|server| Session::open(server, &self.home)).transpose()?)
    }

    /// Asks the agent. None is started only to say that nothing runs.
    pub(crate) fn ask(
        &self,
        request: Request,
        cancel: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Answer, ReleaseError> {
        if let Some(session) = self.session()? {
            return Ok(session.ask(request, cancel, on_progress)?);
        }
        Ok(match request {
            Request::Status if is_idle(&self.home)? => Answer::Status(Vec::new()),
            Request::Domains if is_idle(&self.home)? => Answer::Domains(Vec::new()),
            Request::Stop { .. } if is_idle(&self.home)? => Answer::Stopped(Vec::new()),
            request => client::ask(&self.home, &request, cancel, on_progress)?,
        })
    }

    /// Has a release made; a slug is sent first where it is not there yet.
    pub(super) fn order(
        &self,
        order: Order,
        slug: Option<SlugRef>,
        cancel: &AtomicBool,
        on_sent: &mut dyn FnMut(Sent),
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Answer, ReleaseError> {
        let Some(session) = self.session()? else {
            return self.ask(Request::Deploy(Box::new(order)), cancel, on_progress);
        };
        match slug {
            Some(slug) => {
                let store = Store::open(&self.home).map_err(crate::remote::RemoteError::Store)?;
                Ok(session.release(&store, (order, slug), cancel, on_sent, on_progress)?)
            }
            None => Ok(session.ask(Request::Deploy(Box::new(order)), cancel, on_progress)?),
        }
    }

    /// Whether a slug was built here by programs that may have seen a damaged file.
    pub(super) fn doubts(&self, slug: &Digest) -> bool {
        // What cannot be read is told by whoever looks a slug up there.
        Registry::of(&self.home).doubts(slug).unwrap_or_default()
    }

    /// Remembers that a target is here, for commands that are given no more than its name.
    pub(super) fn remember(&self, app: &str, target: &str) -> Result<(), ReleaseError> {
        let history = History::open(&self.home)?;
        if history.server(app, target)? != self.server {
            history.set_server(app, target, self.server.as_ref())?;
        }
        Ok(())
    }

    /// An address of a front as it is seen from this machine.
    pub(super) fn seen(&self, url: String) -> String {
        let host = match &self.server {
            Some(server) if server.host().contains(':') => format!("[{}]", server.host()),
            Some(server) => server.host().to_owned(),
            None => "127.0.0.1".to_owned(),
        };
        for any in ["http://0.0.0.0:", "http://[::]:"] {
            if let Some(rest) = url.strip_prefix(any) {
                return format!("http://{host}:{rest}");
            }
        }
        url
    }
}

/// The names and values of the config of a target of this machine; that `who` has read them is written down.
pub(crate) fn read_config(
    home: &Path,
    who: &Who,
    app: &str,
    target: &str,
) -> Result<BTreeMap<String, String>, ReleaseError> {
    let found = config(home, app, target);
    if let Some(history) = History::existing(home)? {
        history.audit(who, &Deed::of(app, target, "read the config"), &Ending::of(&found))?;
    }
    found
}

fn config(home: &Path, app: &str, target: &str) -> Result<BTreeMap<String, String>, ReleaseError> {
    let Some(history) = History::existing(home)? else { return Ok(BTreeMap::new()) };
    Ok(history.config(app, target, history.config_version(app, target)?)?)
}
