//! A machine that is restarted, with a real cron: one made of namespaces, so that it can be turned off with all that runs on it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pipe_tests::{Project, needs};

use super::small::{self, eventually, free_port, page};

/// What is the first process of the machine: a disk of its own for what does not outlast it, and one for the crontabs.
const FIRST: &str =
    "mount -t tmpfs none /run && mount --bind ../spool /var/spool/cron/crontabs && cron && exec sh -c \"$1\"";

/// Turns the machine on, has it run a script, and turns it off.
fn machine(project: &Project, script: &str) -> Command {
    let pipe = project.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", FIRST, "sh"]);
    command.arg(script).current_dir(project.path());
    for (name, value) in pipe.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("PIPE", pipe.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_target_comes_back_after_a_restart_of_the_machine_until_it_is_removed() {
    if fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        eprintln!("only root can turn machines on and off");
        return;
    }
    needs("/usr/sbin/cron");
    let (project, port) = (small::project(), free_port());
    let target =
        format!("\n[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:{port}\"\n");
    small::release_to(&project, &target);
    let spool = project.path().join("../spool");
    fs::create_dir(&spool).expect("a directory");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o1730)).expect("a mode");
    let is_on = || TcpStream::connect(("127.0.0.1", port)).is_ok();

    let script = "echo '5 4 * * * true' | crontab - && $PIPE target add staging local && $PIPE run && crontab -l";
    let output = machine(&project, script).output().expect("a machine");
    let text = said(&output);
    assert!(text.contains("staging comes back after a restart of this machine: cron"), "{text}");
    assert!(text.contains("5 4 * * * true\n@reboot PIPE_HOME="), "{text}");
    assert!(!is_on(), "it is off, and all that ran with it");

    let script =
        "until [ -e seen ]; do sleep 0.05; done; $PIPE target remove staging; crontab -l; $PIPE target remove staging";
    let child = machine(&project, script).spawn().expect("a machine");
    eventually("it comes back", is_on);
    assert_eq!(page(port), "one");
    project.write("seen", "");
    let text = said(&child.wait_with_output().expect("a machine"));
    assert!(
        text.contains("demo/staging is stopped\nit comes back after no restart of the machine any more\n"),
        "{text}"
    );
    assert!(text.contains("\n5 4 * * * true\ndemo/staging was not running\n") && !text.contains("@reboot"), "{text}");
    assert!(Path::new(&project.home()).join("targets/demo/staging").exists());
}
