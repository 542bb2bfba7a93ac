//! The format of git's index (gitformat-index, versions 2 to 4, split ones too): which paths one names.
//!
//! Our own reader, because a list of paths is all that is wanted: the libraries that read an index bring all of git along. Knows
//! nothing of where an index is; git's checksum over it is not looked at.

/// Before the path of an entry: times, device, inode, mode, owner and size.
const STAT: usize = 40;
/// Bits of an entry's flags: there are more flags (version 3), and the length of its path as far as it can be told.
const EXTENDED: u16 = 0x4000;
const LENGTH: u16 = 0x0fff;
/// The extension of a split index, which says what becomes of the entries of another one.
const LINK: [u8; 4] = *b"link";
/// The one of an index that names directories which are not checked out by themselves only.
const SPARSE: [u8; 4] = *b"sdir";

/// An index as it is written.
pub(super) struct Index<'a> {
    /// The paths that it names.
    pub(super) named: Vec<Vec<u8>>,
    pub(super) link: Option<Link<'a>>,
    /// An extension without which an index cannot be understood, and which is unknown.
    pub(super) unknown: Option<String>,
}

/// What a split index says of the one that it shares with earlier ones.
pub(super) struct Link<'a> {
    /// The name of that one, as bytes: a hash.
    shared: &'a [u8],
    /// Which of its entries are gone, and which are replaced, by their numbers.
    bitmaps: &'a [u8],
}

impl<'a> Index<'a> {
    /// Reads an index in which names of objects have so many bytes; none where it is damaged or of a version that is unknown.
    pub(super) fn parse(bytes: &'a [u8], name: usize) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"DIRC")?;
        let named = entries(&mut rest, name)?;
        let mut index = Self { named, link: None, unknown: None };
        // Last comes a checksum, which is as long as a name.
        while rest.len() != name {
            let extension: [u8; 4] = take(&mut rest, 4)?.try_into().ok()?;
            let size = usize::try_from(number(&mut rest)?).ok()?;
            let mut content = take(&mut rest, size)?;
            match extension {
                LINK => index.link = Some(Link { shared: take(&mut content, name)?, bitmaps: content }),
                // Those that begin otherwise only make something faster.
                _ if extension != SPARSE && !extension[0].is_ascii_uppercase() => {
                    index.unknown = Some(extension.escape_ascii().to_string());
                }
                _ => {}
            }
        }
        Some(index)
    }

    /// What it names together with the index that it shares; none where it does not fit to that.
    pub(super) fn over(self, shared: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let Some(mut bitmaps) = self.link.map(|link| link.bitmaps) else { return Some(self.named) };
        if bitmaps.is_empty() {
            return Some([shared, &self.named].concat());
        }
        let gone = bits(&mut bitmaps, shared.len())?;
        let replaced = bits(&mut bitmaps, shared.len())?;
        let mut own = self.named.into_iter();
        let mut named = Vec::new();
        for ((path, gone), replaced) in shared.iter().zip(gone).zip(replaced) {
            if replaced {
                // It has the path of what it replaces, and need not repeat it.
                own.next()?;
            }
            if !gone {
                named.push(path.clone());
            }
        }
        named.extend(own);
        Some(named)
    }
}

impl Link<'_> {
    /// The name of the file of the index that is shared; none where there is none.
    pub(super) fn file(&self) -> Option<String> {
        let hex = self.shared.iter().map(|byte| format!("{byte:02x}"));
        self.shared.iter().any(|byte| *byte != 0).then(|| format!("sharedindex.{}", hex.collect::<String>()))
    }
}

/// The entries of an index, whose version and number come first.
fn entries(rest: &mut &[u8], name: usize) -> Option<Vec<Vec<u8>>> {
    let version = number(rest)?;
    let count = usize::try_from(number(rest)?).ok()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    // Each entry has at least its fixed part: a count that promises more is not believed.
    let mut named: Vec<Vec<u8>> = Vec::with_capacity(count.min(rest.len() / (STAT + name)));
    for _ in 0..count {
        let entry = *rest;
        take(rest, STAT + name)?;
        let flags = u16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
        if flags & EXTENDED != 0 {
            take(rest, 2)?;
        }
        let path = if version == 4 {
            let dropped = varint(rest)?;
            let previous = named.last().map(Vec::as_slice).unwrap_or_default();
            let kept = previous.get(..previous.len().checked_sub(dropped)?)?;
            let added = until_nul(rest)?;
            [kept, added].concat()
        } else {
            let path = match usize::from(flags & LENGTH) {
                length if length < usize::from(LENGTH) => take(rest, length)?,
                _ => &rest[..rest.iter().position(|byte| *byte == 0)?],
            };
            if usize::from(flags & LENGTH) == usize::from(LENGTH) {
                take(rest, path.len())?;
            }
            // One to eight zeros, to a multiple of eight bytes.
            let length = entry.len() - rest.len();
            take(rest, 8 - length % 8)?;
            path.to_vec()
        };
        named.push(path);
    }
    Some(named)
}

/// The first bits of a bitmap that is compressed (EWAH, gitformat-bitmap). Each of its markers says of some words of 64 bits that
/// they are all the same, and how many follow as they are.
fn bits(rest: &mut &[u8], count: usize) -> Option<Vec<bool>> {
    let _ = number(rest)?;
    let length = usize::try_from(number(rest)?).ok()?.checked_mul(8)?;
    let mut words =
        take(rest, length)?.chunks_exact(8).map(|word| word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    let _ = number(rest)?;
    let mut bits = Vec::with_capacity(count);
    while let Some(marker) = words.next() {
        let same = usize::try_from(marker >> 1 & 0xffff_ffff).ok()?.saturating_mul(64);
        bits.resize(bits.len() + same.min(count - bits.len()), marker & 1 == 1);
        for _ in 0..marker >> 33 {
            let word = words.next()?;
            bits.extend((0..(count - bits.len()).min(64)).map(|bit| word >> bit & 1 == 1));
        }
    }
    bits.resize(count, false);
    Some(bits)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// A text up to a zero, which is taken too.
fn until_nul<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.iter().position(|byte| *byte == 0)?;
    let text = take(rest, length)?;
    take(rest, 1)?;
    Some(text)
}

/// A number as git's packs write offsets.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value: usize = 0;
    loop {
        let byte = take(rest, 1)?[0];
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        value = value.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_unpacked_as_far_as_they_are_wanted() {
        // Three words of ones, and one as it is.
        let words: [u64; 2] = [1 << 33 | 3 << 1 | 1, 0b101];
        let words: Vec<u8> = words.into_iter().flat_map(u64::to_be_bytes).collect();
        let packed = [&[0, 0, 0, 195, 0, 0, 0, 2][..], &words, &[0, 0, 0, 0]].concat();
        let mut rest = &packed[..];
        let found = bits(&mut rest, 200).expect("bits");
        assert!(rest.is_empty() && found.len() == 200);
        assert!(found[..192].iter().all(|bit| *bit));
        assert_eq!(found[192..], [true, false, true, false, false, false, false, false]);
        assert_eq!(bits(&mut &packed[..], 3), Some(vec![true; 3]));
        assert_eq!(bits(&mut &packed[..packed.len() - 1], 3), None);
    }

    #[test]
    fn any_bytes_are_an_index_or_none() {
        let shared = vec![b"a".to_vec(); 70];
        pipe_fuzz::attack("git-index", |bytes| {
            for name in [20, 32] {
                if let Some(index) = Index::parse(bytes, name) {
                    drop(index.link.as_ref().and_then(Link::file));
                    drop(index.over(&shared));
                }
            }
        });
    }
}
