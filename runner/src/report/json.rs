//! One event a line, as JSON: what other programs read.

use std::io::{self, BufWriter, Write};

use runner::event::Stamped;

use super::Reader;

pub(super) struct Json<W: Write>(BufWriter<W>);

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Self {
        Self(BufWriter::new(out))
    }
}

impl<W: Write + Send> Reader for Json<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, &event.event)?;
        self.0.write_all(b"\n")
    }

    fn tick(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner::event::{Event, Outcome};

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
        let mut json = Json::new(&mut out);
        json.event(&Stamped::now(event)).and_then(|()| json.end()).expect("memory can be written to");
        drop(json);
        assert_eq!(
            String::from_utf8(out).expect("JSON is text"),
            "{\"event\":\"run-finished\",\"outcome\":\"succeeded\",\"steps\":4,\"cached\":1,\"slug\":null,\
             \"elapsed_ms\":12,\"url\":\"http://127.0.0.1:8000/\"}\n"
        );
    }
}
