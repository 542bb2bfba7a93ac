//! The rows: where each blob lies, and where what each action gave. Nothing here is believed without a look at the bytes that a
//! row points to; all of it can be made anew from those. Knows nothing of files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::segment::{At, SegmentId};
use super::{POISONED, StoreError, suspect};
use crate::digest::Digest;

/// Raised when the tables change. An index of another version is made anew.
const SCHEMA: i64 = 2;

const TABLES: &str = "
    CREATE TABLE blobs (
        digest BLOB PRIMARY KEY, segment INTEGER, offset INTEGER NOT NULL, size INTEGER NOT NULL, condemned INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE actions (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, family BLOB, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
        size INTEGER NOT NULL, used INTEGER NOT NULL, condemned INTEGER
    );
    CREATE INDEX actions_by_family ON actions (family, id) WHERE family IS NOT NULL;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES ('rebuilt', 0), ('epoch', 0);
";

/// How many pages of 4 KiB the log may have before it is carried over.
const LOG_PAGES: u32 = 250;

/// How long another process is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    /// In which segment, and where; none for a file of its own.
    pub(super) at: Option<At>,
    /// How many bytes.
    pub(super) size: u64,
}

/// Where the record of an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: Digest,
    pub(super) at: At,
    pub(super) size: u64,
    /// When it was last of use, in seconds since 1970.
    pub(super) used: u64,
}

/// A counter that only grows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counter {
    /// How many times the rows were made anew, and promises may have been taken back.
    Rebuilt,
    /// How many times garbage was collected.
    Epoch,
}

impl Counter {
    const fn name(self) -> &'static str {
        match self {
            Self::Rebuilt => "rebuilt",
            Self::Epoch => "epoch",
        }
    }
}

/// What an open index is.
pub(super) enum Opened {
    /// One that was there.
    Known(Index),
    /// One that knows nothing yet, of whatever there is.
    Empty(Index),
}

pub(super) struct Index {
    path: PathBuf,
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
        let failed = |source| StoreError::Index { path: path.to_owned(), source };
        let writer = connect(path).map_err(failed)?;
        let version: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        let empty = version != SCHEMA;
        // Its header says so; whether the file can be written is another matter.
        if writer.is_readonly("main").map_err(failed)? {
            return Err(failed(corrupt()));
        }
        if version == 0 {
            // All or nothing: tables that are there already have lost their version.
            let made = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;");
            writer.execute_batch(&made).map_err(failed)?;
        } else if empty {
            return Err(failed(corrupt()));
        }
        let reader = connect(path).map_err(failed)?;
        let index = Self { path: path.to_owned(), reader: Mutex::new(reader), writer: Mutex::new(writer) };
        Ok(if empty { Opened::Empty(index) } else { Opened::Known(index) })
    }

    /// An index that is only read: nothing is made where there is none, and what is written fails.
    pub(super) fn open_to_look(path: &Path) -> Result<Self, StoreError> {
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            connection.busy_timeout(PATIENCE)?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == SCHEMA { Ok(connection) } else { Err(corrupt()) }
        };
        let [reader, writer] = [(); 2].map(|()| connect().map_err(|source| failed(path, source)));
        Ok(Self { path: path.to_owned(), reader: Mutex::new(reader?), writer: Mutex::new(writer?) })
    }

    /// Looks at rows, which all are as they were at one moment.
    pub(super) fn look<T>(&self, work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connection = self.reader.lock().expect(POISONED);
        let transaction = connection.transaction().map_err(|source| self.failed(source))?;
        work(&Rows { transaction, path: &self.path })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.reader.lock().expect(POISONED)).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        failed(&self.path, source)
    }

    /// Changes rows, all or none; what is written is on the disk when this returns.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connection = self.writer.lock().expect(POISONED);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.failed(source))?;
        let rows = Rows { transaction, path: &self.path };
        let value = work(&rows)?;
        rows.transaction.commit().map_err(|source| self.failed(source))?;
        Ok(value)
    }

    /// Where a blob is, and whether it is still promised to whoever asks anew.
    pub(super) fn location(&self, digest: &Digest) -> Result<Option<(Location, bool)>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT segment, offset, size, condemned IS NULL FROM blobs WHERE digest = ?1")?
                .query_row(params![digest.as_bytes()], |row| Ok((location(row)?, row.get(3)?)))
                .optional()
        })
    }

    /// Where what an action gave is, if that is promised.
    pub(super) fn action(&self, key: &Digest) -> Result<Option<Found>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT key, segment, offset, size, used FROM actions WHERE key = ?1 AND condemned IS NULL",
                )?
                .query_row(params![key.as_bytes()], found)
                .optional()
        })
    }

    /// Whether the row of an action, condemned or not, points there.
    pub(super) fn is_action_at(&self, key: &Digest, at: At) -> bool {
        let there = self.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM actions WHERE key = ?1 AND segment = ?2 AND offset = ?3")?
                .exists(params![key.as_bytes(), at.segment.0, at.offset])
        });
        there.is_ok_and(|there| there)
    }

    /// The latest actions of a family, newest first.
    pub(super) fn family(&self, family: &Digest, limit: usize) -> Result<Vec<Found>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT key, segment, offset, size, used FROM actions WHERE family = ?1 AND condemned IS NULL
                     ORDER BY id DESC LIMIT ?2",
                )?
                .query_map(params![family.as_bytes(), limit], found)?
                .collect()
        })
    }

    pub(super) fn counter(&self, counter: Counter) -> Result<u64, StoreError> {
        self.read(|connection| counter_of(connection, counter))
    }
}

/// The rows, while they are changed.
pub(super) struct Rows<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
}

impl Rows<'_> {
    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|source| failed(self.path, source))
    }

    pub(super) fn put_blob(&self, digest: &Digest, location: &Location) -> Result<(), StoreError> {
        let (segment, offset) = parts(location.at);
        self.run(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO blobs VALUES (?1, ?2, ?3, ?4, NULL)")?
                .execute(params![digest.as_bytes(), segment, offset, location.size])
                .map(drop)
        })
    }

    pub(super) fn put_action(&self, family: Option<&Digest>, action: &Found) -> Result<(), StoreError> {
        let Found { key, at, size, used } = action;
        self.run(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO actions (key, family, segment, offset, size, used)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![key.as_bytes(), family.map(Digest::as_bytes), at.segment.0, at.offset, size, used])
                .map(drop)
        })
    }

    /// Remembers that an action was of use.
    pub(super) fn use_action(&self, key: &Digest, used: u64) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("UPDATE actions SET used = ?2 WHERE key = ?1")?
                .execute(params![key.as_bytes(), used])
                .map(drop)
        })
    }

    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("DELETE FROM blobs WHERE digest = ?1")?
                .execute(params![digest.as_bytes()])
                .map(drop)
        })
    }

    /// Forgets an action, if it is where it was found.
    pub(super) fn remove_action(&self, found: &Found) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("DELETE FROM actions WHERE key = ?1 AND segment = ?2 AND offset = ?3")?
                .execute(params![found.key.as_bytes(), found.at.segment.0, found.at.offset])
                .map(drop)
        })
    }

    /// Says where a blob is now, if it was where it was found.
    pub(super) fn move_blob(&self, digest: &Digest, from: At, to: At) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "UPDATE blobs SET segment = ?2, offset = ?3 WHERE digest = ?1 AND segment = ?4 AND offset = ?5",
                )?
                .execute(params![digest.as_bytes(), to.segment.0, to.offset, from.segment.0, from.offset])
                .map(drop)
        })
    }

    /// The same for an action.
    pub(super) fn move_action(&self, key: &Digest, from: At, to: At) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "UPDATE actions SET segment = ?2, offset = ?3 WHERE key = ?1 AND segment = ?4 AND offset = ?5",
                )?
                .execute(params![key.as_bytes(), to.segment.0, to.offset, from.segment.0, from.offset])
                .map(drop)
        })
    }

    /// No longer promises a blob to whoever asks anew, or does so again.
    pub(super) fn condemn_blob(&self, digest: &Digest, epoch: Option<u64>) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("UPDATE blobs SET condemned = ?2 WHERE digest = ?1")?
                .execute(params![digest.as_bytes(), epoch])
                .map(drop)
        })
    }

    /// The same for an action.
    pub(super) fn condemn_action(&self, key: &Digest, epoch: u64) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .prepare_cached("UPDATE actions SET condemned = ?2 WHERE key = ?1")?
                .execute(params![key.as_bytes(), epoch])
                .map(drop)
        })
    }

    /// Whether a blob has a row.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.run(|connection| {
            connection.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?.exists(params![digest.as_bytes()])
        })
    }

    /// All blobs, with the epoch in which each was condemned.
    pub(super) fn blobs(&self) -> Result<Vec<(Digest, Location, Option<u64>)>, StoreError> {
        self.run(|connection| {
            connection
                .prepare("SELECT segment, offset, size, digest, condemned FROM blobs")?
                .query_map([], |row| Ok((digest(row, 3)?, location(row)?, row.get(4)?)))?
                .collect()
        })
    }

    /// All actions, with the epoch in which each was condemned, the last used first.
    pub(super) fn actions(&self) -> Result<Vec<(Found, Option<u64>)>, StoreError> {
        self.run(|connection| {
            connection
                .prepare("SELECT key, segment, offset, size, used, condemned FROM actions ORDER BY used DESC, id DESC")?
                .query_map([], |row| Ok((found(row)?, row.get(5)?)))?
                .collect()
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.run(|connection| connection.execute_batch("DELETE FROM blobs; DELETE FROM actions"))
    }

    pub(super) fn counter(&self, counter: Counter) -> Result<u64, StoreError> {
        self.run(|connection| counter_of(connection, counter))
    }

    /// Raises a counter to at least this value.
    pub(super) fn raise(&self, counter: Counter, to: u64) -> Result<(), StoreError> {
        self.run(|connection| {
            connection
                .execute("UPDATE counters SET value = max(value, ?2) WHERE name = ?1", params![counter.name(), to])
                .map(drop)
        })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A statement with a bound limit would be planned anew each time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What was committed stays in the log beside the file from one process to the next: to carry it over at each end is two waits for
    // the disk, and what a process has to read of the log when it begins is little.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Whoever opens the store next is to know of damage, and makes the index anew.
fn failed(path: &Path, source: rusqlite::Error) -> StoreError {
    let error = StoreError::Index { path: path.to_owned(), source };
    if error.is_damage() {
        suspect::mark(path.parent().unwrap_or(path));
    }
    error
}

/// What a version that nobody knows is taken for.
fn corrupt() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

fn counter_of(connection: &Connection, counter: Counter) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
        .query_row(params![counter.name()], |row| row.get(0))
}

const fn parts(at: Option<At>) -> (Option<u64>, u64) {
    match at {
        Some(At { segment, offset }) => (Some(segment.0), offset),
        None => (None, 0),
    }
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

fn location(row: &Row<'_>) -> rusqlite::Result<Location> {
    let segment: Option<u64> = row.get(0)?;
    let offset = row.get(1)?;
    Ok(Location { at: segment.map(|segment| At { segment: SegmentId(segment), offset }), size: row.get(2)? })
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let at = At { segment: SegmentId(row.get(1)?), offset: row.get(2)? };
    Ok(Found { key: digest(row, 0)?, at, size: row.get(3)?, used: row.get(4)? })
}
