//! What stands in a runtime, and what runs there.

use std::path::Path;

use runner::runtime::{Kind, Runtime, RuntimeError, Wanted, Wish};
use runner::store::Store;

use crate::runtime::{host, resolve, resolve_locked};
use crate::trying::Try;

fn packages(system: &[&str], build_system: &[&str]) -> Wish {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let wanted = Wanted {
        system: texts(system),
        build_system: texts(build_system),
        mirror: "https://deb.debian.org/debian".into(),
        suite: "bookworm".into(),
    };
    Wish { kind: Kind::Packages(wanted), ..host() }
}

fn finds_again(runtime: &Runtime, home: &Path) {
    let store = Store::open(home).expect("a store");
    let found = Runtime::find(&runtime.digest(), &store, home).expect("the same");
    assert_eq!(found.mounts(false), runtime.mounts(false));
}

#[test]
fn the_machines_own_runtime_has_python_at_its_fixed_place() {
    let home = tempfile::tempdir().expect("a directory");
    let runtime = resolve(home.path(), &host()).expect("a runtime");
    let script = "import ssl, sqlite3, ctypes, sys; print('%d.%d.%d' % sys.version_info[:3])";
    for python in ["python3", "/opt/python/bin/python3", "/opt/python/bin/python3.11"] {
        let outcome = Try::on(&runtime, false, &[python, "-I", "-c", script]).run();
        assert_eq!((outcome.stdout.trim(), outcome.stderr.as_str()), (runtime.python(), ""));
    }
    let again = resolve(home.path(), &host()).expect("a runtime");
    assert_eq!(again.digest(), runtime.digest());
    finds_again(&runtime, home.path());
}

#[test]
fn a_runtime_that_this_machine_never_had_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    let digest = runner::digest::Digest::of(b"another machine's");
    let error = Runtime::find(&digest, &store, home.path()).expect_err("unknown");
    assert_eq!(error.to_string(), format!("this machine does not have the runtime {digest}"));
}

/// From Debian's mirror: some 40 MB.
#[test]
fn a_runtime_of_packages_holds_what_was_asked_for_and_nothing_of_the_machine() {
    let home = tempfile::tempdir().expect("a directory");
    let wish = packages(&["libpq5"], &["gcc"]);
    assert!(matches!(resolve_locked(home.path(), &wish, true), Err(RuntimeError::NotLocked(_))));
    let runtime = resolve_locked(home.path(), &wish, false).expect("a runtime");
    let script = "import ssl, sqlite3, ctypes, ctypes.util, zoneinfo; ctypes.CDLL('libpq.so.5')
assert ctypes.util.find_library('pq') == 'libpq.so.5'
print(zoneinfo.ZoneInfo('Europe/Paris'), ssl.create_default_context().cert_store_stats()['x509_ca'] > 50)";
    let outcome = Try::on(&runtime, false, &["python3", "-I", "-c", script]).run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("Europe/Paris True\n", ""));
    assert!(runtime.python().starts_with("3.11."), "{}", runtime.python());
    let outcome = Try::on(&runtime, false, &["sh", "-c", "command -v gcc git apt; ls /etc/os-release"]).run();
    assert_eq!(outcome.stdout, "/etc/os-release\n");

    let compile = "printf '#include <Python.h>\\nint main(){return 0;}' > /tmp/a.c
        cc -I/opt/python/include/python3.11 -o /tmp/a /tmp/a.c && /tmp/a && echo built";
    let outcome = Try::on(&runtime, true, &["sh", "-c", compile]).run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("built\n", ""));

    let again = resolve_locked(home.path(), &wish, true).expect("it is locked now");
    assert_eq!((again.digest(), again.build_digest()), (runtime.digest(), runtime.build_digest()));
    assert!(matches!(resolve_locked(home.path(), &packages(&[], &["gcc"]), true), Err(RuntimeError::NotLocked(_))));
    finds_again(&runtime, home.path());
}
