//! The host's side of receiving a slug: walks down its trees, asks for what its store lacks, and keeps it from the leaves up.
//!
//! Every object has the digest that it was asked for by, or is refused; the release hashes all of them once more where they are
//! laid out. What has come when a connection breaks is kept, so that the next try goes on from there. Of large blobs only those
//! parts are asked for that no other version of the application over here has.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::chunks::{self, Part};
use super::wire::{RuntimeRecord, Want, answer, read_digest, read_u8, read_u32, read_u64, write_want};
use crate::agent::protocol::Failure;
use crate::digest::Digest;
use crate::release::{History, Role, SlugRef};
use crate::runtime::Runtime;
use crate::store::{Store, StoreError};
use crate::tree::{DEEPEST, Entry, Tree};

/// How many blobs are asked for at once.
const AT_ONCE: usize = 4096;

/// The longest encoding of a tree that is believed to be one, in bytes.
const LONGEST_TREE: u64 = 256 << 20;

/// Takes what the store of a home directory lacks of a slug and its runtime. With the handle that it gives, nothing of them is
/// collected as garbage.
pub(super) fn receive(
    home: &Path,
    slug: (&str, &SlugRef, Option<&RuntimeRecord>),
    role: Role,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> Result<Store, Failure> {
    match receive_all(home, slug, role, from, to) {
        Ok(store) => {
            write_want(to, &Want::Nothing).map_err(|error| lost(&error))?;
            Ok(store)
        }
        Err(failure) => {
            // Nobody may be there to hear it.
            let _ = write_want(to, &Want::Failed(failure.clone()));
            Err(failure)
        }
    }
}

fn receive_all(
    home: &Path,
    (app, slug, runtime): (&str, &SlugRef, Option<&RuntimeRecord>),
    role: Role,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> Result<Store, Failure> {
    let store = Store::open(home).map_err(store_failed)?;
    let mut roots = vec![slug.tree];
    if let Some(runtime) = runtime {
        if role < Role::Admin {
            Runtime::refuse_foreign(&runtime.digest, &runtime.record, &store)
                .map_err(|error| Failure::hinted(&error, error.hint()))?;
        }
        let trees = Runtime::check_record(&runtime.digest, &runtime.record, &store, home).map_err(|error| {
            let hint = "the slug was built on the machine's own runtime; `[runtime] kind = \"packages\"` in the pipeline makes one that \
                        goes with it to every host";
            let why = Failure::of(&error).message;
            Failure::new(format!("the runtime that the slug stands on is not there: {why}")).hint(hint)
        })?;
        roots.extend(trees);
    }
    let from = zstd::stream::read::Decoder::with_buffer(from).map_err(|error| lost(&error))?.single_frame();
    let mut receiver =
        Receiver { store, from: BufReader::new(from), to, trees: HashMap::new(), blobs: BTreeSet::new() };
    let kept = receiver.all(&roots, app, home);
    // What has come so far need not come again.
    let flushed = receiver.store.flush();
    kept?;
    if let Some(runtime) = runtime {
        Runtime::keep_record(&runtime.digest, &runtime.record, &receiver.store).map_err(|error| Failure::of(&error))?;
    }
    flushed.and_then(|()| receiver.store.flush()).map_err(store_failed)?;
    Ok(receiver.store)
}

struct Receiver<'a, R: Read, W: Write> {
    store: Store,
    from: R,
    to: &'a mut W,
    /// The trees that came.
    trees: HashMap<Digest, Tree>,
    /// The blobs that are to come.
    blobs: BTreeSet<Digest>,
}

impl<R: Read, W: Write> Receiver<'_, R, W> {
    fn all(&mut self, roots: &[Digest], app: &str, home: &Path) -> Result<(), Failure> {
        self.fetch_trees(roots)?;
        let bases = if self.blobs.is_empty() { Vec::new() } else { self.bases(roots[0], app, home)? };
        let known = self.parts_of(&bases)?;
        let blobs: Vec<Digest> = std::mem::take(&mut self.blobs).into_iter().collect();
        for some in blobs.chunks(AT_ONCE) {
            self.fetch_blobs(some, &known)?;
        }
        let mut kept = HashSet::new();
        roots.iter().try_for_each(|root| self.keep(root, &mut kept))
    }

    fn want(&mut self, want: &Want) -> Result<(), Failure> {
        write_want(self.to, want).map_err(|error| lost(&error))
    }

    fn fetch_trees(&mut self, roots: &[Digest]) -> Result<(), Failure> {
        let mut wave: Vec<Digest> = roots.iter().copied().filter(|root| !self.store.contains(root)).collect();
        let mut known: HashSet<Digest> = wave.iter().copied().collect();
        let mut depth = 0;
        while !wave.is_empty() {
            depth += 1;
            if depth > DEEPEST {
                return Err(store_failed(StoreError::TooDeep));
            }
            self.want(&Want::Trees(wave.clone()))?;
            let mut next = Vec::new();
            for digest in wave {
                let bytes = self.bytes(LONGEST_TREE)?;
                let tree = Tree::decode(&bytes).ok().filter(|_| Digest::of(&bytes) == digest);
                let tree = tree.ok_or_else(|| damaged(&digest))?;
                for (_, entry) in tree.entries() {
                    match entry {
                        Entry::Tree { digest } if !known.contains(digest) && !self.store.contains(digest) => {
                            known.insert(*digest);
                            next.push(*digest);
                        }
                        Entry::File { digest, .. } if !self.blobs.contains(digest) && !self.store.contains(digest) => {
                            self.blobs.insert(*digest);
                        }
                        _ => {}
                    }
                }
                self.trees.insert(digest, tree);
            }
            wave = next;
        }
        Ok(())
    }

    /// The bytes of something that is sent whole.
    fn bytes(&mut self, most: u64) -> Result<Vec<u8>, Failure> {
        let lost = |error: io::Error| lost(&error);
        match read_u8(&mut self.from).map_err(lost)? {
            answer::WHOLE => {
                let size = read_u64(&mut self.from).map_err(lost)?;
                let mut bytes = Vec::new();
                if size > most || self.from.by_ref().take(size).read_to_end(&mut bytes).map_err(lost)? as u64 != size {
                    return Err(Failure::new("what was sent ends too early"));
                }
                Ok(bytes)
            }
            _ => Err(Failure::new("the slug is not whole where it comes from")),
        }
    }

    fn fetch_blobs(&mut self, digests: &[Digest], known: &HashMap<Digest, (Digest, Part)>) -> Result<(), Failure> {
        self.want(&Want::Blobs { digests: digests.to_vec(), in_parts: !known.is_empty() })?;
        let mut cut = Vec::new();
        for digest in digests {
            let lost = |error: io::Error| lost(&error);
            match read_u8(&mut self.from).map_err(lost)? {
                answer::WHOLE => {
                    let size = read_u64(&mut self.from).map_err(lost)?;
                    self.keep_blob(digest, size)?;
                }
                answer::PARTS => {
                    let count = read_u32(&mut self.from).map_err(lost)?;
                    let mut parts = Vec::new();
                    let mut offset = 0;
                    for _ in 0..count {
                        let digest = read_digest(&mut self.from).map_err(lost)?;
                        let length = read_u32(&mut self.from).map_err(lost)?;
                        if length > chunks::LONGEST {
                            return Err(damaged(&digest));
                        }
                        parts.push(Part { digest, offset, length });
                        offset += u64::from(length);
                    }
                    cut.push((*digest, parts));
                }
                _ => return Err(Failure::new("the slug is not whole where it comes from")),
            }
        }
        if cut.is_empty() {
            return Ok(());
        }
        let missing = |parts: &[Part]| {
            let numbers = (0..).zip(parts).filter(|(_, part)| !known.contains_key(&part.digest));
            numbers.map(|(number, _)| number).collect::<Vec<u32>>()
        };
        self.want(&Want::Parts(cut.iter().map(|(digest, parts)| (*digest, missing(parts))).collect()))?;
        cut.iter().try_for_each(|(digest, parts)| self.assemble(digest, parts, known))
    }

    fn keep_blob(&mut self, digest: &Digest, size: u64) -> Result<(), Failure> {
        let mut writer = self.store.writer().map_err(store_failed)?;
        let copied = io::copy(&mut self.from.by_ref().take(size), &mut writer);
        let copied =
            copied.map_err(|error| StoreError::inside(error).map_or_else(|error| lost(&error), store_failed))?;
        if copied != size {
            return Err(Failure::new("what was sent ends too early"));
        }
        let found = writer.finish().map_err(store_failed)?;
        if found == *digest { Ok(()) } else { Err(damaged(digest)) }
    }

    /// Puts a blob together: parts that are known from blobs that are here, the others from what is sent.
    fn assemble(
        &mut self,
        digest: &Digest,
        parts: &[Part],
        known: &HashMap<Digest, (Digest, Part)>,
    ) -> Result<(), Failure> {
        let mut writer = self.store.writer().map_err(store_failed)?;
        let mut open: Option<(Digest, crate::store::BlobReader)> = None;
        for part in parts {
            let mut bytes = vec![0; part.length as usize];
            if let Some((blob, place)) = known.get(&part.digest) {
                if open.as_ref().is_none_or(|(opened, _)| opened != blob) {
                    open = Some((*blob, self.store.open_blob(blob).map_err(store_failed)?));
                }
                let Some((_, reader)) = &mut open else { continue };
                let read = reader.seek(SeekFrom::Start(place.offset)).and_then(|_| reader.read_exact(&mut bytes));
                read.map_err(|error| Failure::of(&error))?;
            } else {
                self.from.read_exact(&mut bytes).map_err(|error| lost(&error))?;
            }
            if Digest::of(&bytes) != part.digest {
                return Err(damaged(digest));
            }
            let written = writer.write_all(&bytes);
            written
                .map_err(|error| StoreError::inside(error).map_or_else(|error| Failure::of(&error), store_failed))?;
        }
        let found = writer.finish().map_err(store_failed)?;
        if found == *digest { Ok(()) } else { Err(damaged(digest)) }
    }

    /// Blobs that targets of the application run with, and the new slug does not: what they became is in it.
    fn bases(&self, root: Digest, app: &str, home: &Path) -> Result<Vec<Digest>, Failure> {
        let failed = |error: crate::release::HistoryError| Failure::hinted(&error, error.hint());
        let history = History::open(home).map_err(failed)?;
        let mut bases = BTreeSet::new();
        for (known, target) in history.targets().map_err(failed)? {
            if known == app
                && let Some(release) = history.current(app, &target).map_err(failed)?
            {
                // What cannot be read is no base.
                let _ = self.replaced(&release.slug.tree, Some(root), &mut bases);
            }
        }
        Ok(bases.into_iter().collect())
    }

    /// The blobs of a tree that are elsewhere or nowhere in another one.
    fn replaced(&self, old: &Digest, new: Option<Digest>, found: &mut BTreeSet<Digest>) -> Result<(), StoreError> {
        if new.as_ref() == Some(old) {
            return Ok(());
        }
        let new = match new {
            Some(digest) => match self.trees.get(&digest) {
                Some(tree) => Some(tree.clone()),
                None => self.store.tree(&digest).ok().map(|tree| (*tree).clone()),
            },
            None => None,
        };
        for (name, entry) in self.store.tree(old)?.entries() {
            let now = new.as_ref().and_then(|tree| tree.get(name));
            match entry {
                Entry::Tree { digest } => {
                    let now = match now {
                        Some(Entry::Tree { digest }) => Some(*digest),
                        _ => None,
                    };
                    self.replaced(digest, now, found)?;
                }
                Entry::File { digest, .. }
                    if now.is_none_or(|now| now != entry) && chunks::is_cut(self.store.size(digest)?) =>
                {
                    found.insert(*digest);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where each part of some blobs is.
    fn parts_of(&self, blobs: &[Digest]) -> Result<HashMap<Digest, (Digest, Part)>, Failure> {
        let mut known = HashMap::new();
        for blob in blobs {
            let bytes = self.store.get(blob).map_err(store_failed)?;
            known.extend(chunks::parts(&bytes).into_iter().map(|part| (part.digest, (*blob, part))));
        }
        Ok(known)
    }

    /// Keeps a tree that came, after all that is in it.
    fn keep(&mut self, digest: &Digest, kept: &mut HashSet<Digest>) -> Result<(), Failure> {
        let Some(tree) = self.trees.get(digest) else { return Ok(()) };
        if !kept.insert(*digest) {
            return Ok(());
        }
        let tree = tree.clone();
        for (_, entry) in tree.entries() {
            if let Entry::Tree { digest } = entry {
                self.keep(digest, kept)?;
            }
        }
        self.store.put_tree(&tree).map(drop).map_err(store_failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn store_failed(error: StoreError) -> Failure {
    // Who reads it sits elsewhere.
    Failure::hinted(&error, error.hint().map(|hint| format!("on that host, {hint}")))
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(format!("the connection was lost: {error}"))
}

fn damaged(digest: &Digest) -> Failure {
    Failure::new(format!("{digest} has not come as it was sent")).hint("try again")
}
