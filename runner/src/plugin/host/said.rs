//! How much of what a plugin says is passed on. Knows nothing of what it says.

use std::time::{Duration, Instant};

/// The longest message, in bytes.
pub(in crate::plugin) const MESSAGE: usize = 16 << 10;
/// The longest name of something, in bytes.
pub(in crate::plugin) const NAME: usize = 100;
/// What a message costs besides its text, in bytes: it is told with a time and a step.
pub(in crate::plugin) const EACH: usize = 100;
/// How long after some progress more of it is of no use to anybody.
const PAUSE: Duration = Duration::from_millis(100);

/// A text of no more than so many bytes; one that was longer says so.
pub(in crate::plugin) fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most);
    format!("{}… ({} more bytes were cut off)", &text[..end], text.len() - end)
}

/// When progress was told last.
#[derive(Default)]
pub(in crate::plugin) struct Paced(Option<Instant>);

impl Paced {
    /// Whether it is time to tell of some more.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|told| told.elapsed() >= PAUSE);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}
