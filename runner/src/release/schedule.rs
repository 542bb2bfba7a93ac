//! When a cron entry is due: five fields as in every crontab, or a word such as `@daily`; in UTC, as everything that processes see.
//! Knows nothing of what is run.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::agent::log::civil;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A day that comes at all comes within so many days: the 29th of February may be eight years away.
const ALL_DAYS: u64 = 8 * 366 + 1;

/// What stands for five fields.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The fields: what each is called, from where to where it goes, and the names that stand for its numbers from the first on.
const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, names: &[] },
    Field { name: "hour", first: 0, last: 23, names: &[] },
    Field { name: "day", first: 1, last: 31, names: &[] },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    // Both 0 and 7 are Sunday.
    Field { name: "weekday", first: 0, last: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

struct Field {
    name: &'static str,
    first: u64,
    last: u64,
    names: &'static [&'static str],
}

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Of each field the numbers that it names, one a bit.
    fields: [u64; 5],
    /// Where days and weekdays are both named, one of the two is enough.
    either_day: bool,
}

/// A text that says no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Too few fields, or a word that nobody knows.
    #[error("`{0}` does not begin with a time")]
    Form(String),
    /// A part of a field.
    #[error("`{text}` is not a {name} of a schedule: {first} to {last}, or `*`, with `,`, `-` and `/`")]
    Field {
        /// What is written.
        text: String,
        /// The field.
        name: &'static str,
        /// Its first number.
        first: u64,
        /// Its last one.
        last: u64,
    },
    /// Such as the 30th of February.
    #[error("`{0}` never comes")]
    Never(String),
}

/// What runs at its times: `17 4 * * * python manage.py clearsessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub schedule: Schedule,
    /// What, for a shell.
    pub command: String,
}

impl FromStr for Entry {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let form = || ScheduleError::Form(text.to_owned());
        let (fields, command) = match text.trim().split_once(char::is_whitespace) {
            Some((word, command)) if word.starts_with('@') => {
                let known = WORDS.iter().find(|(known, _)| *known == word);
                (known.ok_or_else(form)?.1.split(' ').collect(), command.trim())
            }
            _ => five(text.trim()).ok_or_else(form)?,
        };
        if command.is_empty() {
            return Err(form());
        }
        Ok(Self { schedule: Schedule::of(&fields)?, command: command.to_owned() })
    }
}

/// The first five words, and what follows them.
fn five(text: &str) -> Option<(Vec<&str>, &str)> {
    let (mut words, mut rest) = (Vec::new(), text);
    while words.len() < FIELDS.len() {
        let (word, after) = rest.split_once(char::is_whitespace)?;
        words.push(word);
        rest = after.trim_start();
    }
    Some((words, rest))
}

impl Schedule {
    fn of(texts: &[&str]) -> Result<Self, ScheduleError> {
        let mut fields = [0; 5];
        for ((bits, field), text) in fields.iter_mut().zip(&FIELDS).zip(texts) {
            *bits = field.bits(text)?;
        }
        fields[4] |= fields[4] >> 7 & 1;
        let either_day = !texts[2].starts_with('*') && !texts[4].starts_with('*');
        let schedule = Self { fields, either_day };
        if schedule.next(UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never(texts.join(" ")));
        }
        Ok(schedule)
    }

    /// The first time after another.
    pub fn next(&self, after: SystemTime) -> Option<SystemTime> {
        let seconds = after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let first = (seconds / MINUTE + 1) * MINUTE;
        (first / DAY..).take(usize::try_from(ALL_DAYS).unwrap_or(usize::MAX)).find_map(|day| {
            let earliest = first.saturating_sub(day * DAY);
            let times = (0..24).flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
            let mut times = times.filter(|(hour, minute)| hour * HOUR + minute * MINUTE >= earliest);
            let (hour, minute) = self
                .has_day(day)
                .then(|| times.find(|(hour, minute)| self.has(1, *hour) && self.has(0, *minute)))??;
            Some(UNIX_EPOCH + Duration::from_secs(day * DAY + hour * HOUR + minute * MINUTE))
        })
    }

    fn has_day(&self, day: u64) -> bool {
        let (_, month, day_of_month) = civil(day);
        // The first day of all was a Thursday.
        let (day, weekday) = (self.has(2, day_of_month), self.has(4, (day + 4) % 7));
        self.has(3, month) && if self.either_day { day || weekday } else { day && weekday }
    }

    fn has(&self, field: usize, number: u64) -> bool {
        self.fields[field] >> number & 1 == 1
    }
}

impl Field {
    /// The numbers that a text names: `*`, `5`, `1-5`, each also with `/2`, and several with `,`.
    fn bits(&self, text: &str) -> Result<u64, ScheduleError> {
        let wrong = || {
            let Self { name, first, last, .. } = *self;
            ScheduleError::Field { text: text.to_owned(), name, first, last }
        };
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
                None => (part, 1),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last),
                Some((from, to)) => (self.number(from).ok_or_else(wrong)?, self.number(to).ok_or_else(wrong)?),
                // `5/10` goes on to the end, and `5` does not.
                None => {
                    let from = self.number(range).ok_or_else(wrong)?;
                    (from, if part == range { from } else { self.last })
                }
            };
            if from > to {
                return Err(wrong());
            }
            bits |= (from..=to).step_by(step).fold(0, |bits, number| bits | 1 << number);
        }
        Ok(bits)
    }

    fn number(&self, text: &str) -> Option<u64> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(nth) => self.first + nth as u64,
            None => text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))?,
        };
        (self.first..=self.last).contains(&number).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::log::stamp;

    /// The next times after the beginning of Friday, 2 January 2026, 10:30:20.
    fn next(text: &str) -> Vec<String> {
        let entry: Entry = format!("{text} true").parse().expect("an entry");
        let mut after = UNIX_EPOCH + Duration::from_secs(1_767_349_820);
        assert_eq!(stamp(after), "2026-01-02T10:30:20.000Z");
        let mut next = || {
            after = entry.schedule.next(after).expect("a time");
            stamp(after)[..16].to_owned()
        };
        vec![next(), next()]
    }

    #[test]
    fn times_are_those_that_cron_takes() {
        for (text, times) in [
            ("* * * * *", ["2026-01-02T10:31", "2026-01-02T10:32"]),
            ("30 10 * * *", ["2026-01-03T10:30", "2026-01-04T10:30"]),
            ("*/20 10-11 * * *", ["2026-01-02T10:40", "2026-01-02T11:00"]),
            ("5/30 * * * *", ["2026-01-02T10:35", "2026-01-02T11:05"]),
            ("0 4 * * mon-fri", ["2026-01-05T04:00", "2026-01-06T04:00"]),
            ("0 4 * * 7", ["2026-01-04T04:00", "2026-01-11T04:00"]),
            ("0 0 29 feb *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
            // Days and weekdays: one of the two is enough; with a `*` it is not.
            ("0 0 13 * fri", ["2026-01-09T00:00", "2026-01-13T00:00"]),
            ("0 0 */2 * fri", ["2026-01-09T00:00", "2026-01-23T00:00"]),
            ("1,2 3 31 12 *", ["2026-12-31T03:01", "2026-12-31T03:02"]),
            ("@monthly", ["2026-02-01T00:00", "2026-03-01T00:00"]),
        ] {
            assert_eq!(next(text), times, "{text}");
        }
    }

    #[test]
    fn what_follows_the_time_is_the_command() {
        let command = |text: &str| text.parse::<Entry>().map(|entry| entry.command).map_err(|error| error.to_string());
        assert_eq!(command("  17 4 * * *   python a.py  'b  c' "), Ok("python a.py  'b  c'".into()));
        assert_eq!(command("@daily\ttrue"), Ok("true".into()));
        for text in ["", "@daily", "@often true", "* * * * *", "* * * * "] {
            assert_eq!(command(text), Err(format!("`{text}` does not begin with a time")));
        }
        let wrong = "`61` is not a minute of a schedule: 0 to 59, or `*`, with `,`, `-` and `/`";
        assert_eq!(command("61 * * * * true"), Err(wrong.into()));
        for text in ["* 5-3 * * * true", "*/0 * * * * true", "* * 0 * * true", "* * * xyz * true", "+1 * * * * true"] {
            assert!(command(text).is_err(), "{text}");
        }
        assert_eq!(command("0 0 30 2 * true"), Err("`0 0 30 2 *` never comes".into()));
    }
}
