//! Programs that try to get out of a sandbox, and ones that only want to work in it.
//!
//! They are the machine's own `/usr`, run as root is where the tests are run as root and as a plain user where not; the test
//! `a_plain_user_has_the_same_sandbox` runs the whole file again as one.

#[path = "sandbox/root.rs"]
mod root;

use root::Try;
use runner::sandbox::Ended;

#[test]
fn a_program_says_hello() {
    let outcome = Try::shell("echo hello; echo oops >&2; id -u; pwd; exit 3").run();
    assert_eq!(outcome.ended, Ended::Exited(3));
    assert_eq!(outcome.stdout, "hello\n1000\n/\n");
    assert_eq!(outcome.stderr, "oops\n");
}
