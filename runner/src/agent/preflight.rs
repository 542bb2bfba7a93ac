//! What Django says of a release before it gets requests, asked while its processes start: how its settings look for production,
//! and whether its models have changes that no migration has. All of it is told and nothing refused: whether a release serves
//! is seen when it is asked for a page. Knows nothing of how a program is run.

use std::path::Path;

use super::protocol::Progress;
use crate::diagnostic::quoted;

/// Both questions in one start of Python, which is most of what they cost. Each answer is between lines of ours.
const SCRIPT: &str = r#"
import runpy, sys
for argv in ["check", "--deploy"], ["makemigrations", "--check", "--dry-run", "--no-input"]:
    print("-- manage.py", *argv, flush=True)
    sys.argv = ["manage.py", *argv, "--no-color"]
    try: runpy.run_path("manage.py", run_name="__main__"); code = 0
    except SystemExit as end: code = end.code or 0
    sys.stderr.flush()
    print("-- ended with status", code, flush=True)
"#;

/// How a line of ours begins. Whoever reads the log of the release sees them too.
const ASKED: &str = "-- manage.py ";
const ENDED: &str = "-- ended with status ";

/// How many warnings are told by name.
const TOLD: usize = 5;

/// Warnings that TLS is not insisted on, which is right where the target has none.
const OF_TLS: [&str; 4] = ["(security.W004)", "(security.W008)", "(security.W012)", "(security.W016)"];

/// The command that asks, for a shell where `manage.py` is.
pub(super) fn command() -> String {
    format!("exec python -c '{SCRIPT}'")
}

/// Whether a source tree is a Django project, in a directory of it.
pub(super) fn is_django(source: &Path, directory: &str) -> bool {
    source.join(directory).join("manage.py").is_file()
}

/// What Django has answered, line by line: what to tell. What it said of the release `before` too has been told.
pub(super) fn judge(lines: &[String], before: &[String], has_tls: bool) -> Vec<Progress> {
    let mut remarks = Vec::new();
    if let Some((_, said)) = answer(lines, "check") {
        let told = answer(before, "check").map(|(_, said)| findings(said, has_tls)).unwrap_or_default();
        let findings = findings(said, has_tls);
        remarks.extend((findings != told).then(|| warn(&findings)).flatten());
    } else {
        remarks.push(unanswered(lines));
    }
    if let Some((1, said)) = answer(lines, "makemigrations") {
        let apps = said.iter().filter_map(|line| line.strip_prefix("Migrations for '")?.strip_suffix("':"));
        let apps: Vec<&str> = apps.collect();
        if !apps.is_empty() {
            remarks.push(Progress::Warning {
                message: format!("models have changes that no migration has: {}", quoted(apps)),
                hint: Some("`python manage.py makemigrations`, and commit what it writes".to_owned()),
            });
        }
    }
    remarks
}

/// The lines of an answer, and what it ended with; none where it has not come to its end.
fn answer<'a>(lines: &'a [String], command: &str) -> Option<(i32, &'a [String])> {
    let is_asked = |line: &String| line.strip_prefix(ASKED).and_then(|asked| asked.split(' ').next()) == Some(command);
    let begin = lines.iter().position(is_asked)? + 1;
    let length = lines[begin..].iter().position(|line| line.starts_with(ENDED))?;
    let code = lines[begin + length].strip_prefix(ENDED)?.trim().parse().ok()?;
    Some((code, &lines[begin..begin + length]))
}

/// The warnings and errors of `check --deploy`.
fn findings(said: &[String], has_tls: bool) -> Vec<String> {
    let counts = |found: &String| has_tls || !OF_TLS.iter().any(|id| found.ends_with(id));
    said.iter().filter_map(|line| finding(line)).filter(counts).collect()
}

/// All of them in one warning, a line each.
fn warn(findings: &[String]) -> Option<Progress> {
    let mut told: Vec<String> = findings.iter().take(TOLD).cloned().collect();
    let more = findings.len().saturating_sub(TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    (!findings.is_empty()).then(|| Progress::Warning {
        message: format!("`manage.py check --deploy` says\n    {}", told.join("\n    ")),
        hint: Some("`pipe logs` has all of it; `preflight = false` in the target, and it is not asked".to_owned()),
    })
}

/// `?: (security.W004) You have not set a value for …. If …` as `You have not set a value for … (security.W004)`.
fn finding(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(": (")?;
    let (id, text) = rest.split_once(") ")?;
    let is_id = id.contains('.') && !id.contains(char::is_whitespace);
    let sentence = text.split_once(". ").map_or(text.trim_end_matches('.'), |(sentence, _)| sentence);
    is_id.then(|| format!("{sentence} ({id})"))
}

fn unanswered(lines: &[String]) -> Progress {
    let last = lines.iter().rfind(|line| !line.trim().is_empty() && !line.starts_with("-- ")).map(String::as_str);
    Progress::Warning {
        message: format!("`manage.py check --deploy` gives no answer: {}", last.unwrap_or("it says nothing")),
        hint: Some("`preflight = false` in the target, and it is not asked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "-- manage.py check --deploy\nSystem check identified no issues (0 silenced).\n-- ended with status 0\n\
                         -- manage.py makemigrations --check --dry-run --no-input\nNo changes detected\n-- ended with status 0";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn told(text: &str) -> Vec<String> {
        let remarks = judge(&lines(text), &[], true);
        let text = |remark| match remark {
            Progress::Warning { message, .. } => message,
            other => panic!("{other:?}"),
        };
        remarks.into_iter().map(text).collect()
    }

    #[test]
    fn only_what_is_odd_is_told() {
        assert_eq!(told(SOUND), [""; 0]);
        let odd = "-- manage.py check --deploy\nSystem check identified some issues:\n\nWARNINGS:\n\
                   ?: (security.W004) You have not set a value for the SECURE_HSTS_SECONDS setting. If your site is\n\
                   ?: (security.W008) Your SECURE_SSL_REDIRECT setting is not set to True. Unless\n\n-- ended with status 0\n\
                   -- manage.py makemigrations --check --dry-run --no-input\nMigrations for 'polls':\n  polls/migrations/0002_a.py\n-- ended with status 1";
        assert_eq!(
            told(odd),
            [
                "`manage.py check --deploy` says\n    \
                 You have not set a value for the SECURE_HSTS_SECONDS setting (security.W004)\n    \
                 Your SECURE_SSL_REDIRECT setting is not set to True (security.W008)",
                "models have changes that no migration has: `polls`"
            ]
        );
        // The same once more is told already, but that a migration lacks.
        assert_eq!(judge(&lines(odd), &lines(odd), true).len(), 1);
        assert_eq!(judge(&lines(odd), &lines(SOUND), true).len(), 2);
        assert_eq!(judge(&lines(odd), &lines(SOUND), false).len(), 1, "without TLS nothing of it is odd");
    }

    #[test]
    fn errors_are_told_and_so_is_what_breaks() {
        let error = "-- manage.py check --deploy\nSystemCheckError: System check identified some issues:\n\nERRORS:\npolls.A: (models.E1) No.\n-- ended with status 1";
        assert_eq!(told(error), ["`manage.py check --deploy` says\n    No (models.E1)"]);
        assert_eq!(
            told("-- manage.py check --deploy\nTraceback\nKeyError: 'X'"),
            ["`manage.py check --deploy` gives no answer: KeyError: 'X'"]
        );
        assert_eq!(
            told("sh: python: not found"),
            ["`manage.py check --deploy` gives no answer: sh: python: not found"]
        );
    }
}
