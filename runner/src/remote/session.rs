//! A command's side of a conversation with a host: one connection, one [`Call`], and what comes back. Knows nothing of what a
//! release is made of.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::connect::COMMAND;
use super::send::{SendError, send};
use super::ssh::{Ssh, complaint};
use super::wire::{Asked, Call, Heard, RuntimeRecord, own_version, version, write_line};
use super::{Address, RemoteError};
use crate::agent::protocol::{Answer, Failure, Order, PROTOCOL, Progress, Reply, Request};
use crate::digest::Digest;
use crate::release::{Person, PublicKey, Release, Role, SlugRef, Trail, user};
use crate::runtime::Runtime;
use crate::slug::Manifest;
use crate::store::Store;

/// How often a command that waits looks whether it still should.
const LOOK_UP: u16 = 50;

/// How much may come before the first line of a host: some shells greet.
const PREAMBLE: u64 = 64 << 10;

/// A connection to the `pipe` at a host.
pub(crate) struct Session {
    ssh: Ssh,
    child: Child,
    to: Option<Counted<ChildStdin>>,
    from: BufReader<Counted<ChildStdout>>,
    complaint: Option<JoinHandle<String>>,
}

/// A slug that is over there now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Bytes that went over the connection, both ways, before SSH puts its own around them.
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

impl Session {
    /// Connects to a host; `home` is this machine's directory of pipe's data.
    pub(crate) fn open(address: &Address, home: &Path) -> Result<Self, RemoteError> {
        let ssh = Ssh::to(address, home);
        let mut child = ssh
            .pipe(&[COMMAND])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ssh.not_started(source))?;
        let (Some(to), Some(from), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ssh.not_started(io::ErrorKind::BrokenPipe.into()));
        };
        let mut session = Self {
            child,
            to: Some(Counted { inner: to, bytes: AtomicU64::new(0) }),
            from: BufReader::new(Counted { inner: from, bytes: AtomicU64::new(0) }),
            complaint: Some(thread::spawn(move || complaint(errors))),
            ssh,
        };
        session.greet()?;
        Ok(session)
    }

    /// Reads up to the host's first line.
    fn greet(&mut self) -> Result<(), RemoteError> {
        let mut preamble = self.from.by_ref().take(PREAMBLE);
        loop {
            let mut line = Vec::new();
            let read = preamble.read_until(b'\n', &mut line);
            if !matches!(read, Ok(length) if length > 0) {
                return Err(self.lost());
            }
            if let Some(theirs) = version(&String::from_utf8_lossy(&line)) {
                let same = theirs.split(' ').next() == Some(PROTOCOL.to_string().as_str());
                return if same {
                    Ok(())
                } else {
                    let (host, theirs) = (self.ssh.address.to_string(), theirs.to_owned());
                    Err(RemoteError::Version { host, theirs, ours: own_version() })
                };
            }
        }
    }

    /// Asks the agent over there.
    pub(crate) fn ask(
        mut self,
        request: Request,
        cancel: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Answer, RemoteError> {
        self.call(Call::Ask(request))?;
        self.replies(cancel, on_progress)
    }

    /// Sends what the host lacks of a slug, and has it released there.
    pub(crate) fn release(
        mut self,
        store: &Store,
        (order, slug): (Order, SlugRef),
        cancel: &AtomicBool,
        on_sent: &mut dyn FnMut(Sent),
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Answer, RemoteError> {
        let began = Instant::now();
        let (roots, runtime) = offered(store, &slug);
        self.call(Call::Release { order: Box::new(order), slug, runtime })?;
        if let Err(error) = self.send(store, &roots, cancel) {
            return match error {
                _ if cancel.load(Ordering::Relaxed) => Ok(Answer::NotReleased(Failure::cancelled())),
                SendError::Store(error) => Err(RemoteError::Store(error)),
                SendError::Refused(failure) => Err(self.refused(failure)),
                SendError::Lost => Err(self.lost()),
            };
        }
        on_sent(Sent { bytes: self.bytes(), elapsed: began.elapsed() });
        self.replies(cancel, on_progress)
    }

    fn send(&mut self, store: &Store, roots: &[Digest], cancel: &AtomicBool) -> Result<(), SendError> {
        let Self { to: Some(to), from, child, .. } = self else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        };
        let pid = Pid::from_raw(child.id().cast_signed());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if cancel.load(Ordering::Relaxed) {
                        // Nothing is released yet: what has come is kept over there, and that is all.
                        let _ = kill(pid, Signal::SIGTERM);
                        return;
                    }
                    thread::park_timeout(Duration::from_millis(LOOK_UP.into()));
                }
            });
            let sent = send(store, roots, from, to);
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            sent
        })
    }

    /// The releases of a target over there, without their environments.
    pub(crate) fn releases(mut self, app: &str, target: &str) -> Result<Vec<Release>, RemoteError> {
        self.call(Call::Releases { app: app.to_owned(), target: target.to_owned() })?;
        match self.heard()? {
            Heard::Releases(releases) => Ok(releases),
            other => Err(self.unexpected(other)),
        }
    }

    /// The config of a target over there.
    pub(crate) fn config(mut self, app: &str, target: &str) -> Result<BTreeMap<String, String>, RemoteError> {
        self.call(Call::Config { app: app.to_owned(), target: target.to_owned() })?;
        match self.heard()? {
            Heard::Config(config) => Ok(config),
            other => Err(self.unexpected(other)),
        }
    }

    /// The names that the config of a target over there sets.
    pub(crate) fn config_names(mut self, app: &str, target: &str) -> Result<Vec<String>, RemoteError> {
        self.call(Call::ConfigNames { app: app.to_owned(), target: target.to_owned() })?;
        match self.heard()? {
            Heard::ConfigNames(names) => Ok(names),
            other => Err(self.unexpected(other)),
        }
    }

    /// The names of the variables that a release over there gives to its processes.
    pub(crate) fn variable_names(mut self, app: &str, target: &str, release: u64) -> Result<Vec<String>, RemoteError> {
        self.call(Call::VariableNames { app: app.to_owned(), target: target.to_owned(), release })?;
        match self.heard()? {
            Heard::VariableNames(names) => Ok(names),
            other => Err(self.unexpected(other)),
        }
    }

    /// What was done to a target over there, and to its host.
    pub(crate) fn audit(mut self, app: &str, target: &str) -> Result<Trail, RemoteError> {
        self.call(Call::Audit { app: app.to_owned(), target: target.to_owned() })?;
        match self.heard()? {
            Heard::Audit(trail) => Ok(trail),
            other => Err(self.unexpected(other)),
        }
    }

    /// The people of the host.
    pub(crate) fn people(mut self) -> Result<Vec<Person>, RemoteError> {
        self.call(Call::People)?;
        match self.heard()? {
            Heard::People(people) => Ok(people),
            other => Err(self.unexpected(other)),
        }
    }

    /// Adds somebody at the host, or gives another role or key to who is there.
    pub(crate) fn add_person(self, name: &str, role: Role, key: Option<PublicKey>) -> Result<(), RemoteError> {
        self.done(Call::AddPerson { name: name.to_owned(), role, key })
    }

    /// Removes somebody at the host.
    pub(crate) fn remove_person(self, name: &str) -> Result<(), RemoteError> {
        self.done(Call::RemovePerson { name: name.to_owned() })
    }

    fn done(mut self, call: Call) -> Result<(), RemoteError> {
        self.call(call)?;
        match self.heard()? {
            Heard::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    /// What went over the connection so far, both ways.
    fn bytes(&self) -> u64 {
        let written = self.to.as_ref().map_or(0, |to| to.bytes.load(Ordering::Relaxed));
        written + self.from.get_ref().bytes.load(Ordering::Relaxed)
    }

    fn call(&mut self, call: Call) -> Result<(), RemoteError> {
        let asked = Asked { by: user(), call };
        let Some(to) = &mut self.to else { return Err(self.lost()) };
        if write_line(to, &asked).is_err() {
            return Err(self.lost());
        }
        Ok(())
    }

    fn heard(&mut self) -> Result<Heard, RemoteError> {
        self.line(&AtomicBool::new(false))
    }

    fn replies(&mut self, cancel: &AtomicBool, on_progress: &mut dyn FnMut(Progress)) -> Result<Answer, RemoteError> {
        loop {
            match self.line(cancel)? {
                Reply::Progress(progress) => on_progress(progress),
                Reply::Answer(Answer::Refused(failure)) => return Err(self.refused(failure)),
                Reply::Answer(Answer::Failed(message)) => return Err(self.refused(Failure::new(message))),
                Reply::Answer(answer) => return Ok(answer),
            }
        }
    }

    /// The next line; once nobody wants the work any more, ends this side of the conversation and listens on.
    fn line<T: DeserializeOwned>(&mut self, cancel: &AtomicBool) -> Result<T, RemoteError> {
        while self.to.is_some() && self.from.buffer().is_empty() {
            if cancel.load(Ordering::Relaxed) {
                self.to = None;
            } else if self.is_readable() {
                break;
            }
        }
        let mut line = Vec::new();
        if self.from.read_until(b'\n', &mut line).is_err() || line.is_empty() {
            return Err(self.lost());
        }
        serde_json::from_slice(&line).map_err(|_| self.lost())
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.from.get_ref().inner.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LOOK_UP)) {
            // The signal may be the very wish to end.
            Ok(0) | Err(Errno::EINTR) => false,
            // What goes wrong with it, reading tells.
            Ok(_) | Err(_) => true,
        }
    }

    /// Why nothing more comes: what `ssh` ended with, and what it or the other side wrote.
    fn lost(&mut self) -> RemoteError {
        self.to = None;
        let status = self.child.wait();
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        match status {
            Ok(status) if !status.success() => self.ssh.failure(status, &complaint),
            _ => RemoteError::Lost { host: self.ssh.address.to_string(), why: complaint.trim().to_owned() },
        }
    }

    /// What an answer means that is not the one that was asked for.
    fn unexpected(&self, heard: Heard) -> RemoteError {
        self.refused(match heard {
            Heard::Failed(failure) => failure,
            _ => Failure::new("it answers something that was not asked"),
        })
    }

    fn refused(&self, Failure { message, hint, usage, .. }: Failure) -> RemoteError {
        RemoteError::Refused { host: self.ssh.address.to_string(), message, hint, usage }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.to = None;
        // It has been heard, or nobody listens any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The trees that a slug is and runs on, and how its runtime is found again.
fn offered(store: &Store, slug: &SlugRef) -> (Vec<Digest>, Option<RuntimeRecord>) {
    let mut roots = vec![slug.tree];
    // Where the slug is not on this machine the host may have it all the same.
    let runtime = Manifest::read(store, &slug.tree).ok().map(|(_, manifest)| manifest.runtime);
    let record = runtime.and_then(|digest| Some((digest, Runtime::record(&digest, store).ok()??)));
    let record = record.map(|(digest, (record, trees))| {
        roots.extend(trees);
        RuntimeRecord { digest, record }
    });
    (roots, record)
}

/// `pipe` at a host with the arguments of a command that only shows something there, or runs something, as this process's own.
/// The host is spoken to once before, so that what is wrong with it is told well.
pub fn pass_on(address: &Address, home: &Path, arguments: &[&str], terminal: bool) -> Result<Command, RemoteError> {
    let session = Session::open(address, home)?;
    Ok(session.ssh.pipe_here(arguments, terminal))
}

/// Counts what goes through.
struct Counted<T> {
    inner: T,
    bytes: AtomicU64,
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
