//! A run as an OpenTelemetry trace, sent by OTLP over HTTP as JSON when the run has ended.
//!
//! A collector that is slow or gone costs a warning, never the run.

mod endpoint;
mod span;

use std::io;

use runner::event::{Event, Stamped};

use super::Reader;

pub(crate) use endpoint::{Endpoint, EndpointError};

/// How many spans are sent at one time: servers refuse requests that are too large, often from 4 MiB on.
const BATCH: usize = 2_000;

/// Gathers a run's events and sends its trace at the end.
pub(crate) struct Otlp {
    endpoint: Endpoint,
    events: Vec<Stamped>,
}

impl Otlp {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, events: Vec::new() }
    }

    /// Sends the trace of a run that is over.
    pub(crate) fn send(&self, events: &[Stamped]) -> Result<(), EndpointError> {
        let spans = span::spans(events);
        spans.chunks(BATCH).try_for_each(|batch| self.endpoint.post(&span::request(batch)))
    }
}

impl Reader for Otlp {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        if !matches!(event.event, Event::StepOutput { .. } | Event::StepProgress { .. }) {
            self.events.push(event.clone());
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Err(error) = self.send(&self.events) {
            eprintln!("warning: {error}");
        }
        Ok(())
    }
}
