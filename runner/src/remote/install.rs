//! Setting a host up: puts this very `pipe` there, and has it look whether targets can run. Nothing but sshd and a shell need be
//! there before.

use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::script::Script;
use super::ssh::{Asking, Ssh};
use super::{Address, RemoteError};
use crate::agent::{Told, executable};

/// What of a doctor's findings is about builds only, which a host does not do.
const OF_BUILDS: [&str; 2] = ["git", "python"];

/// A host that is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The directory of pipe's data there.
    pub home: String,
    /// What the host is: `x86_64`.
    pub machine: String,
    /// The fingerprint of the key by which it was known.
    pub key: Option<String>,
    /// Who brings targets back after a restart of the host, in a few words.
    pub boot: Option<String>,
    /// What is not as it could be, each with what to do about it.
    pub warnings: Vec<(String, Option<String>)>,
}

/// What the program over there finds.
#[derive(Deserialize)]
struct Check {
    name: String,
    status: String,
    detail: String,
    remedy: Option<String>,
}

/// Puts this program on a host, where it is not there already, and has it look around, and bring a target back
/// (`boot`, `app/name`) after a restart of the host. `may_ask` lets `ssh` ask for a password,
/// or whether a key is the host's; `say` hears what takes a while.
pub fn install(
    address: &Address,
    boot: Option<&str>,
    home: &Path,
    may_ask: bool,
    say: &mut dyn FnMut(&str),
) -> Result<Installed, RemoteError> {
    let ssh = Ssh::to(address, home);
    let host = address.to_string();
    let (answers, key) = ssh.probe(if may_ask { Asking::Allowed } else { Asking::Never })?;
    let answer = |name: &str| {
        let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        answers.lines().find_map(of_line).unwrap_or_default()
    };
    let machine = match answer("machine").as_str() {
        "arm64" => "aarch64".to_owned(),
        "amd64" => "x86_64".to_owned(),
        machine => machine.to_owned(),
    };
    if answer("system") != "Linux" || machine != std::env::consts::ARCH {
        let theirs = format!("{} {machine}", answer("system"));
        return Err(RemoteError::Architecture { host, theirs, ours: format!("Linux {}", std::env::consts::ARCH) });
    }
    let program = own_program().map_err(|source| RemoteError::NotStarted { program: "pipe".into(), source })?;
    let digest = format!("{:x}", Sha256::digest(&program));
    if answer("sha256") != digest {
        copy(&ssh, &program, answer("gzip") == "yes", say)?;
    }
    let found = ssh.output(Script::Doctor, &[], &[], Asking::Never)?;
    let refused = |error: &dyn std::error::Error| RemoteError::Refused {
        host: host.clone(),
        message: error.to_string(),
        hint: None,
        usage: false,
    };
    let checks: Vec<Check> = serde_json::from_str(&found).map_err(|error| refused(&error))?;
    let mut warnings = judge(&host, checks)?;
    let mut by = None;
    if let Some(target) = boot {
        let told = ssh.output(Script::Boot, &[target], &[], Asking::Never)?;
        match serde_json::from_str(&told).map_err(|error| refused(&error))? {
            Told::Boot(boot) => {
                warnings.extend(boot.lacks.map(|(lack, remedy)| (lack, Some(remedy))));
                by = Some(boot.by);
            }
            Told::Failed(failure) => warnings.push((failure.message, failure.hint)),
        }
    }
    Ok(Installed { home: answer("home"), machine, key, boot: by, warnings })
}

fn own_program() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(executable())?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn copy(ssh: &Ssh, program: &[u8], gzip: bool, say: &mut dyn FnMut(&str)) -> Result<(), RemoteError> {
    let packed = if gzip {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = packer.write_all(program).and_then(|()| packer.finish());
        packed.map_err(|source| RemoteError::NotStarted { program: "pipe".into(), source })?
    } else {
        program.to_vec()
    };
    say(&format!("copying pipe to {}, {} MB", ssh.address, packed.len().div_ceil(1_000_000)));
    let size = program.len().to_string();
    ssh.output(Script::Copy, &[&size, if gzip { "gzip" } else { "cat" }], &packed, Asking::Never)
        .map(drop)
        .map_err(with_hint)
}

/// Says what to do about what a shell complains of.
fn with_hint(error: RemoteError) -> RemoteError {
    match error {
        RemoteError::Refused { host, message, hint: None, usage } => {
            let hint = match () {
                () if message.contains("No space left") => {
                    Some("make room there, or name a directory on a larger disk")
                }
                () if message.contains("Permission denied") || message.contains("Read-only") => {
                    Some("name a directory that you may write to")
                }
                () => None,
            };
            let hint = hint.map(|hint| format!("{hint}, as in `ssh://user@host/srv/pipe`"));
            RemoteError::Refused { host, message, hint, usage }
        }
        error => error,
    }
}

/// What only works less well; or all that has to be there and is not.
fn judge(host: &str, checks: Vec<Check>) -> Result<Vec<(String, Option<String>)>, RemoteError> {
    let checks = checks.into_iter().filter(|check| !OF_BUILDS.contains(&check.name.as_str()));
    let (failed, others): (Vec<Check>, Vec<Check>) = checks.partition(|check| check.status == "failed");
    if failed.is_empty() {
        let warnings = others.into_iter().filter(|check| check.status == "warning");
        return Ok(warnings.map(|check| (format!("{}: {}", check.name, check.detail), check.remedy)).collect());
    }
    let (failed, remedies): (Vec<String>, Vec<Option<String>>) =
        failed.into_iter().map(|check| (format!("{}: {}", check.name, check.detail), check.remedy)).unzip();
    Err(RemoteError::Unfit { host: host.to_owned(), failed, remedies: remedies.into_iter().flatten().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, status: &str) -> Check {
        let remedy = Some(format!("see to {name}"));
        Check { name: name.into(), status: status.into(), detail: "so".into(), remedy }
    }

    #[test]
    fn what_only_builds_need_keeps_no_host_from_running_targets() {
        let found = vec![check("python", "failed"), check("git", "warning"), check("disk", "warning")];
        let warnings = judge("ssh://web", found).expect("a host that is fit");
        assert_eq!(warnings, [("disk: so".to_owned(), Some("see to disk".to_owned()))]);
        let error =
            judge("ssh://web", vec![check("namespaces", "failed"), check("home", "ok")]).expect_err("it is not fit");
        assert_eq!(error.to_string(), "`ssh://web` cannot run targets: namespaces: so");
        assert_eq!(error.hint().as_deref(), Some("see to namespaces"));
    }
}
