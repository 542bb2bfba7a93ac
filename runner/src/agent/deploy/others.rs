//! The processes beside `web`, which are started once those before them have ended: too late to take a release back, and early
//! enough to tell of those that end at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::process::Process;
use super::super::protocol::Failure;
use super::super::root::Root;
use super::{ALIVE, SHOWN_LINES, last_lines, remedy};

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

    /// Waits for a moment; the first that has ended by then is a failure of the release, which serves all the same.
    pub(super) async fn stay_alive(&self, target: &str) -> Result<(), Failure> {
        let began = Instant::now();
        while !self.processes.is_empty() && began.elapsed() < ALIVE {
            tokio::time::sleep(LOOK).await;
            for process in &self.processes {
                if let Some(exit) = process.status().exit {
                    let output = last_lines(&self.root.log(self.number, &process.slot), SHOWN_LINES);
                    let hint = output.as_deref().and_then(remedy::remedy).unwrap_or_else(|| {
                        format!(
                            "`pipe rollback {target}` goes back; `pipe ps {target}` says whether it stays up by now"
                        )
                    });
                    let message = format!(
                        "process `{}` {exit}; it is started again, and release {} answers requests",
                        process.slot, self.number
                    );
                    return Err(Failure { output, number: Some(self.number), ..Failure::new(message).hint(hint) });
                }
            }
        }
        Ok(())
    }
}
