//! GitLab's sections: lines of a job's log that are folded under a title.
//!
//! <https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections>

use std::io::{self, Write};

/// Lines that are folded under a title; `seconds` since 1970 is when they were written.
pub(super) fn fold(name: &str, title: &str, lines: &str, seconds: u64, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "\x1b[0Ksection_start:{seconds}:pipe_{name}[collapsed=true]\r\x1b[0K{title}\n{lines}\
         \x1b[0Ksection_end:{seconds}:pipe_{name}\r\x1b[0K\n"
    )
}
