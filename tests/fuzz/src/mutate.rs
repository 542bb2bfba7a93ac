//! Makes other bytes of some that are given: bits and bytes changed, parts moved, repeated, taken out, put in from elsewhere.

/// The longest that bytes become.
const LONGEST: usize = 64 << 10;
/// Numbers that parsers trip over.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
/// Texts that parsers trip over.
const TEXTS: [&[u8]; 24] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b"\\",
    b"/",
    b"../",
    b"//",
    b".",
    b"..",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"{}",
    b"[]",
    b"[[",
    b"null",
    b"\xff",
    "\u{fffd}".as_bytes(),
    "é".as_bytes(),
    "\u{2028}".as_bytes(),
    b"%00",
];

/// Makes mutations, the same ones for the same start and seeds.
pub(crate) struct Mutator<'s> {
    state: u64,
    seeds: &'s [Vec<u8>],
}

impl<'s> Mutator<'s> {
    pub(crate) fn new(start: u64, seeds: &'s [Vec<u8>]) -> Self {
        Self { state: start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, seeds }
    }

    /// A seed with a few mutations.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seed().to_vec();
        for _ in 0..=self.below(6) {
            self.mutate(&mut bytes);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below(bytes.len() - at + 1).min(64);
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            5 => {
                let part = bytes[at..end].repeat(2 + self.below(100));
                drop(bytes.splice(at..end, part));
            }
            6 => {
                let text = TEXTS[self.below(TEXTS.len())];
                drop(bytes.splice(at..end.min(at + text.len()), text.iter().copied()));
            }
            7 => {
                let width = [1, 2, 4, 8][self.below(4)];
                let mut number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                if self.below(2) == 0 {
                    number[..width].reverse();
                }
                drop(bytes.splice(at..(at + width).min(bytes.len()), number.into_iter().take(width)));
            }
            _ => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                let to = from + self.below(other.len() - from + 1).min(256);
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }

    fn seed(&mut self) -> &'s [u8] {
        let index = self.below(self.seeds.len());
        &self.seeds[index]
    }

    /// A number below `limit`, which is more than nothing. (xorshift64)
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 16).unwrap_or(0) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_start_makes_the_same_mutations_and_another_makes_others() {
        let seeds = [b"one".to_vec(), b"another one".to_vec()];
        let some = |start| {
            let mut mutator = Mutator::new(start, &seeds);
            (0..100).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(1).iter().filter(|bytes| !seeds.contains(bytes)).count() > 80);
    }

    #[test]
    fn nothing_can_be_mutated_too() {
        let seeds = [Vec::new()];
        let mut mutator = Mutator::new(1, &seeds);
        assert!((0..100).any(|_| !mutator.next().is_empty()));
    }
}
