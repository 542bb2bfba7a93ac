//! What is wrong with a file of the user's, and where: plain data, and its rendering as text.
//!
//! Knows nothing of pipelines, of terminals, or of what a diagnostic leads to.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use unicode_width::UnicodeWidthChar as _;

/// How many columns of a line are shown before and behind the place that is meant, at most.
const BEFORE: usize = 60;
const BEHIND: usize = 100;

/// A file's text, and the name that the user knows the file by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// As the user wrote it on the command line, or relative to where they are.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Where each line but the first starts, in bytes.
    lines: Vec<usize>,
}

/// One thing that is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub document: Arc<Document>,
    /// The place, in bytes of the document's text.
    pub span: Range<usize>,
    /// What is wrong: a lowercase fragment, names in backticks.
    pub message: String,
    /// A few words beside the underline: what was expected there.
    pub label: Option<String>,
    /// What to do about it; may have several lines, where some are to be copied.
    pub hints: Vec<String>,
}

/// Whether rendered text carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI escapes.
    Always,
}

/// A place as people count: from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Document {
    /// A document of that name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
        Arc::new(Self { name: name.into(), text, lines })
    }

    /// The place of a byte; one beyond the text, or within a character, is moved back.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.text.floor_char_boundary(offset);
        let above = self.lines.partition_point(|start| *start <= offset);
        let start = above.checked_sub(1).map_or(0, |last| self.lines[last]);
        Position { line: above + 1, column: self.text[start..offset].chars().count() + 1 }
    }

    fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(2).map_or(0, |last| self.lines[last]);
        let end = self.lines.get(number - 1).map_or(self.text.len(), |next| next - 1);
        self.text[start..end].trim_end_matches('\r')
    }
}

impl Diagnostic {
    /// A message about a place.
    pub fn new(document: &Arc<Document>, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { document: document.clone(), span, message: message.into(), label: None, hints: Vec::new() }
    }

    /// Says beside the underline what was expected.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says which name was probably meant, if one of `known` is near to `name`; otherwise which ones there are.
    #[must_use]
    pub fn suggest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(name, known.iter().copied()) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => self,
            None => self.hint(format!("known here: {}", quoted(known))),
        }
    }

    /// Where the place starts.
    pub fn position(&self) -> Position {
        self.document.position(self.span.start)
    }

    /// `file:line:column: message`, the line with the place underlined, and the hints.
    pub fn render(&self, colour: Colour) -> String {
        let paint = Paint(colour);
        let Position { line, column } = self.position();
        let mut out = String::new();
        let place = paint.bold(&format!("{}:{line}:{column}:", self.document.name));
        let _ = writeln!(out, "{place} {}", paint.bold(&self.message));

        let text = self.document.line(line);
        let (shown, before, underlined) = self.excerpt(text, column);
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let bar = paint.blue("|");
        let label = self.label.as_deref().map(|label| format!(" {label}")).unwrap_or_default();
        let underline = paint.red(&format!("{}{label}", "^".repeat(underlined)));
        let _ = writeln!(out, "{gutter} {bar}");
        let _ = writeln!(out, "{} {bar} {}", paint.blue(&number), shown.trim_end());
        let _ = writeln!(out, "{gutter} {bar} {}{underline}", " ".repeat(before));
        for hint in &self.hints {
            let lead = format!("{gutter} {} ", paint.blue("="));
            let rest = format!("\n{gutter}         ");
            let _ = writeln!(out, "{lead}hint: {}", hint.replace('\n', &rest));
        }
        out
    }

    /// What a terminal shows of a line, how many of its columns are before the place, and how many to underline: never beyond the
    /// line, and at least one.
    fn excerpt(&self, line: &str, column: usize) -> (String, usize, usize) {
        let start = line.char_indices().nth(column - 1).map_or(line.len(), |(start, _)| start);
        let (before, from) = line.split_at(start);
        let wanted = self.span.end.saturating_sub(self.span.start);
        let (place, behind) = from.split_at(from.floor_char_boundary(wanted));
        let (place, behind) = match place.chars().next() {
            Some(_) => (place, behind),
            None => from.split_at(from.chars().next().map_or(0, char::len_utf8)),
        };

        let before = shown(before);
        let left_out = before.char_indices().rev().nth(BEFORE).map_or(0, |(start, _)| start);
        let before = if left_out > 0 { format!("…{}", &before[left_out..]) } else { before };
        let place = cut(shown(place));
        let (columns, underlined) = (width(&before), width(&place).max(1));
        (before + &place + &cut(shown(behind)), columns, underlined)
    }
}

/// Characters as a terminal shows them in a line: without those that would move its cursor.
fn shown(text: &str) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    text.chars().map(visible).collect()
}

/// The beginning of what is long.
fn cut(text: String) -> String {
    match text.char_indices().nth(BEHIND) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How many columns of a terminal characters take.
fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// All of them in the order of their places, with an empty line between.
pub fn render(diagnostics: &[Diagnostic], colour: Colour) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    let rendered: Vec<String> = sorted.iter().map(|diagnostic| diagnostic.render(colour)).collect();
    rendered.join("\n")
}

/// The one of `known` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.to_lowercase().replace('_', "-");
    let wanted = normal(name);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1) && *distance < wanted.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`, each in backticks.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => String::new(),
    }
}

struct Paint(Colour);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            Colour::Never => text.to_owned(),
            Colour::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn blue(&self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, needle: &str) -> Diagnostic {
        let start = text.find(needle).expect("the text holds it");
        Diagnostic::new(&Document::new("f.toml", text), start..start + needle.len(), "no good")
    }

    #[test]
    fn the_place_is_named_and_underlined() {
        let diagnostic = at("a = 1\nbé = 'wrong'\n", "'wrong'").label("a number").hint("try\nthis").hint("or that");
        let expected = "\
f.toml:2:6: no good
  |
2 | bé = 'wrong'
  |      ^^^^^^^ a number
  = hint: try
          this
  = hint: or that
";
        assert_eq!(diagnostic.render(Colour::Never), expected);
    }

    #[test]
    fn a_place_of_several_lines_is_underlined_on_its_first() {
        let rendered = at("a = [\r\n1,\r\n]\r\n", "[\r\n1,\r\n]").render(Colour::Never);
        assert_eq!(rendered, "f.toml:1:5: no good\n  |\n1 | a = [\n  |     ^\n");
    }

    #[test]
    fn every_byte_has_its_line_and_column() {
        let text = "\nab\n\né\r\n  c";
        let document = Document::new("f", text);
        for (offset, _) in text.char_indices() {
            let before = &text[..offset];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            assert_eq!(document.position(offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn places_at_or_beyond_the_end_are_shown() {
        let document = Document::new("f", "ab\n");
        for (span, place) in [(3..3, "f:2:1:"), (2..3, "f:1:3:"), (90..99, "f:2:1:")] {
            assert!(Diagnostic::new(&document, span, "m").render(Colour::Never).starts_with(place));
        }
        assert!(Diagnostic::new(&Document::new("f", ""), 0..0, "m").render(Colour::Never).starts_with("f:1:1: m"));
    }

    #[test]
    fn wide_characters_and_tabs_keep_the_underline_below_its_place() {
        let rendered = at("\t名前 = '値段' # x\n", "'値段'").render(Colour::Never);
        assert_eq!(rendered, "f.toml:1:7: no good\n  |\n1 |  名前 = '値段' # x\n  |         ^^^^^^\n");
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let text = format!("a = \"{}\" , oops, \"{}\"\n", "x".repeat(5000), "y".repeat(5000));
        let rendered = at(&text, "oops").render(Colour::Never);
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines[0], "f.toml:1:5010: no good");
        assert!(lines[2].starts_with("1 | …xxx") && lines[2].ends_with("yyy…"), "{}", lines[2]);
        assert_eq!(lines[2].find("oops").map(|at| lines[2][..at].chars().count()), lines[3].find('^'));
        assert!(lines[2].chars().count() < 200, "{}", lines[2]);
    }

    #[test]
    fn a_file_cannot_move_the_cursor() {
        let rendered = at("a = \u{1b}[2Jx\n", "x").render(Colour::Never);
        assert!(!rendered.contains('\u{1b}'), "{rendered}");
    }

    #[test]
    fn several_are_rendered_in_order_of_place() {
        let document = Document::new("f", "a\nb\n");
        let of = |span| Diagnostic::new(&document, span, "m");
        let rendered = render(&[of(2..3), of(0..1)], Colour::Never);
        assert_eq!(rendered, "f:1:1: m\n  |\n1 | a\n  | ^\n\nf:2:1: m\n  |\n2 | b\n  | ^\n");
    }

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let known = ["plugin", "inputs", "config"];
        for (name, near) in [("plugn", Some("plugin")), ("Input", Some("inputs")), ("cfg", None), ("x", None)] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(nearest("env_file", ["env-file"]), Some("env-file"));
    }

    #[test]
    fn colour_is_only_added_where_wanted() {
        assert!(!at("a", "a").render(Colour::Never).contains('\x1b'));
        assert!(at("a", "a").render(Colour::Always).contains("\x1b[1;31m^\x1b[0m"));
    }
}
