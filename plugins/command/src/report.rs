//! What a user is told of a program that failed.

use pipe_sdk::{Blob, Failure};

/// Bytes of each output stream that a message shows at most.
const TAIL_BYTES: u32 = 8 * 1024;
/// Lines of each output stream that a message shows at most.
const TAIL_LINES: usize = 40;

/// The last lines of some output.
pub(crate) fn tail(output: &Blob) -> Result<String, Failure> {
    let start = output.size().saturating_sub(u64::from(TAIL_BYTES));
    let bytes = output.read(start, TAIL_BYTES)?;
    Ok(last_lines(&String::from_utf8_lossy(&bytes), start > 0))
}

/// The last lines of `text`, whose first one may be `cut`.
fn last_lines(text: &str, cut: bool) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES).max(usize::from(cut && lines.len() > 1));
    lines[from..].join("\n")
}

/// The failure of `argv`, with what it wrote last and what may help.
pub(crate) fn failure(argv: &[String], code: i32, stdout: &str, stderr: &str) -> Failure {
    let output: Vec<&str> = [stdout, stderr].into_iter().filter(|text| !text.is_empty()).collect();
    let output = output.join("\n");
    let name = name(argv);
    let message = if output.is_empty() {
        format!("`{name}` ended with exit code {code} and wrote nothing")
    } else {
        format!("`{name}` ended with exit code {code}; it wrote last:\n{output}")
    };
    Failure::failed(message).hint(remedy(code, &output))
}

/// What the message calls the command: a script by its first line.
fn name(argv: &[String]) -> String {
    match argv {
        [shell, flag, script] if shell == "sh" && flag == "-ec" => {
            script.trim().lines().next().unwrap_or_default().to_owned()
        }
        argv => argv.join(" "),
    }
}

/// The likely cause, from the traces that the usual ones leave.
fn remedy(code: i32, output: &str) -> &'static str {
    const NETWORK: [&str; 5] =
        ["EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED", "Temporary failure in name resolution", "Network is unreachable"];
    const ENGINES: [&str; 3] = ["EBADDEVENGINES", "EBADENGINE", "requires Node.js version"];
    if code == 0 {
        "`allow-exit-codes` leaves 0 out: add it where the program may end well"
    } else if NETWORK.iter().any(|trace| output.contains(trace)) {
        "a step has no network: give what it needs as an input (`node-modules`, `python-venv`)"
    } else if ENGINES.iter().any(|trace| output.contains(trace)) {
        "the package wants another Node than the one that ran: let `[tools] node = \"/…/bin/node\"` name it"
    } else if code == 127 {
        "the program is in neither the runtime nor an input: add it to `[tools]` or to `[runtime] system`"
    } else if code == 137 {
        "it was killed, mostly for want of memory: raise `limits = { memory = \"…\" }`"
    } else {
        "it runs without network and with this environment only: set what it needs in `environment`; an exit code that is \
         no failure belongs in `allow-exit-codes`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_last_lines_are_shown_and_a_cut_line_is_not() {
        let shown = last_lines(&format!("first\n{}last\n", "more\n".repeat(TAIL_LINES)), false);
        assert_eq!(shown, format!("{}last", "more\n".repeat(TAIL_LINES - 1)));
        assert_eq!(last_lines("alf\nwhole\n", true), "whole");
        assert_eq!(last_lines("one long line", true), "one long line");
    }

    #[test]
    fn a_failure_says_what_ran_and_what_it_wrote() {
        let failure = failure(&argv(&["npm", "run", "build"]), 2, "building", "src/app.ts: error");
        assert_eq!(
            failure.message,
            "`npm run build` ended with exit code 2; it wrote last:\nbuilding\nsrc/app.ts: error"
        );
    }

    #[test]
    fn a_script_is_called_by_its_first_line() {
        let failure = failure(&argv(&["sh", "-ec", "\nmake all\nmake more\n"]), 127, "", "");
        assert_eq!(failure.message, "`make all` ended with exit code 127 and wrote nothing");
        assert!(failure.hint.expect("a remedy").contains("[tools]"));
    }

    #[test]
    fn a_program_that_wants_the_network_is_told_so() {
        let failure = failure(&argv(&["npm", "ci"]), 1, "", "npm error code EAI_AGAIN");
        assert!(failure.hint.expect("a remedy").contains("no network"));
    }

    #[test]
    fn a_package_that_wants_another_node_is_given_one() {
        let failure = failure(&argv(&["npx", "gulp"]), 1, "", "npm error code EBADDEVENGINES");
        assert!(failure.hint.expect("a remedy").contains("`[tools] node = "));
    }
}
