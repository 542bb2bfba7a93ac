//! Log files: one for each process of a release, every line with its time, bounded in size and number. Knows nothing of who
//! writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a file grows before it becomes the older one of two.
const LIMIT: u64 = 8 << 20;

/// How long a line may be; a longer one is cut into several.
const LONGEST_LINE: usize = 16 << 10;

/// The bytes before the text of each line: `2026-11-22T22:05:24.123Z `.
const STAMP: usize = 25;

/// The first line of a file that goes on with another one: what a reader sees of lines that are no longer there.
const DROPPED: &str = "[earlier lines were dropped]";

/// How many releases of a target keep their logs.
const KEPT_RELEASES: u64 = 20;

/// Says something in the agent's own log, which is where its standard error leads. That nothing can be written there, for its disk is
/// full, is no reason to end what it is about.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "pipe agent: {text}");
}

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
        let line = std::mem::take(&mut self.partial);
        if self.size + (STAMP + line.len() + 1) as u64 > LIMIT {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = 0;
            self.append(DROPPED.as_bytes())?;
        }
        self.append(&line)
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let line = [stamp(SystemTime::now()).as_bytes(), b" ", text, b"\n"].concat();
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }
}

/// Says something of a process in its log, which somebody else writes and sees to.
pub(crate) fn remark(path: &Path, text: &str) {
    let line = format!("{} [pipe: {text}]\n", stamp(SystemTime::now()));
    // A log that cannot be written is no reason to let go of the process.
    let _ = OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
}

/// Reads a log file as it grows, also on into its successors.
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Follower {
    /// From its first line on.
    pub fn from_start(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, partial: Vec::new() }
    }

    /// From now on.
    pub fn from_end(path: &Path) -> Self {
        let file = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file)).ok();
        Self { file, ..Self::from_start(path) }
    }

    /// The whole lines that came since the last call, with their times.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        // Opened before the rest of an older file is read: that one has its end then.
        let newest = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.partial)?;
        }
        if let Some(mut newest) = newest
            && !self.file.as_ref().is_some_and(|file| is_same(file, &newest))
        {
            newest.read_to_end(&mut self.partial)?;
            self.file = Some(newest);
        }
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.partial.drain(..whole).collect();
        let lines = String::from_utf8_lossy(&lines);
        Ok(lines.lines().filter(|line| text(line) != DROPPED).map(str::to_owned).collect())
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    id(one) == id(other)
}

/// The last lines of a log, with their times. Where older ones were dropped the first line says so.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let [before, now] = [older(path), path.to_owned()].map(|path| fs::read(path).unwrap_or_default());
    let [before, now] = [&before, &now].map(|bytes| String::from_utf8_lossy(bytes));
    // Nothing is missing between the two.
    let goes_on = !before.is_empty();
    let all: Vec<&str> = before.lines().chain(now.lines().filter(|line| !goes_on || text(line) != DROPPED)).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Removes logs of old releases from a target's directory, but not of those that are `serving`, once release `newest` begins.
pub(crate) fn prune(directory: &Path, newest: u64, serving: &[u64]) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u64>().ok());
        if number.is_some_and(|number| number + KEPT_RELEASES <= newest && !serving.contains(&number)) {
            // What cannot be removed now is tried again by the next release.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Empties a log that its writers only append to, once it is too long.
pub(crate) fn bound(path: &Path) {
    let file = OpenOptions::new().append(true).open(path);
    if let Ok(mut file) = file
        && file.metadata().is_ok_and(|meta| meta.len() > LIMIT)
        && file.set_len(0).is_ok()
    {
        let _ = writeln!(file, "{DROPPED}");
    }
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
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
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
    fn lines_are_kept_whole() {
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
        remark(&path, "it ends");
        log.write(b"more\n").expect("written");
        assert_eq!(tail(&path, 2).iter().map(|line| text(line)).collect::<Vec<_>>(), ["[pipe: it ends]", "more"]);
    }

    #[test]
    fn where_lines_are_missing_a_line_says_so_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("web.log");
        let mut log = LogWriter::open(&path).expect("a log");
        let mut follower = Follower::from_start(&path);
        let mut number = 0;
        let mut write = |log: &mut LogWriter, bytes: u64| {
            for _ in 0..bytes >> 10 {
                log.write(format!("{number:0>1023}\n").as_bytes()).expect("written");
                number += 1;
            }
            number
        };
        write(&mut log, LIMIT / 2);
        let mut followed = follower.read().expect("lines").len();
        let all = write(&mut log, LIMIT);
        followed += follower.read().expect("lines").len();
        assert_eq!(followed, all, "a follower loses no line to the change of files");
        assert_eq!(tail(&path, all + 9).len(), all);

        let all = write(&mut log, 2 * LIMIT);
        let left = tail(&path, all);
        assert!(left.len() < all);
        assert_eq!(text(&left[0]), DROPPED);
        let numbers: Vec<usize> = left[1..].iter().map(|line| text(line).parse().expect("a number")).collect();
        assert_eq!(numbers, (all - numbers.len()..all).collect::<Vec<_>>());
        assert!(fs::metadata(&path).expect("a log").len() <= LIMIT);
        assert!(fs::metadata(older(&path)).expect("an older log").len() <= LIMIT);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2);
    }

    #[test]
    fn logs_of_old_releases_are_removed_but_not_of_what_serves() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["1-web.log", "2-web.log", "2-web.log.1", "3-release.log", "22-web.log", "other"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        prune(dir.path(), 22, &[1]);
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["1-web.log", "22-web.log", "3-release.log", "other"]);
    }
}
