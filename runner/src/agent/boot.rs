//! What brings the agent back after a restart of the machine: a unit of systemd where that is the first process, else a line in
//! the user's crontab where cron runs. Knows nothing of what the agent then does.

mod cron;
mod systemd;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::protocol::Failure;
use super::{AgentError, instance::executable, keeper};
use crate::release;
use crate::shell::quoted;

/// The subcommand that the machine runs when it comes up; with a target it sees to that.
pub(crate) const COMMAND: &str = "agent-boot";

/// The file with the targets that are to come back, one a line.
const WANTED: &str = "agent/comes-back";

/// What is written down where the machine looks when it comes up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Who starts the agent then, in a few words.
    pub by: String,
    /// What is still missing for that, and what to do about it.
    pub lacks: Option<(String, String)>,
}

/// Nothing would bring targets back.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file or a directory.
    #[error("cannot {doing} `{path}`", path = .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A path that would break the line that it has to stand in.
    #[error("`{path}` cannot stand in a unit or a crontab", path = .0.display())]
    Path(PathBuf),
    /// The command `crontab`.
    #[error("`crontab` refuses: {0}")]
    Crontab(String),
    /// There is nobody who could do it.
    #[error("neither systemd nor cron is there, to bring targets back after a restart of the machine")]
    Nobody {
        /// What would have to be run then.
        command: String,
    },
}

impl BootError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { path, .. } => Some(format!("make `{}` writable", path.display())),
            Self::Path(_) => Some("set PIPE_HOME to a directory with a plain name".into()),
            Self::Crontab(_) => Some("`/etc/cron.allow` and `/etc/cron.deny` say who may have a crontab".into()),
            Self::Nobody { command } => Some(format!(
                "install cron, or have whatever starts programs there run `{command}`; else they come back with the next `pipe` command"
            )),
        }
    }
}

/// What is told to who had a host see to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// It is seen to.
    Boot(Boot),
    /// It is not.
    Failed(Failure),
}

/// Runs the agent where something is to come back; or sees to it that it does, for a `target`, and tells what came of that.
pub(super) fn run(home: &Path, target: Option<&str>) -> Result<(), AgentError> {
    let Some(target) = target else {
        return if release::is_idle(home)? { Ok(()) } else { keeper::keep(home, keeper::SERVE) };
    };
    let told = match on(home, target) {
        Ok(boot) => Told::Boot(boot),
        Err(error) => Told::Failed(Failure::hinted(&error, error.hint())),
    };
    let tell = |source| AgentError::Io { doing: "tell what it has done", source };
    serde_json::to_writer(io::stdout(), &told).map_err(|error| tell(error.into()))
}

/// Has a target come back after a restart of the machine; the `pipe` that is at `bin/pipe` in the home directory is run then.
pub fn on(home: &Path, target: &str) -> Result<Boot, BootError> {
    private(home)?;
    let Some(way) = Way::of_this_machine() else { return Err(BootError::Nobody { command: command(home)? }) };
    let mut boot = way.write(home)?;
    // A user whose services do not begin with the machine may still have a crontab.
    if boot.lacks.is_some() && cron::is_there() {
        boot = cron::write(home)?;
        systemd::Units::own().map_or(Ok(()), |units| units.remove(home))?;
    }
    let mut wanted = wanted(home)?;
    wanted.insert(target.to_owned());
    keep_wanted(home, &wanted)?;
    Ok(boot)
}

/// Has a target not come back any more; whether it would have. With the last one all that was written down is taken away.
pub(super) fn off(home: &Path, target: &str) -> Result<bool, BootError> {
    let mut wanted = wanted(home)?;
    if !wanted.remove(target) {
        return Ok(false);
    }
    keep_wanted(home, &wanted)?;
    if wanted.is_empty() {
        systemd::Units::own().map_or(Ok(()), |units| units.remove(home))?;
        cron::remove(home)?;
    }
    Ok(true)
}

/// Runs a program that is to outlast the session, or the service, of who asks for it: systemd may end all that was started there.
pub(super) fn outlasting(program: &Path) -> Command {
    // By its name: what begins it is another program.
    if let Ok(name) = program.canonicalize()
        && let Some(mut scope) = systemd::scope()
    {
        scope.arg(name);
        return scope;
    }
    let mut command = Command::new(program);
    command.arg0("pipe");
    command
}

/// Puts this very program where the machine finds it when it comes up.
pub fn place_program(home: &Path) -> Result<(), BootError> {
    let (bin, program) = (home.join("bin"), program(home));
    let failed = |doing| {
        let path = program.clone();
        move |source| BootError::Io { doing, path, source }
    };
    fs::create_dir_all(&bin).map_err(failed("make the directory of"))?;
    let new = bin.join(format!(".pipe-{}", std::process::id()));
    // A copy has the mode of what it is a copy of. In the place of one that runs a new one can only be moved.
    fs::copy(executable(), &new).and_then(|_| fs::rename(&new, &program)).map_err(failed("write"))
}

/// Who starts programs when the machine comes up.
enum Way {
    Systemd(systemd::Units),
    Cron,
}

impl Way {
    fn of_this_machine() -> Option<Self> {
        if systemd::is_there() {
            systemd::Units::own().map(Self::Systemd)
        } else {
            cron::is_there().then_some(Self::Cron)
        }
    }

    fn write(&self, home: &Path) -> Result<Boot, BootError> {
        match self {
            Self::Systemd(units) => units.write(home),
            Self::Cron => cron::write(home),
        }
    }
}

fn program(home: &Path) -> PathBuf {
    home.join("bin/pipe")
}

fn private(home: &Path) -> Result<(), BootError> {
    let directory = home.join("agent");
    crate::private::directory(&directory).map_err(|source| BootError::Io { doing: "make", path: directory, source })
}

/// What has to be run when the machine comes up, for a shell.
fn command(home: &Path) -> Result<String, BootError> {
    Ok(format!("PIPE_HOME={} {} {COMMAND}", quoted(text(home)?), quoted(text(&program(home))?)))
}

fn log(home: &Path) -> PathBuf {
    home.join("agent/agent.log")
}

/// A path as a text of one line.
fn text(path: &Path) -> Result<&str, BootError> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.ok_or_else(|| BootError::Path(path.to_owned()))
}

fn wanted(home: &Path) -> Result<BTreeSet<String>, BootError> {
    let path = home.join(WANTED);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(BootError::Io { doing: "read", path, source }),
    }
}

fn keep_wanted(home: &Path, wanted: &BTreeSet<String>) -> Result<(), BootError> {
    let path = home.join(WANTED);
    let lines: Vec<&str> = wanted.iter().flat_map(|target| [target, "\n"]).collect();
    let written = crate::private::replace(&path, lines.concat().as_bytes());
    written.map_err(|source| BootError::Io { doing: "write", path, source })
}
