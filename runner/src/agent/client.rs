//! A command's side of the protocol: finds the agent of a home directory, or starts one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::instance::executable;
use super::protocol::{Answer, PROTOCOL, Progress, Reply, Request};
use super::{boot, keeper};

/// How long an agent may take to listen.
const START: Duration = Duration::from_secs(20);

/// From when on a command tells that it waits for an agent of another build.
const TOLD: Duration = Duration::from_secs(2);

/// How long one whose keeper is there has to come back by itself: it then has the sockets of fronts.
const RETURN: Duration = Duration::from_secs(3);

/// How often a command that waits for the agent looks whether it still should.
const LOOK_UP: Duration = Duration::from_millis(50);

/// The agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It could not be started, or the socket fails.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended at once, or never listened.
    #[error("the agent does not start")]
    NotStarted {
        /// Where it says why.
        log: PathBuf,
    },
    /// It says that it cannot.
    #[error("the agent has failed: {0}")]
    Failed(String),
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotStarted { log } => Some(format!("`{}` says why", log.display())),
            _ => None,
        }
    }
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> ClientError {
    move |source| ClientError::Io { doing, source }
}

/// Asks the agent of a home directory; starts one where none is there. Once `cancel` is true the agent is told that nobody
/// wants it any more, and its answer says what came of that.
pub(crate) fn ask(
    home: &Path,
    request: &Request,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Answer, ClientError> {
    let is_change = matches!(request, Request::Deploy(_) | Request::Remove { .. });
    succeed_other_build(home, is_change, cancel, on_progress)?;
    let began = Instant::now();
    loop {
        let stream = connect_or_start(home)?;
        match exchange(&stream, request, cancel, on_progress) {
            // It was just about to end, for there was nothing to do.
            Err(error) if is_over(&error) && began.elapsed() < START => {}
            result => return failed(result.map_err(io_error("speak to the agent"))?),
        }
    }
}

/// Asks the agent, if there is one.
pub(super) fn ask_running(home: &Path, request: &Request) -> Result<Option<Answer>, ClientError> {
    let Some(stream) = connect(home).map_err(io_error("reach the agent"))? else { return Ok(None) };
    match exchange(&stream, request, &AtomicBool::new(false), &mut |_| ()) {
        Err(error) if is_over(&error) => Ok(None),
        result => failed(result.map_err(io_error("speak to the agent"))?).map(Some),
    }
}

fn failed(answer: Answer) -> Result<Answer, ClientError> {
    match answer {
        Answer::Failed(message) => Err(ClientError::Failed(message)),
        answer => Ok(answer),
    }
}

/// Has an agent of this build take the place of one of another: before each change, and before a question that the other would
/// not understand. That waits until no release is under way.
fn succeed_other_build(
    home: &Path,
    is_change: bool,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), ClientError> {
    let began = Instant::now();
    let mut is_told = false;
    let mut successor: Option<Child> = None;
    while !cancel.load(Ordering::Relaxed) {
        match ask_running(home, &Request::Hello) {
            Ok(Some(Answer::Hello { protocol, build: other }))
                if protocol == PROTOCOL && (!is_change || other == build()) =>
            {
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(_) => {}
        }
        match &mut successor {
            None => successor = Some(start(home, &[keeper::SUCCEED]).map_err(io_error("start the agent"))?),
            Some(child) => match child.try_wait().map_err(io_error("start the agent"))? {
                Some(status) if status.success() => successor = None,
                Some(_) => return Err(ClientError::NotStarted { log: log(home) }),
                None => {}
            },
        }
        if began.elapsed() > TOLD && !std::mem::replace(&mut is_told, true) {
            let note = "the agent is of another `pipe`; it makes way once no release is under way";
            on_progress(Progress::Note(note.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn exchange(
    stream: &UnixStream,
    request: &Request,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> io::Result<Answer> {
    stream.set_read_timeout(Some(LOOK_UP))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut writer = stream;
    writer.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    let mut heard = false;
    loop {
        let mut line = Vec::new();
        match read_line(&mut reader, &mut line, cancel) {
            Ok(0) if heard => {
                // Not to be asked again: the first part of the work is done.
                return Err(io::Error::other("the agent ended in the middle of it"));
            }
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        heard = true;
        match serde_json::from_slice(&line)? {
            Reply::Progress(progress) => on_progress(progress),
            Reply::Answer(answer) => return Ok(answer),
        }
    }
}

/// Reads a line; once nobody wants the work any more, ends this side of the conversation and listens on.
fn read_line(reader: &mut BufReader<&UnixStream>, line: &mut Vec<u8>, cancel: &AtomicBool) -> io::Result<usize> {
    loop {
        match reader.read_until(b'\n', line) {
            // What came before the wait was over is in the line already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(|_| line.len()),
        }
        if cancel.load(Ordering::Relaxed) {
            reader.get_ref().shutdown(Shutdown::Write)?;
        }
    }
}

fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn connect(home: &Path) -> io::Result<Option<UnixStream>> {
    let (path, _directory) = match short_socket(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        short => short?,
    };
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

fn connect_or_start(home: &Path) -> Result<UnixStream, ClientError> {
    let began = Instant::now();
    let mut started: Option<Child> = None;
    while began.elapsed() < START {
        if let Some(stream) = connect(home).map_err(io_error("reach the agent"))? {
            return Ok(stream);
        }
        match &mut started {
            None if began.elapsed() < RETURN && keeper::is_there(home) => {}
            None => started = Some(start(home, &[]).map_err(io_error("start the agent"))?),
            // Another command's agent may hold the lock while it still comes up, or while it ends: then this one ends well.
            Some(child) => match child.try_wait().map_err(io_error("start the agent"))? {
                Some(status) if status.success() => started = None,
                Some(_) => break,
                None => {}
            },
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(ClientError::NotStarted { log: log(home) })
}

/// Starts an agent, by its keeper.
pub(super) fn start(home: &Path, how: &[&str]) -> io::Result<Child> {
    DirBuilder::new().recursive(true).mode(0o700).create(home.join("agent"))?;
    let home = home.canonicalize()?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log(&home))?;
    boot::outlasting(&executable())
        .arg("agent")
        .args(how)
        .env("PIPE_HOME", home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn log(home: &Path) -> PathBuf {
    home.join("agent/agent.log")
}

/// The socket's path, and what has to live while it is used: it goes by a descriptor, for addresses of sockets are short.
pub(super) fn short_socket(home: &Path) -> io::Result<(PathBuf, File)> {
    let directory = File::open(home.join("agent"))?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/agent.sock", directory.as_raw_fd())), directory))
}

/// Which build of `pipe` this is, as far as one machine has to tell.
pub(super) fn build() -> String {
    match std::fs::metadata(executable()) {
        Ok(meta) => format!("{}-{}-{}.{}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()),
        Err(_) => String::new(),
    }
}
