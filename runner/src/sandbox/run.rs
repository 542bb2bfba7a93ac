//! The runner's side: starts a sandbox, listens to its output, sees to its limits, and looks at its root when it has ended.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::error::SandboxError;
use super::found::Root;
use super::layers::Layers;
use super::monitors::{Monitor, Monitors};
use super::scratch::Scratch;
use super::spec::{Mount, Spec, build_owner};
use super::wire::{Report, Request, Start, Written};
use crate::descriptors::{Inbox, send};

/// How a program is run once.
#[derive(Default)]
pub struct Run<'a> {
    /// What is on its standard input; nothing where none.
    pub stdin: Option<File>,
    /// How long it may take.
    pub time_limit: Option<Duration>,
    /// How many bytes it may write to standard output and error together.
    pub output_limit: Option<u64>,
    /// How many bytes may be in the writable layers of its overlays together; looked at a few times a second.
    pub layer_limit: Option<u64>,
    /// Ends it, once true.
    pub cancel: Option<&'a AtomicBool>,
    /// The writable layers of its overlays, removed once it has ended.
    pub written: Vec<Scratch>,
}

/// One of the program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with a code.
    Exited(i32),
    /// By a signal that was not ours.
    Killed(i32),
    /// It needed more memory than it may.
    OutOfMemory,
    /// It took longer than it may.
    TimedOut,
    /// It wrote more to its outputs than it may.
    TooMuchOutput,
    /// It wrote more to its layers than it may.
    TooMuchWritten,
    /// We were asked to end it.
    Cancelled,
}

/// What came of a program.
#[derive(Debug)]
pub struct Outcome<T> {
    /// How it ended.
    pub ended: Ended,
    /// Standard output, as far as it came.
    pub stdout: Vec<u8>,
    /// Standard error, as far as it came.
    pub stderr: Vec<u8>,
    /// Whether the disk that it writes to was full while it ran, or where it failed at its end.
    pub out_of_room: bool,
    /// What was made of its root; none where it did not exit by itself.
    pub collected: Option<T>,
}

/// Where the outputs of a program go that is not listened to.
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A sandbox that is there. Dropped, it ends with everything in it; so it does when this process dies.
pub struct Child {
    control: UnixStream,
    inbox: Inbox,
    program: String,
    root: Option<Root>,
    /// How many processes of its group had been killed for want of memory before it was there.
    killed_before: u64,
    // Last: when it has ended nothing is left.
    monitor: Monitor,
}

/// Runs a program to its end. `on_output` sees each piece of output as it comes; `collect` is called with the root and the layers
/// when the program has exited and nothing runs in it any more.
pub fn run<T>(
    monitors: &Monitors,
    spec: &Spec,
    run: Run<'_>,
    mut on_output: impl FnMut(Stream, &[u8]),
    collect: impl FnOnce(&Root, &[Scratch]) -> T,
) -> Result<Outcome<T>, SandboxError> {
    let deadline = run.time_limit.map(|limit| Instant::now() + limit);
    let io = |doing| move |source| SandboxError::Io { doing, source };
    let (stdout, their_stdout) = io::pipe().map_err(io("make a pipe"))?;
    let (stderr, their_stderr) = io::pipe().map_err(io("make a pipe"))?;
    let stdin = match run.stdin {
        Some(file) => file,
        None => File::open("/dev/null").map_err(io("open /dev/null"))?,
    };
    let stdio = Stdio { stdin: stdin.into(), stdout: their_stdout.into(), stderr: their_stderr.into() };
    let mut running = Running {
        child: Child::start(monitors.take(spec.limits.memory)?, spec, stdio)?,
        outputs: [Output::new(Stream::Stdout, stdout), Output::new(Stream::Stderr, stderr)],
        budget: run.output_limit.unwrap_or(u64::MAX),
        layers: run.layer_limit.map(|limit| Layers::new(spec, limit)),
        deadline,
        cancel: run.cancel,
    };
    let ended = running.listen(&mut on_output)?;
    let has_failed = matches!(ended, Ended::Exited(1..) | Ended::Killed(_));
    let is_full = |layers: &Layers| layers.were_full() || has_failed && layers.are_full();
    let out_of_room = running.layers.as_ref().is_some_and(is_full);
    let root = running.child.root.as_ref().filter(|_| matches!(ended, Ended::Exited(_)));
    let collected = root.map(|root| collect(root, &run.written));
    if matches!(ended, Ended::Exited(_)) {
        monitors.end(running.child, run.written);
    } else if let Ok(monitor) = running.child.end() {
        // It may be long until what was killed is gone.
        monitors.keep(monitor);
    }
    let [stdout, stderr] = running.outputs.map(|output| output.bytes);
    Ok(Outcome { ended, stdout, stderr, out_of_room, collected })
}

/// Starts a program that runs on; its outputs go where the caller says.
pub fn spawn(spec: &Spec, stdio: Stdio) -> Result<Child, SandboxError> {
    Child::start(Monitor::spawn(spec.limits.memory)?, spec, stdio)
}

/// Links in the paths of the machine are followed here: the inside sees the machine's root at another place.
fn absolute(spec: &Spec) -> Result<Spec, SandboxError> {
    let mut spec = spec.clone();
    let resolve = |path: &mut PathBuf| -> Result<(), SandboxError> {
        *path = path.canonicalize().map_err(|source| SandboxError::Source { path: path.clone(), source })?;
        Ok(())
    };
    for mount in &mut spec.mounts {
        match mount {
            Mount::Bind { source, .. } => resolve(source)?,
            Mount::Overlay { lower, scratch, .. } => lower.iter_mut().chain([scratch]).try_for_each(resolve)?,
            Mount::Held { scratch, .. } => resolve(scratch)?,
            _ => {}
        }
    }
    Ok(spec)
}

/// A program that is listened to.
struct Running<'a> {
    child: Child,
    outputs: [Output; 2],
    /// How many bytes of output are left to it.
    budget: u64,
    layers: Option<Layers>,
    deadline: Option<Instant>,
    cancel: Option<&'a AtomicBool>,
}

impl Running<'_> {
    /// Listens until the program has ended and all that it wrote was read.
    fn listen(&mut self, on_output: &mut impl FnMut(Stream, &[u8])) -> Result<Ended, SandboxError> {
        let mut ended = None;
        while ended.is_none() || self.outputs.iter().any(|output| output.pipe.is_some()) {
            let ready = self.wait(ended.is_none())?;
            for output in &mut self.outputs {
                if output.fd().is_some_and(|fd| ready.contains(&fd)) {
                    self.budget = output
                        .read(self.budget, on_output)
                        .map_err(|source| SandboxError::Io { doing: "read a program's output", source })?;
                }
            }
            if ended.is_none() && ready.contains(&self.child.control.as_raw_fd()) {
                ended = self.child.progress()?;
            }
            if ended.is_none() {
                ended = self.reason_to_end();
                if ended.is_some() {
                    self.child.kill();
                }
            }
        }
        // What a program wrote last may be read only after its end.
        if self.outputs.iter().any(|output| output.overflown) {
            return Ok(Ended::TooMuchOutput);
        }
        if matches!(ended, Some(Ended::Exited(_) | Ended::Killed(_)))
            && self.layers.as_mut().is_some_and(Layers::overflow)
        {
            return Ok(Ended::TooMuchWritten);
        }
        Ok(ended.unwrap_or(Ended::TooMuchOutput))
    }

    fn reason_to_end(&mut self) -> Option<Ended> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            Some(Ended::Cancelled)
        } else if self.outputs.iter().any(|output| output.overflown) {
            Some(Ended::TooMuchOutput)
        } else if self.layers.as_mut().is_some_and(Layers::overflow_by_now) {
            Some(Ended::TooMuchWritten)
        } else {
            self.deadline.is_some_and(|deadline| deadline <= Instant::now()).then_some(Ended::TimedOut)
        }
    }

    /// Waits until something can be read, or it is time to look at the clock or at whether to go on.
    fn wait(&self, for_end: bool) -> Result<Vec<RawFd>, SandboxError> {
        const LOOK_UP: Duration = Duration::from_millis(50);
        let mut fds: Vec<_> = self.outputs.iter().filter_map(|output| output.pipe.as_ref()).map(AsFd::as_fd).collect();
        if for_end {
            fds.push(self.child.control.as_fd());
        }
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let is_watched = self.cancel.is_some() || self.layers.is_some();
        let times = left.into_iter().chain(is_watched.then_some(LOOK_UP)).filter(|_| for_end);
        // Rounded up, so that a deadline is over when the wait is.
        let timeout = times.min().map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time.as_millis().saturating_add(1).min(60_000)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(SandboxError::Io { doing: "wait for a program", source: errno.into() }),
        }
        Ok(fds.iter().filter(|fd| fd.any().unwrap_or(false)).map(|fd| fd.as_fd().as_raw_fd()).collect())
    }
}

struct Output {
    stream: Stream,
    pipe: Option<io::PipeReader>,
    bytes: Vec<u8>,
    overflown: bool,
}

impl Output {
    fn new(stream: Stream, pipe: io::PipeReader) -> Self {
        Self { stream, pipe: Some(pipe), bytes: Vec::new(), overflown: false }
    }

    fn fd(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads once and gives what is left of the budget.
    fn read(&mut self, budget: u64, on_output: &mut impl FnMut(Stream, &[u8])) -> io::Result<u64> {
        let Some(pipe) = &mut self.pipe else { return Ok(budget) };
        let mut buffer = [0; 16 << 10];
        let len = pipe.read(&mut buffer)?;
        if len == 0 {
            self.pipe = None;
            return Ok(budget);
        }
        let allowed = usize::try_from(budget).unwrap_or(usize::MAX).min(len);
        self.overflown |= allowed < len;
        self.bytes.extend_from_slice(&buffer[..allowed]);
        on_output(self.stream, &buffer[..allowed]);
        Ok(budget - allowed as u64)
    }
}

impl Child {
    fn start(monitor: Monitor, spec: &Spec, stdio: Stdio) -> Result<Self, SandboxError> {
        let io = |doing| move |source| SandboxError::Io { doing, source };
        let (control, theirs) = UnixStream::pair().map_err(io("make a socket"))?;
        let request = Request {
            spec: absolute(spec)?,
            outside: spec.user.outside.or_else(build_owner).unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
            memory_is_limited: monitor.cgroup().is_some(),
        };
        let start = Start { network: spec.network, inside: spec.user.inside, outside: request.outside };
        let program = spec.argv.first().cloned().unwrap_or_default();
        let killed_before = monitor.cgroup().map_or(0, Cgroup::killed);
        let mut child = Self { control, inbox: Inbox::default(), program, root: None, killed_before, monitor };
        let told = child.monitor.start(start, theirs.as_fd()).and_then(|()| {
            // From now on it is noticed when the other end is gone.
            drop(theirs);
            send(&child.control, &request, Some(stdio.stdin.as_fd()))?;
            send(&child.control, &Written, Some(stdio.stdout.as_fd()))?;
            send(&child.control, &Written, Some(stdio.stderr.as_fd()))
        });
        // Their ends are the program's own, so that it is noticed when it lets go of them.
        drop(stdio);
        if let Err(error) = told {
            // Why it does not listen says more, if it has said that.
            child.wait_ready()?;
            return Err(io("speak to the inside of a sandbox")(error));
        }
        Ok(child)
    }

    /// The process to send signals to; they reach the program.
    pub fn id(&self) -> u32 {
        self.monitor.id()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        let pid = Pid::from_raw(self.id().cast_signed());
        kill(pid, signal).map_err(|errno| SandboxError::Io { doing: "signal a program", source: errno.into() })
    }

    /// Waits until the sandbox is set up and its program about to start, or says why it will not.
    pub fn wait_ready(&mut self) -> Result<(), SandboxError> {
        while self.root.is_none() {
            self.progress()?;
        }
        Ok(())
    }

    /// Waits until the program has ended, and whatever it started has too.
    pub fn wait(&mut self) -> Result<Ended, SandboxError> {
        loop {
            if let Some(ended) = self.progress()? {
                return Ok(ended);
            }
        }
    }

    /// Asks for the end of everything in the sandbox.
    fn kill(&self) {
        // A monitor that is gone has taken everything with it.
        let _ = self.monitor.kill();
    }

    /// Ends everything in the sandbox; gives back who held it.
    pub(super) fn end(mut self) -> io::Result<Monitor> {
        self.root = None;
        self.monitor.end()?;
        Ok(self.monitor)
    }

    /// Whether a process of it has been killed for want of memory.
    fn ran_out(&self) -> bool {
        self.monitor.cgroup().is_some_and(|cgroup| cgroup.killed() > self.killed_before)
    }

    /// Takes one report, waiting for it.
    fn progress(&mut self) -> Result<Option<Ended>, SandboxError> {
        match self.inbox.receive(&self.control) {
            Ok(Some((Report::Ready, root))) => {
                self.root = root.map(Root::new);
                Ok(None)
            }
            Ok(Some((Report::Refused(refusal), _))) => Err(refusal.into()),
            Ok(Some((Report::NotStarted { errno }, _))) => Err(SandboxError::Program {
                program: self.program.clone(),
                reason: Errno::from_raw(errno).desc().to_lowercase(),
                errno,
            }),
            // Even of one that ended well: what it gave hangs on how much memory there was. What is in `/tmp` counts too, and then
            // it is not always the program that is killed.
            Ok(Some((Report::Ended { .. }, _))) | Err(_) if self.ran_out() => Ok(Some(Ended::OutOfMemory)),
            Ok(Some((Report::Ended { code: Some(code), .. }, _))) => Ok(Some(Ended::Exited(code))),
            Ok(Some((Report::Ended { signal, .. }, _))) => Ok(Some(Ended::Killed(signal.unwrap_or(0)))),
            Ok(None) => Ok(None),
            Err(error) => {
                let status = self.monitor.status().map_or_else(String::new, |status| format!("; {status}"));
                Err(SandboxError::Lost(format!("{error}{status}")))
            }
        }
    }
}
