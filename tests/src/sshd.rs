//! A real sshd with keys of its own, for a host that is another machine as far as `pipe` can tell: on a port of the loopback, or in a
//! network of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::network::Network;

/// Where distributions put it.
const PROGRAM: &str = "/usr/sbin/sshd";

/// An sshd that lets the user of this process in, and a client that knows it. Gone when dropped, with all connections.
pub struct Sshd {
    directory: TempDir,
    address: Ipv4Addr,
    port: u16,
    child: Child,
    network: Option<Network>,
}

impl Sshd {
    /// Starts one; installs OpenSSH's server where there is none and nobody is at risk by it.
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// Starts one in a network of its own, for who is root.
    pub fn start_apart() -> Self {
        Self::start_in(Some(Network::connected()))
    }

    fn start_in(network: Option<Network>) -> Self {
        install();
        let address = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::address);
        let directory = tempfile::Builder::new().prefix("sshd").tempdir().expect("a directory");
        for name in ["host_key", "user_key"] {
            new_key(&directory.path().join(name));
        }
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::copy(path("user_key.pub"), path("authorized_keys")).expect("a key is authorized");
        let port = crate::free_port();
        let server = format!(
            "Port {port}\nListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\nMaxStartups 100\nSetEnv PATH={}:/usr/local/bin:/usr/bin:/bin PIPE_AUTHORIZED_KEYS={}\n",
            path("host_key"),
            path("authorized_keys"),
            path("bin"),
            path("authorized_keys")
        );
        fs::write(path("sshd_config"), server).expect("written");
        let child = serve(directory.path(), network.as_ref(), "unlimited");
        let mut sshd = Self { directory, address, port, child, network };
        configure(sshd.directory.path(), "ssh_config", "user_key");
        sshd.know(&sshd.public_key());
        sshd.wait();
        sshd
    }

    /// Where the host is.
    pub fn host(&self) -> Ipv4Addr {
        self.address
    }

    /// Where it is, with a directory for pipe's data there.
    pub fn address(&self, home: &Path) -> String {
        format!("ssh://{}:{}{}", self.address, self.port, home.display())
    }

    /// The command that takes the place of `ssh`.
    pub fn client(&self) -> String {
        format!("ssh -F {}", self.directory.path().join("ssh_config").display())
    }

    /// The public key of somebody more, whom nobody lets in yet, and the command that takes the place of `ssh` for him.
    pub fn other_user(&self, name: &str) -> (PathBuf, String) {
        let key = self.directory.path().join(name);
        new_key(&key);
        let config = format!("{name}.config");
        configure(self.directory.path(), &config, name);
        (key.with_extension("pub"), format!("ssh -F {}", self.directory.path().join(config).display()))
    }

    /// A command that makes a connection stand still once so many bytes have gone to `pipe` over there; it takes the place of
    /// [`Sshd::client`].
    pub fn client_that_stalls(&self, bytes: u64) -> String {
        let path = self.directory.path().join("stalls");
        let client = self.client();
        let script = format!(
            "#!/bin/bash\ncase \"$*\" in *agent-connect*) ;; *) exec {client} \"$@\" ;; esac\n\
             exec 3<&0\nexec {client} \"$@\" < <(dd bs=64k iflag=count_bytes count={bytes} status=none <&3; exec sleep 60 3<&- <&- 2>&-)\n"
        );
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a mode");
        path.display().to_string()
    }

    /// Puts a script in front of a program of the host.
    pub fn instead_of(&self, program: &str, script: &str) {
        let path = self.directory.path().join("bin").join(program);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Makes the client know the host by this key, and by no other; by none where it is empty.
    pub fn know(&self, key: &str) {
        let line = if key.is_empty() { String::new() } else { format!("[{}]:{} {key}\n", self.address, self.port) };
        fs::write(self.directory.path().join("known_hosts"), line).expect("written");
    }

    /// The host's key.
    pub fn public_key(&self) -> String {
        fs::read_to_string(self.directory.path().join("host_key.pub")).expect("a key").trim().to_owned()
    }

    /// A key that is another host's.
    pub fn other_key(&self) -> String {
        let path = self.directory.path().join("other_key");
        new_key(&path);
        fs::read_to_string(path.with_extension("pub")).expect("a key").trim().to_owned()
    }

    /// The file with the keys of those who are let in.
    pub fn authorized_keys(&self) -> PathBuf {
        self.directory.path().join("authorized_keys")
    }

    /// Lets nobody in any more.
    pub fn lock_out(&self) {
        fs::write(self.directory.path().join("authorized_keys"), "").expect("written");
    }

    /// From now on what it starts can write no file that is longer, as on a disk that is full.
    pub fn limit_files(&mut self, kib: u64) {
        self.stop();
        self.child = serve(self.directory.path(), self.network.as_ref(), &kib.to_string());
        self.wait();
    }

    /// Cuts all connections, as a network does that is gone.
    pub fn cut(&self) {
        for child in children(self.child.id()) {
            // Of a plain user's sshd the part without privileges has the connection. Its parent first, which would hear of its end.
            let parts = children(child);
            kill(child);
            parts.into_iter().for_each(kill);
        }
    }

    /// Ends it, with all connections: nobody listens on its port.
    pub fn stop(&mut self) {
        self.cut();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while TcpStream::connect((self.address, self.port)).is_err() {
            assert!(self.child.try_wait().expect("a status").is_none(), "sshd has ended at once");
            assert!(began.elapsed() < Duration::from_secs(20), "sshd listens");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(directory: &Path, network: Option<&Network>, longest_file: &str) -> Child {
    let log = fs::File::create(directory.join("log")).expect("a log");
    network
        .map_or_else(|| Command::new("bash"), |network| network.command("bash"))
        .args(["-c", "ulimit -f $1 && exec $0 -D -e -f $2", PROGRAM, longest_file])
        .arg(directory.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd starts")
}

/// Writes the configuration of a client that has a key, and knows the hosts that are named beside it.
pub(crate) fn configure(directory: &Path, config: &str, key: &str) {
    let path = |name: &str| directory.join(name).display().to_string();
    let client = format!(
        "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n",
        path(key),
        path("known_hosts")
    );
    fs::write(path(config), client).expect("written");
}

pub(crate) fn new_key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

pub(crate) fn children(parent: u32) -> Vec<u32> {
    let lists = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = lists.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

pub(crate) fn kill(pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
}

/// Has OpenSSH's server there, in a container, where no service manager would start it for the whole network to see.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::needs(PROGRAM);
        // It separates its privileges there.
        let _ = fs::create_dir_all("/run/sshd");
    });
}
