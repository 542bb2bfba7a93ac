//! The rows: where each blob lies, and what each action gave. Knows nothing of files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, params};

use super::{POISONED, StoreError};
use crate::digest::Digest;

/// Raised when the tables change.
const SCHEMA: i64 = 1;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS blobs (
        digest BLOB PRIMARY KEY, segment TEXT, offset INTEGER NOT NULL, size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS actions (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, family BLOB, record BLOB NOT NULL, refs BLOB NOT NULL,
        created INTEGER NOT NULL DEFAULT (unixepoch())
    );
    CREATE INDEX IF NOT EXISTS actions_by_family ON actions (family, id);
";

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The segment's name; none for a file of its own.
    pub(super) segment: Option<String>,
    /// Where in the segment.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) size: u64,
}

/// A record and the digests that it names.
pub(super) type Row = (Vec<u8>, Vec<Digest>);

pub(super) struct Index {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(std::time::Duration::from_mins(1))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version != SCHEMA {
                connection.execute_batch(TABLES)?;
                connection.pragma_update(None, "user_version", SCHEMA)?;
            }
            Ok(connection)
        };
        let connection = connect().map_err(|source| StoreError::Index { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&mut self.connection.lock().expect(POISONED))
            .map_err(|source| StoreError::Index { path: self.path.clone(), source })
    }

    pub(super) fn location(&self, digest: &Digest) -> Result<Option<Location>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT segment, offset, size FROM blobs WHERE digest = ?1")?
                .query_row(params![digest.as_bytes()], |row| {
                    Ok(Location { segment: row.get(0)?, offset: row.get(1)?, size: row.get(2)? })
                })
                .optional()
        })
    }

    pub(super) fn put_locations<'a>(
        &self,
        locations: impl Iterator<Item = (&'a Digest, &'a Location)>,
    ) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO blobs VALUES (?1, ?2, ?3, ?4)")?;
                for (digest, at) in locations {
                    insert.execute(params![digest.as_bytes(), at.segment, at.offset, at.size])?;
                }
            }
            transaction.commit()
        })
    }

    /// Takes a promise back, since the bytes are gone or damaged.
    pub(super) fn forget(&self, digest: &Digest) -> Result<(), StoreError> {
        self.with(|connection| {
            connection.execute("DELETE FROM blobs WHERE digest = ?1", params![digest.as_bytes()]).map(drop)
        })
    }

    pub(super) fn action(&self, key: &Digest) -> Result<Option<Row>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT record, refs FROM actions WHERE key = ?1")?
                .query_row(params![key.as_bytes()], row)
                .optional()
        })
    }

    pub(super) fn family(&self, family: &Digest, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT record, refs FROM actions WHERE family = ?1 ORDER BY id DESC LIMIT ?2")?
                .query_map(params![family.as_bytes(), limit], row)?
                .collect()
        })
    }

    pub(super) fn put_action(
        &self,
        family: Option<&Digest>,
        key: &Digest,
        record: &[u8],
        refs: &[Digest],
    ) -> Result<(), StoreError> {
        let refs: Vec<u8> = refs.iter().flat_map(|digest| *digest.as_bytes()).collect();
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO actions (family, key, record, refs) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![family.map(Digest::as_bytes), key.as_bytes(), record, refs])
                .map(drop)
        })
    }
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let refs: Vec<u8> = row.get(1)?;
    let refs = refs.as_chunks::<32>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect();
    Ok((row.get(0)?, refs))
}
