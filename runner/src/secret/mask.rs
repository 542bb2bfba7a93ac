//! Blots texts out of what is written. Knows nothing of where it goes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

/// What stands in a text's place.
pub(super) const MASK: &str = "***";
/// The shortest text that is blotted out, in bytes: `a` or `no` would make everything unreadable and nothing safe.
const SHORTEST: usize = 4;
/// The shortest line of a text of several lines that is blotted out where it stands alone, in bytes.
const SHORTEST_LINE: usize = 16;

/// The texts that nobody must see. By default there are none.
#[derive(Clone, Default)]
pub struct Masks {
    texts: BTreeSet<String>,
    finder: Option<AhoCorasick>,
}

/// Output that comes in pieces: a text may begin in one and end in a later one.
pub struct MaskedStream<'a> {
    masks: &'a Masks,
    /// The end of what has come, which may be the beginning of a text.
    held: Vec<u8>,
}

impl Masks {
    /// Masks for these texts; each line of one that has several is masked by itself too, since output is shown in lines.
    pub fn new<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut masks = Self::default();
        masks.add(texts);
        masks
    }

    /// Adds texts.
    pub fn add<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        let known = self.texts.len();
        for text in texts.into_iter().map(super::needle).filter(|text| text.len() >= SHORTEST) {
            let lines = text.lines().map(super::needle).filter(|line| line.len() >= SHORTEST_LINE);
            self.texts.extend(lines.chain([text]).map(str::to_owned));
        }
        if self.texts.len() != known {
            // Only more texts than memory could hold make no automaton.
            self.finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&self.texts).ok();
        }
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// A text as it may be shown.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.finder {
            Some(finder) if finder.is_match(text) => {
                let mut masked = String::with_capacity(text.len());
                finder.replace_all_with(text, &mut masked, |_, _, out| {
                    out.push_str(MASK);
                    true
                });
                Cow::Owned(masked)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Bytes as they may be kept.
    pub fn mask_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match &self.finder {
            Some(finder) if finder.is_match(&bytes) => {
                let mut masked = Vec::with_capacity(bytes.len());
                finder.replace_all_with_bytes(&bytes, &mut masked, |_, _, out| {
                    out.extend_from_slice(MASK.as_bytes());
                    true
                });
                masked
            }
            _ => bytes,
        }
    }

    /// For output that comes in pieces.
    pub const fn stream(&self) -> MaskedStream<'_> {
        MaskedStream { masks: self, held: Vec::new() }
    }

    /// Where the longest end of `bytes` begins that a text could go on from.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let first = bytes.len().saturating_sub(longest.saturating_sub(1));
        let begins =
            |end: &[u8]| self.texts.iter().any(|text| text.len() > end.len() && text.as_bytes().starts_with(end));
        (first..bytes.len()).find(|start| begins(&bytes[*start..])).unwrap_or(bytes.len())
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masks({})", self.texts.len())
    }
}

impl MaskedStream<'_> {
    /// Takes the next piece and gives what can be shown of it and of what was held back.
    pub fn next(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(finder) = &self.masks.finder else { return piece.to_vec() };
        self.held.extend_from_slice(piece);
        let unfinished = self.masks.unfinished(&self.held);
        let (mut shown, mut done) = (Vec::with_capacity(self.held.len()), 0);
        // A text that begins behind there may turn out to be a longer one.
        for found in finder.find_iter(&self.held).take_while(|found| found.start() < unfinished) {
            shown.extend_from_slice(&self.held[done..found.start()]);
            shown.extend_from_slice(MASK.as_bytes());
            done = found.end();
        }
        let unfinished = unfinished.max(done);
        shown.extend_from_slice(&self.held[done..unfinished]);
        self.held.drain(..unfinished);
        shown
    }

    /// Gives what is left when nothing more comes.
    pub fn end(self) -> Vec<u8> {
        self.masks.mask_bytes(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `text`, in pieces that end at `cuts`.
    fn streamed(masks: &Masks, text: &str, cuts: &[usize]) -> String {
        let mut stream = masks.stream();
        let (mut shown, mut start) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            shown.extend(stream.next(&text.as_bytes()[start..cut]));
            start = cut;
        }
        shown.extend(stream.end());
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn a_text_is_masked_wherever_it_stands() {
        let masks = Masks::new(["hunter22", "hunter22-longer", " padded-text\n"]);
        assert_eq!(masks.mask("a hunter22, hunter22-longer: padded-text"), "a ***, ***: ***");
        assert!(matches!(masks.mask("nothing"), Cow::Borrowed("nothing")));
        assert_eq!(masks.mask_bytes(b"\xffhunter22\xff".to_vec()), b"\xff***\xff");
        assert_eq!(format!("{masks:?}"), "Masks(3)");
    }

    #[test]
    fn lines_of_a_text_are_masked_alone_and_short_ones_are_not() {
        let masks = Masks::new(["-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nshort\n-----END KEY-----\n"]);
        assert_eq!(masks.mask("x MIIEvQIBADANBgkqhkiG9w0 short"), "x *** short");
        assert!(Masks::new(["abc"]).is_empty());
    }

    #[test]
    fn a_text_in_any_two_pieces_is_masked_and_the_rest_comes_through() {
        let masks = Masks::new(["abcabd", "abcabdefg", "bdbdx"]);
        for text in ["..abcabd..", "abcabcabdefgabcabdef", "abdbdx abcab", "abcabdbdx"] {
            let whole = String::from_utf8(masks.mask_bytes(text.as_bytes().to_vec())).expect("text");
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    assert_eq!(streamed(&masks, text, &[first, second]), whole, "{text} at {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn output_is_not_held_back_for_longer_than_it_must() {
        let masks = Masks::new(["secret-token"]);
        let mut stream = masks.stream();
        assert_eq!(stream.next(b"Password: "), b"Password: ");
        assert_eq!(stream.next(b"sec"), b"");
        assert_eq!(stream.next(b"onds\n"), b"seconds\n");
    }
}
