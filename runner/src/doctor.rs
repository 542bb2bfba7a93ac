//! What this machine can do of what `pipe` needs, by trying it. Each check says what it found and, where it is not enough, what
//! to do about it. Knows nothing of pipelines.

use std::path::{Path, PathBuf};

use crate::disk;
use crate::runtime::Interpreter;
use crate::sandbox::{self, Ended, Monitors, Mount, Run, SandboxError, Scratch, Spec};
use crate::store::FULL;

/// Bytes that a project with a large environment takes, in the store and unpacked.
const ENOUGH_SPACE: u64 = 5 << 30;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is there.
    Ok,
    /// Something works less well, or only some pipelines need it.
    Warning,
    /// No pipeline with native programs can run.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What, in a word or two.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Looks at everything; `home` is where `pipe` keeps its data.
pub fn checks(home: &Path) -> Vec<Check> {
    let mut checks = vec![writable(home), space(home)];
    checks.extend(sandboxes(home));
    checks.extend([seccomp(), memory(), python()]);
    checks.push(program("git", "only needed for dependencies that are commits", "`apt-get install git`"));
    checks
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn failed(name: &'static str, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), remedy }
    }
}

fn writable(home: &Path) -> Check {
    let place = home.display().to_string();
    let attempt = std::fs::create_dir_all(home).and_then(|()| tempfile::tempfile_in(home));
    match attempt {
        Ok(_) => Check::ok("home", place),
        Err(error) => {
            let remedy = format!("make `{place}` writable, or set PIPE_HOME to a directory that is");
            Check::failed("home", format!("{place}: {error}"), Some(remedy))
        }
    }
}

fn space(home: &Path) -> Check {
    match disk::room(home) {
        Ok(None) => Check::ok("disk", "it does not say how much is free"),
        Ok(Some(free)) => {
            let detail = format!("{} GiB free", free >> 30);
            if free >= ENOUGH_SPACE { Check::ok("disk", detail) } else { Check::warning("disk", detail, FULL) }
        }
        Err(error) => Check::warning("disk", error.to_string(), "set PIPE_HOME to a directory on a local disk"),
    }
}

/// The real thing, first without and then with a writable layer.
fn sandboxes(home: &Path) -> [Check; 2] {
    let plain = match try_sandbox(None) {
        Ok(()) => Check::ok("namespaces", "programs run in a root of their own, without a network"),
        Err(error) => Check::failed("namespaces", chain(&error), error.hint()),
    };
    if plain.status == Status::Failed {
        return [plain, Check::failed("overlay", "not tried", None)];
    }
    let layered = match tempfile::tempdir_in(home) {
        Ok(dir) => match try_sandbox(Some(dir.path())) {
            Ok(()) => Check::ok("overlay", "programs may write over inputs that stay as they are"),
            Err(error) => Check::failed("overlay", chain(&error), error.hint()),
        },
        Err(error) => Check::failed("overlay", error.to_string(), None),
    };
    [plain, layered]
}

fn try_sandbox(layer: Option<&Path>) -> Result<(), SandboxError> {
    let io = |source| SandboxError::Io { doing: "make a scratch directory", source };
    let mut spec = Spec::new(["/usr/bin/env", "true"]);
    spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
    for name in ["usr", "bin", "lib", "lib64"] {
        let at = format!("/{name}");
        if Path::new(&at).is_dir() {
            spec.mounts.push(Mount::Bind { source: PathBuf::from(&at), at, writable: false });
        }
    }
    let scratch = layer.map(Scratch::new_in).transpose().map_err(io)?;
    if let (Some(dir), Some(scratch)) = (layer, &scratch) {
        let lower = dir.join("lower");
        std::fs::create_dir(&lower).map_err(io)?;
        spec.mounts.push(Mount::Overlay { lower: vec![lower], at: "/app".into(), scratch: scratch.path().to_owned() });
    }
    match sandbox::run(&Monitors::default(), &spec, Run::default(), |_, _| {}, |_, _| ())?.ended {
        Ended::Exited(0) => Ok(()),
        other => Err(SandboxError::Lost(format!("`env true` ended with {other:?}"))),
    }
}

fn seccomp() -> Check {
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => {
            Check::ok("seccomp", "system calls are filtered")
        }
        _ => Check::failed(
            "seccomp",
            "the kernel cannot filter system calls",
            Some("CONFIG_SECCOMP_FILTER is needed".into()),
        ),
    }
}

fn memory() -> Check {
    if sandbox::limits_memory_together() {
        Check::ok("memory limits", "for all processes of a step together, by control groups")
    } else {
        let remedy = "as root, and with the memory controller, pipe makes control groups";
        Check::warning("memory limits", "for each process of a step by itself", remedy)
    }
}

fn python() -> Check {
    match Interpreter::on_path() {
        Ok(python) => Check::ok("python", format!("{} in `{}`", python.version, python.prefix.display())),
        Err(error) => {
            let remedy = error.hint().unwrap_or_default();
            Check::warning("python", error.to_string(), remedy)
        }
    }
}

fn program(name: &'static str, need: &str, remedy: &str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::warning(name, format!("not found: {need}"), remedy),
    }
}

/// An error and what it came from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_home_that_cannot_be_made_says_what_to_set() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let check = writable(&file.path().join("home"));
        assert_eq!(check.status, Status::Failed);
        assert!(check.remedy.expect("a remedy").contains("PIPE_HOME"));
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let error = SandboxError::Io { doing: "make a pipe", source: io::Error::other("too many open files") };
        assert_eq!(chain(&error), "cannot make a pipe: too many open files");
    }
}
