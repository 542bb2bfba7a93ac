//! The state of all targets in `SQLite`: releases by number, append-only, and the journal of how each went.
//!
//! Environments of targets hold secrets, so nobody but the owner may read the file. Unaware of processes; it only keeps which
//! ones there are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::stage::Stage;
use super::target::{How, Settings, SlugRef, Target};

/// The shape of the tables; raised with every change of [`SCHEMA`], which then needs a way to get there.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    user INTEGER,
    address TEXT,
    current INTEGER REFERENCES releases (id),
    UNIQUE (app, name)
) STRICT;
CREATE TABLE releases (
    id INTEGER PRIMARY KEY,
    target INTEGER NOT NULL REFERENCES targets (id),
    number INTEGER NOT NULL,
    slug TEXT NOT NULL,
    tree TEXT NOT NULL,
    settings TEXT NOT NULL,
    how TEXT NOT NULL,
    who TEXT NOT NULL,
    at INTEGER NOT NULL,
    stage TEXT NOT NULL,
    failure TEXT,
    UNIQUE (target, number)
) STRICT;
CREATE TABLE journal (
    release INTEGER NOT NULL REFERENCES releases (id),
    at INTEGER NOT NULL,
    stage TEXT NOT NULL
) STRICT;
CREATE TABLE processes (
    directory TEXT PRIMARY KEY,
    release INTEGER NOT NULL REFERENCES releases (id),
    name TEXT NOT NULL,
    port INTEGER NOT NULL,
    started INTEGER NOT NULL,
    restarts INTEGER NOT NULL
) STRICT;
";

const RELEASE: &str = "releases.id, targets.app, targets.name, number, slug, tree, settings, how, who, at, stage, failure, \
     targets.current IS releases.id FROM releases JOIN targets ON targets.id = releases.target";

/// The state of all targets of a home directory.
pub struct History {
    path: PathBuf,
    connection: Mutex<Connection>,
}

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
    #[error("the state of targets `{path}` is of version {found}, and this `pipe` knows version {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
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
            Self::Newer { .. } => Some("use the newer `pipe`, which can also be told to `stop --all`".into()),
            _ => None,
        }
    }
}

/// A release, as it is kept.
#[derive(Debug, Clone)]
pub struct Release {
    /// Names it among the releases of all targets.
    pub(crate) id: i64,
    /// Its target, with the settings of that time.
    pub target: Target,
    /// Its number among the target's, from 1.
    pub number: u64,
    /// What it runs.
    pub slug: SlugRef,
    /// How it came about.
    pub how: How,
    /// Who asked for it.
    pub who: String,
    /// When.
    pub at: SystemTime,
    /// How far it came.
    pub stage: Stage,
    /// Why it failed, in one line.
    pub failure: Option<String>,
    /// Whether it is what the target runs.
    pub current: bool,
}

/// A process that was started for a release, and may still be there.
#[derive(Debug, Clone)]
pub(crate) struct ProcessRecord {
    pub(crate) directory: PathBuf,
    pub(crate) release: i64,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) started: SystemTime,
    pub(crate) restarts: u32,
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
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            SCHEMA_VERSION => {}
            found => return Err(HistoryError::Newer { path, found }),
        }
        transaction.commit()?;
        Ok(Self { path, connection: Mutex::new(connection) })
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

    /// Releases that began and whose end nobody has written.
    pub(crate) fn unfinished(&self) -> Result<Vec<Release>, HistoryError> {
        self.select("WHERE stage NOT IN ('drained', 'failed')", [])
    }

    fn select(&self, clause: &str, params: impl rusqlite::Params) -> Result<Vec<Release>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare(&format!("SELECT {RELEASE} {clause}"))?;
        Ok(rows.query_map(params, release)?.collect::<Result<_, _>>()?)
    }

    /// Makes the next release of a target, in stage [`Stage::Prepared`].
    pub(crate) fn begin(&self, target: &Target, slug: &SlugRef, how: &How, who: &str) -> Result<Release, HistoryError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let target_id = target_row(&transaction, &target.app, &target.name)?;
        transaction.execute(
            "INSERT INTO releases (target, number, slug, tree, settings, how, who, at, stage)
             SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7, 'prepared' FROM releases WHERE target = ?1",
            params![
                target_id,
                slug.id.to_string(),
                slug.tree.to_string(),
                json(&target.settings)?,
                json(how)?,
                who,
                millis(SystemTime::now())
            ],
        )?;
        let id = transaction.last_insert_rowid();
        note(&transaction, id, Stage::Prepared)?;
        let begun = transaction.query_row(&format!("SELECT {RELEASE} WHERE releases.id = ?1"), [id], release)?;
        transaction.commit()?;
        Ok(begun)
    }

    /// Takes a release to its next stage; the only way in which a stage changes. [`Stage::Switched`] makes it the current one.
    pub(crate) fn advance(&self, release: &mut Release, to: Stage, failure: Option<&str>) -> Result<(), HistoryError> {
        if !release.stage.may_become(to) {
            return Err(HistoryError::Stage { number: release.number, from: release.stage, to });
        }
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE releases SET stage = ?2, failure = ?3 WHERE id = ?1",
            params![release.id, to.name(), failure],
        )?;
        note(&transaction, release.id, to)?;
        if to == Stage::Switched {
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

    /// Makes a target run nothing; its releases stay.
    pub(crate) fn stop(&self, app: &str, target: &str) -> Result<(), HistoryError> {
        self.db().execute("UPDATE targets SET current = NULL WHERE app = ?1 AND name = ?2", [app, target])?;
        Ok(())
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

    /// Remembers a process that is about to be started.
    pub(crate) fn add_process(&self, process: &ProcessRecord) -> Result<(), HistoryError> {
        self.db().execute(
            "INSERT INTO processes (directory, release, name, port, started, restarts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                process.directory.to_string_lossy(),
                process.release,
                process.name,
                process.port,
                millis(process.started),
                process.restarts
            ],
        )?;
        Ok(())
    }

    /// Forgets a process that is gone.
    pub(crate) fn remove_process(&self, directory: &Path) -> Result<(), HistoryError> {
        self.db().execute("DELETE FROM processes WHERE directory = ?1", [directory.to_string_lossy()])?;
        Ok(())
    }

    /// The processes that were started and not forgotten.
    pub(crate) fn processes(&self) -> Result<Vec<ProcessRecord>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare("SELECT directory, release, name, port, started, restarts FROM processes")?;
        let records = rows.query_map([], |row| {
            Ok(ProcessRecord {
                directory: PathBuf::from(row.get::<_, String>(0)?),
                release: row.get(1)?,
                name: row.get(2)?,
                port: row.get(3)?,
                started: time(row.get(4)?),
                restarts: row.get(5)?,
            })
        })?;
        Ok(records.collect::<Result<_, _>>()?)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic in between leaves at most a transaction, which its own drop has rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
