//! A release on trial: it is given some of a target's clients, each time the same ones, and is held against what the others are
//! answered by. Knows nothing of what follows from the verdict.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::super::lock;
use super::Upstream;
use crate::release::Portion;

/// What tells which clients are given to the new release: a number that a client keeps as long as the trial goes on.
const COOKIE: &str = "pipe-canary";

/// How long a client keeps it, in seconds.
const KEPT: u32 = 7 * 86_400;

/// What counts is what was answered in the last one or two of these.
const WINDOW: Duration = Duration::from_secs(30);

/// From so many errors on the new release is judged by them, and what their share may be above that of the old one's.
const ERRORS: u32 = 3;
const MORE_ERRORS: f64 = 0.05;

/// From so many answers of both on the new release is judged by its latency.
const ANSWERS: u32 = 100;

/// What may be slower than this.
const NOTICED: Duration = Duration::from_millis(50);

/// A release on trial.
pub(crate) struct Trial {
    pub(crate) number: u64,
    portion: RwLock<Portion>,
    /// The processes of the new release.
    pub(crate) upstream: Arc<Upstream>,
    old: Mutex<Figures>,
    new: Mutex<Figures>,
}

/// Whose answer a client gets, and what is to be seen to with it.
#[derive(Clone)]
pub(super) struct Part {
    trial: Arc<Trial>,
    pub(super) is_new: bool,
    /// What the client is to keep, where it has nothing yet.
    cookie: Option<HeaderValue>,
    began: Instant,
}

/// What was answered lately.
struct Figures {
    since: Instant,
    now: Counts,
    before: Counts,
}

/// What was answered in a while.
#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) answers: u32,
    pub(crate) errors: u32,
    /// By the time that they took: each class is a fifth longer than the one before.
    latencies: [u32; CLASSES],
}

/// Up to more than an hour.
const CLASSES: usize = 128;

impl Trial {
    pub(crate) fn new(number: u64, portion: Portion, upstream: Arc<Upstream>) -> Arc<Self> {
        let (old, new) = (Mutex::new(Figures::new()), Mutex::new(Figures::new()));
        Arc::new(Self { number, portion: RwLock::new(portion), upstream, old, new })
    }

    pub(crate) fn portion(&self) -> Portion {
        *self.portion.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it another part of the clients; those that it had are in a larger one, too.
    pub(crate) fn set_portion(&self, portion: Portion) {
        *self.portion.write().unwrap_or_else(PoisonError::into_inner) = portion;
    }

    /// Whose answer a client gets, by what it has kept.
    pub(super) fn part(self: &Arc<Self>, headers: &HeaderMap) -> Part {
        let known = self.known(headers);
        let number = known.unwrap_or_else(|| {
            let random = RandomState::new().hash_one(()) % u64::from(Portion::WHOLE);
            u16::try_from(random).unwrap_or_default()
        });
        let cookie = match known {
            Some(_) => None,
            None => {
                let text = format!("{COOKIE}={}.{number}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Lax", self.number);
                HeaderValue::try_from(text).ok()
            }
        };
        let is_new = self.portion().holds(number);
        Part { trial: Arc::clone(self), is_new, cookie, began: Instant::now() }
    }

    /// The number that a client was given in this trial, not in an earlier one.
    fn known(&self, headers: &HeaderMap) -> Option<u16> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut values = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        });
        values.find_map(|value| {
            let (of, number) = value.split_once('.')?;
            let number = number.parse().ok().filter(|number| *number < Portion::WHOLE)?;
            (of.parse() == Ok(self.number)).then_some(number)
        })
    }

    /// What the old release and the new one have answered lately.
    pub(crate) fn counts(&self) -> [Counts; 2] {
        [&self.old, &self.new].map(|figures| lock(figures).lately())
    }

    /// Why the new release is to be taken back, if it is.
    pub(crate) fn verdict(&self) -> Option<String> {
        let [old, new] = self.counts();
        verdict(&old, &new)
    }
}

fn verdict(old: &Counts, new: &Counts) -> Option<String> {
    if new.errors >= ERRORS && new.error_rate() > old.error_rate() + MORE_ERRORS {
        return Some(format!(
            "{} of its {} answers were errors, and {} of {} of what served before",
            new.errors, new.answers, old.errors, old.answers
        ));
    }
    let (before, now) = (old.slow(), new.slow());
    if old.answers >= ANSWERS && new.answers >= ANSWERS && now > before * 2 && now > before + NOTICED {
        return Some(format!(
            "one of ten of its answers took more than {} ms, and of what served before {} ms",
            now.as_millis(),
            before.as_millis()
        ));
    }
    None
}

impl Part {
    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.trial.upstream
    }

    /// Counts an answer, and gives the client what it is to keep.
    pub(super) fn answered(self, status: StatusCode, headers: &mut HeaderMap) {
        let figures = if self.is_new { &self.trial.new } else { &self.trial.old };
        lock(figures).count(status.is_server_error(), self.began.elapsed());
        if let Some(cookie) = self.cookie {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

impl Figures {
    fn new() -> Self {
        Self { since: Instant::now(), now: Counts::default(), before: Counts::default() }
    }

    fn roll(&mut self) {
        let passed = self.since.elapsed();
        if passed >= WINDOW {
            let last = std::mem::take(&mut self.now);
            self.before = if passed < 2 * WINDOW { last } else { Counts::default() };
            self.since = Instant::now();
        }
    }

    fn count(&mut self, is_error: bool, took: Duration) {
        self.roll();
        self.now.count(is_error, took);
    }

    fn lately(&mut self) -> Counts {
        self.roll();
        let mut sum = self.before.clone();
        sum.answers += self.now.answers;
        sum.errors += self.now.errors;
        for (sum, now) in sum.latencies.iter_mut().zip(self.now.latencies) {
            *sum += now;
        }
        sum
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self { answers: 0, errors: 0, latencies: [0; CLASSES] }
    }
}

impl Counts {
    fn count(&mut self, is_error: bool, took: Duration) {
        self.answers += 1;
        self.errors += u32::from(is_error);
        let longest = (0..CLASSES - 1).find(|class| took <= bound(*class)).unwrap_or(CLASSES - 1);
        self.latencies[longest] += 1;
    }

    fn error_rate(&self) -> f64 {
        f64::from(self.errors) / f64::from(self.answers.max(1))
    }

    /// The time within which nine of ten answers came.
    pub(crate) fn slow(&self) -> Duration {
        let mut left = u64::from(self.answers) * 9;
        for (class, answers) in self.latencies.iter().enumerate() {
            left = left.saturating_sub(u64::from(*answers) * 10);
            if left == 0 {
                return if self.answers == 0 { Duration::ZERO } else { bound(class) };
            }
        }
        Duration::ZERO
    }
}

/// The longest time of a class.
fn bound(class: usize) -> Duration {
    let class = i32::try_from(class).unwrap_or(i32::MAX);
    Duration::from_secs_f64(1e-4 * 1.2f64.powi(class.min(127)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(portion: &str) -> Arc<Trial> {
        Trial::new(7, portion.parse().expect("a part"), Upstream::new([], None, &crate::release::Settings::default()))
    }

    fn counts(answers: u32, errors: u32, took: u64) -> Counts {
        let mut counts = Counts::default();
        for number in 0..answers {
            counts.count(number < errors, Duration::from_millis(took));
        }
        counts
    }

    fn with_cookie(cookie: &str) -> HeaderMap {
        [(header::COOKIE, HeaderValue::from_str(cookie).expect("a cookie"))].into_iter().collect()
    }

    #[test]
    fn a_client_stays_where_it_was_and_the_part_is_as_large_as_was_wished() {
        let trial = trial("10%");
        let mut given = 0;
        for _ in 0..2000 {
            let part = trial.part(&HeaderMap::new());
            given += u32::from(part.is_new);
            let mut headers = HeaderMap::new();
            let is_new = part.is_new;
            part.answered(StatusCode::OK, &mut headers);
            let cookie = headers[header::SET_COOKIE].to_str().expect("a text").split(';').next().expect("a cookie");
            let again = trial.part(&with_cookie(&format!("a=b; {cookie}")));
            assert_eq!((again.is_new, again.cookie.is_some()), (is_new, false));
        }
        assert!((120..=280).contains(&given), "{given} of 2000");
        // More clients: those that there were stay, and others come.
        assert!(trial.part(&with_cookie("pipe-canary=7.999")).is_new);
        assert!(!trial.part(&with_cookie("pipe-canary=7.1000")).is_new);
        trial.set_portion("50%".parse().expect("a part"));
        assert!(trial.part(&with_cookie("pipe-canary=7.999")).is_new);
        assert!(trial.part(&with_cookie("pipe-canary=7.1000")).is_new);
    }

    #[test]
    fn what_is_of_another_trial_or_of_nobody_is_not_believed() {
        let trial = trial("10%");
        for cookie in ["pipe-canary=6.1", "pipe-canary=7.10000", "pipe-canary=7", "pipe-canary=7.x", "other=7.1"] {
            assert!(trial.part(&with_cookie(cookie)).cookie.is_some(), "{cookie}");
        }
    }

    #[test]
    fn errors_and_slowness_beyond_those_of_the_old_release_take_the_new_one_back() {
        let good = counts(900, 0, 10);
        for (old, new, is_good) in [
            (&good, counts(100, 0, 10), true),
            (&good, counts(2, 2, 10), true),
            (&good, counts(3, 3, 10), false),
            (&good, counts(100, 5, 10), true),
            (&good, counts(100, 6, 10), false),
            // Where all is broken, the new one is not to blame.
            (&counts(900, 450, 10), counts(100, 50, 10), true),
            (&good, counts(100, 0, 55), true),
            (&good, counts(100, 0, 90), false),
            (&counts(900, 0, 80), counts(100, 0, 140), true),
            (&counts(900, 0, 80), counts(100, 0, 250), false),
            (&good, counts(99, 0, 900), true),
            (&Counts::default(), counts(100, 0, 900), true),
        ] {
            assert_eq!(verdict(old, &new).is_none(), is_good, "{} {} {:?}", new.answers, new.errors, new.slow());
        }
    }

    #[test]
    fn one_slow_answer_of_ten_is_not_seen_and_two_are() {
        let mut some = counts(9, 0, 10);
        some.count(false, Duration::from_secs(5));
        assert!(some.slow() < Duration::from_millis(13), "{:?}", some.slow());
        some.count(false, Duration::from_secs(5));
        assert!(some.slow() >= Duration::from_secs(5), "{:?}", some.slow());
    }
}
