//! The event logs of past runs: one file a run, one event a line, each with its time. Knows nothing of what events mean.
//!
//! A log is an account, not a promise: it is written as the run goes and never flushed to the disk, and where it cannot be
//! written the run goes on without it.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
                Ok(file) => {
                    // Held until the run ends: garbage is collected around it. Where nothing can be locked it may be collected.
                    let _ = file.try_lock();
                    return Ok(LogWriter { file: BufWriter::new(file), number });
                }
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

    /// How many logs there are, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let sizes = self.numbers().into_iter().filter_map(|number| Some(fs::metadata(self.path(number)).ok()?.len()));
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }

    /// Removes the logs of runs that ended so long ago, and of the others the oldest, which do not fit into so many bytes; gives the
    /// bytes that this frees, and those that stay.
    pub fn collect(&self, ended_for: Duration, room: u64) -> io::Result<(u64, u64)> {
        let (mut freed, mut kept) = (0, 0);
        let mut is_full = false;
        for number in self.numbers() {
            let path = self.path(number);
            // Another process may have removed it meanwhile.
            let Ok(file) = File::open(&path) else { continue };
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                continue;
            }
            let is_old = SystemTime::now().duration_since(metadata.modified()?).is_ok_and(|age| age >= ended_for);
            let goes_on = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            is_full |= !goes_on && kept + metadata.len() > room;
            if goes_on || !(is_old || is_full) {
                kept += metadata.len();
            } else {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    removed => freed += removed.map_or(0, |()| metadata.len()),
                }
            }
        }
        Ok((freed, kept))
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
    fn old_logs_and_those_that_do_not_fit_are_collected_but_never_that_of_a_run_that_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let logs = Logs::of(home.path());
        let goes_on = logs.begin().expect("begun");
        for number in 2..=5 {
            drop(logs.begin().expect("begun"));
            fs::write(logs.path(number), [b' '; 100]).expect("written");
        }
        let day = Duration::from_hours(24);
        let old = File::options().append(true).open(logs.path(5)).expect("opened");
        old.set_modified(SystemTime::now() - 2 * day).expect("aged");
        assert_eq!(logs.collect(day, 250).expect("collected"), (200, 200));
        assert_eq!((logs.numbers(), logs.size()), (vec![4, 3, 1], (3, 200)));
        assert_eq!(logs.collect(Duration::ZERO, 0).expect("collected"), (200, 0));
        assert_eq!(logs.numbers(), [1]);
        drop(goes_on);
        logs.collect(Duration::ZERO, 0).expect("collected");
        assert_eq!(logs.numbers(), [0; 0]);
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
