//! Log files: one for each process of a release, every line with its time, bounded in size. Knows nothing of who writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a file grows before it becomes the older one of two.
const LIMIT: u64 = 8 << 20;

/// How long a line may be; a longer one is cut into several.
const LONGEST_LINE: usize = 16 << 10;

/// The bytes before the text of each line: `2026-11-22T22:05:24.123Z `.
const STAMP: usize = 25;

/// Writes lines into a file and its predecessor.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    partial: Vec<u8>,
}

impl LogWriter {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, partial: Vec::new() })
    }

    /// Takes what a process wrote; a line is kept once it is whole.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            self.end_line()?;
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > LONGEST_LINE { self.end_line() } else { Ok(()) }
    }

    /// Keeps a last line that has no end.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.partial.is_empty() { Ok(()) } else { self.end_line() }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let mut line = stamp(SystemTime::now()).into_bytes();
        line.push(b' ');
        line.append(&mut self.partial);
        line.push(b'\n');
        if self.size + line.len() as u64 > LIMIT {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = 0;
        }
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }
}

/// Reads a log file as it grows.
pub struct Follower {
    path: PathBuf,
    offset: u64,
    partial: String,
}

impl Follower {
    /// From now on.
    pub fn from_end(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: fs::metadata(path).map_or(0, |meta| meta.len()), partial: String::new() }
    }

    /// The whole lines that came since the last call, with their times.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        self.offset += file.read_to_end(&mut bytes)? as u64;
        self.partial.push_str(&String::from_utf8_lossy(&bytes));
        let whole = self.partial.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.partial[..whole].lines().map(str::to_owned).collect();
        self.partial.drain(..whole);
        Ok(lines)
    }
}

/// The last lines of a log, with their times.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let mut text = String::new();
    for path in [older(path), path.to_owned()] {
        text.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
    }
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// A line without its time.
pub fn text(line: &str) -> &str {
    line.get(STAMP..).unwrap_or_default()
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// A time in UTC as RFC 3339 writes it, to the millisecond.
pub fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The date of a day since 1970, by the algorithm of Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let at = |seconds| stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_385_124), "2026-11-22T22:05:24.000Z");
    }

    #[test]
    fn lines_are_kept_whole_and_the_oldest_are_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("web.log");
        let mut log = LogWriter::open(&path).expect("a log");
        let mut follower = Follower::from_end(&path);
        log.write(b"one\ntw").expect("written");
        log.write(b"o\nlast").expect("written");
        let read: Vec<String> = follower.read().expect("lines").iter().map(|line| text(line).to_owned()).collect();
        assert_eq!(read, ["one", "two"]);
        log.finish().expect("written");
        assert_eq!(text(&tail(&path, 1)[0]), "last");

        let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<u8>>();
        for _ in 0..3 * (LIMIT >> 10) {
            log.write(&line).expect("written");
        }
        assert!(fs::metadata(&path).expect("a log").len() <= LIMIT);
        assert!(fs::metadata(older(&path)).expect("an older log").len() <= LIMIT);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2);
    }
}
