//! The event logs of past runs: one file a run, one event a line, each with its time. Knows nothing of what events mean.
//!
//! A log is an account, not a promise: it is written as the run goes and never flushed to the disk, and where it cannot be
//! written the run goes on without it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{EVENTS_VERSION, Stamped};
use crate::private;

/// How many runs are remembered.
const KEPT: usize = 200;

/// The logs of all runs of a home.
#[derive(Debug, Clone)]
pub struct Logs {
    dir: PathBuf,
}

/// The log of a run that goes on.
#[derive(Debug)]
pub struct LogWriter {
    file: BufWriter<File>,
    /// The number of the run.
    pub number: u64,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is none of this number.
    #[error("there is no run {0}")]
    Unknown(u64),
    /// A later `pipe` wrote it.
    #[error(
        "run {number} is told in version {version} of the event log, and {EVENTS_VERSION} is the latest known here"
    )]
    Newer {
        /// The run.
        number: u64,
        /// The version of its log.
        version: u64,
    },
    /// The file system refused.
    #[error("cannot read `{path}`")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Logs {
    /// The logs in a home, which need not be there yet.
    pub fn of(home: &Path) -> Self {
        Self { dir: home.join("runs") }
    }

    /// Begins the log of a run, and forgets the oldest ones.
    pub fn begin(&self) -> io::Result<LogWriter> {
        private::directory(&self.dir)?;
        let known = self.numbers();
        for old in known.iter().skip(KEPT - 1) {
            // Two runs may want to remove the same one.
            let _ = fs::remove_file(self.path(*old));
        }
        let mut number = known.first().map_or(1, |last| last + 1);
        loop {
            match File::create_new(self.path(number)) {
                Ok(file) => return Ok(LogWriter { file: BufWriter::new(file), number }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The numbers of the runs that are remembered, the latest first.
    pub fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()).collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        numbers
    }

    /// The events of a run in their order, without those that are not known here. A line that was cut off, as by a power failure,
    /// ends them.
    pub fn read(&self, number: u64) -> Result<Vec<Stamped>, LogError> {
        let path = self.path(number);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LogError::Unknown(number),
            _ => LogError::Io { path: path.clone(), source },
        };
        let mut events = Vec::new();
        for line in BufReader::new(File::open(&path).map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
            if let Some(version) = event["version"].as_u64().filter(|version| *version > u64::from(EVENTS_VERSION)) {
                return Err(LogError::Newer { number, version });
            }
            events.extend(serde_json::from_value(event));
        }
        Ok(events)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.jsonl"))
    }
}

impl LogWriter {
    /// Adds an event.
    pub fn write(&mut self, event: &Stamped) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, event)?;
        self.file.write_all(b"\n")
    }

    /// Hands what is gathered to the operating system, so that others can read it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn note(text: &str) -> Stamped {
        Stamped { at: 1, event: Event::Note { message: text.to_owned() } }
    }

    #[test]
    fn a_log_is_read_back_up_to_where_it_was_cut() {
        let home = tempfile::tempdir().expect("a directory");
        let logs = Logs::of(home.path());
        let mut writer = logs.begin().expect("begun");
        for text in ["one", "two"] {
            writer.write(&note(text)).expect("written");
        }
        writer.flush().expect("flushed");
        assert_eq!((writer.number, logs.read(1).expect("read").len()), (1, 2));
        let path = home.path().join("runs/1.jsonl");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, &text[..text.len() - 5]).expect("cut");
        assert_eq!(logs.read(1).expect("read").len(), 1);
        assert!(matches!(logs.read(2), Err(LogError::Unknown(2))));
    }

    #[test]
    fn only_the_latest_runs_are_remembered() {
        let home = tempfile::tempdir().expect("a directory");
        let logs = Logs::of(home.path());
        for _ in 0..KEPT + 5 {
            logs.begin().expect("begun");
        }
        let numbers = logs.numbers();
        assert_eq!((numbers.len(), numbers[0], numbers[KEPT - 1]), (KEPT, KEPT as u64 + 5, 6));
    }

    #[test]
    fn any_bytes_are_a_record_or_none() {
        pipe_fuzz::attack("record", |bytes| {
            drop(serde_json::from_slice::<Stamped>(bytes));
            drop(postcard::from_bytes::<crate::step::StepRecord>(bytes));
            drop(serde_json::from_slice::<crate::exec::Outcome>(bytes));
        });
    }
}
