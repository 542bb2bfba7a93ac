//! What a request says of the file that it wants: which one it has already, which encodings it reads, and which part.
//! By RFC 9110; knows nothing of files.

use hyper::header::{self, HeaderMap, HeaderName};

/// How much of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it.
    All,
    /// These bytes, at least one.
    Part { start: u64, count: u64 },
    /// Bytes that it does not have.
    Nothing,
}

/// Whether the client has the file of a tag already.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    list(headers, header::IF_NONE_MATCH).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Whether the client reads an encoding.
pub(super) fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    list(headers, header::ACCEPT_ENCODING).any(|accepted| {
        let (name, weight) = accepted.split_once(';').unwrap_or((accepted, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case(encoding) && weight.is_some_and(|weight| weight > 0.0)
    })
}

/// Which part of a file of a length is asked for. Several parts at once are answered with all of it, as a server may.
pub(super) fn range(headers: &HeaderMap, tag: &str, length: u64) -> Range {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|condition| condition != tag) {
        return Range::All;
    }
    let asked = text(header::RANGE)
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'));
    let Some((first, last)) = asked.map(|(first, last)| (first.trim(), last.trim())) else { return Range::All };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(count)) if first.is_empty() => (length.saturating_sub(count), length),
        _ => return Range::All,
    };
    if start < end { Range::Part { start, count: end - start } } else { Range::Nothing }
}

/// The members of a header that is a list.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a value"))])
    }

    #[test]
    fn a_tag_is_known_in_a_list_and_weakly() {
        let known = |value| is_known(&headers(header::IF_NONE_MATCH, value), "\"abc\"");
        assert!(known("\"abc\"") && known("\"x\", W/\"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc"));
    }

    #[test]
    fn an_encoding_of_no_weight_is_refused() {
        let accepts = |value, encoding| accepts(&headers(header::ACCEPT_ENCODING, value), encoding);
        assert!(accepts("gzip, deflate, br", "br") && accepts("GZIP;q=0.5", "gzip"));
        assert!(!accepts("gzip;q=0, br;q=0.0", "gzip") && !accepts("gzip;q=0, br;q=0.0", "br"));
        assert!(!accepts("brotli", "br"));
    }

    #[test]
    fn parts_are_within_the_file() {
        let part = |value| range(&headers(header::RANGE, value), "\"t\"", 10);
        assert_eq!(part("bytes=2-4"), Range::Part { start: 2, count: 3 });
        assert_eq!(part("bytes=7-"), Range::Part { start: 7, count: 3 });
        assert_eq!(part("bytes=7-99"), Range::Part { start: 7, count: 3 });
        assert_eq!(part("bytes=-4"), Range::Part { start: 6, count: 4 });
        assert_eq!(part("bytes=-40"), Range::Part { start: 0, count: 10 });
        assert_eq!(part("bytes=10-"), Range::Nothing);
        assert_eq!(part("bytes=-0"), Range::Nothing);
        for all in ["bytes=4-2", "bytes=0-1,3-4", "lines=1-2", "bytes=x"] {
            assert_eq!(part(all), Range::All, "{all}");
        }
    }

    #[test]
    fn a_part_of_what_has_changed_is_all_of_it() {
        let mut asked = headers(header::RANGE, "bytes=0-0");
        asked.insert(header::IF_RANGE, "\"old\"".parse().expect("a value"));
        assert_eq!(range(&asked, "\"new\"", 10), Range::All);
        assert_eq!(range(&asked, "\"old\"", 10), Range::Part { start: 0, count: 1 });
    }
}
