//! Sandboxes that one monitor holds, one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::trying::Try;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::sandbox::{self, Ended, Monitors, Mount, Run, Scratch};

/// The monitors that were started here; other tests have theirs, too.
fn monitors_of_this_process() -> Vec<PathBuf> {
    let own = format!("PPid:\t{}\n", std::process::id());
    let processes = fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    let is_monitor = |path: &Path| {
        fs::read(path.join("cmdline")).is_ok_and(|line| line == b"pipe\0sandbox-init\0")
            && fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains(&own))
    };
    processes.filter(|path| is_monitor(path)).collect()
}

#[test]
fn the_next_one_finds_nothing_of_the_one_before() {
    let leave = "import ctypes, os, socket, subprocess, time
libc = ctypes.CDLL(None)
assert libc.shmget(77, 4096, 0o1666) >= 0 and libc.msgget(78, 0o1666) >= 0
for place in ['/left', '/tmp/left', '/tmp/home/left', '/dev/shm/left']: open(place, 'w').write('left')
server = socket.create_server(('127.0.0.1', 8000)); socket.create_connection(('127.0.0.1', 8000)).send(b'x')
name = socket.socket(socket.AF_UNIX); name.bind('\\0left'); name.listen()
subprocess.Popen(['sleep', '1000'], start_new_session=True)
print('left', flush=True)";
    let find = "import os, socket
print(sorted(os.listdir('/tmp')), os.listdir('/tmp/home'), os.listdir('/dev/shm'), os.path.exists('/left'))
print([pid for pid in os.listdir('/proc') if pid.isdigit()], [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')])
print([len(open(f'/proc/sysvipc/{kind}').readlines()) for kind in ('shm', 'msg')])
print(len(open('/proc/net/tcp').readlines()), len(open('/proc/net/unix').readlines()))
print([line.split()[1] for line in open('/proc/net/dev') if 'lo:' in line])
socket.create_server(('127.0.0.1', 8000), reuse_port=False)";
    let monitors = Monitors::default();
    let ran = |script| Try::python(script).try_run_by(&monitors, None).expect("a sandbox");
    let fresh = Try::python(find).run();
    for _ in 0..2 {
        let first = ran(leave);
        assert_eq!((first.stdout.as_str(), first.stderr.as_str()), ("left\n", ""));
        let second = ran(find);
        assert_eq!((second.stdout, second.stderr.as_str()), (fresh.stdout.clone(), ""));
    }
    assert!(
        fresh.stdout.starts_with("['home'] [] [] False\n['1', '2'] ['0', '1', '2']\n[1, 1]\n1 1\n['0']\n"),
        "{}",
        fresh.stdout
    );
}

/// Each later sandbox is a copy of the monitor.
#[test]
fn a_monitor_does_not_know_what_its_sandboxes_know() {
    // Not a constant, which would be in the binary.
    let secret = ["what only one", "of them may know"].map(|part| part.replace(' ', "-")).join("-");
    let monitors = Monitors::default();
    let mut program = Try::shell("cat /run/secrets/token; echo; echo $OTHER");
    let texts = BTreeMap::from([("token".to_owned(), secret.clone())]);
    program.spec.mounts.push(Mount::Texts { at: "/run/secrets".into(), texts });
    program.spec.env.insert("OTHER".into(), secret.clone());
    let outcome = program.try_run_by(&monitors, None).expect("a sandbox");
    assert_eq!(outcome.stdout, format!("{secret}\n{secret}\n"));
    let found = monitors_of_this_process();
    assert!(!found.is_empty());
    for monitor in found {
        assert!(!holds(&monitor, secret.as_bytes()), "{}", monitor.display());
    }
    // The search finds what is there.
    assert!(holds(Path::new("/proc/self"), secret.as_bytes()));
}

/// Whether a process has bytes in memory that it may write to.
fn holds(process: &Path, bytes: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    // Another test's monitor may be gone by now.
    let (Ok(maps), Ok(memory)) = (fs::read_to_string(process.join("maps")), fs::File::open(process.join("mem"))) else {
        return false;
    };
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let range = line.split([' ', '-']).take(2).map(|hex| u64::from_str_radix(hex, 16).expect("an address"));
        let [start, end] = range.collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut read = vec![0; usize::try_from(end - start).expect("a size")];
        memory.read_exact_at(&mut read, start).is_ok() && read.windows(bytes.len()).any(|part| part == bytes)
    })
}

#[test]
fn what_was_written_is_gone_with_the_monitors_at_the_latest() {
    let parent = tempfile::tempdir().expect("a directory");
    let layer = Scratch::new_in(parent.path()).expect("a layer");
    fs::create_dir_all(layer.path().join("upper/deep")).expect("directories");
    let monitors = Monitors::default();
    let run = Run { written: vec![layer], ..Run::default() };
    let ended =
        sandbox::run(&monitors, &Try::shell("exit 0").spec, run, |_, _| {}, |_, _| ()).expect("a sandbox").ended;
    assert_eq!(ended, Ended::Exited(0));
    drop(monitors);
    assert_eq!(fs::read_dir(parent.path()).expect("a listing").count(), 0);
}

#[test]
fn each_has_its_own_limit_of_memory() {
    let monitors = Monitors::default();
    let held = |limit: u64, use_up: u64| {
        let mut program = Try::python(&format!("print(len(bytearray({use_up} << 20)))"));
        program.spec.limits.memory = Some(limit << 20);
        program.try_run_by(&monitors, None).expect("a sandbox")
    };
    for _ in 0..2 {
        assert_eq!(held(256, 100).stdout, "104857600\n");
        assert_ne!(held(64, 600).ended, Ended::Exited(0));
        // What happened to the one before is nothing that happened to this one.
        assert_eq!(held(256, 100).ended, Ended::Exited(0));
    }
}

#[test]
fn one_that_was_cancelled_or_killed_leaves_room_for_the_next() {
    let monitors = Monitors::default();
    let cancel = std::sync::atomic::AtomicBool::new(true);
    let ended = Try::shell("sleep 1000").try_run_by(&monitors, Some(&cancel)).expect("a sandbox").ended;
    assert_eq!(ended, Ended::Cancelled);
    assert_eq!(Try::shell("echo next").try_run_by(&monitors, None).expect("a sandbox").stdout, "next\n");
    let ended = Try::program(&["no-such-program"]).try_run_by(&monitors, None);
    assert!(ended.is_err());
    assert_eq!(Try::shell("echo next").try_run_by(&monitors, None).expect("a sandbox").stdout, "next\n");
}

#[test]
fn a_monitor_that_was_killed_while_it_held_nothing_is_replaced() {
    let monitors = Monitors::default();
    let marker = format!("held-{}", std::process::id());
    let held = std::thread::scope(|scope| {
        let program = Try::program(&["sh", "-c", "sleep 1; echo ran", &marker]);
        let run = scope.spawn(|| program.try_run_by(&monitors, None).expect("a sandbox").stdout);
        let monitor = std::iter::repeat_with(|| monitor_of(&marker)).find_map(|found| found).expect("it is held");
        assert_eq!(run.join().expect("a thread"), "ran\n");
        monitor
    });
    kill(Pid::from_raw(held), Signal::SIGKILL).expect("killed");
    // Where it had yet to take down what it held, it has been missed already.
    while status(held, "State:").is_some_and(|state| !state.starts_with('Z')) {
        std::thread::yield_now();
    }
    assert_eq!(Try::shell("echo next").try_run_by(&monitors, None).expect("a sandbox").stdout, "next\n");
}

/// Who holds the sandbox of the program that has `marker` as its last argument.
fn monitor_of(marker: &str) -> Option<i32> {
    let ends = [marker, "\0"].concat();
    let program = fs::read_dir("/proc").expect("processes").flatten().find(|entry| {
        fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.starts_with("sh\0") && line.ends_with(&ends))
    })?;
    let parent = |pid: i32| status(pid, "PPid:")?.parse().ok();
    parent(parent(program.file_name().to_str()?.parse().ok()?)?)
}

fn status(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned())
}
