//! A limit on the size of files, which the kernel would end the process for.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets a write into a file that may not grow fail, as on a full disk, rather than end the process.
pub fn ignore_file_size_signal() {
    #[expect(unsafe_code, reason = "no handler is set, so nothing runs when the signal comes")]
    // SAFETY: see the reason above.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}
