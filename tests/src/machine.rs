//! A machine that runs under systemd, with an sshd that lets root and a plain user in. `systemd-nspawn` boots it from this machine's own
//! system, in a network of its own and with a disk that outlives its restarts. Knows nothing of what runs there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::network::Network;
use crate::sshd::{children, configure, kill, new_key};

pub(crate) const PROGRAM: &str = "/usr/bin/systemd-nspawn";

/// Its disk: the system of this machine, without what is enabled here, and with homes on a file system that pipe can lay trees out on. A
/// login ends with all that was started in it, and root's too.
const DISK: &str = r"
# Where nspawn notes what it runs.
mount -t tmpfs none /run
mount -t tmpfs -o size=1G none disk
mkdir -p disk/work disk/upper/etc/systemd
mknod disk/upper/etc/systemd/system c 0 0
mount -t overlay -o lowerdir=/,upperdir=disk/upper,workdir=disk/work none system
cd system
for own in home root; do mount --bind ../$own $own; done
mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/logind.conf.d
rm -rf etc/rc?.d
: > etc/fstab
echo 0123456789abcdef0123456789abcdef > etc/machine-id
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
ln -s /lib/systemd/system/ssh.service etc/systemd/system/multi-user.target.wants
printf '[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n' > etc/systemd/logind.conf.d/kill.conf
cp ../host_key ../user_key.pub ../sshd_config etc/ssh
chroot . useradd --create-home --shell /bin/sh $0
echo made
exec sleep infinity
";

/// In cgroups of its own, which can be removed after it.
const ON: &str = r#"
for at in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    if [ -e $at/cgroup.procs ]; then mkdir -p $at/$0; echo $$ > $at/$0/cgroup.procs; fi
done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --resolv-conf=off --timezone=off --machine="$0" "$@" --boot
"#;

/// The machine, gone with all that runs there when it is dropped.
pub struct Machine {
    name: String,
    /// Where the client's files are, and where the disk is mounted for who is in the keeper's namespace.
    directory: TempDir,
    network: Network,
    port: u16,
    /// What keeps the disk.
    keeper: Child,
    /// What runs it, while it is on.
    power: Option<Child>,
}

impl Machine {
    /// The plain user that it has.
    pub const USER: &str = "app";

    /// Makes one and turns it on, for who is root.
    pub fn on() -> Self {
        crate::needs(PROGRAM);
        let (network, port) = (Network::connected(), crate::free_port());
        let directory = tempfile::Builder::new().prefix("machine").tempdir().expect("a directory");
        prepare(directory.path(), network.address(), port);
        let mut keeper = network.command("unshare");
        keeper.args(["--mount", "sh", "-euc", DISK, Self::USER]).current_dir(directory.path());
        let keeper = keeper.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a namespace is made");
        let mut machine = Self { name: format!("machine{port}"), directory, network, port, keeper, power: None };
        let mut said = String::new();
        let output = machine.keeper.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("read");
        assert_eq!(said, "made\n", "the disk");
        machine.turn_on();
        machine
    }

    /// Where it is.
    pub fn host(&self) -> Ipv4Addr {
        self.network.address()
    }

    /// Where one of its users is.
    pub fn address(&self, user: &str) -> String {
        format!("ssh://{user}@{}:{}", self.host(), self.port)
    }

    /// The command that takes the place of `ssh`.
    pub fn client(&self) -> String {
        format!("ssh -F {}", self.directory.path().join("ssh_config").display())
    }

    /// A program to be started there by root, who has not logged in for it.
    pub fn command(&self, program: &str) -> Command {
        let init = self.power.as_ref().and_then(|power| children(power.id()).first().copied());
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", init.unwrap_or_default())).args(["--all", program]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Turns it on, and waits until it has come up.
    pub fn turn_on(&mut self) {
        let keeper = self.keeper.id();
        let mut on = Command::new("nsenter");
        on.arg(format!("--mount=/proc/{keeper}/ns/mnt")).args(["sh", "-euc", ON, &self.name]);
        on.arg(format!("--directory={}", self.directory.path().join("system").display()));
        on.arg(format!("--network-namespace-path=/proc/{keeper}/ns/net"));
        self.power = Some(on.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it is turned on"));
        // Until its sshd listens, what is taken for its first process may be one of this machine's.
        let up = || {
            let mut systemctl = self.command("systemctl");
            systemctl.args(["is-active", "--quiet", "multi-user.target"]);
            TcpStream::connect((self.host(), self.port)).is_ok()
                && systemctl.status().is_ok_and(|status| status.success())
        };
        crate::eventually("it comes up", up);
    }

    /// Turns it off as one should, and waits until it is.
    pub fn turn_off(&mut self) {
        self.command("systemctl").arg("poweroff").status().expect("it is turned off");
        let power = self.power.as_mut().expect("it is on");
        crate::eventually("it goes down", || power.try_wait().expect("a status").is_some());
        self.power = None;
    }

    /// Ends all that runs there at once.
    pub fn cut_power(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        // With its first process all others end.
        crate::eventually("nothing runs there", || {
            children(power.id()).into_iter().for_each(kill);
            power.try_wait().expect("a status").is_some()
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let cgroups = ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*/{}*", self.name)];
        let _ = Command::new("find").args(cgroups).args(["-exec", "rmdir", "{}", "+"]).status();
    }
}

/// Writes what the disk is made with, and the client that knows the machine.
fn prepare(directory: &Path, address: Ipv4Addr, port: u16) {
    let path = |name: &str| directory.join(name);
    for name in ["disk", "system", "home", "root"] {
        fs::create_dir(path(name)).expect("a directory");
    }
    for name in ["host_key", "user_key"] {
        new_key(&path(name));
    }
    // Without PAM nobody has a session that could be over.
    let server = format!(
        "Port {port}\nHostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/user_key.pub\nUsePAM yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
    );
    fs::write(path("sshd_config"), server).expect("written");
    configure(directory, "ssh_config", "user_key");
    let key = fs::read_to_string(path("host_key.pub")).expect("a key");
    fs::write(path("known_hosts"), format!("[{address}]:{port} {key}")).expect("written");
}
