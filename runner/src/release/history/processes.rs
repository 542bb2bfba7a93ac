//! Which processes were started for which release, so that a later agent finds them. Knows nothing of how they are.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::params;

use super::{History, HistoryError, millis, time};
use crate::release::Target;

/// A process that was started for a release, and may still be there.
#[derive(Debug, Clone)]
pub(crate) struct ProcessRecord {
    pub(crate) directory: PathBuf,
    pub(crate) release: i64,
    pub(crate) name: String,
    /// Which one of that name, from 1.
    pub(crate) instance: u32,
    pub(crate) port: u16,
    pub(crate) started: SystemTime,
    pub(crate) restarts: u32,
}

impl History {
    /// Remembers a process that is about to be started.
    pub(crate) fn add_process(&self, process: &ProcessRecord) -> Result<(), HistoryError> {
        self.db().execute(
            "INSERT INTO processes (directory, release, name, instance, port, started, restarts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                process.directory.to_string_lossy(),
                process.release,
                process.name,
                process.instance,
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

    /// The numbers of a target's releases of which a process may still be there.
    pub(crate) fn running(&self, target: &Target) -> Result<Vec<u64>, HistoryError> {
        let db = self.db();
        let mut rows = db.prepare(
            "SELECT DISTINCT number FROM processes JOIN releases ON releases.id = processes.release
             WHERE target = (SELECT id FROM targets WHERE app = ?1 AND name = ?2)",
        )?;
        let numbers = rows.query_map([&target.app, &target.name], |row| row.get(0))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// The processes that were started and not forgotten.
    pub(crate) fn processes(&self) -> Result<Vec<ProcessRecord>, HistoryError> {
        let db = self.db();
        let mut rows =
            db.prepare("SELECT directory, release, name, instance, port, started, restarts FROM processes")?;
        let records = rows.query_map([], |row| {
            Ok(ProcessRecord {
                directory: PathBuf::from(row.get::<_, String>(0)?),
                release: row.get(1)?,
                name: row.get(2)?,
                instance: row.get(3)?,
                port: row.get(4)?,
                started: time(row.get(5)?),
                restarts: row.get(6)?,
            })
        })?;
        Ok(records.collect::<Result<_, _>>()?)
    }
}
