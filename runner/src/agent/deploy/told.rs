//! What is told of a release before it gets requests: files that nobody will see or be given, migrations that somebody should know of, and what
//! Django thinks of the slug. Stops no release.

use super::super::front::Address;
use super::super::log;
use super::super::preflight;
use super::super::process::{RELEASE, Slot};
use super::super::protocol::Failure;
use super::super::{STATIC, lock};
use super::{Deploy, LONGEST_ANSWER, hidden, migrations, remarks};
use crate::release::{How, Release, Settings, Target};
use crate::slug::{self, Change, Manifest};
use crate::store::Store;

/// Which of the release commands, as logs have it, asks Django what it thinks.
const PREFLIGHT: u32 = 2;

impl Deploy<'_> {
    /// Tells of files that processes do not see. What cannot be found out about them is no reason not to go on.
    pub(super) fn tell_of_hidden_files(&self) {
        let release = lock(&self.release).clone();
        for told in hidden::of_new(&self.agent.store, self.serving(&release).as_ref(), &release).unwrap_or_default() {
            let _ = self.say.send(told);
        }
    }

    /// Tells of static files that pages ask for where the target does not serve them, unless what serves asks there too.
    pub(super) fn tell_of_static_files(&self) {
        let release = lock(&self.release).clone();
        let Some(url) = asked_elsewhere(&self.agent.store, &release) else { return };
        if self.serving(&release).and_then(|serving| asked_elsewhere(&self.agent.store, &serving)).as_ref()
            != Some(&url)
        {
            let _ = self.say.send(remarks::static_elsewhere(&url, &release.target.name));
        }
    }

    /// Tells of migrations that somebody should know of before they run, or that stay. What cannot be found out about them is no
    /// reason not to go on.
    pub(super) fn tell_of_migrations(&self) {
        let Some((serving, changes)) = self.migrations() else { return };
        let release = lock(&self.release).clone();
        let stay = migrations::that_stay(&release.target.name, &changes);
        let brought = self.brought(&changes);
        let applied = if brought.is_empty() { Vec::new() } else { self.applied_since(&serving, &release) };
        let new = migrations::of_new(&self.agent.store, &release.slug.tree, brought, &applied);
        for told in stay.into_iter().chain(new.unwrap_or_default()) {
            let _ = self.say.send(told);
        }
    }

    /// What serves, and how the migrations of this release differ from its.
    pub(super) fn migrations(&self) -> Option<(Release, Vec<Change>)> {
        let release = lock(&self.release).clone();
        let serving = self.serving(&release)?;
        let is_other = serving.slug != release.slug;
        let difference = is_other.then(|| slug::diff(&self.agent.store, &serving.slug.tree, &release.slug.tree).ok());
        Some((serving, difference??.migrations))
    }

    /// What serves while a release is made, as far as that is known.
    fn serving(&self, release: &Release) -> Option<Release> {
        self.agent.history.current(&release.target.app, &release.target.name).ok().flatten()
    }

    /// Those of them that this release may apply.
    pub(super) fn brought<'a>(&self, changes: &'a [Change]) -> &'a [Change] {
        let brings = !matches!(self.how, How::Rollback { .. }) && !self.release_commands().is_empty();
        if brings { changes } else { &[] }
    }

    /// The migrations that releases of the same variables, and so of the same database, have applied since and told of, though they
    /// came to nothing.
    fn applied_since(&self, serving: &Release, release: &Release) -> Vec<String> {
        let Target { app, name, settings } = &release.target;
        let since = self.agent.history.releases(app, name).unwrap_or_default().into_iter().filter(|other| {
            let is_between = serving.number < other.number && other.number < release.number;
            is_between && other.config == release.config && other.target.settings.env == settings.env
        });
        let logs = since.map(|other| self.root.log(other.number, &Slot::first(RELEASE)));
        logs.flat_map(|log| log::tail(&log, LONGEST_ANSWER))
            .filter_map(|line| migrations::applied(log::text(&line)).map(str::to_owned))
            .collect()
    }

    /// Has Django say what it thinks of a slug that the target has not run yet.
    pub(super) async fn ask_django(&self) -> Result<(), Failure> {
        if !self.root.settings.preflight || !self.root.is_django() {
            return Ok(());
        }
        let release = lock(&self.release).clone();
        let releases = self.agent.history.releases(&release.target.app, &release.target.name);
        let earlier: Vec<Release> = releases.map_err(|error| Failure::of(&error))?;
        if earlier.iter().any(|earlier| earlier.slug == release.slug && earlier.stage.is_switched()) {
            return Ok(());
        }
        let slot = self.ask(PREFLIGHT, &preflight::command()).await;
        let answer = |number| {
            let lines = log::tail(&self.root.log(number, &slot), LONGEST_ANSWER);
            lines.iter().map(|line| log::text(line).to_owned()).collect::<Vec<_>>()
        };
        let numbers = earlier.iter().rev().map(|earlier| earlier.number).filter(|number| *number < self.number);
        let before = numbers.map(answer).find(|answer| !answer.is_empty()).unwrap_or_default();
        let has_tls = release.target.settings.tls.is_some();
        for remark in preflight::judge(&answer(self.number), &before, has_tls) {
            let _ = self.say.send(remark);
        }
        Ok(())
    }
}

/// Where pages of a release ask for the files that were collected for it, if that is under a name that is none of the target's.
fn asked_elsewhere(store: &Store, release: &Release) -> Option<String> {
    let (_, manifest) = Manifest::read(store, &release.slug.tree).ok()?;
    let url = manifest.static_url?;
    let asked = Address::of(&url)?.host?;
    let Settings { domains, host, .. } = &release.target.settings;
    let is_own = domains.iter().chain(host).any(|name| name.eq_ignore_ascii_case(&asked));
    // Where another storage keeps them, none are collected.
    let collected = store.tree(manifest.trees.get(STATIC)?).ok()?;
    (!is_own && collected.entries().next().is_some()).then_some(url)
}
