//! The audit trail as it is kept: entries with numbers that follow on each other, and with digests that each hold the one before,
//! so that none is changed or removed unnoticed. It is bounded: the oldest are let go, which is an entry itself. Whoever can write
//! the whole file can also write all digests anew; who wants to notice that keeps the last digest elsewhere.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{History, HistoryError, json, millis, parse, time};
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::release::audit::{Audited, Damage, Ending, Trail};
use crate::release::deed::Deed;
use crate::release::people::Who;

/// How many entries are kept: those of years. So many more come together before the oldest are let go, at once.
const KEPT: Bound = Bound { kept: 20_000, more: 1_000 };

/// How many refusals of one asker a day are written down, so that nobody can drive other entries out by asking.
const REFUSALS: u64 = 100;

/// What is left of the last entry that was let go: its digest, which the next one holds.
const LET_GO: &str = "null";

#[derive(Clone, Copy)]
struct Bound {
    kept: u64,
    more: u64,
}

/// What the digest of an entry is taken of, beside its number and the digest before.
#[derive(Serialize, Deserialize)]
struct Entry {
    at: i64,
    who: Who,
    deed: Deed,
    ending: Ending,
}

impl History {
    /// Writes down what came of something.
    pub(crate) fn audit(&self, who: &Who, deed: &Deed, ending: &Ending) -> Result<(), HistoryError> {
        self.audit_within(KEPT, who, deed, ending)
    }

    fn audit_within(&self, bound: Bound, who: &Who, deed: &Deed, ending: &Ending) -> Result<(), HistoryError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if *ending == Ending::Refused && refusals(&transaction, who)? >= REFUSALS {
            return Ok(());
        }
        let entry =
            Entry { at: millis(SystemTime::now()), who: who.clone(), deed: deed.clone(), ending: ending.clone() };
        let last = append(&transaction, &entry)?;
        let first: u64 = transaction.query_row("SELECT min(number) FROM audit", [], |row| row.get(0))?;
        if last - first >= bound.kept + bound.more {
            let number = last - bound.kept;
            transaction.execute("DELETE FROM audit WHERE number < ?1", [number])?;
            transaction.execute("UPDATE audit SET entry = ?2 WHERE number = ?1", params![number, LET_GO])?;
            append(&transaction, &Entry { who: Who::agent(), deed: let_go(number), ending: Ending::Done, ..entry })?;
        }
        Ok(transaction.commit()?)
    }

    /// What was done to a target and to the machine, and whether all that was ever written is there.
    pub(crate) fn trail(&self, app: &str, target: &str) -> Result<Trail, HistoryError> {
        let db = self.db();
        let mut trail = whole(&db)?;
        let is_of_it = |(of, name): &(String, String)| of == app && name == target;
        trail.entries.retain(|entry| entry.deed.target.as_ref().is_none_or(is_of_it));
        Ok(trail)
    }
}

fn let_go(number: u64) -> Deed {
    Deed::new(format!("let entries up to {number} go"))
}

fn refusals(db: &Transaction<'_>, who: &Who) -> Result<u64, rusqlite::Error> {
    let since = millis(SystemTime::now() - Duration::from_hours(24));
    db.query_row(
        "SELECT count(*) FROM audit WHERE json_valid(entry) AND entry ->> '$.who.name' = ?1 AND entry ->> '$.ending' = 'refused' AND entry ->> '$.at' > ?2",
        params![who.name, since],
        |row| row.get(0),
    )
}

/// Writes the next entry, and gives its number: no number is given twice, even if the last entries are gone.
fn append(db: &Transaction<'_>, entry: &Entry) -> Result<u64, rusqlite::Error> {
    let number = last_number(db)? + 1;
    let last =
        db.query_row("SELECT digest FROM audit ORDER BY number DESC LIMIT 1", [], |row| parse(row, 0)).optional()?;
    let text = json(entry)?;
    let digest = digest(last.as_ref(), number, &text);
    let values = params![number, text, digest.to_string()];
    db.execute("INSERT INTO audit (number, entry, digest) VALUES (?1, ?2, ?3)", values)?;
    Ok(number)
}

/// The highest number that was ever given.
fn last_number(db: &Connection) -> Result<u64, rusqlite::Error> {
    let kept = db.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", [], |row| row.get(0)).optional()?;
    Ok(kept.unwrap_or_default())
}

fn digest(before: Option<&Digest>, number: u64, text: &str) -> Digest {
    let before = before.map_or(&[][..], |before| before.as_bytes());
    KeyBuilder::new("audit entry")
        .field("before", before)
        .field("number", &number.to_le_bytes())
        .field("entry", text.as_bytes())
        .finish()
}

/// All entries, and what is not as it was written.
fn whole(db: &Connection) -> Result<Trail, rusqlite::Error> {
    let mut rows = db.prepare("SELECT number, entry, digest FROM audit ORDER BY number")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, parse(row, 2)?)))?;
    let mut trail = Trail::default();
    let (mut next, mut before) = (1, None);
    let mut begins = None;
    for row in rows {
        let (number, text, found): (u64, String, Digest) = row?;
        if text == LET_GO && before.is_none() {
            begins = Some(number);
        } else {
            if number > next {
                trail.damages.push(Damage::Missing { from: next, to: number - 1 });
            } else if digest(before.as_ref(), number, &text) != found {
                trail.damages.push(Damage::Changed { number });
            }
            // What is no entry any more is one that was changed.
            if let Ok(Entry { at, who, deed, ending }) = serde_json::from_str(&text) {
                trail.entries.push(Audited { number, at: time(at), who, deed, ending, digest: found });
            }
        }
        (next, before) = (number + 1, Some(found));
    }
    if let Some(number) = begins
        && !trail.entries.iter().any(|entry| entry.who == Who::agent() && entry.deed == let_go(number))
    {
        trail.damages.insert(0, Damage::Missing { from: 1, to: number });
    }
    let last = last_number(db)?;
    if last >= next {
        trail.damages.push(Damage::Missing { from: next, to: last });
    }
    Ok(trail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Role;

    fn who(name: &str) -> Who {
        Who { name: name.into(), role: Role::Deployer, from: Some("10.0.0.5".into()) }
    }

    /// A history with so many entries, within a bound that lets none go.
    fn history(entries: u64) -> (tempfile::TempDir, History) {
        let home = tempfile::tempdir().expect("a directory");
        let history = History::open(home.path()).expect("a state");
        for number in 1..=entries {
            let deed = Deed::of("demo", "staging", format!("scale web={number}"));
            history.audit(&who("ada"), &deed, &Ending::Done).expect("written");
        }
        (home, history)
    }

    fn damages(history: &History) -> Vec<Damage> {
        history.trail("demo", "staging").expect("a trail").damages
    }

    fn after(change: &str) -> Vec<Damage> {
        let (_home, history) = history(5);
        history.db().execute_batch(change).expect("changed");
        let found = damages(&history);
        // What comes later does not cover it.
        history.audit(&who("ada"), &Deed::new("more"), &Ending::Done).expect("written");
        assert_eq!(damages(&history), found);
        found
    }

    #[test]
    fn a_trail_tells_of_a_target_and_of_its_machine_and_of_no_other_target() {
        let (_home, history) = history(2);
        history.audit(&who("bob"), &Deed::of("demo", "production", "stop"), &Ending::Refused).expect("written");
        history.audit(&who("bob"), &Deed::new("add eve as viewer"), &Ending::Failed("no".into())).expect("written");
        let trail = history.trail("demo", "staging").expect("a trail");
        assert_eq!(trail.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(trail.entries[2].ending, Ending::Failed("no".into()));
        assert_eq!((trail.entries[0].who.clone(), trail.damages), (who("ada"), Vec::new()));
    }

    #[test]
    fn what_is_changed_or_removed_is_told() {
        assert_eq!(after(""), []);
        let changed = "UPDATE audit SET entry = replace(entry, 'web=3', 'web=9') WHERE number = 3";
        assert_eq!(after(changed), [Damage::Changed { number: 3 }]);
        assert_eq!(after("UPDATE audit SET entry = 'x' WHERE number = 3"), [Damage::Changed { number: 3 }]);
        assert_eq!(after("DELETE FROM audit WHERE number IN (2, 3)"), [Damage::Missing { from: 2, to: 3 }]);
        assert_eq!(after("DELETE FROM audit WHERE number < 3"), [Damage::Missing { from: 1, to: 2 }]);
        assert_eq!(after("UPDATE audit SET entry = 'null' WHERE number = 1"), [Damage::Missing { from: 1, to: 1 }]);
        let numbers = "DELETE FROM audit WHERE number = 3; UPDATE audit SET number = number - 1 WHERE number > 3";
        assert!(after(numbers).contains(&Damage::Changed { number: 3 }));
        let (_home, history) = history(5);
        history.db().execute_batch("DELETE FROM audit WHERE number > 3").expect("removed");
        assert_eq!(damages(&history), [Damage::Missing { from: 4, to: 5 }]);
        history.db().execute_batch("DELETE FROM audit").expect("removed");
        assert_eq!(damages(&history), [Damage::Missing { from: 1, to: 5 }]);
    }

    #[test]
    fn the_oldest_are_let_go_and_what_is_left_is_still_whole() {
        let (_home, history) = history(0);
        let bound = Bound { kept: 10, more: 4 };
        for number in 0..100 {
            history.audit_within(bound, &who("ada"), &Deed::new(format!("{number}")), &Ending::Done).expect("written");
            let trail = history.trail("demo", "staging").expect("a trail");
            assert_eq!(trail.damages, []);
            assert!(trail.entries.len() as u64 <= bound.kept + bound.more + 1, "{}", trail.entries.len());
        }
        history
            .db()
            .execute_batch("DELETE FROM audit WHERE number < (SELECT min(number) + 3 FROM audit)")
            .expect("removed");
        assert!(!damages(&history).is_empty());
    }

    #[test]
    fn nobody_drives_entries_out_by_being_refused() {
        let (_home, history) = history(1);
        for number in 0..REFUSALS + 50 {
            let deed = Deed::of("demo", "staging", format!("roll back to {number}"));
            history.audit(&who("eve"), &deed, &Ending::Refused).expect("written");
        }
        history.audit(&who("bob"), &Deed::of("demo", "staging", "stop"), &Ending::Refused).expect("written");
        let trail = history.trail("demo", "staging").expect("a trail");
        let of = |name: &str| trail.entries.iter().filter(|entry| entry.who.name == name).count() as u64;
        assert_eq!((of("ada"), of("eve"), of("bob")), (1, REFUSALS, 1));
    }
}
