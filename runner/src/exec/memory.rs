//! Whether a program has failed for want of memory, by its last words. Without a control group each process is refused memory
//! instead of being ended, and nobody but the program knows.

/// What C libraries, Python, Go, C++, node and make say then.
const WORDS: [&str; 6] =
    ["MemoryError", "Cannot allocate memory", "out of memory", "std::bad_alloc", "memory exhausted", "Out of memory"];

/// How far back last words go, in bytes.
const LAST: usize = 4 << 10;

/// What it says of that, if it does.
pub(super) fn refused(stderr: &[u8]) -> Option<&'static str> {
    let last = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(LAST)..]);
    WORDS.into_iter().find(|words| last.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_tell_and_what_was_said_long_before_does_not() {
        assert_eq!(refused(b"Traceback (most recent call last):\nMemoryError\n"), Some("MemoryError"));
        assert_eq!(refused(b"virtual memory exhausted: Cannot allocate memory\n"), Some("Cannot allocate memory"));
        assert_eq!(refused(&[&b"MemoryError\n"[..], &[b'.'; LAST]].concat()), None);
        assert_eq!(refused(b""), None);
    }
}
