//! The state of all targets in `SQLite`: releases by number, append-only, and the journal of how each went.
//!
//! Environments of targets hold secrets: they are sealed, and nobody but the owner may read the file. Unaware of processes;
//! it only keeps which ones there are.

mod audit;
mod configs;
mod crons;
mod people;
mod processes;
mod schema;
mod servers;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::formation::Formation;
use super::portion::Portion;
use super::sealed::{SealError, Sealer, Values};
use super::stage::Stage;
use super::target::{Contents, How, Settings, SlugRef, Target};
use crate::store::FULL;

/// The file with the key of what is sealed.
const KEY: &str = "config.key";

const RELEASE: &str = "releases.id, targets.app, targets.name, number, slug, tree, settings, how, who, at, stage, failure, \
     targets.current IS releases.id, releases.target, env, config, formation, canary FROM releases JOIN targets ON targets.id = releases.target";

/// The state of all targets of a home directory.
pub struct History {
    path: PathBuf,
    sealer: Sealer,
    connection: Mutex<Connection>,
}

pub(crate) use processes::ProcessRecord;

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The directory or the file.
    #[error("cannot open the state of targets `{path}`")]
    Open {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `SQLite` refuses.
    #[error("the state of targets fails")]
    Database(#[from] rusqlite::Error),
    /// A newer `pipe` has written it.
    #[error("the state of targets `{path}` is of version {found}, and this `pipe` knows version {}", schema::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Secrets that cannot be read any more.
    #[error("{what} cannot be read")]
    Sealed {
        /// Which.
        what: String,
        /// Where the key is.
        key: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// A release would skip a stage or go back.
    #[error("release {number} cannot go from {from} to {to}")]
    Stage {
        /// The release's number.
        number: u64,
        /// Where it is.
        from: Stage,
        /// Where it should go.
        to: Stage,
    },
}

impl HistoryError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { path, .. } => {
                let directory = path.parent().unwrap_or(path).display();
                Some(format!("make `{directory}` writable, or set PIPE_HOME to a directory that is"))
            }
            Self::Sealed { key, .. } => Some(format!(
                "bring `{}` back from a backup; without it remove the state of targets beside it, and release anew",
                key.display()
            )),
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Some(FULL.into()),
                Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                    Some("see that the disk of PIPE_HOME has space and can be written to".into())
                }
                _ => None,
            },
            Self::Newer { .. } => Some("use the newer `pipe`, which can also be told to `stop --all`".into()),
            Self::Stage { .. } => None,
        }
    }
}

/// A release, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Release {
    /// Names it among the releases of all targets.
    pub(crate) id: i64,
    /// Its target, with the settings of that time.
    pub target: Target,
    /// Its number among the target's, from 1.
    pub number: u64,
    /// What it runs.
    pub slug: SlugRef,
    /// The version of the target's config that it runs with; 0 is the empty one.
    pub config: u64,
    /// How many of each process it runs.
    pub formation: Formation,
    /// The part of the clients that it was given at first, where it was not given all of them.
    #[serde(default)]
    pub canary: Option<Portion>,
    /// How it came about.
    pub how: How,
    /// Who asked for it.
    pub who: String,
    /// When.
    pub at: SystemTime,
    /// How far it came.
    pub stage: Stage,
    /// Why it failed, in one line; of one that serves or served, what of it ended at once.
    pub failure: Option<String>,
    /// Whether it is what the target runs.
    pub current: bool,
}

impl Release {
    /// When its target is removed, where no other release follows.
    pub fn until(&self) -> Option<SystemTime> {
        self.target.settings.expires.map(|expires| self.at + expires)
    }

    /// Whether some of the clients were given it, and then nobody.
    pub fn is_taken_back(&self) -> bool {
        self.stage == Stage::Failed && self.canary.is_some()
    }

    /// What it runs, and how.
    pub(crate) fn contents(&self) -> Contents {
        Contents { slug: self.slug, config: self.config, formation: self.formation.clone() }
    }
}

/// What a target was given once, and keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) user: Option<u32>,
    pub(crate) address: Option<String>,
}

impl History {
    /// Opens the state below a home directory, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, HistoryError> {
        let directory = home.join("agent");
        let path = directory.join("state.db");
        let fail = |source| HistoryError::Open { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(fail)?;
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(fail)?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let sealer = Sealer::open(&directory.join(KEY)).map_err(fail)?;
        schema::bring_up_to_date(&mut connection, &path, &sealer)?;
        Ok(Self { path, sealer, connection: Mutex::new(connection) })
    }

    /// Opens the state below a home directory, where there is any; makes nothing.
    pub fn existing(home: &Path) -> Result<Option<Self>, HistoryError> {
        if home.join("agent/state.db").exists() { Self::open(home).map(Some) } else { Ok(None) }
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The applications and names of all targets that ever took a release.
    pub fn targets(&self) -> Result<Vec<(String, String)>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare("SELECT app, name FROM targets ORDER BY app, name")?;
        Ok(rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
    }

    /// The releases of a target, oldest first.
    pub fn releases(&self, app: &str, target: &str) -> Result<Vec<Release>, HistoryError> {
        self.select("WHERE app = ?1 AND name = ?2 ORDER BY number", params![app, target])
    }

    /// What a target runs, or ran when it was stopped.
    pub fn current(&self, app: &str, target: &str) -> Result<Option<Release>, HistoryError> {
        let clause = "WHERE app = ?1 AND name = ?2 AND targets.current = releases.id";
        Ok(self.select(clause, params![app, target])?.pop())
    }

    /// What every target should be running.
    pub(crate) fn all_current(&self) -> Result<Vec<Release>, HistoryError> {
        self.select("WHERE targets.current = releases.id", [])
    }

    /// The last release that each target was given, whether that runs or not.
    pub(crate) fn all_last(&self) -> Result<Vec<Release>, HistoryError> {
        let last = "SELECT max(id) FROM releases WHERE stage IN ('switched', 'drained') GROUP BY target";
        self.select(&format!("WHERE releases.id IN ({last})"), [])
    }

    /// Releases that began and whose end nobody has written.
    pub(crate) fn unfinished(&self) -> Result<Vec<Release>, HistoryError> {
        self.select("WHERE stage NOT IN ('drained', 'failed')", [])
    }

    fn select(&self, clause: &str, params: impl rusqlite::Params) -> Result<Vec<Release>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare(&format!("SELECT {RELEASE} {clause}"))?;
        let rows = rows.query_map(params, |row| Ok((release(row)?, row.get(13)?, row.get(14)?)))?;
        rows.map(|row| self.opened(row?)).collect()
    }

    /// A release with its environment, which is sealed where it is kept.
    fn opened(&self, (mut release, target, env): (Release, i64, Vec<u8>)) -> Result<Release, HistoryError> {
        release.target.settings.env = self.unseal(environment_of(target, release.number), &env)?;
        Ok(release)
    }

    fn unseal(&self, what: String, sealed: &[u8]) -> Result<Values, HistoryError> {
        self.sealer.unseal(&what, sealed).map_err(|source| self.sealed(what, source))
    }

    fn seal(&self, what: String, values: &Values) -> Result<Vec<u8>, HistoryError> {
        self.sealer.seal(&what, values).map_err(|source| self.sealed(what, source))
    }

    fn sealed(&self, what: String, source: SealError) -> HistoryError {
        HistoryError::Sealed { what, key: self.path.with_file_name(KEY), source }
    }

    /// Makes the next release of a target, in stage [`Stage::Prepared`].
    pub(crate) fn begin(
        &self,
        target: &Target,
        contents: &Contents,
        how: &How,
        who: &str,
    ) -> Result<Release, HistoryError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let target_id = target_row(&transaction, &target.app, &target.name)?;
        let number: u64 = transaction.query_row(
            "SELECT coalesce(max(number), 0) + 1 FROM releases WHERE target = ?1",
            [target_id],
            |row| row.get(0),
        )?;
        let Contents { slug, config, formation } = contents;
        let env = self.seal(environment_of(target_id, number), &target.settings.env)?;
        let settings = Settings { env: Values::new(), ..target.settings.clone() };
        let at = SystemTime::now();
        transaction.execute(
            "INSERT INTO releases (target, number, slug, tree, settings, env, config, formation, how, who, at, stage)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'prepared')",
            params![
                target_id,
                number,
                slug.id.to_string(),
                slug.tree.to_string(),
                json(&settings)?,
                env,
                config,
                json(formation)?,
                json(how)?,
                who,
                millis(at)
            ],
        )?;
        let id = transaction.last_insert_rowid();
        note(&transaction, id, Stage::Prepared)?;
        transaction.commit()?;
        Ok(Release {
            id,
            target: target.clone(),
            number,
            slug: *slug,
            config: *config,
            formation: formation.clone(),
            canary: None,
            how: how.clone(),
            who: who.to_owned(),
            at,
            stage: Stage::Prepared,
            failure: None,
            current: false,
        })
    }

    /// Takes a release to its next stage; the only way in which a stage changes. [`Stage::Switched`] makes it the current one.
    pub(crate) fn advance(&self, release: &mut Release, to: Stage, failure: Option<&str>) -> Result<(), HistoryError> {
        if !release.stage.may_become(to) {
            return Err(HistoryError::Stage { number: release.number, from: release.stage, to });
        }
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE releases SET stage = ?2, failure = coalesce(?3, failure) WHERE id = ?1",
            params![release.id, to.name(), failure],
        )?;
        note(&transaction, release.id, to)?;
        if to == Stage::Switched {
            if matches!(release.how, How::Scale { .. }) {
                // What runs already goes on, and is the new release's from now on.
                transaction.execute(
                    "UPDATE processes SET release = ?1 WHERE release =
                     (SELECT current FROM targets WHERE id = (SELECT target FROM releases WHERE id = ?1))",
                    [release.id],
                )?;
            }
            transaction.execute(
                "UPDATE targets SET current = ?1 WHERE id = (SELECT target FROM releases WHERE id = ?1)",
                [release.id],
            )?;
        }
        transaction.commit()?;
        release.stage = to;
        release.current |= to == Stage::Switched;
        release.failure = failure.map(str::to_owned);
        Ok(())
    }

    /// Remembers of a release that serves what of it has ended at once, or that all of it runs by now.
    pub(crate) fn set_failure(
        &self,
        app: &str,
        target: &str,
        number: u64,
        failure: Option<&str>,
    ) -> Result<(), HistoryError> {
        self.db().execute(
            "UPDATE releases SET failure = ?4
             WHERE number = ?3 AND failure IS NOT ?4 AND target = (SELECT id FROM targets WHERE app = ?1 AND name = ?2)",
            params![app, target, number, failure],
        )?;
        Ok(())
    }

    /// Gives a release a part of the clients, once it comes to that.
    pub(crate) fn set_canary(&self, release: &mut Release, portion: Portion) -> Result<(), HistoryError> {
        let values = params![release.id, portion.in_ten_thousand()];
        self.db().execute("UPDATE releases SET canary = ?2 WHERE id = ?1", values)?;
        release.canary = Some(portion);
        Ok(())
    }

    /// Remembers the host that a target's pages are asked for by, where that is not its address.
    pub(crate) fn set_host(&self, app: &str, target: &str, host: Option<&str>) -> Result<(), HistoryError> {
        let values = params![app, target, host];
        self.db().execute("UPDATE targets SET host = ?3 WHERE app = ?1 AND name = ?2 AND host IS NOT ?3", values)?;
        Ok(())
    }

    /// The host that a target's pages are asked for by.
    pub(crate) fn host(&self, app: &str, target: &str) -> Result<Option<String>, HistoryError> {
        let host = "SELECT host FROM targets WHERE app = ?1 AND name = ?2";
        Ok(self.db().query_row(host, [app, target], |row| row.get(0)).optional()?.flatten())
    }

    /// Makes a target run nothing; its releases stay.
    pub(crate) fn stop(&self, app: &str, target: &str) -> Result<(), HistoryError> {
        self.db().execute("UPDATE targets SET current = NULL WHERE app = ?1 AND name = ?2", [app, target])?;
        Ok(())
    }

    /// Forgets a target that runs nothing, with all that it ever did.
    pub fn forget(&self, app: &str, target: &str) -> Result<(), HistoryError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let of_target = "(SELECT id FROM targets WHERE app = ?1 AND name = ?2)";
        transaction.execute("UPDATE targets SET current = NULL WHERE app = ?1 AND name = ?2", [app, target])?;
        for table in ["processes", "journal"] {
            let of_release = format!("(SELECT id FROM releases WHERE target = {of_target})");
            transaction.execute(&format!("DELETE FROM {table} WHERE release IN {of_release}"), [app, target])?;
        }
        for table in ["releases", "configs", "crons"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE target = {of_target}"), [app, target])?;
        }
        transaction.execute("DELETE FROM targets WHERE app = ?1 AND name = ?2", [app, target])?;
        Ok(transaction.commit()?)
    }

    /// What was given to a target.
    pub(crate) fn given(&self, app: &str, target: &str) -> Result<Given, HistoryError> {
        let row = self
            .db()
            .query_row("SELECT user, address FROM targets WHERE app = ?1 AND name = ?2", [app, target], |row| {
                Ok(Given { user: row.get(0)?, address: row.get(1)? })
            })
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    /// What was given to all targets.
    pub(crate) fn all_given(&self) -> Result<Vec<Given>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare("SELECT user, address FROM targets")?;
        let given = rows.query_map([], |row| Ok(Given { user: row.get(0)?, address: row.get(1)? }))?;
        Ok(given.collect::<Result<_, _>>()?)
    }

    /// Gives a user id and an address to a target.
    pub(crate) fn give(&self, app: &str, target: &str, user: Option<u32>, address: &str) -> Result<(), HistoryError> {
        let db = self.db();
        let id = target_row(&db, app, target)?;
        db.execute("UPDATE targets SET user = ?2, address = ?3 WHERE id = ?1", params![id, user, address])?;
        Ok(())
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic in between leaves at most a transaction, which its own drop has rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the environment of a release is called where it is sealed.
fn environment_of(target: i64, number: u64) -> String {
    format!("the environment of release {number} of target {target}")
}

fn target_row(db: &Connection, app: &str, name: &str) -> Result<i64, rusqlite::Error> {
    db.execute("INSERT OR IGNORE INTO targets (app, name) VALUES (?1, ?2)", [app, name])?;
    db.query_row("SELECT id FROM targets WHERE app = ?1 AND name = ?2", [app, name], |row| row.get(0))
}

fn note(db: &Connection, release: i64, stage: Stage) -> Result<(), rusqlite::Error> {
    let values = params![release, millis(SystemTime::now()), stage.name()];
    db.execute("INSERT INTO journal (release, at, stage) VALUES (?1, ?2, ?3)", values)?;
    Ok(())
}

fn release(row: &Row<'_>) -> Result<Release, rusqlite::Error> {
    Ok(Release {
        id: row.get(0)?,
        target: Target { app: row.get(1)?, name: row.get(2)?, settings: from_json::<Settings>(row, 6)? },
        number: row.get(3)?,
        slug: SlugRef { id: parse(row, 4)?, tree: parse(row, 5)? },
        config: row.get(15)?,
        formation: from_json(row, 16)?,
        canary: row.get::<_, Option<u16>>(17)?.and_then(Portion::of_ten_thousand),
        how: from_json(row, 7)?,
        who: row.get(8)?,
        at: time(row.get(9)?),
        stage: parse(row, 10)?,
        failure: row.get(11)?,
        current: row.get(12)?,
    })
}

fn parse<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> Result<T, rusqlite::Error> {
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, error))
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, rusqlite::Error> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(|error| unreadable(column, error))
}

fn json(value: &impl serde::Serialize) -> Result<String, rusqlite::Error> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
