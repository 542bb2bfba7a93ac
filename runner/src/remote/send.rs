//! The command's side of sending a slug: gives the host what it asks for, and nothing that is not part of what was offered.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::chunks::{self, Part};
use super::wire::{Want, answer, read_want};
use crate::agent::protocol::Failure;
use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::tree::Tree;

/// How hard to compress: as fast as a good line, and most of what can be won.
const LEVEL: i32 = 3;

/// Why a slug did not get there.
#[derive(Debug)]
pub(super) enum SendError {
    /// The connection was lost; what `ssh` says of it is read elsewhere.
    Lost,
    /// This machine's store.
    Store(StoreError),
    /// The host says no.
    Refused(Failure),
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        match StoreError::inside(error) {
            Ok(error) => Self::Store(error),
            Err(_) => Self::Lost,
        }
    }
}

/// Answers a host until it lacks nothing; `roots` are the trees that it may have, with all that is in them.
pub(super) fn send(store: &Store, roots: &[Digest], from: &mut impl Read, to: impl Write) -> Result<(), SendError> {
    let mut sender = Sender {
        store,
        offered: roots.iter().copied().collect(),
        cut: HashMap::new(),
        to: zstd::stream::write::Encoder::new(to, LEVEL)?,
    };
    match sender.answer_all(from) {
        // A host that cannot go on does not wait for the end of what it had asked for, but it has said why.
        Err(SendError::Lost) => Err(last_words(from).map_or(SendError::Lost, SendError::Refused)),
        Ok(()) => Ok(sender.to.finish()?.flush()?),
        result => result,
    }
}

/// What a host has said before it went.
fn last_words(from: &mut impl Read) -> Option<Failure> {
    loop {
        if let Want::Failed(failure) = read_want(from).ok()? {
            return Some(failure);
        }
    }
}

struct Sender<'a, W: Write> {
    store: &'a Store,
    /// What the host may ask for.
    offered: HashSet<Digest>,
    /// Blobs whose parts were named.
    cut: HashMap<Digest, Vec<Part>>,
    to: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> Sender<'_, W> {
    fn answer_all(&mut self, from: &mut impl Read) -> Result<(), SendError> {
        loop {
            match read_want(from)? {
                Want::Trees(digests) => digests.iter().try_for_each(|digest| self.tree(digest))?,
                Want::Blobs { digests, in_parts } => {
                    digests.iter().try_for_each(|digest| self.blob(digest, in_parts))?;
                }
                Want::Parts(blobs) => blobs.iter().try_for_each(|(digest, parts)| self.parts(digest, parts))?,
                Want::Nothing => return Ok(()),
                Want::Failed(failure) => return Err(SendError::Refused(failure)),
            }
            self.to.flush()?;
        }
    }

    fn tree(&mut self, digest: &Digest) -> Result<(), SendError> {
        self.refuse_unless_offered(digest)?;
        match self.store.get(digest) {
            Ok(bytes) => {
                if let Ok(tree) = Tree::decode(&bytes) {
                    self.offered.extend(tree.digests());
                }
                Ok(self.whole(&bytes)?)
            }
            Err(error) => self.missing(error),
        }
    }

    fn blob(&mut self, digest: &Digest, in_parts: bool) -> Result<(), SendError> {
        self.refuse_unless_offered(digest)?;
        let mut reader = match self.store.open_blob(digest) {
            Ok(reader) => reader,
            Err(error) => return self.missing(error),
        };
        let size = reader.size();
        if !(in_parts && chunks::is_cut(size)) {
            self.to.write_all(&[answer::WHOLE])?;
            self.to.write_all(&size.to_le_bytes())?;
            io::copy(&mut reader, &mut self.to)?;
            return Ok(());
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let parts = chunks::parts(&bytes);
        self.to.write_all(&[answer::PARTS])?;
        self.to.write_all(&u32::try_from(parts.len()).map_err(io::Error::other)?.to_le_bytes())?;
        for part in &parts {
            self.to.write_all(part.digest.as_bytes())?;
            self.to.write_all(&part.length.to_le_bytes())?;
        }
        self.cut.insert(*digest, parts);
        Ok(())
    }

    fn parts(&mut self, digest: &Digest, wanted: &[u32]) -> Result<(), SendError> {
        let parts = self.cut.get(digest).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut reader = self.store.open_blob(digest).map_err(SendError::Store)?;
        for number in wanted {
            let part = parts.get(*number as usize).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            reader.seek(SeekFrom::Start(part.offset))?;
            io::copy(&mut reader.by_ref().take(part.length.into()), &mut self.to)?;
        }
        Ok(())
    }

    fn whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(&[answer::WHOLE])?;
        self.to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        self.to.write_all(bytes)
    }

    /// A host that does not lack what this machine does not have is none the worse for it; one that does is told so.
    fn missing(&mut self, error: StoreError) -> Result<(), SendError> {
        let _ = self.to.write_all(&[answer::MISSING]).and_then(|()| self.to.flush());
        Err(SendError::Store(error))
    }

    fn refuse_unless_offered(&self, digest: &Digest) -> Result<(), SendError> {
        if self.offered.contains(digest) {
            return Ok(());
        }
        Err(SendError::Refused(Failure::new(format!("it asks for {digest}, which is no part of the slug"))))
    }
}
