//! The processes beside `web`, which are started once those before them have ended: too late to take a release back, and early
//! enough to tell of those that end at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Agent;
use super::super::log;
use super::super::process::Process;
use super::super::protocol::Failure;
use super::super::root::Root;
use super::ALIVE;
use super::why::ended;
use crate::release::Target;

/// How often it is looked whether they live.
const LOOK: Duration = Duration::from_millis(50);

/// Those of a release that serves.
pub(super) struct Others {
    root: Arc<Root>,
    number: u64,
    processes: Vec<Arc<Process>>,
}

impl Others {
    pub(super) fn new(root: &Arc<Root>, number: u64) -> Self {
        Self { root: Arc::clone(root), number, processes: Vec::new() }
    }

    pub(super) fn add(&mut self, process: &Arc<Process>) {
        self.processes.push(Arc::clone(process));
    }

    /// Waits for a moment; the first that has ended by then is a failure of the release, which serves all the same and keeps that
    /// in its history.
    pub(super) async fn stay_alive(&self, agent: &Agent, target: &Target, url: &str) -> Result<(), Failure> {
        let began = Instant::now();
        while !self.processes.is_empty() && began.elapsed() < ALIVE {
            tokio::time::sleep(LOOK).await;
            for process in &self.processes {
                if let Some(exit) = process.status().exit {
                    let written = self.root.log(self.number, &process.slot);
                    let failure = ended(&written, &format!("process `{}`", process.slot), &exit);
                    let Target { app, name: target, .. } = target;
                    if let Err(error) = agent.history.set_failure(app, target, self.number, Some(&failure.message)) {
                        log::note(&error);
                    }
                    let back = || {
                        format!(
                            "`pipe rollback {target}` goes back; `pipe ps {target}` says whether it stays up by now"
                        )
                    };
                    return Err(Failure {
                        message: format!(
                            "{}; it is started again, and release {} answers requests",
                            failure.message, self.number
                        ),
                        hint: failure.hint.or_else(|| Some(back())),
                        number: Some(self.number),
                        serves: Some(url.to_owned()),
                        ..failure
                    });
                }
            }
        }
        Ok(())
    }
}
