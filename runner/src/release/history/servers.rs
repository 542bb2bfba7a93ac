//! Which targets are on other machines, and where. What they run is in the history of that machine.

use rusqlite::{OptionalExtension, params};

use super::{History, HistoryError, target_row};
use crate::remote::Address;

impl History {
    /// The host of a target; none where it is on this machine.
    pub fn server(&self, app: &str, target: &str) -> Result<Option<Address>, HistoryError> {
        let text: Option<Option<String>> = self
            .db()
            .query_row("SELECT server FROM targets WHERE app = ?1 AND name = ?2", [app, target], |row| row.get(0))
            .optional()?;
        Ok(text.flatten().and_then(|text| text.parse().ok()))
    }

    /// The fingerprint of the key by which a target's host was known when it was set up.
    pub fn server_key(&self, app: &str, target: &str) -> Result<Option<String>, HistoryError> {
        let text: Option<Option<String>> = self
            .db()
            .query_row("SELECT server_key FROM targets WHERE app = ?1 AND name = ?2", [app, target], |row| row.get(0))
            .optional()?;
        Ok(text.flatten())
    }

    /// Says where a target is. The key of another host is not its own.
    pub fn set_server(&self, app: &str, target: &str, server: Option<&Address>) -> Result<(), HistoryError> {
        let db = self.db();
        let id = target_row(&db, app, target)?;
        let server = server.map(ToString::to_string);
        db.execute("UPDATE targets SET server = ?2, server_key = NULL WHERE id = ?1", params![id, server])?;
        Ok(())
    }

    /// Remembers the fingerprint of the key of a target's host.
    pub fn set_server_key(&self, app: &str, target: &str, key: &str) -> Result<(), HistoryError> {
        let db = self.db();
        let id = target_row(&db, app, target)?;
        db.execute("UPDATE targets SET server_key = ?2 WHERE id = ?1", params![id, key])?;
        Ok(())
    }
}
