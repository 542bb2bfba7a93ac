//! Text that programs wrote, as it may be shown: without what would do more to a terminal than colour a line. A title, a moved
//! cursor or an answer that the terminal types by itself would be the program's word in the user's mouth.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

const ESCAPE: char = '\x1b';

/// The text without control characters and escape sequences; with `colours` those stay that only colour, and end with it.
pub(super) fn neutral(text: &str, colours: bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_control(c) && !matches!(c, '\n' | '\t')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut is_coloured = false;
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            // The end of a line, or a line that is written over: what comes stands beside what was.
            '\r' if matches!(chars.peek(), Some('\n') | None) => {}
            '\r' => out.push(' '),
            ESCAPE | '\u{80}'..='\u{9f}' => {
                let introducer = if c == ESCAPE { chars.next_if(|next| *next != '\n') } else { seven_bit(c) };
                if let Some(colour) =
                    introducer.and_then(|introducer| sequence(introducer, &mut chars)).filter(|_| colours)
                {
                    is_coloured = !matches!(colour.trim_matches(['0', ';']), "");
                    out.extend(["\x1b[", &colour, "m"]);
                }
            }
            c if is_control(c) => {}
            c => out.push(c),
        }
    }
    if is_coloured {
        out.push_str("\x1b[0m");
    }
    Cow::Owned(out)
}

/// Whether it is shown as something else than itself; with what turns the direction of writing round, and all that stands beside it.
pub(super) fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The line that a terminal would be left with where one is written over and over: a bar that grows.
pub(super) fn last_written(line: &str) -> &str {
    line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default()
}

/// What stands behind an escape for one of the control characters that are one of eight bits.
fn seven_bit(c: char) -> Option<char> {
    char::from_u32(u32::from(c) - 0x40)
}

/// Skips a sequence that has begun with an escape and this character; gives the parameters of one that only colours.
fn sequence(introducer: char, chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    match introducer {
        '[' => {
            let mut parameters = String::new();
            while let Some(c) = chars.next_if(|c| matches!(c, '\x20'..='\x3f')) {
                parameters.push(c);
            }
            let last = chars.next_if(|c| matches!(c, '\x40'..='\x7e'))?;
            (last == 'm' && parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':')))
                .then_some(parameters)
        }
        // Strings: titles, links, what is to be put into the clipboard. One without an end does not swallow the next line.
        ']' | 'P' | 'X' | '^' | '_' => {
            while let Some(c) = chars.next_if(|c| *c != '\n') {
                if matches!(c, '\x07' | '\u{9c}') || c == ESCAPE && chars.next_if_eq(&'\\').is_some() {
                    break;
                }
            }
            None
        }
        '\x20'..='\x2f' => {
            while chars.next_if(|c| matches!(c, '\x20'..='\x2f')).is_some() {}
            chars.next_if(|c| matches!(c, '\x30'..='\x7e'));
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_alone_is_left_alone() {
        assert!(matches!(neutral("a\tb\nÄ → 日本", true), Cow::Borrowed(_)));
    }

    #[test]
    fn colours_stay_where_they_are_wanted_and_end_with_the_text() {
        let text = "\x1b[1;31mred\x1b[0m and \x1b[38:5:1mmore";
        assert_eq!(neutral(text, true), format!("{text}\x1b[0m"));
        assert_eq!(neutral(text, false), "red and more");
        assert_eq!(neutral("\x1b[31mred\x1b[m", true), "\x1b[31mred\x1b[m");
    }

    #[test]
    fn everything_else_goes() {
        for (text, shown) in [
            ("\x1b[2J\x1b[Hgone", "gone"),
            ("\x1b]0;title\x07a\x1b]52;c;cm0=\x1b\\b", "ab"),
            ("\x1bP$q\"p\x1b\\a\x1b[6nb\x1b[?1049hc", "abc"),
            ("a\x1b]0;no end\nb", "a\nb"),
            ("\u{9b}2Ja\u{9d}0;t\u{9c}b\u{85}c", "abc"),
            ("bell\x07 back\x08 nul\0 del\x7f", "bell back nul del"),
            ("\x1b(0a\x1bcb\x1b", "ab"),
            ("a\x1b[>4mb\x1b[3", "ab"),
            ("rm \u{202e}txt.\u{202c}", "rm txt."),
            ("10%\r20%\r\n", "10% 20%\n"),
        ] {
            assert_eq!(neutral(text, true), shown, "{text:?}");
            assert_eq!(neutral(text, false), shown, "{text:?}");
        }
    }

    #[test]
    fn of_a_bar_that_grows_the_end_is_seen() {
        assert_eq!(last_written("10%\r20%\r100%\r"), "100%");
        assert_eq!(last_written("plain"), "plain");
        assert_eq!(last_written("\r"), "");
    }
}
