//! The versions of each target's config: what operators set by hand and no slug holds. Never changed, only followed by others.

use rusqlite::params;

use super::{History, HistoryError, Release, target_row};
use crate::release::How;
use crate::release::sealed::{self, Values};

impl History {
    /// A version of a target's config; version 0 is the empty one.
    pub fn config(&self, app: &str, target: &str, version: u64) -> Result<Values, HistoryError> {
        if version == 0 {
            return Ok(Values::new());
        }
        let (id, sealed): (i64, Vec<u8>) = self.db().query_row(
            "SELECT target, sealed FROM configs JOIN targets ON targets.id = configs.target
             WHERE app = ?1 AND name = ?2 AND version = ?3",
            params![app, target, version],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        self.unseal(config_of(id, version), &sealed)
    }

    /// The version of a target's config that its next release has: that of what it runs, else the last one that was not refused.
    pub fn config_version(&self, app: &str, target: &str) -> Result<u64, HistoryError> {
        if let Some(current) = self.current(app, target)? {
            return Ok(current.config);
        }
        let was_refused = |release: &Release| matches!(release.how, How::Config { .. }) && !release.stage.is_switched();
        let refused: Vec<u64> = self
            .releases(app, target)?
            .iter()
            .filter(|release| was_refused(release))
            .map(|release| release.config)
            .collect();
        let versions = self.config_versions(app, target)?;
        Ok(versions.into_iter().find(|version| !refused.contains(version)).unwrap_or(0))
    }

    /// The same, where none of some variables is missing: what is has a value at random from there on.
    pub(crate) fn config_with<'a>(
        &self,
        app: &str,
        target: &str,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<u64, HistoryError> {
        let version = self.config_version(app, target)?;
        let mut names = names.peekable();
        if names.peek().is_none() {
            return Ok(version);
        }
        let before = self.config(app, target, version)?;
        let mut values = before.clone();
        for name in names.filter(|name| !before.contains_key(*name)) {
            values.insert(name.clone(), self.made_up(app, target, name)?);
        }
        if values == before { Ok(version) } else { self.add_config(app, target, &values) }
    }

    /// The value that a variable of a target had last, whatever became of that release; or else one at random.
    fn made_up(&self, app: &str, target: &str, name: &str) -> Result<String, HistoryError> {
        for version in self.config_versions(app, target)? {
            if let Some(value) = self.config(app, target, version)?.remove(name) {
                return Ok(value);
            }
        }
        self.at_random(name)
    }

    /// Another value for a variable.
    pub(crate) fn at_random(&self, name: &str) -> Result<String, HistoryError> {
        sealed::made_up().map_err(|source| self.sealed(format!("a value for `{name}`"), source))
    }

    /// All versions of a target's config, the newest first.
    fn config_versions(&self, app: &str, target: &str) -> Result<Vec<u64>, HistoryError> {
        let db = self.db();
        let mut versions = db.prepare(
            "SELECT version FROM configs JOIN targets ON targets.id = configs.target WHERE app = ?1 AND name = ?2 ORDER BY version DESC",
        )?;
        Ok(versions.query_map(params![app, target], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Forgets what was to follow the config of what a target runs, and came to no release.
    pub(crate) fn forget_refused_config(&self, app: &str, target: &str) -> Result<(), HistoryError> {
        let Some(current) = self.current(app, target)? else { return Ok(()) };
        self.db().execute(
            "DELETE FROM configs WHERE target = (SELECT id FROM targets WHERE app = ?1 AND name = ?2) AND version > ?3
             AND NOT EXISTS (SELECT 1 FROM releases WHERE releases.target = configs.target AND config = version)",
            params![app, target, current.config],
        )?;
        Ok(())
    }

    /// Keeps another version of a target's config, and gives its number.
    pub(crate) fn add_config(&self, app: &str, target: &str, values: &Values) -> Result<u64, HistoryError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let id = target_row(&transaction, app, target)?;
        let version: u64 = transaction.query_row(
            "SELECT coalesce(max(version), 0) + 1 FROM configs WHERE target = ?1",
            [id],
            |row| row.get(0),
        )?;
        let sealed = self.seal(config_of(id, version), values)?;
        let row = params![id, version, sealed];
        transaction.execute("INSERT INTO configs (target, version, sealed) VALUES (?1, ?2, ?3)", row)?;
        transaction.commit()?;
        Ok(version)
    }
}

/// What a version of a config is called where it is sealed.
fn config_of(target: i64, version: u64) -> String {
    format!("version {version} of the config of target {target}")
}
