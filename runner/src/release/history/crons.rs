//! When cron entries were due last, so that the next agent runs none twice. Knows nothing of how they went.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};

use super::{History, HistoryError, millis, target_row, time};

impl History {
    /// When an entry was due for which it was last run.
    pub(crate) fn last_due(&self, app: &str, target: &str, name: &str) -> Result<Option<SystemTime>, HistoryError> {
        let due = self.db().query_row(
            "SELECT due FROM crons WHERE target = (SELECT id FROM targets WHERE app = ?1 AND name = ?2) AND name = ?3",
            [app, target, name],
            |row| row.get(0),
        );
        Ok(due.optional()?.map(time))
    }

    /// Remembers that an entry is run for when it was due.
    pub(crate) fn set_last_due(
        &self,
        app: &str,
        target: &str,
        name: &str,
        due: SystemTime,
    ) -> Result<(), HistoryError> {
        let db = self.db();
        let id = target_row(&db, app, target)?;
        db.execute(
            "INSERT OR REPLACE INTO crons (target, name, due) VALUES (?1, ?2, ?3)",
            params![id, name, millis(due)],
        )?;
        Ok(())
    }
}
