//! The shape of the state, and the way to it from the shapes of older versions. Knows nothing of what is kept in it.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde_json::Value;

use super::{HistoryError, environment_of, json};
use crate::release::sealed::{Sealer, Values};

/// Raised with every change of [`TABLES`], which then needs a way to get there.
pub(super) const VERSION: i64 = 8;

const TABLES: &str = "
CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    user INTEGER,
    address TEXT,
    current INTEGER REFERENCES releases (id),
    server TEXT,
    server_key TEXT,
    host TEXT,
    UNIQUE (app, name)
) STRICT;
CREATE TABLE releases (
    id INTEGER PRIMARY KEY,
    target INTEGER NOT NULL REFERENCES targets (id),
    number INTEGER NOT NULL,
    slug TEXT NOT NULL,
    tree TEXT NOT NULL,
    settings TEXT NOT NULL,
    env BLOB NOT NULL,
    config INTEGER NOT NULL,
    formation TEXT NOT NULL,
    how TEXT NOT NULL,
    who TEXT NOT NULL,
    at INTEGER NOT NULL,
    stage TEXT NOT NULL,
    failure TEXT,
    canary INTEGER,
    UNIQUE (target, number)
) STRICT;
CREATE TABLE configs (
    target INTEGER NOT NULL REFERENCES targets (id),
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (target, version)
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
    instance INTEGER NOT NULL,
    port INTEGER NOT NULL,
    started INTEGER NOT NULL,
    restarts INTEGER NOT NULL
) STRICT;
CREATE TABLE crons (
    target INTEGER NOT NULL REFERENCES targets (id),
    name TEXT NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (target, name)
) STRICT;
CREATE TABLE people (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    since INTEGER NOT NULL
) STRICT;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
";

/// Version 1 had one of each process, no config, and environments in the open.
const FROM_1: &str = "
ALTER TABLE releases ADD COLUMN env BLOB NOT NULL DEFAULT x'';
ALTER TABLE releases ADD COLUMN config INTEGER NOT NULL DEFAULT 0;
ALTER TABLE releases ADD COLUMN formation TEXT NOT NULL DEFAULT '{}';
ALTER TABLE processes ADD COLUMN instance INTEGER NOT NULL DEFAULT 1;
CREATE TABLE configs (
    target INTEGER NOT NULL REFERENCES targets (id),
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (target, version)
) STRICT;
";

/// Version 2 had targets on this machine only.
const FROM_2: &str = "
ALTER TABLE targets ADD COLUMN server TEXT;
ALTER TABLE targets ADD COLUMN server_key TEXT;
";

/// Version 3 ran nothing at its times.
const FROM_3: &str = "
CREATE TABLE crons (
    target INTEGER NOT NULL REFERENCES targets (id),
    name TEXT NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (target, name)
) STRICT;
";

/// Version 4 gave each release all clients at once.
const FROM_4: &str = "
ALTER TABLE releases ADD COLUMN canary INTEGER;
";

/// Version 5 let in whoever had a shell, and nobody else.
const FROM_5: &str = "
CREATE TABLE people (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    since INTEGER NOT NULL
) STRICT;
";

/// Version 6 told only of releases who had wanted them.
const FROM_6: &str = "
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
";

/// Version 7 did not remember by which name a target's pages are asked for.
const FROM_7: &str = "
ALTER TABLE targets ADD COLUMN host TEXT;
";

/// Makes the tables, or makes those of an older version into today's.
pub(super) fn bring_up_to_date(connection: &mut Connection, path: &Path, sealer: &Sealer) -> Result<(), HistoryError> {
    // What is replaced is overwritten, so that nothing of it stays in the file.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        VERSION => return Ok(()),
        0 => transaction.execute_batch(TABLES)?,
        1..VERSION => {
            if found == 1 {
                transaction.execute_batch(FROM_1)?;
                seal_environments(&transaction, path, sealer)?;
            }
            for (version, changes) in [(2, FROM_2), (3, FROM_3), (4, FROM_4), (5, FROM_5), (6, FROM_6), (7, FROM_7)] {
                if found <= version {
                    transaction.execute_batch(changes)?;
                }
            }
        }
        found => return Err(HistoryError::Newer { path: path.to_owned(), found }),
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

fn seal_environments(transaction: &Transaction<'_>, path: &Path, sealer: &Sealer) -> Result<(), HistoryError> {
    let mut rows = transaction.prepare("SELECT id, target, number, settings FROM releases")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, super::from_json(row, 3)?)))?;
    for row in rows.collect::<Result<Vec<(i64, i64, u64, Value)>, _>>()? {
        let (id, target, number, mut settings) = row;
        let env: Values = serde_json::from_value(settings["env"].take()).unwrap_or_default();
        settings["env"] = serde_json::json!({});
        let what = environment_of(target, number);
        let env = sealer.seal(&what, &env).map_err(|source| HistoryError::Sealed {
            what,
            key: path.with_file_name(super::KEY),
            source,
        })?;
        let values = params![id, json(&settings)?, env];
        transaction.execute("UPDATE releases SET settings = ?2, env = ?3 WHERE id = ?1", values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Deed, Ending, History, Who};

    /// The tables of version 1, as they were released.
    const VERSION_1: &str = "
        CREATE TABLE targets (id INTEGER PRIMARY KEY, app TEXT NOT NULL, name TEXT NOT NULL, user INTEGER, address TEXT,
            current INTEGER REFERENCES releases (id), UNIQUE (app, name)) STRICT;
        CREATE TABLE releases (id INTEGER PRIMARY KEY, target INTEGER NOT NULL REFERENCES targets (id),
            number INTEGER NOT NULL, slug TEXT NOT NULL, tree TEXT NOT NULL, settings TEXT NOT NULL, how TEXT NOT NULL,
            who TEXT NOT NULL, at INTEGER NOT NULL, stage TEXT NOT NULL, failure TEXT, UNIQUE (target, number)) STRICT;
        CREATE TABLE journal (release INTEGER NOT NULL REFERENCES releases (id), at INTEGER NOT NULL,
            stage TEXT NOT NULL) STRICT;
        CREATE TABLE processes (directory TEXT PRIMARY KEY, release INTEGER NOT NULL REFERENCES releases (id),
            name TEXT NOT NULL, port INTEGER NOT NULL, started INTEGER NOT NULL, restarts INTEGER NOT NULL) STRICT;
        INSERT INTO targets VALUES (1, 'demo', 'staging', NULL, '127.0.0.1:8000', NULL);
        INSERT INTO releases VALUES (1, 1, 1,
            'blake3:0000000000000000000000000000000000000000000000000000000000000000',
            'blake3:0000000000000000000000000000000000000000000000000000000000000000',
            '{\"env\":{\"SECRET_KEY\":\"hunter2-hunter2\"},\"release_commands\":[],\"data\":[],\"address\":null,\"host\":null,\"health\":null}',
            '\"run\"', 'me', 1, 'drained', NULL);
        UPDATE targets SET current = 1;
        PRAGMA user_version = 1;
    ";

    #[test]
    fn the_state_of_version_1_is_carried_over_and_its_secrets_are_sealed() {
        let home = tempfile::tempdir().expect("a directory");
        let state = home.path().join("agent/state.db");
        std::fs::create_dir(home.path().join("agent")).expect("a directory");
        Connection::open(&state).and_then(|old| old.execute_batch(VERSION_1)).expect("a state of version 1");
        for _ in 0..2 {
            let history = History::open(home.path()).expect("a state");
            let release = history.current("demo", "staging").expect("a look-up").expect("a release");
            assert_eq!(release.target.settings.env["SECRET_KEY"], "hunter2-hunter2");
            assert_eq!((release.config, release.formation.count("web"), release.canary), (0, 1, None));
            assert_eq!(history.server("demo", "staging").expect("a look-up"), None);
        }
        let bytes = std::fs::read(state).expect("the state");
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
    }

    /// What version 5 made, as it was released, beside the tables of version 1.
    const VERSION_5: &str = "
        ALTER TABLE releases ADD COLUMN env BLOB NOT NULL DEFAULT x'';
        ALTER TABLE releases ADD COLUMN config INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE releases ADD COLUMN formation TEXT NOT NULL DEFAULT '{}';
        ALTER TABLE releases ADD COLUMN canary INTEGER;
        ALTER TABLE processes ADD COLUMN instance INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE targets ADD COLUMN server TEXT;
        ALTER TABLE targets ADD COLUMN server_key TEXT;
        CREATE TABLE configs (target INTEGER NOT NULL REFERENCES targets (id), version INTEGER NOT NULL,
            sealed BLOB NOT NULL, PRIMARY KEY (target, version)) STRICT;
        CREATE TABLE crons (target INTEGER NOT NULL REFERENCES targets (id), name TEXT NOT NULL, due INTEGER NOT NULL,
            PRIMARY KEY (target, name)) STRICT;
        UPDATE targets SET server = 'ssh://web/srv/pipe', server_key = 'SHA256:x';
        UPDATE releases SET canary = 1000;
        PRAGMA user_version = 5;
    ";

    #[test]
    fn the_state_of_version_5_is_carried_over_and_tells_from_now_on_who_does_what() {
        let home = tempfile::tempdir().expect("a directory");
        drop(History::open(home.path()).expect("a key to seal with"));
        let state = home.path().join("agent/state.db");
        std::fs::remove_file(&state).expect("removed");
        let old = Connection::open(&state).expect("a state");
        old.execute_batch(&format!("{VERSION_1}{VERSION_5}")).expect("a state of version 5");
        let sealer = Sealer::open(&home.path().join("agent/config.key")).expect("a key");
        let env = sealer.seal(&environment_of(1, 1), &Values::from([("A".into(), "b".into())])).expect("sealed");
        old.execute("UPDATE releases SET env = ?1", [env]).expect("an environment");
        drop(old);
        for number in 1..=2 {
            let history = History::open(home.path()).expect("a state");
            let release = history.current("demo", "staging").expect("a look-up").expect("a release");
            assert_eq!(release.target.settings.env["A"], "b");
            assert_eq!(release.canary.expect("a canary").to_string(), "10%");
            let server = history.server("demo", "staging").expect("a look-up").expect("a server");
            assert_eq!(server.to_string(), "ssh://web/srv/pipe");
            assert_eq!(history.people().expect("a look-up"), []);
            history.audit(&Who::here(), &Deed::of("demo", "staging", "stop"), &Ending::Done).expect("written");
            assert_eq!(history.trail("demo", "staging").expect("a trail").entries.len(), number);
        }
    }

    #[test]
    fn the_state_of_a_newer_version_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("agent")).expect("a directory");
        let newer = Connection::open(home.path().join("agent/state.db")).expect("a state");
        newer.pragma_update(None, "user_version", VERSION + 1).expect("a version");
        assert!(matches!(History::open(home.path()), Err(HistoryError::Newer { .. })));
    }
}
