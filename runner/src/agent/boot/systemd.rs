//! Units of systemd: of the machine for root, of the user for anybody else, whose services then have to outlast his sessions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::{Boot, BootError, COMMAND, log, program, text};
use crate::digest::Digest;

/// Where the units of the machine are.
const MACHINE: &str = "/etc/systemd/system";

/// Where a file is for each user whose services begin with the machine.
const LINGERING: &str = "/var/lib/systemd/linger";

/// A place for units.
pub(super) struct Units {
    directory: PathBuf,
    /// What has them started when the machine comes up.
    target: &'static str,
    /// The user whose they are; none: the machine's.
    user: Option<String>,
}

/// Whether systemd is what this machine runs under.
pub(super) fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

impl Units {
    /// Where this user's units belong.
    pub(super) fn own() -> Option<Self> {
        if geteuid().is_root() {
            return Some(Self { directory: MACHINE.into(), target: "multi-user.target", user: None });
        }
        let user = User::from_uid(geteuid()).ok().flatten()?;
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| Path::new(path).is_absolute());
        let config = config.map_or_else(|| user.dir.join(".config"), PathBuf::from);
        Some(Self { directory: config.join("systemd/user"), target: "default.target", user: Some(user.name) })
    }

    /// Has the agent of a home directory started when the machine comes up.
    pub(super) fn write(&self, home: &Path) -> Result<Boot, BootError> {
        let unit = self.unit(home);
        let wanted = self.wanted(home);
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| BootError::Io { doing, path, source }
        };
        let directory = wanted.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        fs::write(&unit, self.text(home)?).map_err(failed("write", &unit))?;
        // What `systemctl enable` does, which without a session of the user's cannot be asked.
        match std::os::unix::fs::symlink(&unit, &wanted) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("write", &wanted))?,
        }
        self.reload();
        Ok(Boot { by: format!("systemd, by `{}`", unit.display()), lacks: self.user.as_deref().and_then(linger) })
    }

    /// Takes that back.
    pub(super) fn remove(&self, home: &Path) -> Result<(), BootError> {
        let mut was_there = false;
        for path in [self.wanted(home), self.unit(home)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(BootError::Io { doing: "remove", path, source }),
                Ok(()) => was_there = true,
            }
        }
        if was_there {
            self.reload();
        }
        Ok(())
    }

    fn name(home: &Path) -> String {
        format!("pipe-{}.service", Digest::of(home.as_os_str().as_encoded_bytes()).short())
    }

    fn unit(&self, home: &Path) -> PathBuf {
        self.directory.join(Self::name(home))
    }

    fn wanted(&self, home: &Path) -> PathBuf {
        self.directory.join(format!("{}.wants", self.target)).join(Self::name(home))
    }

    fn text(&self, home: &Path) -> Result<String, BootError> {
        // Systemd runs no program that has one of these in its name.
        if text(home)?.contains(['"', '\'', '\\']) {
            return Err(BootError::Path(home.to_owned()));
        }
        let network = match self.user {
            None => "Wants=network-online.target\nAfter=network-online.target\n",
            // What the machine has, the units of users cannot wait for.
            Some(_) => "",
        };
        let (at, log, program) = (text(home)?.replace('%', "%%"), log(home), program(home));
        Ok(format!(
            "[Unit]
Description=pipe agent of {at}
{network}
[Service]
Environment={}
ExecStart={} {COMMAND}
Restart=on-failure
RestartSec=2
# What it runs outlives it, and is taken over by the next one.
KillMode=process
LimitNOFILE=65536
TasksMax=infinity
StandardOutput=append:{log}
StandardError=append:{log}

[Install]
WantedBy={}
",
            quoted(&format!("PIPE_HOME={}", text(home)?)),
            quoted(text(&program)?),
            self.target,
            log = text(&log)?.replace('%', "%%"),
        ))
    }

    /// Systemd may look when it wants to: what counts is what it finds when the machine comes up.
    fn reload(&self) {
        let mut systemctl = Command::new("systemctl");
        if self.user.is_some() {
            systemctl.arg("--user");
        }
        let _ = quiet(systemctl.arg("daemon-reload"));
    }
}

/// What runs another program in a scope of its own. None where that would be no gain: what is a user's own ends with his last session,
/// unless he lingers.
pub(super) fn scope() -> Option<Command> {
    let units = Units::own().filter(|_| is_there())?;
    if units.user.as_deref().is_some_and(|user| !lingers(user)) {
        return None;
    }
    let run = || {
        let mut run = Command::new("systemd-run");
        run.args(["--scope", "--quiet", "--collect", "--description=pipe agent", "--property=TasksMax=infinity"]);
        if units.user.is_some() {
            // Known to who has logged in, and to services and cron entries of a user not always.
            run.arg("--user").env("XDG_RUNTIME_DIR", format!("/run/user/{}", geteuid()));
        }
        run
    };
    quiet(run().arg("true")).then(run)
}

fn lingers(user: &str) -> bool {
    Path::new(LINGERING).join(user).exists()
}

/// Has the services of a user begin with the machine; what is to be said where that is not allowed.
fn linger(user: &str) -> Option<(String, String)> {
    let lingers = || lingers(user);
    let _ = lingers() || quiet(Command::new("loginctl").args(["--no-ask-password", "enable-linger"]));
    (!lingers()).then(|| {
        let message = format!("services of `{user}` begin only once somebody logs in as that user");
        (message, format!("run `sudo loginctl enable-linger {user}` there once"))
    })
}

fn quiet(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A word as systemd reads it.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(directory: &Path, user: Option<&str>) -> Units {
        let target = if user.is_some() { "default.target" } else { "multi-user.target" };
        Units { directory: directory.to_owned(), target, user: user.map(str::to_owned) }
    }

    #[test]
    fn systemd_accepts_the_unit_wherever_the_home_is() {
        let dir = tempfile::tempdir().expect("a directory");
        for (user, name) in [(None, "plain"), (None, "100% odd; $HOME"), (Some("me"), "of a user")] {
            let (units, home) = (units(&dir.path().join("units"), user), dir.path().join(name));
            fs::create_dir_all(home.join("bin")).expect("a directory");
            std::os::unix::fs::symlink("/bin/true", home.join("bin/pipe")).expect("a program");
            units.write(&home).expect("written");
            assert_eq!(fs::read_link(units.wanted(&home)).expect("a link"), units.unit(&home));
            // Without systemd's own tool the text is at least that of before.
            let mode = if user.is_some() { "--user" } else { "--system" };
            let verify =
                Command::new("systemd-analyze").args(["verify", mode, "--man=no"]).arg(units.unit(&home)).output();
            if let Ok(said) = verify {
                let said = String::from_utf8_lossy(&said.stderr).into_owned();
                let of_ours = |line: &&str| line.contains("pipe-");
                assert_eq!(said.lines().filter(of_ours).collect::<Vec<_>>(), [""; 0], "{name}");
            }
            // Written again it is the same, and removed there is nothing.
            units.write(&home).expect("written");
            units.remove(&home).expect("removed");
            units.remove(&home).expect("nothing is there");
            assert!(!units.unit(&home).exists() && fs::read_link(units.wanted(&home)).is_err());
        }
    }

    #[test]
    fn the_unit_says_what_is_run_for_which_home() {
        let unit = units(Path::new("/nowhere"), None).text(Path::new("/srv/pi%pe")).expect("a unit");
        for line in [
            "Environment=\"PIPE_HOME=/srv/pi%%pe\"",
            "ExecStart=\"/srv/pi%%pe/bin/pipe\" agent-boot",
            "StandardError=append:/srv/pi%%pe/agent/agent.log",
            "After=network-online.target",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} in {unit}");
        }
        let of_user = units(Path::new("/nowhere"), Some("me")).text(Path::new("/srv/pipe")).expect("a unit");
        assert!(!of_user.contains("network-online") && of_user.contains("WantedBy=default.target"));
        for odd in ["/srv/a\nExecStart=b", "/srv/it's", "/srv/\"a\"", "/srv/a\\b"] {
            assert!(units(Path::new("/nowhere"), None).text(Path::new(odd)).is_err(), "{odd}");
        }
    }
}
