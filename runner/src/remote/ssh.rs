//! The system's OpenSSH client, as a way to run a program on a host. Knows nothing of what is said over it.

use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use super::script::{Script, line};
use super::{Address, RemoteError};
use crate::digest::Digest;
use crate::event::Fault;
use crate::release::{ASKER, user};
use crate::shell::quoted;

/// What replaces the command `ssh`, with arguments of its own: `ssh -F config`.
const PROGRAM: &str = "PIPE_SSH";

/// As long as the path of a socket may be, with what `ssh` puts behind it while it makes one.
const LONGEST_SOCKET: usize = 107 - 17;

/// What of standard error is kept.
const LONGEST_COMPLAINT: u64 = 64 << 10;

/// The exit code by which a shell says that there is no such program.
const NO_PROGRAM: i32 = 127;

/// The exit code by which `ssh` says that it failed itself.
const FAILED: i32 = 255;

/// A way to a host.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    pub(super) address: Address,
    program: Vec<String>,
    options: Vec<String>,
}

/// What the user's terminal is to a program over there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// Nobody is asked for anything.
    Never,
    /// `ssh` may ask for a password, or whether a host's key is the right one.
    Allowed,
}

impl Ssh {
    /// The way to a host; sockets of connections that are shared are below `home`.
    pub(super) fn to(address: &Address, home: &Path) -> Self {
        let program = std::env::var(PROGRAM).ok().filter(|words| !words.trim().is_empty());
        let program = program
            .map_or_else(|| vec!["ssh".to_owned()], |words| words.split_whitespace().map(str::to_owned).collect());
        let mut ssh = Self { address: address.clone(), program, options: Vec::new() };
        ssh.options = ssh.defaults(home);
        ssh
    }

    /// What the user's own configuration leaves open: one connection serves several commands, and one that is dead is noticed.
    fn defaults(&self, home: &Path) -> Vec<String> {
        // Where that fails the connection itself will say why. Of a connection that asks nobody anything some versions tell another
        // interval than the user's own.
        let found = self.command(["-G"], Asking::Allowed).output().map(|output| output.stdout).unwrap_or_default();
        let found = String::from_utf8_lossy(&found).into_owned();
        let is = |line: &str| found.lines().any(|found| found == line);
        let mut options = Vec::new();
        if is("connecttimeout none") {
            options.push("ConnectTimeout=15".to_owned());
        }
        if is("serveraliveinterval 0") {
            options.push("ServerAliveInterval=15".to_owned());
        }
        if !found.lines().any(|line| line.starts_with("controlpath "))
            && let Some(socket) = self.socket(home)
        {
            options.extend(["ControlMaster=auto".to_owned(), "ControlPersist=60".to_owned()]);
            options.push(format!("ControlPath={}", socket.to_string_lossy().replace('%', "%%")));
        }
        options
    }

    /// Where the socket of a shared connection is; none where its path would be too long, for it only saves time.
    fn socket(&self, home: &Path) -> Option<PathBuf> {
        let directory = home.join("ssh");
        let name = Digest::of(format!("{}\0{}", self.program.join(" "), self.address).as_bytes()).short();
        let socket = directory.join(name);
        let fits =
            socket.as_os_str().as_bytes().len() <= LONGEST_SOCKET && !socket.to_string_lossy().contains(['"', ' ']);
        (fits && DirBuilder::new().recursive(true).mode(0o700).create(directory).is_ok()).then_some(socket)
    }

    /// `ssh` with options, up to the host.
    fn command<'a>(&self, options: impl IntoIterator<Item = &'a str>, asking: Asking) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(options);
        if asking == Asking::Never {
            command.args(["-o", "BatchMode=yes"]);
        }
        for option in &self.options {
            command.args(["-o", option]);
        }
        if let Some(port) = self.address.port() {
            command.args(["-p", &port.to_string()]);
        }
        command.arg(self.address.destination());
        command
    }

    /// A script over there. Its standard streams are still to be set.
    fn script(&self, script: Script, arguments: &[&str], asking: Asking) -> Command {
        let mut command = self.command(["-T"], asking);
        command.arg(self.remote(script, arguments));
        if asking == Asking::Never {
            // Ctrl-C is for this process to answer: it may have more to say to the other side.
            command.process_group(0);
        }
        command
    }

    /// `pipe` over there.
    pub(super) fn pipe(&self, arguments: &[&str]) -> Command {
        self.script(Script::Pipe, arguments, Asking::Never)
    }

    /// `pipe` over there, with this process's own streams, and with a terminal where it has one; it is told who asks.
    pub(super) fn pipe_here(&self, arguments: &[&str], terminal: bool) -> Command {
        let mut command = self.command([if terminal { "-t" } else { "-T" }, "-q"], Asking::Never);
        let script = format!("{ASKER}={}; export {ASKER}; {}", quoted(&user()), Script::Pipe.text());
        command.arg(line(&script, self.address.home().unwrap_or_default(), arguments));
        command
    }

    fn remote(&self, script: Script, arguments: &[&str]) -> String {
        line(&script.text(), self.address.home().unwrap_or_default(), arguments)
    }

    /// Asks what the host is, over a new connection; gives what it said, and the fingerprint of the host's key.
    pub(super) fn probe(&self, asking: Asking) -> Result<(String, Option<String>), RemoteError> {
        // One that is there already would not say by which key it has known the host.
        let _ = self.command(["-q", "-O", "exit"], Asking::Never).stdin(Stdio::null()).output();
        let mut command = self.command(["-T", "-o", "LogLevel=DEBUG1"], asking);
        command.arg(self.remote(Script::Probe, &[]));
        let (output, said) = self.run(command, &[])?;
        Ok((output, said.lines().find_map(fingerprint)))
    }

    /// Runs a script, gives it `input`, and gives what it wrote.
    pub(super) fn output(
        &self,
        script: Script,
        arguments: &[&str],
        input: &[u8],
        asking: Asking,
    ) -> Result<String, RemoteError> {
        self.run(self.script(script, arguments, asking), input).map(|(output, _)| output)
    }

    fn run(&self, mut command: Command, input: &[u8]) -> Result<(String, String), RemoteError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.not_started(source))?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                use io::Write as _;
                // Whether all of it was read, the script says.
                stdin.map(|mut stdin| stdin.write_all(input))
            });
            child.wait_with_output()
        });
        let output = output.map_err(|source| self.not_started(source))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said));
        }
        let complaint: Vec<&str> = said.lines().filter(|line| !line.starts_with("debug1:")).collect();
        Err(self.failure(output.status, &complaint.join("\n")))
    }

    pub(super) fn not_started(&self, source: io::Error) -> RemoteError {
        RemoteError::NotStarted { program: self.program[0].clone(), source }
    }

    /// Why a command failed, from what it ended with and what it wrote.
    pub(super) fn failure(&self, status: ExitStatus, complaint: &str) -> RemoteError {
        let host = self.address.to_string();
        let last = complaint.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        if status.code() == Some(NO_PROGRAM) {
            return RemoteError::NotSetUp { host };
        }
        if let Some(signal) = status.signal() {
            let name =
                Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
            return RemoteError::Lost { host, why: format!("ssh was ended by {name}") };
        }
        if status.code() != Some(FAILED) {
            let message = if last.is_empty() { status.to_string() } else { last.to_owned() };
            let usage = status.code() == Some(Fault::Usage.exit_code().into());
            return RemoteError::Refused { host, message, hint: None, usage };
        }
        let says = |text: &str| complaint.contains(text);
        // The words of OpenSSH, which are the same in every language.
        if says("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            return RemoteError::KeyChanged { host };
        }
        if says("Host key verification failed") || says("host key is known for") {
            return RemoteError::KeyUnknown { login: self.address.destination(), port: self.address.port(), host };
        }
        if says("Permission denied") || says("Too many authentication failures") {
            return RemoteError::Denied { host, why: last.to_owned() };
        }
        let of_the_way = ["Could not resolve", "Connection refused", "timed out", "No route to host", "unreachable"];
        if of_the_way.iter().any(|words| says(words)) {
            return RemoteError::Unreachable { host, why: last.trim_start_matches("ssh: ").to_owned() };
        }
        RemoteError::Lost { host, why: last.to_owned() }
    }
}

/// What a stream of complaints holds, up to a bound; read to its end, so that nobody waits for a reader.
pub(super) fn complaint(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(LONGEST_COMPLAINT).read_to_end(&mut kept);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

/// The fingerprint in a line of what `ssh` says of a connection.
fn fingerprint(line: &str) -> Option<String> {
    Some(line.trim().strip_prefix("debug1: Server host key: ")?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn to(address: &str) -> Ssh {
        Ssh { address: address.parse().expect("an address"), program: vec!["ssh".into()], options: Vec::new() }
    }

    #[test]
    fn what_ssh_complains_of_is_told_apart() {
        let ssh = to("ssh://deploy@web");
        let failed = |text: &str| ssh.failure(ExitStatus::from_raw(FAILED << 8), text);
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.";
        assert!(matches!(failed(changed), RemoteError::KeyChanged { .. }));
        assert!(matches!(failed("Host key verification failed."), RemoteError::KeyUnknown { .. }));
        assert!(matches!(failed("deploy@web: Permission denied (publickey)."), RemoteError::Denied { .. }));
        let refused = failed("ssh: connect to host web port 22: Connection refused\r\n");
        assert_eq!(
            refused.to_string(),
            "`ssh://deploy@web` cannot be reached: connect to host web port 22: Connection refused"
        );
        assert!(matches!(failed("client_loop: send disconnect: Broken pipe"), RemoteError::Lost { .. }));
        for (code, is_usage) in [(2, true), (5, false)] {
            let refused = ssh.failure(ExitStatus::from_raw(code << 8), "pipe: `ada` is nobody here any more");
            assert_eq!(refused.is_usage(), is_usage, "{refused}");
        }
        let none = ssh.failure(ExitStatus::from_raw(NO_PROGRAM << 8), "sh: 1: exec: /srv/bin/pipe: not found");
        assert!(matches!(none, RemoteError::NotSetUp { .. }));
    }
}
