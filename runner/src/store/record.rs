//! The record of an action, as segments hold it: all that an index says of it, and what it gave.
//!
//! The key (32 bytes), when it was put (`u64`, nanoseconds since 1970), whether it has a family (1 byte) and which (32 bytes),
//! how many digests it names (`u32`), those, and the rest is what the action's owner wrote. Numbers are little-endian.

use std::borrow::Cow;

use crate::digest::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: Digest,
    pub(super) created: u64,
    pub(super) family: Option<Digest>,
    /// All that it stands on, and that is kept with it.
    pub(super) refs: Cow<'a, [Digest]>,
    pub(super) content: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + 32 * self.refs.len() + self.content.len());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.push(u8::from(self.family.is_some()));
        out.extend_from_slice(self.family.as_ref().map_or(&[0; 32], |family| family.as_bytes()));
        let refs = u32::try_from(self.refs.len()).expect("an action names fewer digests");
        out.extend_from_slice(&refs.to_le_bytes());
        self.refs.iter().for_each(|digest| out.extend_from_slice(digest.as_bytes()));
        out.extend_from_slice(self.content);
        out
    }

    /// None for what [`Record::encode`] would not have written.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk()?;
        let (created, rest) = rest.split_first_chunk()?;
        let (has_family, rest) = rest.split_first()?;
        let (family, rest) = rest.split_first_chunk()?;
        let family = match has_family {
            0 if *family == [0; 32] => None,
            1 => Some(Digest::from_bytes(*family)),
            _ => return None,
        };
        let (count, rest) = rest.split_first_chunk()?;
        let (refs, content) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(32)?)?;
        Some(Self {
            key: Digest::from_bytes(*key),
            created: u64::from_le_bytes(*created),
            family,
            refs: refs.as_chunks::<32>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect(),
            content,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        for family in [None, Some(Digest::of(b"family"))] {
            let refs = vec![Digest::of(b"a"), Digest::of(b"b")].into();
            let record = Record { key: Digest::of(b"key"), created: 7, family, refs, content: b"content" };
            assert_eq!(Record::decode(&record.encode()), Some(record.clone()));
            let whole = record.encode();
            assert!((0..whole.len() - 7).all(|len| Record::decode(&whole[..len]).is_none()));
        }
    }

    #[test]
    fn any_bytes_are_the_one_encoding_of_an_action_or_none() {
        pipe_fuzz::attack("action", |bytes| {
            if let Some(record) = Record::decode(bytes) {
                assert_eq!(record.encode(), bytes);
            }
        });
    }

    /// A change here makes every store forget its actions.
    #[test]
    fn the_encoding_is_pinned() {
        let refs = vec![Digest::of(b"a")].into();
        let record = Record { key: Digest::of(b"key"), created: 7, family: None, refs, content: b"content" };
        assert_eq!(Digest::of(&record.encode()).short(), "a8edb09d5d8f");
    }
}
