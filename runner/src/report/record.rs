//! Keeps a run's events for `pipe runs`. A log that cannot be written is given up: the run is not hurt by it.

use std::io;

use runner::event::log::{LogWriter, Logs};
use runner::event::{Event, Stamped};

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
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        // A run that never began, since its pipeline is wrong, leaves nothing to look up.
        if self.writer.is_none() && matches!(event.event, Event::RunStarted { .. }) {
            self.writer = Some(self.logs.begin()?);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write(event))
    }

    fn tick(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), LogWriter::flush)
    }

    fn end(&mut self) -> io::Result<()> {
        self.tick()
    }
}
