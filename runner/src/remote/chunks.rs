//! Large blobs in parts whose ends follow from the content, so that a change in one place leaves all other parts as they are,
//! also where bytes were put in or taken out. Knows nothing of where blobs are.

use fastcdc::v2020::FastCDC;

use crate::digest::Digest;

/// From this size on a blob is cut, in bytes. A smaller one is sent whole: compressed it is not much more than a part.
pub(super) const LARGE: u64 = 64 << 10;

/// From this size on a blob is not held in memory, and sent whole, in bytes.
pub(super) const HUGE: u64 = 128 << 20;

/// Bytes of the smallest part, of most of them, and of the largest. The list of parts costs 36 bytes for each.
const SIZES: (usize, usize, usize) = (4 << 10, 16 << 10, LONGEST as usize);

/// Bytes of the largest part.
pub(super) const LONGEST: u32 = 64 << 10;

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) digest: Digest,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// Whether a blob of so many bytes is cut.
pub(super) fn is_cut(size: u64) -> bool {
    (LARGE..HUGE).contains(&size)
}

/// The parts of a blob, in their order.
pub(super) fn parts(bytes: &[u8]) -> Vec<Part> {
    let (least, usual, most) = SIZES;
    FastCDC::new(bytes, least, usual, most)
        .map(|chunk| Part {
            digest: Digest::of(&bytes[chunk.offset..chunk.offset + chunk.length]),
            offset: chunk.offset as u64,
            length: u32::try_from(chunk.length).unwrap_or(u32::MAX),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Bytes that do not compress and do not repeat.
    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn parts_are_the_whole_and_a_line_put_in_changes_few_of_them() {
        let before = noise(4 << 20);
        let cut = parts(&before);
        let mut end = 0;
        for part in &cut {
            assert_eq!(part.offset, end);
            end += u64::from(part.length);
        }
        assert_eq!(end, before.len() as u64);

        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, *b"one more line\n");
        let known: HashSet<Digest> = cut.iter().map(|part| part.digest).collect();
        let new: u32 = parts(&after).iter().filter(|part| !known.contains(&part.digest)).map(|part| part.length).sum();
        assert!(new < 200_000, "{new} bytes of new parts");
    }
}
