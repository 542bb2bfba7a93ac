//! Who programs are, outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::trying::Try;
use runner::sandbox::{self, User};

/// A user that no machine has.
const MADE_UP: u32 = 1_999_999_999;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes a directory and what is in it what a store's directories are: the program's own.
pub(crate) fn give_to_programs(path: &Path) {
    let Some(id) = sandbox::build_owner() else { return };
    chown(path, Some(id), Some(id)).expect("an owner");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a listing") {
            give_to_programs(&entry.expect("an entry").path());
        }
    }
}

#[test]
fn files_belong_to_the_user_that_the_spec_names() {
    let data = tempfile::tempdir().expect("a directory");
    let mut program = Try::shell("id -u; touch /data/file").bind(data.path(), "/data", true);
    let outside = if is_root() { MADE_UP } else { nix::unistd::geteuid().as_raw() };
    program.spec.user = User { inside: 7, outside: Some(outside) };
    chown(data.path(), Some(outside), None).expect("an owner");
    let outcome = program.run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("7\n", ""));
    assert_eq!(fs::metadata(data.path().join("file")).expect("a file").uid(), outside);
}

/// All tests again, without root.
#[test]
fn a_plain_user_has_the_same_sandbox() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    open(dir.path());
    // The build directory may be where only root can go.
    let copy = |from: &Path, name: &str| {
        let path = dir.path().join(name);
        fs::copy(from, &path).expect("a copy");
        open(&path);
        path
    };
    let tests = copy(&std::env::current_exe().expect("a path"), "tests");
    let pipe = copy(env!("CARGO_BIN_EXE_pipe").as_ref(), "pipe");
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).expect("a directory");
    chown(&tmp, Some(MADE_UP), Some(MADE_UP)).expect("an owner");
    let output = Command::new(tests)
        .args(["--skip", "of_packages"])
        .env("PIPE_EXE", pipe)
        .env("TMPDIR", &tmp)
        .current_dir(&tmp)
        .uid(MADE_UP)
        .gid(MADE_UP)
        .output()
        .expect("the tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
