//! What becomes of a command that panics. Where no thread can be started, which is the machine's fault and met at no one place, the
//! command ends at once: others would wait for what that thread was to do.

use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process;

use super::Failure;
use super::failure::Kind;
use crate::report::Paint;

/// How those say it that start threads: the standard library, rayon and tokio.
const NO_THREAD: [&str; 3] = ["failed to spawn thread", "ThreadPoolBuildError", "OS can't spawn worker thread"];

/// Does a command's work. A panic has been shown, and is a fault of pipe itself.
pub(super) fn guarded<T>(paint: Paint, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        if is_for_want_of_threads(panicked) {
            let failure = no_threads();
            let _ = io::stderr().write_all(paint.shown(&failure.render(paint)).as_bytes());
            process::exit(failure.kind().exit_code().into());
        }
        usual(panicked);
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Failure::told(Kind::Internal)))
}

fn is_for_want_of_threads(panicked: &PanicHookInfo<'_>) -> bool {
    panicked.payload_as_str().is_some_and(|message| NO_THREAD.iter().any(|said| message.contains(said)))
}

fn no_threads() -> Failure {
    Failure::new(Kind::Environment, "cannot start a thread").hint(
        "allow more of them, or more memory: `ulimit -u` and `ulimit -v` show what a shell may, `pids.max` and `memory.max` what a container may",
    )
}
