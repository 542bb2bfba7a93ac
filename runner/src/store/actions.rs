//! What actions gave, by key and by family.

use std::time::{SystemTime, UNIX_EPOCH};

use super::index::Found;
use super::record::Record;
use super::{Promise, Store, StoreError, suspect};
use crate::digest::Digest;

/// How old the note of an action's last use may be before a new one is worth a write, in seconds.
const NOTED: u64 = 3600;

impl Store {
    /// The record of an action, if everything that it names is there, to the deepest blob.
    ///
    /// That it has a row says so: rows are written after those of all that they name, and when something is damaged all that
    /// stands on it is taken back.
    pub fn action(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(found) = self.0.log.action(key)
            && let Some(content) = self.content(&found, |record| record.key == *key)
        {
            return Ok(Some(content));
        }
        let mut before = None;
        loop {
            let found = self.0.index.action(key)?;
            let Some(found) = found else { return Ok(None) };
            if let Some(content) = self.content(&found, |record| record.key == *key) {
                return Ok(Some(content));
            }
            // It may have been moved meanwhile: then another look finds it.
            if before == Some(found) {
                // Where a record is gone, so may be what others stand on.
                suspect::mark(&self.0.root);
                self.0.index.write(|rows| rows.remove_action(&found))?;
                return Err(StoreError::Damaged(*key));
            }
            before = Some(found);
        }
    }

    /// The records of a family's latest actions, newest first, of which everything that they name is there; each is read when it
    /// is asked for.
    pub fn family(&self, family: &Digest, limit: usize) -> Result<impl Iterator<Item = Vec<u8>>, StoreError> {
        let mut found = self.0.log.family(family);
        found.extend(self.0.index.family(family, limit)?);
        found.truncate(limit);
        let is_right = |record: &Record<'_>| record.family.as_ref() == Some(family);
        Ok(found.into_iter().filter_map(move |found| self.content(&found, is_right)))
    }

    /// What an action gave, if the record is whole and the right one; else it is to be done again.
    fn content(&self, found: &Found, is_right: impl Fn(&Record<'_>) -> bool) -> Option<Vec<u8>> {
        let payload = self.0.log.gathered(found.at, found.size).or_else(|| self.0.files.read_record(found))?;
        let record = Record::decode(&payload).filter(is_right)?;
        let now = seconds();
        if found.used.saturating_add(NOTED) < now {
            self.0.log.touch(&found.key, now);
        }
        Some(record.content.to_vec())
    }

    /// Records an action; everything that it names must have been put. Returns before it is on the disk: see [`Store::flush`].
    pub fn put_action(&self, key: &Digest, record: &[u8], refs: &[Digest]) -> Result<(), StoreError> {
        self.put_action_of(None, key, record, refs)
    }

    /// Records an action of a family: those that differ in what they were given only.
    pub fn put_action_of(
        &self,
        family: Option<&Digest>,
        key: &Digest,
        record: &[u8],
        refs: &[Digest],
    ) -> Result<(), StoreError> {
        for digest in refs {
            self.take_in(digest)?;
            // What was condemned meanwhile is kept for those who knew of it, and for what they make of it.
            if self.location(digest)?.is_none() {
                return Err(self.missing(digest));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let record = Record { key: *key, created, family: family.copied(), refs: refs.into(), content: record };
        self.0.log.put_action(&record, now.as_secs())
    }

    /// What becomes of all actions that were recorded so far.
    pub fn promise(&self) -> Promise {
        self.0.log.promise_of_all()
    }

    /// Waits until all that was put is on the disk, and promised to every process.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.log.commit()
    }
}

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
