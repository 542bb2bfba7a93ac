//! Collecting garbage: what has not been of use for long is let go, and the space that it took is given back.
//!
//! What is kept follows from the roots that the caller names and from the actions that were of use lately, or since the first of
//! the living processes began: what one of them has done, another may be about to ask for. Nothing that such a process could
//! stand on goes either: what is let go is first *condemned*, and so promised to nobody who asks anew; its bytes go only
//! when every process that began before then has ended. All that is counted as freed was given back to the file system.

mod files;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::actions::seconds;
use super::index::{Counter, Found, Location, Rows};
use super::lease::{self, Gate, Live, Standing};
use super::record::Record;
use super::{Files, Store, StoreError};
use crate::digest::Digest;
use crate::tree::{self, Tree};

/// What is let go.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Actions that were not of use for so long.
    pub unused_for: Duration,
    /// Of the others, those that were not of use for longest and do not fit into so many bytes with all that is kept.
    pub max_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { unused_for: Duration::from_hours(30 * 24), max_bytes: 50 << 30 }
    }
}

/// What is kept whatever its age.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Blobs, and trees with all that is in them.
    pub blobs: Vec<Digest>,
    /// The keys of actions, with all that they name.
    pub actions: HashSet<Digest>,
    /// Blobs, and trees with all that is in them, that are kept only where there is room beside actions; the first sooner.
    pub spare: Vec<Digest>,
}

/// What was let go.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// Bytes that the file system got back.
    pub freed: u64,
    /// Actions that were let go.
    pub actions: usize,
    /// Blobs and trees whose bytes went.
    pub blobs: usize,
    /// Laid-out trees that went.
    pub layouts: usize,
    /// Bytes that nothing needs and that stay, since a process that is running might.
    pub waiting: u64,
    /// Bytes of what is kept.
    pub kept: u64,
}

/// What of the rows stays.
#[derive(Default)]
struct Kept {
    live: HashSet<Digest>,
    /// Blobs whose rows went.
    gone: Vec<(Digest, Location)>,
}

impl Store {
    /// Lets go of what the policy says and the roots do not keep. What this handle itself has used since it was opened may go too.
    ///
    /// The roots are asked for when no other process can begin to use the store.
    pub fn collect<E: From<StoreError>>(
        &self,
        policy: &Policy,
        roots: impl FnOnce() -> Result<Roots, E>,
    ) -> Result<Collected, E> {
        self.flush()?;
        let _gate = Gate::enter(self.root())?;
        Ok(self.collect_behind(policy, &roots()?)?)
    }

    fn collect_behind(&self, policy: &Policy, roots: &Roots) -> Result<Collected, StoreError> {
        let (live, _) = lease::survey(&self.root().join("tmp"))?;
        let mut collected = Collected::default();
        let oldest = oldest(&live, self);
        let began = others(&live, self).map(|(live, _)| live.began).min();
        let kept = self.0.index.write(|rows| {
            let mut sieve = Sieve::new(rows, &self.0.files, oldest)?;
            sieve.mark(policy, roots, began, &mut collected)?;
            sieve.sort_out(&mut collected)
        })?;
        // First what takes no room to be freed.
        self.free_loose(&kept, oldest.is_none(), &mut collected)?;
        self.free_layouts(&kept.live, &live, &mut collected)?;
        self.free_segments(&mut collected)?;
        Ok(collected)
    }
}

/// The other processes that stand on anything, and since which epoch.
fn others<'l>(live: &'l [Live], store: &'l Store) -> impl Iterator<Item = (&'l Live, u64)> {
    live.iter().filter(|live| !live.is(&store.0.lease)).filter_map(|live| match live.standing {
        Standing::Since(epoch) => Some((live, epoch)),
        Standing::Releases => None,
    })
}

/// The earliest epoch at which another living process began; none where there is none.
fn oldest(live: &[Live], store: &Store) -> Option<u64> {
    others(live, store).map(|(_, epoch)| epoch).min()
}

struct Sieve<'a> {
    rows: &'a Rows<'a>,
    files: &'a Files,
    oldest: Option<u64>,
    epoch: u64,
    blobs: HashMap<Digest, (Location, Option<u64>)>,
    live: HashSet<Digest>,
    /// What condemned actions name that a living process may know of.
    held: HashSet<Digest>,
    bytes: u64,
}

impl<'a> Sieve<'a> {
    fn new(rows: &'a Rows<'a>, files: &'a Files, oldest: Option<u64>) -> Result<Self, StoreError> {
        let epoch = rows.counter(Counter::Epoch)? + 1;
        rows.raise(Counter::Epoch, epoch)?;
        let blobs = rows.blobs()?.into_iter().map(|(digest, location, epoch)| (digest, (location, epoch))).collect();
        Ok(Self { rows, files, oldest, epoch, blobs, live: HashSet::new(), held: HashSet::new(), bytes: 0 })
    }

    /// Whether no living process could know of what was condemned at an epoch.
    fn is_free(&self, condemned: u64) -> bool {
        self.oldest.is_none_or(|oldest| oldest >= condemned)
    }

    /// Finds what is kept, the last used first, and condemns the other actions.
    fn mark(
        &mut self,
        policy: &Policy,
        roots: &Roots,
        began: Option<u64>,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        for digest in &roots.blobs {
            self.keep_all([*digest], 0, u64::MAX);
        }
        let (rooted, others): (Vec<_>, Vec<_>) =
            self.rows.actions()?.into_iter().partition(|(found, _)| roots.actions.contains(&found.key));
        let now = seconds();
        for (found, condemned) in rooted.into_iter().chain(others) {
            let is_root = roots.actions.contains(&found.key);
            let is_recent = now.saturating_sub(found.used) < policy.unused_for.as_secs();
            let is_at_hand = began.is_some_and(|began| found.used >= began);
            let is_kept = is_root || condemned.is_none() && (is_at_hand || is_recent);
            let most = if is_root || is_at_hand { u64::MAX } else { policy.max_bytes };
            if is_kept && self.keep(&found, most) {
                continue;
            }
            let condemned = match condemned {
                Some(epoch) => epoch,
                None => {
                    collected.actions += 1;
                    self.rows.condemn_action(&found.key, self.epoch)?;
                    self.epoch
                }
            };
            if self.is_free(condemned) {
                self.rows.remove_action(&found)?;
            } else {
                self.hold(&found);
            }
        }
        for digest in &roots.spare {
            self.keep_all([*digest], 0, policy.max_bytes);
        }
        Ok(())
    }

    /// Keeps all that an action stands on; false where its record is damaged, or with it there were more bytes than `most`.
    fn keep(&mut self, found: &Found, most: u64) -> bool {
        let Some(payload) = self.files.read_record(found) else { return false };
        let Some(record) = Record::decode(&payload) else { return false };
        self.keep_all(record.refs.iter().copied(), found.size, most)
    }

    /// Keeps blobs, and trees with all that is in them, beside `bytes` of their own; none of it where that were more than `most`.
    fn keep_all(&mut self, digests: impl IntoIterator<Item = Digest>, bytes: u64, most: u64) -> bool {
        let mut new = Vec::new();
        for digest in digests {
            reach(digest, &self.blobs, self.files, &mut self.live, &mut new);
        }
        let bytes = self.bytes + bytes + new.iter().map(|digest| self.blobs[digest].0.size).sum::<u64>();
        if bytes > most {
            for digest in &new {
                self.live.remove(digest);
            }
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// Holds what a condemned action stands on.
    fn hold(&mut self, found: &Found) {
        let payload = self.files.read_record(found);
        let Some(record) = payload.as_deref().and_then(Record::decode) else { return };
        for digest in &*record.refs {
            reach(*digest, &self.blobs, self.files, &mut self.held, &mut Vec::new());
        }
    }

    /// Condemns what is not kept, and forgets what was condemned long enough ago.
    fn sort_out(self, collected: &mut Collected) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        for (digest, (location, condemned)) in &self.blobs {
            if self.live.contains(digest) {
                if condemned.is_some() {
                    self.rows.condemn_blob(digest, None)?;
                }
            } else if self.held.contains(digest) {
                // For as long as the action: whoever found that last found this through it.
                collected.waiting += location.size;
                self.rows.condemn_blob(digest, Some(self.epoch))?;
            } else if self.is_free(condemned.unwrap_or(self.epoch)) {
                self.rows.remove_blob(digest)?;
                collected.blobs += 1;
                kept.gone.push((*digest, *location));
            } else {
                collected.waiting += location.size;
                if condemned.is_none() {
                    self.rows.condemn_blob(digest, Some(self.epoch))?;
                }
            }
        }
        collected.kept = self.bytes;
        kept.live = self.live;
        Ok(kept)
    }
}

/// Adds a blob, or a tree with all that is in it, to what is reached, and what of it was not to `new`.
fn reach(
    digest: Digest,
    blobs: &HashMap<Digest, (Location, Option<u64>)>,
    files: &Files,
    reached: &mut HashSet<Digest>,
    new: &mut Vec<Digest>,
) {
    let mut todo = vec![digest];
    while let Some(digest) = todo.pop() {
        let Some((location, _)) = blobs.get(&digest) else { continue };
        if !reached.insert(digest) {
            continue;
        }
        new.push(digest);
        // What cannot be read is no tree that anything could be reached through; reading it will tell.
        if let Some(tree) = files.read_tree(&digest, location) {
            todo.extend(tree.digests());
        }
    }
}

impl Files {
    /// The tree at a location, if it is one.
    fn read_tree(&self, digest: &Digest, location: &Location) -> Option<Tree> {
        if !self.starts_with(digest, location, tree::MAGIC) {
            return None;
        }
        Tree::decode(&self.read(digest, location).ok()?).ok()
    }
}
