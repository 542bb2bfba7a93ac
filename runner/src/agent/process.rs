//! A process of a release, kept running: started, started again with back-off when it ends, and stopped when that is wished.
//! Unaware of deploys and of requests.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};

use super::instance::{Exit, Instance, Job};
use super::log;
use super::lost;
use super::protocol::ProcessState;
use super::root::{Root, beside};
use super::starved;
use crate::release::{History, HistoryError, ProcessRecord};
use crate::sandbox;

/// The process that answers requests.
pub(crate) const WEB: &str = "web";

/// What release commands are called among processes.
pub(super) const RELEASE: &str = "release";

/// A process that ran for so long is not in a crash loop.
const STEADY: Duration = Duration::from_mins(1);

/// The longest wait before a process is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// From so many quick ends in a row on it is a crash loop.
const CRASH_LOOP: u32 = 5;

/// Which of a release's processes: the second `web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// From 1.
    pub(crate) instance: u32,
}

/// `web`, and from the second on `web.2`; so are their logs called.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            1 => f.write_str(&self.name),
            instance => write!(f, "{}.{instance}", self.name),
        }
    }
}

impl Slot {
    /// The first, or only one, of its name.
    pub(crate) fn first(name: &str) -> Self {
        Self { name: name.to_owned(), instance: 1 }
    }
}

/// Makes the job of one instance, which is to be held in a directory.
pub(crate) type MakeJob = Box<dyn Fn(&Path, bool) -> io::Result<Job> + Send + Sync>;

/// What is needed to start a process as often as necessary.
pub(crate) struct Plan {
    pub(crate) history: Arc<History>,
    /// Where directories of instances are made.
    pub(crate) run: PathBuf,
    pub(crate) release: i64,
    pub(crate) number: u64,
    pub(crate) slot: Slot,
    /// The loopback port that it is told to listen on.
    pub(crate) port: u16,
    /// Where what it writes goes.
    pub(crate) log: PathBuf,
    /// Says what to run, given the instance's own directory and whether it is started again.
    pub(crate) job: MakeJob,
}

/// What is wanted of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To show that it comes up; if it ends, that is the end.
    Trial,
    /// To run, and to be started again.
    Keep,
    /// To end.
    Stop,
    /// To be ended, without time for it.
    Kill,
}

/// How a process is.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: ProcessState,
    pub(crate) since: SystemTime,
    pub(crate) restarts: u32,
    pub(crate) exit: Option<Exit>,
    /// The directory of the instance that runs, or ran last.
    pub(crate) directory: Option<PathBuf>,
    /// When the kernel last ended it, or something that it has started, for want of memory.
    pub(crate) starved: Option<SystemTime>,
    /// The databases that a release command has made where nothing is kept.
    pub(crate) lost: Vec<String>,
}

/// A handle on a supervised process; dropping it leaves the process alone.
pub(crate) struct Process {
    pub(crate) slot: Slot,
    pub(crate) number: u64,
    pub(crate) port: u16,
    wish: watch::Sender<Wish>,
    again: Arc<Notify>,
    status: watch::Receiver<Status>,
}

impl Process {
    /// Starts a process; until [`Process::keep`] it is not started again when it ends, and then it is where it has ended.
    pub(crate) fn try_out(plan: Plan) -> Self {
        Self::supervise(plan, Wish::Trial, None)
    }

    /// Starts a process and keeps it running; or takes over the one that is recorded.
    pub(crate) fn keep_running(plan: Plan, record: Option<ProcessRecord>) -> Self {
        Self::supervise(plan, Wish::Keep, record)
    }

    /// Takes over a process that is recorded, until it ends.
    pub(crate) fn see_out(plan: Plan, record: ProcessRecord) -> Self {
        Self::supervise(plan, Wish::Trial, Some(record))
    }

    fn supervise(plan: Plan, wish: Wish, record: Option<ProcessRecord>) -> Self {
        let (wish, wished) = watch::channel(wish);
        let first = Status {
            state: ProcessState::Running,
            since: record.as_ref().map_or_else(SystemTime::now, |record| record.started),
            restarts: record.as_ref().map_or(0, |record| record.restarts),
            exit: None,
            directory: None,
            starved: None,
            lost: Vec::new(),
        };
        let (sender, status) = watch::channel(first);
        let again = Arc::new(Notify::new());
        let wishes = Wishes { wish: wished, again: Arc::clone(&again) };
        let process = Self { slot: plan.slot.clone(), number: plan.number, port: plan.port, wish, again, status };
        tokio::spawn(supervise(plan, record, wishes, sender));
        process
    }

    /// From now on the process is started again when it ends.
    pub(crate) fn keep(&self) {
        self.wish.send_replace(Wish::Keep);
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The id of the shim that holds what runs.
    pub(crate) fn shim(&self) -> Option<u32> {
        fs::read_to_string(self.status.borrow().directory.as_ref()?.join("pid")).ok()?.trim().parse().ok()
    }

    /// The databases that a release command has made where nothing is kept.
    pub(crate) fn lost(&self) -> Vec<String> {
        self.status.borrow().lost.clone()
    }

    /// Waits until the process is gone for good.
    pub(crate) async fn ended(&self) -> Option<Exit> {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| status.state == ProcessState::Ended).await;
        status.borrow().exit.clone()
    }

    /// Ends the process, which is then started again as if it had ended by itself.
    pub(crate) fn start_again(&self) {
        self.again.notify_waiters();
    }

    /// Stops the process, and waits until nothing of it is left.
    pub(crate) async fn stop(&self) {
        self.end(Wish::Stop).await;
    }

    /// The same, where it has nothing to finish.
    pub(crate) async fn kill(&self) {
        self.end(Wish::Kill).await;
    }

    async fn end(&self, wish: Wish) {
        self.wish.send_replace(wish);
        // Its supervisor is gone then: one that has ended may be about to be started again.
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }
}

/// What a supervisor listens to.
struct Wishes {
    wish: watch::Receiver<Wish>,
    /// Told when what runs is to be ended and started again.
    again: Arc<Notify>,
}

async fn supervise(plan: Plan, mut record: Option<ProcessRecord>, mut wishes: Wishes, status: watch::Sender<Status>) {
    let mut quick_ends = 0;
    loop {
        let began = Instant::now();
        let restarts = status.borrow().restarts;
        let is_new = record.is_none();
        let (record, instance) = match record.take() {
            Some(record) => (record.clone(), Instance::attach(&record.directory)),
            None => plan.start(restarts),
        };
        status.send_modify(|status| {
            (status.state, status.since) = (ProcessState::Running, record.started);
            status.directory = Some(record.directory.clone());
        });
        let exit = match instance {
            Ok(instance) => until_end((&instance, is_new), &mut wishes, (&plan, &status)).await,
            Err(error) => Exit::NotStarted { message: error.to_string(), hint: None },
        };
        let lost = if plan.slot.name == RELEASE { lost::databases(&beside(&record.directory)) } else { Vec::new() };
        plan.clear(&record);
        status.send_modify(|status| (status.exit, status.lost) = (Some(exit), lost));
        if *wishes.wish.borrow() != Wish::Keep {
            is_now(&status, ProcessState::Ended);
            // It may be passed at the very moment at which it ends.
            if !wishes.kept().await {
                return;
            }
        }
        quick_ends = if began.elapsed() < STEADY { quick_ends + 1 } else { 1 };
        let state = if quick_ends < CRASH_LOOP { ProcessState::Waiting } else { ProcessState::CrashLooping };
        is_now(&status, state);
        tokio::select! {
            () = tokio::time::sleep(back_off(quick_ends)) => {}
            _ = wishes.stop() => return is_now(&status, ProcessState::Ended),
        }
        status.send_modify(|status| status.restarts += 1);
    }
}

fn is_now(status: &watch::Sender<Status>, state: ProcessState) {
    status.send_modify(|status| (status.state, status.since) = (state, SystemTime::now()));
}

async fn until_end(
    (instance, is_new): (&Instance, bool),
    wishes: &mut Wishes,
    (plan, status): (&Plan, &watch::Sender<Status>),
) -> Exit {
    let again = Arc::clone(&wishes.again);
    let starved = |what: &str| {
        log::remark(&plan.log, &format!("the kernel has ended {what} for want of memory; {}", starved::REMEDY));
        status.send_modify(|status| status.starved = Some(SystemTime::now()));
    };
    tokio::select! {
        exit = instance.ended() => {
            match &exit {
                Exit::OutOfMemory => starved("this process"),
                Exit::Signal(_) | Exit::Lost => log::remark(&plan.log, &format!("this process {exit}")),
                Exit::Code(_) | Exit::NotStarted { .. } => {}
            }
            exit
        }
        never = starved::watch(instance, is_new, || starved("something that this process has started")) => match never {},
        () = again.notified() => instance.stop().await,
        // The handle's end is no wish: the process then stays with its shim.
        true = wishes.stop() => {
            is_now(status, ProcessState::Stopping);
            let kills = *wishes.wish.borrow() == Wish::Kill;
            if kills { instance.kill().await } else { instance.stop().await }
        }
    }
}

impl Wishes {
    /// Waits for the wish to end; false where nobody is left to wish anything.
    async fn stop(&mut self) -> bool {
        self.wish.wait_for(|wish| matches!(wish, Wish::Stop | Wish::Kill)).await.is_ok()
    }

    /// Waits for what becomes of one on trial; false where it is not to be kept, or nobody is left to wish that.
    async fn kept(&mut self) -> bool {
        self.wish.wait_for(|wish| *wish != Wish::Trial).await.is_ok_and(|wish| *wish == Wish::Keep)
    }
}

/// At once the first time, then twice as long each time.
pub(super) fn back_off(quick_ends: u32) -> Duration {
    match quick_ends {
        0 | 1 => Duration::ZERO,
        n => (Duration::from_millis(250) * 2u32.saturating_pow(n)).min(LONGEST_WAIT),
    }
}

impl Plan {
    /// How a command of a release, which has an id and a number, is started.
    pub(crate) fn of(
        history: &Arc<History>,
        run: &Path,
        root: &Arc<Root>,
        (release, number): (i64, u64),
        slot: Slot,
        command: &str,
        port: u16,
    ) -> Self {
        let (root, process, command) = (Arc::clone(root), slot.clone(), command.to_owned());
        let log = root.log(number, &slot);
        let job = Box::new(move |instance: &Path, again: bool| {
            // It may have ended over a file that was changed. Where none can be made anew, it has to do with what is there.
            if again && let Err(error) = root.renew() {
                log::note(&error);
            }
            root.job(instance, number, &process, &command, port)
        });
        Self { history: Arc::clone(history), run: run.to_owned(), release, number, slot, port, log, job }
    }

    fn start(&self, restarts: u32) -> (ProcessRecord, io::Result<Instance>) {
        let made = tempfile::Builder::new().prefix(&format!("{}-", self.slot)).tempdir_in(&self.run);
        let record = ProcessRecord {
            directory: made.as_ref().map_or_else(|_| self.run.join("missing"), |made| made.path().to_owned()),
            release: self.release,
            name: self.slot.name.clone(),
            instance: self.slot.instance,
            port: self.port,
            started: SystemTime::now(),
            restarts,
        };
        let instance = made.and_then(|made| {
            // Written down first: whatever is started can be found again.
            self.history.add_process(&record).map_err(io::Error::other)?;
            let directory = made.keep();
            Instance::start(&directory, &(self.job)(&directory, restarts > 0)?)
        });
        (record, instance)
    }

    fn clear(&self, record: &ProcessRecord) {
        if let Err(error) = clear(&self.history, record) {
            log::note(format_args!("cannot clear up after a process: {error}"));
        }
    }
}

/// Forgets a process that has ended, and removes what it wrote beside its data.
pub(crate) fn clear(history: &History, record: &ProcessRecord) -> Result<(), HistoryError> {
    // What cannot be removed now is in nobody's way.
    let _ = sandbox::remove_all(&record.directory);
    let _ = fs::remove_dir_all(&record.directory);
    history.remove_process(&record.directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that ends whenever it is started.
    fn ends(home: &Path) -> Plan {
        Plan {
            history: Arc::new(History::open(home).expect("a history")),
            run: home.to_owned(),
            release: 1,
            number: 1,
            slot: Slot::first(WEB),
            port: 0,
            log: home.join("web.log"),
            job: Box::new(|_, _| Err(io::Error::other("it does not start"))),
        }
    }

    #[tokio::test]
    async fn one_that_ends_as_it_is_passed_is_started_again() {
        let home = tempfile::tempdir().expect("a directory");
        let process = Process::try_out(ends(home.path()));
        assert!(matches!(process.ended().await, Some(Exit::NotStarted { .. })));
        assert_eq!(process.status().restarts, 0, "not before it is passed");
        process.keep();
        let mut status = process.status.clone();
        assert!(status.wait_for(|status| status.restarts > 0).await.is_ok());
        process.stop().await;
        assert_eq!(process.status().state, ProcessState::Ended);
    }

    #[tokio::test]
    async fn one_that_has_ended_on_trial_is_stopped_at_once() {
        let home = tempfile::tempdir().expect("a directory");
        let process = Process::try_out(ends(home.path()));
        process.ended().await;
        process.stop().await;
        assert_eq!((process.status().state, process.status().restarts), (ProcessState::Ended, 0));
    }
}
