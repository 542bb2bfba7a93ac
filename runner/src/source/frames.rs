//! A file that grows by frames, so that keeping a change costs what the change is. A frame is the digest of its bytes (32 bytes),
//! their length (`u32`, little-endian), and the bytes. What is damaged is as if it had never been written, and so is all that
//! comes after it. Knows nothing of what is in a frame.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::digest::Digest;
use crate::private;
use crate::store::StoreError;

/// Bytes before those of a frame.
const HEAD: usize = 32 + 4;

/// Frames as they were read.
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// How many bytes are whole frames.
    whole: usize,
}

impl Frames {
    /// Those of a file; none where it cannot be read.
    pub(super) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let mut rest = &bytes[..];
        while let Some((_, after)) = split(rest).filter(|(frame, _)| Digest::of(frame.1) == frame.0) {
            rest = after;
        }
        let whole = bytes.len() - rest.len();
        Self { bytes, whole }
    }

    /// How many bytes they take.
    pub(super) fn len(&self) -> usize {
        self.whole
    }

    /// Whether more can be added: what came after something damaged would never be read.
    pub(super) fn are_whole(&self) -> bool {
        self.whole == self.bytes.len()
    }

    /// Each with its digest, in the order in which they were written.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        let mut rest = &self.bytes[..self.whole];
        std::iter::from_fn(move || {
            let (frame, after) = split(rest)?;
            rest = after;
            Some(frame)
        })
    }
}

/// Adds frames to a file, which begins with them if there is none.
pub(super) fn append(path: &Path, frames: &[impl AsRef<[u8]>]) -> Result<(), StoreError> {
    let write = || OpenOptions::new().append(true).create(true).open(path)?.write_all(&joined(frames));
    private::heal(path, write).map_err(StoreError::io("write", path))
}

/// Has a file hold these frames and no others; all of them or those before, whatever happens.
pub(super) fn replace(path: &Path, frames: &[impl AsRef<[u8]>]) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&joined(frames))?;
        file.persist(path)?;
        Ok(())
    };
    private::heal(path, write).map_err(StoreError::io("write", path))
}

/// How many bytes a frame takes.
pub(super) fn size(bytes: &[u8]) -> usize {
    HEAD + bytes.len()
}

fn joined(frames: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(frames.iter().map(|frame| size(frame.as_ref())).sum());
    for frame in frames.iter().map(AsRef::as_ref) {
        joined.extend_from_slice(Digest::of(frame).as_bytes());
        joined.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
        joined.extend_from_slice(frame);
    }
    joined
}

/// The first frame, unchecked, and what comes after it.
#[expect(clippy::type_complexity, reason = "a frame, and the rest")]
fn split(bytes: &[u8]) -> Option<((Digest, &[u8]), &[u8])> {
    let (digest, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (frame, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some(((Digest::from_bytes(*digest), frame), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_and_what_comes_after_it_is_not_there() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("frames");
        assert!(Frames::read(&path).are_whole(), "nothing is whole");
        replace(&path, &[b"one", b"two"]).expect("written");
        append(&path, &[b"three"]).expect("added");
        let texts = |frames: &Frames| frames.iter().map(|(_, frame)| frame.to_vec()).collect::<Vec<_>>();
        let frames = Frames::read(&path);
        assert_eq!(texts(&frames), [&b"one"[..], b"two", b"three"]);
        assert!(frames.are_whole() && frames.iter().all(|(digest, frame)| digest == Digest::of(frame)));

        let bytes = fs::read(&path).expect("read");
        let ends = [HEAD + 3, 2 * HEAD + 6, 3 * HEAD + 11];
        for at in 0..bytes.len() {
            let before = ends.iter().filter(|end| **end <= at).count();
            fs::write(&path, &bytes[..at]).expect("cut");
            assert_eq!(Frames::read(&path).iter().count(), before, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).expect("flipped");
            let frames = Frames::read(&path);
            assert!(!frames.are_whole() && frames.iter().count() == before, "flipped at {at}");
        }
    }
}
