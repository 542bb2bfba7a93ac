//! Programs that try to get out of a sandbox, and ones that only want to work in it.
//!
//! They are the machine's own `/usr`, run as root is where the tests are run as root and as a plain user where not; the test
//! `a_plain_user_has_the_same_sandbox` runs the whole file again as one.

#[path = "sandbox/root.rs"]
mod root;
#[path = "sandbox/runtime.rs"]
mod runtime;

use root::Try;
use runner::runtime::Runtime;
use runner::sandbox::Ended;
use runner::store::Store;

#[test]
fn a_program_says_hello() {
    let outcome = Try::shell("echo hello; echo oops >&2; id -u; pwd; exit 3").run();
    assert_eq!(outcome.ended, Ended::Exited(3));
    assert_eq!(outcome.stdout, "hello\n1000\n/\n");
    assert_eq!(outcome.stderr, "oops\n");
}

#[test]
fn the_machines_own_runtime_has_python_at_its_fixed_place() {
    let home = tempfile::tempdir().expect("a directory");
    let runtime = runtime::resolve(home.path(), runtime::host()).expect("a runtime");
    let script = "import ssl, sqlite3, ctypes, sys; print(sys.executable, sys.prefix); print(sys.path)";
    let outcome = Try::on(&runtime, &["python3", "-I", "-c", script]).run();
    assert_eq!(outcome.stderr, "");
    assert!(outcome.stdout.contains("/opt/python"), "{}", outcome.stdout);
    println!("{}", outcome.stdout);
    let outcome = Try::on(&runtime, &["/opt/python/bin/python3.11", "-c", "import sys; print(sys.path)"]).run();
    assert!(!outcome.stdout.contains("/root"), "{}", outcome.stdout);

    let again = runtime::resolve(home.path(), runtime::host()).expect("a runtime");
    assert_eq!(again.digest(), runtime.digest());
    let store = Store::open(home.path()).expect("a store");
    let found = Runtime::find(&runtime.digest(), &store, home.path()).expect("the same");
    assert_eq!(found.mounts(false), runtime.mounts(false));
}

/// From Debian's mirror: some 40 MB the first time.
#[test]
fn a_runtime_of_packages_holds_python_and_what_was_asked_for_and_nothing_of_the_machine() {
    let home = tempfile::tempdir().expect("a directory");
    let started = std::time::Instant::now();
    let runtime = runtime::resolve(home.path(), runtime::packages(&["libpq5"], &["gcc"])).expect("a runtime");
    println!("{:?}", started.elapsed());
    let script = "import ssl, sqlite3, ctypes, zoneinfo, urllib.request; ctypes.CDLL('libpq.so.5')
print(zoneinfo.ZoneInfo('Europe/Paris'), ssl.create_default_context().cert_store_stats()['x509_ca'] > 50)";
    let outcome = Try::on(&runtime, &["python3", "-I", "-c", script]).run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("Europe/Paris True\n", ""));
    assert!(runtime.python().starts_with("3.11."), "{}", runtime.python());
    let outcome = Try::on(&runtime, &["sh", "-c", "ls /etc/shadow /etc/os-release; command -v gcc git apt"]).run();
    assert_eq!(outcome.stdout, "/etc/os-release\n");

    let compile = "printf '#include <Python.h>\\nint main(){return 0;}' > /tmp/a.c && cc -I/opt/python/include/python3.11 -o /tmp/a /tmp/a.c && /tmp/a && echo built";
    let outcome = Try::build_on(&runtime, &["sh", "-c", compile]).run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("built\n", ""));
    assert_ne!(runtime.digest(), runtime.build_digest());

    let started = std::time::Instant::now();
    let again = runtime::resolve(home.path(), runtime::packages(&["libpq5"], &["gcc"])).expect("a runtime");
    println!("{:?}", started.elapsed());
    assert_eq!(again.digest(), runtime.digest());
    let store = Store::open(home.path()).expect("a store");
    let found = Runtime::find(&runtime.digest(), &store, home.path()).expect("the same");
    assert_eq!(found.mounts(false), runtime.mounts(false));
}
