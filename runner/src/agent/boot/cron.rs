//! A line of the user's crontab that cron runs when it begins. All other lines stay as they are.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Boot, BootError, command, log, text};
use crate::shell::quoted;

/// What cron's own process is called, by whom it was written.
const DAEMONS: [&str; 3] = ["cron", "crond", "fcron"];

/// Whether cron runs here, and takes crontabs.
pub(super) fn is_there() -> bool {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    names.into_iter().any(|name| DAEMONS.contains(&name.trim())) && crontab(&["-l"], "").is_ok()
}

/// Has the agent of a home directory started when cron is.
pub(super) fn write(home: &Path) -> Result<Boot, BootError> {
    let mut lines = others(home)?;
    lines.push(line(home)?);
    install(&lines)?;
    Ok(Boot { by: "cron, by `@reboot` in your crontab".into(), lacks: None })
}

/// Takes that back.
pub(super) fn remove(home: &Path) -> Result<(), BootError> {
    let Ok(before) = lines() else { return Ok(()) };
    let others = others(home)?;
    if others == before { Ok(()) } else { install(&others) }
}

/// The lines of the crontab that are not of a home directory.
fn others(home: &Path) -> Result<Vec<String>, BootError> {
    let mark = mark(home)?;
    Ok(lines()?.into_iter().filter(|line| !line.ends_with(&mark)).collect())
}

fn line(home: &Path) -> Result<String, BootError> {
    let log = log(home);
    // A shell takes what is behind the sign for a comment, and cron a percent sign for the end of a line.
    let line = format!("@reboot {} >>{} 2>&1", command(home)?, quoted(text(&log)?)).replace('%', "\\%");
    Ok(format!("{line}{}", mark(home)?))
}

fn mark(home: &Path) -> Result<String, BootError> {
    Ok(format!(" # pipe agent of {}", text(home)?.replace('%', "\\%")))
}

fn lines() -> Result<Vec<String>, BootError> {
    let refused = |error: io::Error| BootError::Crontab(error.to_string());
    let output = crontab(&["-l"], "").map_err(refused)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Nobody has a crontab before the first line: so say Vixie's cron, its heirs and busybox.
        let is_none = said.contains("no crontab for") || said.contains("can't open");
        return if is_none { Ok(Vec::new()) } else { Err(BootError::Crontab(said.trim().to_owned())) };
    }
    let text = String::from_utf8(output.stdout).map_err(|error| BootError::Crontab(error.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn install(lines: &[String]) -> Result<(), BootError> {
    let text = lines.iter().flat_map(|line| [line, "\n"]).collect::<Vec<_>>().concat();
    let output = if text.trim().is_empty() { crontab(&["-r"], "") } else { crontab(&["-"], &text) };
    let output = output.map_err(|error| BootError::Crontab(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BootError::Crontab(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn crontab(arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new("crontab");
    command.args(arguments).env("LC_ALL", "C");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_one_for_cron_and_for_the_shell() {
        let home = Path::new("/srv/it's 100%");
        let line = line(home).expect("a line");
        assert_eq!(
            line,
            "@reboot PIPE_HOME='/srv/it'\\''s 100\\%' '/srv/it'\\''s 100\\%/bin/pipe' agent-boot \
             >>'/srv/it'\\''s 100\\%/agent/agent.log' 2>&1 # pipe agent of /srv/it's 100\\%"
        );
        assert!(line.ends_with(&mark(home).expect("a mark")));
        assert!(!line.ends_with(&mark(Path::new("/srv/other")).expect("a mark")));
        assert!(super::line(Path::new("/srv/a\nb")).is_err());
    }
}
