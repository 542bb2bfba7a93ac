//! The runner's side of monitors: starts them, has them hold sandboxes, and keeps those that are idle for the next. Knows nothing of
//! what is in a sandbox.

use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::error::SandboxError;
use super::run::Child;
use super::scratch::Scratch;
use super::wire::{Gone, Order, Start};
use crate::descriptors::{Inbox, send};

/// How long the removal of layers is waited for at the end.
const PATIENCE: Duration = Duration::from_millis(400);

/// Monitors for whoever runs many programs, one after the other or side by side. They end with this value.
///
/// The kernel takes longer to take down a sandbox in which nothing runs any more than a small program does, and mostly waits: that
/// happens beside the next ones.
#[derive(Default)]
pub struct Monitors {
    idle: Arc<Idle>,
    ending: OnceLock<Ending>,
}

/// Those that hold nothing.
#[derive(Default)]
struct Idle(Mutex<Vec<Monitor>>);

/// A thread that ends sandboxes and removes what was written in them.
struct Ending {
    sender: Option<Sender<(Child, Vec<Scratch>)>>,
    has_ended: Mutex<Receiver<()>>,
}

/// One monitor. Dropped, it ends, and its sandbox with it; so it does when this process dies.
pub(super) struct Monitor {
    process: process::Child,
    line: UnixStream,
    inbox: Inbox,
    /// The limit that its sandboxes have, each for itself where there is no group.
    memory: Option<u64>,
    // Last: it can only go when nothing is in it any more.
    cgroup: Option<Cgroup>,
}

impl Monitors {
    /// One whose sandbox may hold so much memory.
    pub(super) fn take(&self, memory: Option<u64>) -> Result<Monitor, SandboxError> {
        while let Some(mut monitor) = self.idle.pop() {
            if monitor.is_fit_for(memory) {
                return Ok(monitor);
            }
        }
        Monitor::spawn(memory)
    }

    /// Keeps one that holds nothing.
    pub(super) fn keep(&self, monitor: Monitor) {
        self.idle.push(monitor);
    }

    /// Ends a sandbox in which nothing runs any more, and then removes its layers; not before this returns. What of them is not
    /// gone soon after these monitors are is left where it is.
    pub(super) fn end(&self, child: Child, layers: Vec<Scratch>) {
        self.ending.get_or_init(|| Ending::start(&self.idle)).send(child, layers);
    }
}

impl Idle {
    fn pop(&self) -> Option<Monitor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn push(&self, monitor: Monitor) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(monitor);
    }
}

impl Ending {
    fn start(idle: &Arc<Idle>) -> Self {
        let (sender, receiver) = mpsc::channel::<(Child, Vec<Scratch>)>();
        let (ended, has_ended) = mpsc::channel();
        let idle = Arc::clone(idle);
        let end = move || {
            for (child, layers) in receiver {
                if let Ok(monitor) = child.end() {
                    idle.push(monitor);
                }
                drop(layers);
            }
            drop(ended);
        };
        // Without a thread the receiver is gone, and what is sent ends where it is.
        let _ = thread::Builder::new().name("sandboxes".to_owned()).spawn(end);
        Self { sender: Some(sender), has_ended: Mutex::new(has_ended) }
    }

    fn send(&self, child: Child, layers: Vec<Scratch>) {
        if let Some(sender) = &self.sender {
            let _ = sender.send((child, layers));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.sender = None;
        let has_ended = self.has_ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = has_ended.recv_timeout(PATIENCE);
    }
}

impl Monitor {
    /// Starts one whose sandbox may hold so much memory.
    pub(super) fn spawn(memory: Option<u64>) -> Result<Self, SandboxError> {
        let io = |doing| move |source| SandboxError::Io { doing, source };
        let (line, theirs) = UnixStream::pair().map_err(io("make a socket"))?;
        let exe = std::env::var_os("PIPE_EXE").map_or_else(|| PathBuf::from("/proc/self/exe"), PathBuf::from);
        let process = Command::new(exe)
            .arg0("pipe")
            .arg(super::INIT_COMMAND)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io("start the inside of a sandbox"))?;
        let mut monitor = Self { process, line, inbox: Inbox::default(), memory, cgroup: None };
        if let (Some(memory), Some(cgroup)) = (memory, memory.and_then(|_| Cgroup::new())) {
            let limited = cgroup.set_memory(memory).and_then(|()| cgroup.add(monitor.id()));
            limited.map_err(io("put a sandbox into a control group"))?;
            monitor.cgroup = Some(cgroup);
        }
        Ok(monitor)
    }

    /// Whether its next sandbox may hold so much memory, from now on.
    fn is_fit_for(&mut self, memory: Option<u64>) -> bool {
        if !matches!(self.process.try_wait(), Ok(None)) || self.cgroup.as_ref().is_some_and(Cgroup::is_strained) {
            return false;
        }
        let is_fit = match (memory, &self.cgroup) {
            _ if memory == self.memory => true,
            (Some(memory), Some(cgroup)) => cgroup.set_memory(memory).is_ok(),
            // Without a group the program itself is limited, where it is; with one, or where there could be one, not.
            (Some(_), None) => self.memory.is_some(),
            (None, _) => false,
        };
        self.memory = memory;
        is_fit
    }

    /// The process to send signals to; they reach the program.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it has ended, where it has.
    pub(super) fn status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Its control group, where it has one.
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Begins a sandbox, where there is none; `control` will lead to its pid 1.
    pub(super) fn start(&self, start: Start, control: BorrowedFd<'_>) -> io::Result<()> {
        send(&self.line, &Order::Start(start), Some(control))
    }

    /// Asks for the end of all in the sandbox.
    pub(super) fn kill(&self) -> io::Result<()> {
        send(&self.line, &Order::End, None)
    }

    /// Ends all in the sandbox, and comes back when nothing of it is left.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.kill()?;
        while self.inbox.receive::<Gone>(&self.line)?.is_none() {}
        Ok(())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It takes the end of the socket for the end of the runner.
        let _ = self.line.shutdown(Shutdown::Both);
        let _ = self.process.wait();
    }
}
