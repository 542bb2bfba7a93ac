//! Who programs are, outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

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
    let outside = if sandbox::build_owner().is_some() { MADE_UP } else { nix::unistd::geteuid().as_raw() };
    program.spec.user = User { inside: 7, outside: Some(outside) };
    chown(data.path(), Some(outside), None).expect("an owner");
    let outcome = program.run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("7\n", ""));
    assert_eq!(fs::metadata(data.path().join("file")).expect("a file").uid(), outside);
}

/// The binaries of these tests where every user can execute them, and a directory for what they write.
struct Again {
    dir: TempDir,
}

impl Again {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        open(dir.path());
        let this = std::env::current_exe().expect("a path");
        for (from, name) in [(this.as_path(), "tests"), (Path::new(env!("CARGO_BIN_EXE_pipe")), "pipe")] {
            fs::copy(from, dir.path().join(name)).expect("a copy");
            open(&dir.path().join(name));
        }
        fs::create_dir(dir.path().join("tmp")).expect("a directory");
        Self { dir }
    }

    /// All tests that neither start tests themselves nor fetch packages.
    fn passes(&self, command: &mut Command) {
        let output = command
            .args(["--skip", "same_sandbox", "--skip", "of_packages"])
            .env("PIPE_EXE", self.dir.path().join("pipe"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .current_dir(self.dir.path().join("tmp"))
            .output()
            .expect("the tests");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_plain_user_has_the_same_sandbox() {
    if is_root() {
        let again = Again::new();
        chown(again.dir.path().join("tmp"), Some(MADE_UP), Some(MADE_UP)).expect("an owner");
        again.passes(Command::new(again.dir.path().join("tests")).uid(MADE_UP).gid(MADE_UP));
    }
}

/// As in a container: it may make user namespaces, and mount in those only.
#[test]
fn a_root_without_its_rights_has_the_same_sandbox() {
    if is_root() {
        let again = Again::new();
        let rights = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
        let tests = again.dir.path().join("tests");
        // The kernel counts no processes of the user that it takes for root.
        again.passes(Command::new("setpriv").args(rights).arg(tests).args(["--skip", "fork_bomb"]));
    }
}
