//! Who may speak to the `pipe` of this machine with a key of his own. Knows nothing of where sshd looks for keys.

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::{History, HistoryError, millis, parse, time, unreadable};
use crate::release::people::Person;

const PERSON: &str = "SELECT name, role, key, since FROM people";

impl History {
    /// All of them, by name.
    pub(crate) fn people(&self) -> Result<Vec<Person>, HistoryError> {
        Ok(all(&self.db())?)
    }

    /// Changes who there is. `keep` is given all that there will be, and where it fails nothing is changed.
    pub(crate) fn change_people<E: From<HistoryError>>(
        &self,
        change: impl FnOnce(&mut Vec<Person>) -> Result<(), E>,
        keep: impl FnOnce(&[Person]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut db = self.db();
        let of = |error: rusqlite::Error| E::from(HistoryError::from(error));
        // Only one changes them at a time, the file of keys too.
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
        let mut people = all(&transaction).map_err(of)?;
        change(&mut people)?;
        people.sort_by(|one, other| one.name.cmp(&other.name));
        transaction.execute("DELETE FROM people", []).map_err(of)?;
        for Person { name, role, key, since } in &people {
            let values = params![name, role.name(), key.as_str(), millis(*since)];
            let insert = "INSERT INTO people (name, role, key, since) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, values).map_err(of)?;
        }
        keep(&people)?;
        transaction.commit().map_err(of)
    }
}

fn all(db: &Connection) -> Result<Vec<Person>, rusqlite::Error> {
    db.prepare(&format!("{PERSON} ORDER BY name"))?.query_map([], person)?.collect()
}

fn person(row: &Row<'_>) -> Result<Person, rusqlite::Error> {
    let key: String = row.get(2)?;
    Ok(Person {
        name: row.get(0)?,
        role: parse(row, 1)?,
        key: key.parse().map_err(|error: crate::release::KeyError| unreadable(2, error))?,
        since: time(row.get(3)?),
    })
}
