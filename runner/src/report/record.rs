//! Keeps a run's events for `pipe runs`. A log that cannot be written is given up: the run is not hurt by it.

use std::io;

use runner::event::Event;
use runner::event::log::{LogWriter, Logs};

use super::Reader;

pub(super) struct Record {
    logs: Logs,
    writer: Option<LogWriter>,
}

impl Record {
    pub(super) fn new(logs: Logs) -> Self {
        Self { logs, writer: None }
    }
}

impl Reader for Record {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        // A run that never began, since its pipeline is wrong, leaves nothing to look up.
        if matches!(event, Event::RunStarted { .. }) {
            self.writer = Some(self.logs.begin()?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(event)?;
        if matches!(event, Event::RunFinished { .. }) { writer.flush() } else { Ok(()) }
    }

    fn tick(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), LogWriter::flush)
    }
}
