//! A file that tells of a whole run, in a form that other programs read; written when the run has ended.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runner::event::{Event, Stamped};

use super::{Reader, code_quality, junit, trace};

/// What such a file is made of.
type Render = fn(&[Stamped]) -> Vec<u8>;

/// A file that is there and waits for the run's end: what cannot be written is noticed before anything runs.
pub(crate) struct ReportFile {
    path: PathBuf,
    file: File,
    render: Render,
    events: Vec<Stamped>,
}

impl ReportFile {
    /// Bars on a line of time, for `chrome://tracing`, Perfetto and speedscope.
    pub(crate) fn trace(path: &Path) -> io::Result<Self> {
        Self::create(path, |events| trace::trace(events).to_string().into_bytes())
    }

    /// Steps and tests as JUnit's XML, which every CI service reads.
    pub(crate) fn junit(path: &Path) -> io::Result<Self> {
        Self::create(path, |events| junit::junit(events).into_bytes())
    }

    /// What is wrong where, as GitLab's merge requests show it.
    pub(crate) fn code_quality(path: &Path) -> io::Result<Self> {
        Self::create(path, |events| code_quality::code_quality(events).to_string().into_bytes())
    }

    fn create(path: &Path, render: Render) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::create(path)?, render, events: Vec::new() })
    }

    /// Writes it for a run that is over.
    pub(crate) fn write(mut self, events: &[Stamped]) -> io::Result<()> {
        self.file.write_all(&(self.render)(events))
    }
}

impl Reader for ReportFile {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        // What programs wrote is in no report, and may be much.
        if !matches!(event.event, Event::StepOutput { .. } | Event::StepProgress { .. }) {
            self.events.push(event.clone());
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&(self.render)(&self.events));
        if let Err(error) = &written {
            eprintln!("warning: cannot write `{}`: {error}", self.path.display());
        }
        written
    }
}
