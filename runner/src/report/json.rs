//! One event a line, as JSON: what other programs read.

use std::io::{self, Write};

use runner::event::Event;

use super::Reader;

pub(super) struct Json<W>(W);

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Self {
        Self(out)
    }
}

impl<W: Write> Reader for Json<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner::event::Outcome;

    #[test]
    fn the_last_line_has_the_promised_keys_and_no_others() {
        let mut out = Vec::new();
        let event = Event::RunFinished {
            outcome: Outcome::Succeeded,
            steps: 4,
            cached: 1,
            slug: None,
            elapsed_ms: 12,
            url: Some("http://127.0.0.1:8000/".into()),
        };
        Json::new(&mut out).event(&event).expect("memory can be written to");
        assert_eq!(
            String::from_utf8(out).expect("JSON is text"),
            "{\"event\":\"run-finished\",\"outcome\":\"succeeded\",\"steps\":4,\"cached\":1,\"slug\":null,\
             \"elapsed_ms\":12,\"url\":\"http://127.0.0.1:8000/\"}\n"
        );
    }
}
