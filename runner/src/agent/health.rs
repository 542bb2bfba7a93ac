//! Whether a web process answers, asked the way the public would. Knows nothing of what follows from the answer.

use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::front::get;
use super::instance::Exit;
use super::process::Process;

/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often an answer may be an error before that is the answer.
const ERRORS: u32 = 3;

/// How a process answered that is up.
#[derive(Debug)]
pub(crate) struct Healthy {
    /// The host name that it was asked for.
    pub(crate) host: String,
    pub(crate) status: StatusCode,
}

/// Why a process is not up.
#[derive(Debug)]
pub(crate) enum Unhealthy {
    /// It is gone.
    Ended(Exit),
    /// It answers with an error.
    Status(StatusCode),
    /// It runs, and does not answer.
    Silent,
}

/// Asks for a page until it comes, under each of some host names: the first that is not refused counts.
pub(crate) async fn until_healthy(process: &Process, path: &str, hosts: &[String]) -> Result<Healthy, Unhealthy> {
    tokio::select! {
        exit = process.ended() => Err(Unhealthy::Ended(exit.unwrap_or(Exit::Lost))),
        outcome = ask(process.port, path, hosts) => outcome,
    }
}

async fn ask(port: u16, path: &str, hosts: &[String]) -> Result<Healthy, Unhealthy> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(20);
    let mut errors = 0;
    let mut last = Unhealthy::Silent;
    while began.elapsed() < PATIENCE {
        match ask_once(port, path, hosts, PATIENCE.saturating_sub(began.elapsed())).await {
            Some(healthy) if !healthy.status.is_server_error() => return Ok(healthy),
            Some(healthy) => {
                // These say themselves that it may pass.
                let passing = matches!(healthy.status.as_u16(), 502..=504);
                errors += u32::from(!passing);
                last = Unhealthy::Status(healthy.status);
                if errors >= ERRORS {
                    break;
                }
            }
            None => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(300));
    }
    Err(last)
}

/// One answer: the first that is no refusal, else the first.
async fn ask_once(port: u16, path: &str, hosts: &[String], patience: Duration) -> Option<Healthy> {
    let mut first = None;
    for host in hosts {
        let status = match tokio::time::timeout(patience, get(port, path, host)).await {
            Ok(Ok(response)) => response.status(),
            Ok(Err(_)) | Err(_) => return first,
        };
        let healthy = Healthy { host: host.clone(), status };
        if !status.is_client_error() {
            return Some(healthy);
        }
        first.get_or_insert(healthy);
    }
    first
}

/// Whether a process gives any answer at all in time.
pub(super) async fn answers(port: u16, path: &str, host: &str, patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, get(port, path, host)).await, Ok(Ok(_)))
}
