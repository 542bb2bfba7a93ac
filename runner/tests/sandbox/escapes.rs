//! What a program must not be able to do.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::trying::Try;
use runner::sandbox::Ended;

/// A call that is denied gives EPERM; the numbers are those of `x86_64`.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_could_open_a_way_out_are_denied() {
    let outcome = Try::python(
        "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER = 0x10000000
calls = {'mount': (165, b'none', b'/tmp', b'tmpfs', 0, 0), 'umount2': (166, b'/tmp', 2), 'pivot_root': (155, b'/', b'/'),
    'chroot': (161, b'/tmp'), 'unshare': (272, NEWUSER), 'setns': (308, 0, 0), 'clone': (56, NEWUSER | 17, 0, 0, 0, 0),
    'clone3': (435, 0, 0), 'ptrace': (101, 16, 1, 0, 0), 'process_vm_readv': (310, 1, 0, 0, 0, 0, 0),
    'bpf': (321, 0, 0, 0), 'keyctl': (250, 0, -3, 0), 'add_key': (248, b'user', b'a', b'b', 1, -3),
    'userfaultfd': (323, 0), 'perf_event_open': (298, 0, 0, -1, -1, 0), 'io_uring_setup': (425, 1, 0),
    'init_module': (175, 0, 0, b''), 'kexec_load': (246, 0, 0, 0, 0), 'open_by_handle_at': (304, 0, 0, 0),
    'move_mount': (429, 0, b'', 0, b'', 0), 'mount_setattr': (442, 0, b'', 0, 0, 0), 'fsopen': (430, b'tmpfs', 0),
    'x32 getpid': (0x40000000 + 39,), 'vsock': (41, 40, 1, 0), 'terminal input': (16, 0, 0x5412, b'x'),
    'terminal input with high bits': (16, 0, ctypes.c_ulong(0x100005412), b'x')}
for name, call in calls.items():
    ctypes.set_errno(0)
    result = libc.syscall(*call)
    print(name, result, ctypes.get_errno())",
    )
    .run();
    assert_eq!(outcome.stderr, "");
    for line in outcome.stdout.lines() {
        let errno = if line.starts_with("clone3") || line.starts_with("x32") { 38 } else { 1 };
        assert!(line.ends_with(&format!(" -1 {errno}")), "{line}");
    }
    assert_eq!(outcome.stdout.lines().count(), 26);
}

#[test]
fn a_program_has_no_capability_and_cannot_gain_one() {
    let outcome = Try::shell("grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status").run();
    for line in outcome.stdout.lines() {
        let (name, value) = line.split_once(':').expect("a field");
        let expected = match name {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            "Uid" | "Gid" => "1000\t1000\t1000\t1000",
            // A user cannot leave groups that the machine has given; they mean nobody inside.
            "Groups" => continue,
            _ => "0000000000000000",
        };
        assert_eq!(value.trim(), expected, "{name}");
    }
    assert_eq!(outcome.stdout.lines().count(), 10);
}

#[test]
fn the_root_of_the_machine_is_out_of_reach() {
    let outcome =
        Try::shell("ls -A /; ls /proc/1/root /proc/1/cwd /proc/1/fd/0/; cat /proc/1/environ; cd /../../..; pwd").run();
    assert_eq!(outcome.stdout, "bin\ndev\netc\nlib\nlib64\nproc\nsbin\ntmp\nusr\n/\n");
    assert_eq!(outcome.stderr.matches("Permission denied").count(), 4, "{}", outcome.stderr);
}

#[test]
fn the_machines_settings_cannot_be_changed() {
    let outcome = Try::shell("echo x > /proc/sys/kernel/core_pattern; echo h > /proc/sysrq-trigger; echo done").run();
    assert_eq!(outcome.stdout, "done\n");
    assert_eq!(outcome.stderr.matches("cannot create").count(), 2, "{}", outcome.stderr);
}

#[test]
fn only_its_own_processes_are_seen() {
    let outcome = Try::shell("ls /proc | grep -c '^[0-9]'; kill -0 2 && kill -9 1; echo alive").run();
    let seen: u32 = outcome.stdout.lines().next().expect("a line").parse().expect("a number");
    assert!((2..=5).contains(&seen), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("alive\n"), "pid 1 does not die of what it does not handle");
}

#[test]
fn the_network_cannot_be_reached() {
    let listener = (21_000..32_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let name = format!("pipe-sandbox-test-{}", std::process::id());
    let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
    let _unix = UnixListener::bind_addr(&abstract_name).expect("a socket");
    let script = format!(
        "import socket
for family, address in [(socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_UNIX, '\\0{name}'), (socket.AF_INET, ('1.1.1.1', 53))]:
    try:
        socket.socket(family).connect(address)
        print('reached')
    except OSError as error:
        print(error.strerror)
"
    );
    let outcome = Try::python(&script).run();
    assert_eq!(outcome.stdout, "Connection refused\nConnection refused\nNetwork is unreachable\n");
    // The same program with the network: the test would notice if it could reach it.
    let outcome = Try::python(&script.replace(", (socket.AF_INET, ('1.1.1.1', 53))", "")).host_network().run();
    assert_eq!(outcome.stdout, "reached\nreached\n");
}

#[test]
fn a_loopback_of_its_own_is_there() {
    let script = "import socket
server = socket.create_server(('127.0.0.1', 8000))
client = socket.create_connection(('127.0.0.1', 8000))
client.send(b'hello'); print(server.accept()[0].recv(5))";
    assert_eq!(Try::python(script).run().stdout, "b'hello'\n");
}

#[test]
fn the_home_directory_and_the_machines_secrets_are_not_there() {
    let home = tempfile::tempdir().expect("a directory");
    let secret = home.path().join("secret");
    fs::write(&secret, "secret").expect("a file");
    let script =
        format!("cat {} /etc/shadow /etc/ssh/*; ls /root /home /var /run /sys /mnt; echo $HOME; env", secret.display());
    let mut program = Try::shell(&script);
    program.spec.env.insert("HOME".into(), "/tmp/home".into());
    let outcome = program.run();
    assert_eq!(outcome.stdout, "/tmp/home\nHOME=/tmp/home\nPATH=/usr/bin:/bin\nPWD=/\n");
    assert_eq!(outcome.stderr.matches("No such file").count(), 9, "{}", outcome.stderr);
}

#[test]
fn an_input_cannot_be_changed() {
    let input = tempfile::tempdir().expect("a directory");
    fs::write(input.path().join("file"), "as it was").expect("a file");
    let script =
        "echo changed > /in/file; rm -f /in/file; touch /in/new; chmod 777 /in; mv /usr/bin/true /tmp; cat /in/file";
    let outcome = Try::shell(script).bind(input.path(), "/in", false).run();
    assert_eq!(outcome.stdout, "as it was");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 5, "{}", outcome.stderr);
}

#[test]
fn under_a_writable_layer_an_input_can_be_changed_and_stays_as_it_was() {
    let input = tempfile::tempdir().expect("a directory");
    fs::create_dir(input.path().join("dir")).expect("a directory");
    fs::write(input.path().join("dir/old"), "as it was").expect("a file");
    fs::write(input.path().join("gone"), "as it was").expect("a file");
    crate::users::give_to_programs(input.path());
    let script =
        "cat /in/dir/old; echo changed > /in/dir/old; chmod 600 /in/dir/old; rm /in/gone; mkdir -p /in/dir/new/deep";
    let outcome = Try::shell(script).overlay(input.path(), "/in").collect("/in").run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("as it was", ""));
    assert_eq!(outcome.collected.expect("a directory"), ["dir", "dir/new", "dir/new/deep", "dir/old"]);
    assert_eq!(fs::read_to_string(input.path().join("dir/old")).expect("a file"), "as it was");
    assert!(input.path().join("gone").is_file());
}

#[test]
fn a_link_in_what_is_collected_does_not_lead_out() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "secret").expect("a file");
    let path = secret.path().display();
    for target in [format!("{path}"), format!("../../../../../../../..{path}"), format!("/proc/1/root{path}")] {
        let outcome = Try::shell(&format!("ln -s {target} /tmp/out")).collect("/tmp/out").run();
        assert_eq!(outcome.collected, None, "{target}");
    }
    let outcome = Try::shell("ln -s / /tmp/out").collect("/tmp/out/etc").run();
    assert_eq!(outcome.collected.expect("its own"), ["group", "hosts", "nsswitch.conf", "passwd"]);
}

/// The runner may be root, and would be shown what no program is.
#[test]
fn what_the_kernel_tells_is_not_collected() {
    for target in ["/proc", "/proc/version", "/proc/kallsyms", "/proc/sys/kernel", "/"] {
        let outcome = Try::shell(&format!("ln -s {target} /tmp/out")).collect("/tmp/out").run();
        assert_eq!(outcome.collected, None, "{target}");
    }
}

#[test]
fn links_of_an_input_are_not_followed_while_the_root_is_built() {
    let input = tempfile::tempdir().expect("a directory");
    let outside = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(outside.path(), input.path().join("a")).expect("a link");
    std::os::unix::fs::symlink("/.machine", input.path().join("b")).expect("a link");
    for at in ["/in/a/b", "/in/b/tmp/c"] {
        let error = Try::shell("true").overlay(input.path(), "/in").bind(outside.path(), at, true).try_run(None);
        let error = error.expect_err("a link is in the way").to_string();
        assert!(error.starts_with("cannot mount in a sandbox"), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).expect("a listing").count(), 0);
}

/// Whether a process of the machine has `marker` among its arguments.
fn runs(marker: &str) -> bool {
    let processes =
        fs::read_dir("/proc").expect("a listing").filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.into_iter().any(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes()))
}

/// A daemon that has left its session and its parents.
fn daemon(marker: &str, and: &str) -> Try {
    let script = format!(
        "import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.run(['/bin/sh', '-c', 'sleep 1000; exit', '{marker}'])
    os._exit(0)
os.wait()
while not any(b'{marker}' in open(f'/proc/{{pid}}/cmdline', 'rb').read() for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()): pass
print('started', flush=True)
{and}"
    );
    Try::python(&script)
}

#[test]
fn nothing_outlives_the_program() {
    let marker = format!("outlives-{}", std::process::id());
    let outcome = daemon(&marker, "").run();
    assert_eq!((outcome.ended, outcome.stdout.as_str()), (Ended::Exited(0), "started\n"));
    assert!(!runs(&marker));
}

#[test]
fn everything_dies_with_the_runner_and_with_the_monitor() {
    use std::io::Read;
    for by_monitor in [false, true] {
        let marker = format!("dies-{by_monitor}-{}", std::process::id());
        let program = daemon(&marker, "import time; time.sleep(1000)");
        let (child, mut stdout) = program.spawn();
        let mut started = [0; 8];
        stdout.read_exact(&mut started).expect("it starts");
        assert!(runs(&marker));
        if by_monitor {
            let monitor = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGKILL).expect("killed");
        } else {
            // What the death of the runner does: its end of the socket closes.
            drop(child);
        }
        // The pipe ends when its last holder has died.
        stdout.read_to_end(&mut Vec::new()).expect("an end");
        while runs(&marker) {
            std::thread::yield_now();
        }
    }
}
