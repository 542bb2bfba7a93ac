//! People who come to a host with keys of their own, through a real sshd: what each role may do there, and that such a key is good
//! for nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use pipe_tests::{Outcome, Said, is_root};
use serde_json::Value;

use super::other_machines::Two;
use super::small;

/// Somebody with a key.
struct Person {
    key: String,
    client: String,
}

impl Person {
    /// Lets somebody in, in a role.
    fn new(two: &Two, name: &str, role: &str) -> Self {
        let (key, client) = two.sshd.other_user(name);
        let person = Self { key: key.display().to_string(), client };
        let said = two.run(["people", "production", "add", name, "--role", role, "--key", &person.key]).success();
        assert!(said.stdout.starts_with(&format!("{name} is {role} at ssh://")), "{}", said.stdout);
        person
    }

    fn run(&self, two: &Two, args: &[&str]) -> Outcome {
        two.project.run_with(&[("PIPE_SSH", &self.client)], args)
    }

    /// It is refused, with who that is, what is missing, and who can change it.
    #[track_caller]
    fn refused(&self, two: &Two, args: &[&str], parts: &[&str]) -> Said {
        let before = two.releases();
        let said = self.run(two, args).code(2);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
        }
        assert!(said.stderr.contains("can change that: `pipe people TARGET add"), "{}", said.stderr);
        assert_eq!(two.releases(), before);
        said
    }

    /// Plain `ssh`, without `pipe` on this side.
    fn ssh(&self, two: &Two, options: &[&str], command: &[&str]) -> Output {
        let address = two.address();
        let place = address.strip_prefix("ssh://").expect("an address").split('/').next().expect("a host");
        let (host, port) = place.split_once(':').expect("a port");
        let mut words = self.client.split(' ');
        let mut ssh = Command::new(words.next().expect("ssh"));
        ssh.args(words)
            .args(options)
            .args(["-o", "BatchMode=yes", "-p", port, host])
            .args(command)
            .output()
            .expect("ssh runs")
    }
}

#[test]
fn each_role_may_do_what_it_is_for_and_is_refused_the_rest() {
    let two = Two::new();
    two.promote();
    let viewer = Person::new(&two, "vera", "viewer");
    let deployer = Person::new(&two, "dora", "deployer");

    for args in [
        &["releases", "production"][..],
        &["ps"],
        &["domains", "production"],
        &["config", "production"],
        &["diff", "staging", "production"],
    ] {
        viewer.run(&two, args).success();
    }
    assert!(viewer.run(&two, &["logs", "production"]).success().stdout.contains("serving one"));
    two.project.write("src/version", "two");
    viewer.run(&two, &["run"]).success();
    let who = ["you are `vera`, a viewer here, and this needs a deployer: ", ", demo/production"];
    for (args, what) in [
        (&["promote", "staging", "production"][..], "promote staging 2"),
        (&["rollback", "production", "1"], "roll back to 1"),
        (&["scale", "production", "web=2"], "scale web=2"),
        (&["canary", "production", "--abort"], "canary abort"),
        (&["stop", "production"], "stop"),
    ] {
        viewer.refused(&two, args, &[who[0], what, who[1], "whoever logs in here as `"]);
    }
    assert_eq!(two.page(), "one");

    deployer.run(&two, &["promote", "staging", "production"]).success();
    assert_eq!(two.page(), "two");
    assert_eq!(two.releases()[0]["who"], "dora", "it is the key that says who it was");
    deployer.run(&two, &["rollback", "production"]).success();
    deployer.run(&two, &["scale", "production", "web=2"]).success();
    let admin = Person::new(&two, "adam", "admin");
    let needs = "you are `dora`, a deployer here, and this needs an admin: ";
    for (args, what) in [
        (&["config", "production", "set", "COLOUR=green"][..], "config set COLOUR"),
        (&["config", "production", "export"], "read the config"),
        (&["people", "production"], "see the people"),
        (&["people", "production", "add", "dora", "--role", "admin"], "add dora as admin"),
        (&["target", "remove", "production", "--data"], "remove with its data"),
    ] {
        let said = deployer.refused(&two, args, &[needs, what, "`adam`, or whoever logs in here as `"]);
        assert!(!said.stderr.contains("green"), "{}", said.stderr);
    }
    // What runs over there with this command's own input and outputs.
    let said = deployer.run(&two, &["exec", "production", "--", "sh", "-c", "echo seen"]).code(2);
    assert!(said.stderr.contains("this needs an admin: exec demo/production -- sh -c echo seen"), "{}", said.stderr);
    assert!(!said.stdout.contains("seen"), "{}", said.stdout);

    admin.run(&two, &["config", "production", "set", "COLOUR=green"]).success();
    assert_eq!(admin.run(&two, &["config", "production", "export"]).success().stdout, "COLOUR=\"green\"\n");
    let exec = ["exec", "production", "--", "sh", "-c", "echo it\\'s $COLOUR; exit 3"];
    assert_eq!(admin.run(&two, &exec).code(3).stdout, "it's green\n");
    // With its end a target goes, and all its data.
    two.project.edit("release.pipeline", "[targets.production]\n", "[targets.production]\nexpires = \"1h\"\n");
    let said = deployer.run(&two, &["promote", "staging", "production"]).code(2);
    assert!(
        said.stderr.contains("target `production` had no end so far, and would be removed with its data 1h"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("you are `dora`, a deployer here: leave `expires` as it was"), "{}", said.stderr);
    let said = admin.run(&two, &["promote", "staging", "production"]).success();
    assert!(said.stdout.contains("had no end so far, and is removed with its data 1h after"), "{}", said.stdout);
    two.project.edit("release.pipeline", "expires = \"1h\"\n", "");
    deployer.run(&two, &["promote", "staging", "production"]).success();

    admin.run(&two, &["target", "add", "production", &two.address(), "--no-boot"]).success();
    admin.run(&two, &["people", "production", "add", "dora", "--role", "viewer"]).success();
    deployer.refused(&two, &["rollback", "production"], &["you are `dora`, a viewer here"]);
}

#[test]
fn an_admin_has_a_terminal_over_there() {
    let two = Two::new();
    two.promote();
    let admin = Person::new(&two, "adam", "admin");
    let mut command = two.project.command();
    let pipe = command.get_program().to_owned();
    let line = format!(
        "{} exec production -- sh -c 'tty && echo $TERM && : > /dev/tty && test -t 1 && echo a terminal'",
        pipe.display()
    );
    command.env("PIPE_SSH", &admin.client);
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(two.project.path()).env_clear();
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = Outcome::of(script).success();
    assert!(said.stdout.contains("a terminal"), "{}", said.stdout);
}

#[test]
fn such_a_key_is_good_for_nothing_else() {
    let two = Two::new();
    two.promote();
    let admin = Person::new(&two, "adam", "admin");
    let marker = two.project.path().join("marker");
    let touch = format!("touch {}", marker.display());
    for command in [&[][..], &["id"], &[&touch], &["exec sh -c 'id'"], &["exec", "sh", "-c", "id", "", "agent-connect"]]
    {
        let output = admin.ssh(&two, &[], command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("the key of `adam` is for `pipe` alone"),
            "{command:?}: {said}"
        );
        assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    }
    assert!(!marker.exists());
    // Nor does it lead to what listens at the host, or beyond it.
    let port = two.port.to_string();
    let output = admin.ssh(&two, &["-W", &format!("127.0.0.1:{port}")], &[]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");

    // A key is for the targets of one directory.
    let said = admin.run(&two, &["releases", "production"]);
    drop(said.success());
    two.project.edit("release.pipeline", &two.address(), &format!("{}2", two.address()));
    let said = admin.run(&two, &["releases", "production"]).code(2).stderr;
    assert!(said.contains("your key is for the targets in `") && said.contains("end the address with `"), "{said}");
}

#[test]
fn a_client_cannot_say_that_it_is_somebody_else_or_name_what_is_no_target() {
    let two = Two::new();
    two.promote();
    let deployer = Person::new(&two, "dora", "deployer");
    let say = |line: &str| {
        let input = two.project.path().join("said");
        fs::write(&input, format!("{line}\n")).expect("written");
        let address = two.address();
        let port = address.rsplit(':').next().expect("a port").split('/').next().expect("a port").to_owned();
        let ssh = format!(
            "{} -p {port} 127.0.0.1 \"exec sh -c 'x' '' 'agent-connect'\" < {}",
            deployer.client,
            input.display()
        );
        let output = Command::new("sh").args(["-c", &ssh]).output().expect("a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let who = r#"{"name":"root","role":"admin","from":null}"#;
    let stop = |target: &str| {
        format!(r#"{{"by":"root","call":{{"ask":{{"request":"stop","target":{target},"who":{who}}}}}}}"#)
    };
    let said = say(&stop("null"));
    assert!(said.contains("you are `dora`, a deployer here"), "{said}");
    let said = say(&stop(r#"["demo","../../x"]"#));
    assert!(said.contains("cannot be the name of a target"), "{said}");
    let said = say(r#"{"by":"root","call":{"releases":{"app":"../..","target":"etc"}}}"#);
    assert!(said.contains("cannot be the name of a target"), "{said}");
    // By these words alone a viewer's own would be refused; the whole of them is understood.
    let said = say(r#"{"by":"root","call":{"releases":{"app":"demo","target":"production"}}}"#);
    assert!(said.contains("\"number\":1"), "{said}");
    let order = format!(r#"{{"app":"demo","target":"production","wish":{{"back":{{"number":1}}}},"who":{who}}}"#);
    say(&format!(r#"{{"by":"root","call":{{"ask":{{"request":"deploy",{}}}}}"#, &order[1..]));
    assert_eq!(two.releases()[0]["who"], "dora");
}

#[test]
fn people_come_and_go_and_keys_of_others_stay() {
    let two = Two::new();
    two.promote();
    let keys = two.sshd.authorized_keys();
    let before = fs::read_to_string(&keys).expect("keys");
    assert!(two.run(["people", "production"]).success().stdout.starts_with("nobody but who can log in"));
    let ada = Person::new(&two, "ada", "deployer");
    let text = fs::read_to_string(&keys).expect("keys");
    assert!(text.starts_with(&before) && text.contains("restrict,command=\""), "{text}");
    assert_eq!(fs::metadata(&keys).expect("keys").permissions().mode() & 0o077 & 0o022, 0);
    let listed = two.run(["people", "production", "--json"]).success().stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["role"]), (&"ada".into(), &"deployer".into()));
    let found = Command::new("ssh-keygen").args(["-l", "-f", &ada.key]).output().expect("ssh-keygen runs");
    let fingerprint = listed[0]["fingerprint"].as_str().expect("a text");
    assert!(String::from_utf8_lossy(&found.stdout).contains(fingerprint), "{fingerprint}");

    let refused = |args: &[&str], code: i32, part: &str| {
        let said = two.run([&["people", "production", "add"], args].concat()).code(code).stderr;
        assert!(said.contains(part), "{said}");
    };
    refused(&["bob", "--role", "viewer", "--key", &ada.key], 2, "that key is `ada`'s");
    refused(&["bob", "--role", "viewer"], 2, "`bob` is nobody here");
    refused(&["Bob", "--role", "viewer", "--key", &ada.key], 2, "`Bob` cannot be a person's name");
    refused(&["bob", "--role", "king", "--key", &ada.key], 2, "`king` is no role");
    let private = ada.key.strip_suffix(".pub").expect("a name");
    refused(&["bob", "--role", "viewer", "--key", private], 2, "it is a private key");
    let mine = keys.with_file_name("user_key.pub").display().to_string();
    refused(&["bob", "--role", "viewer", "--key", &mine], 2, "lets its owner log in here with a shell: line 1");

    // A connection that is open already is none any more for whoever is gone.
    ada.run(&two, &["releases", "production"]).success();
    two.run(["people", "production", "remove", "ada"]).success();
    assert!(ada.run(&two, &["releases", "production"]).code(2).stderr.contains("`ada` is nobody here any more"));
    assert_eq!(fs::read_to_string(&keys).expect("keys"), before);
    two.sshd.cut();
    let said = ada.run(&two, &["releases", "production"]).code(5).stderr;
    assert!(said.contains("does not let you in") && said.contains("not any longer: an admin"), "{said}");
}

/// The trail of the target at the host: of each entry who, in which role, what, and what came of it.
fn trail(two: &Two) -> Vec<[String; 4]> {
    let said = two.run(["audit", "production", "--json"]).success().stdout;
    let entries: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| ["who", "role", "what", "outcome"].map(|field| text(entry, field))).collect()
}

#[test]
fn what_is_done_or_refused_is_written_down_with_who_asked() {
    let two = Two::new();
    two.promote();
    let deployer = Person::new(&two, "dora", "deployer");
    let admin = Person::new(&two, "adam", "admin");
    deployer.run(&two, &["scale", "production", "web=2"]).success();
    deployer.run(&two, &["config", "production", "set", "TOKEN=hunter2"]).code(2);
    admin.run(&two, &["config", "production", "set", "TOKEN=hunter2"]).success();
    admin.run(&two, &["config", "production", "export"]).success();
    admin.run(&two, &["exec", "production", "--", "true"]).success();
    admin.run(&two, &["exec", "production", "--", "false"]).code(1);
    deployer.run(&two, &["exec", "production", "--", "id"]).code(2);
    deployer.run(&two, &["releases", "production"]).success();
    deployer.run(&two, &["audit", "production"]).code(2);
    admin.run(&two, &["people", "production", "remove", "dora"]).success();
    admin.run(&two, &["stop", "production"]).success();

    let trail = trail(&two);
    let told: Vec<[&str; 4]> = trail.iter().map(|entry| entry.each_ref().map(String::as_str)).collect();
    let whoever = told[0][0];
    assert!(whoever.ends_with("@127.0.0.1"), "{whoever}");
    let added = |name: &str, role: &str| {
        let found = told.iter().position(|entry| entry[2].starts_with(&format!("add {name} as {role}, SHA256:")));
        told[found.unwrap_or_else(|| panic!("{told:?}"))][2]
    };
    assert_eq!(
        told,
        [
            [whoever, "admin", "promote staging 1", "done"],
            [whoever, "admin", added("dora", "deployer"), "done"],
            [whoever, "admin", added("adam", "admin"), "done"],
            ["dora", "deployer", "scale web=2", "done"],
            ["dora", "deployer", "config set TOKEN", "refused"],
            ["adam", "admin", "config set TOKEN", "done"],
            ["adam", "admin", "read the config", "done"],
            ["adam", "admin", "begin exec true", "done"],
            ["adam", "admin", "exec true", "done"],
            ["adam", "admin", "begin exec false", "done"],
            ["adam", "admin", "exec false", "failed"],
            ["dora", "deployer", "exec demo/production -- id", "refused"],
            ["dora", "deployer", "read the audit trail", "refused"],
            ["adam", "admin", "remove dora", "done"],
            ["adam", "admin", "stop", "done"],
        ]
    );
    let said = two.run(["audit", "production"]).success().stdout;
    let first = said.lines().nth(1).expect("an entry");
    let slug = two.releases()[0]["slug"].as_str().expect("a slug")["blake3:".len()..][..12].to_owned();
    assert!(first.contains(&format!("promote staging 1, demo/production: release 1 of {slug}")), "{first}");
    assert!(said.contains("dora (127.0.0.1)") && !said.contains("hunter2"), "{said}");
    assert!(said.contains("failed: it ended with 1\n"), "{said}");
    let state = fs::read(two.home().join("agent/state.db")).expect("the state");
    assert!(!state.windows(7).any(|window| window == b"hunter2"));

    // Somebody covers his traces.
    let python = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('delete from audit where number = 5'); db.commit()";
    let state = two.home().join("agent/state.db");
    let done = Command::new("python3").args(["-c", python]).arg(state).status().expect("python runs");
    assert!(done.success());
    let said = two.run(["audit", "production"]).code(5);
    assert!(said.stderr.contains("entry 5 is gone") && said.stdout.contains("exec true"), "{}", said.stderr);
}

#[test]
fn whoever_logs_in_has_one_name_whatever_he_asks_for() {
    let two = Two::new();
    two.run(["run"]).success();
    let as_ada = [("PIPE_SSH", &*two.sshd.client()), ("SUDO_USER", "ada")];
    let ask = |args: &[&str]| two.project.run_with(&as_ada, args).success();
    ask(&["promote", "staging", "production"]);
    ask(&["exec", "production", "--", "true"]);
    let trail = trail(&two);
    let names: Vec<&str> = trail.iter().map(|entry| entry[0].as_str()).collect();
    assert_eq!((names.len(), names[1], names[2]), (3, names[0], names[0]));
    // Of those who work as root he is known by his own name.
    assert!(names[0] == "ada@127.0.0.1" || !is_root(), "{names:?}");
}

#[test]
fn what_is_done_on_this_machine_is_written_down_too() {
    let project = small::project();
    let port = small::free_port();
    let target = "[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:PORT\"\n";
    small::release_to(&project, &target.replace("PORT", &port.to_string()));
    assert_eq!(project.run(["audit", "staging"]).success().stdout, "nothing was done yet\n");
    project.run(["run"]).success();
    project.run(["run"]).success();
    project.write("src/app.py", "raise SystemExit('no')");
    project.run(["run"]).code(7);
    let said = project.run(["audit", "staging"]).success().stdout;
    let user = Command::new("id").arg("-un").output().expect("id runs").stdout;
    let user = String::from_utf8(user).expect("a name");
    let rows: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "a run that changes nothing does nothing: {said}");
    assert!(rows[0].contains(user.trim()) && rows[0].contains("run, demo/staging: release 1 of "), "{said}");
    assert!(rows[0].ends_with("done") && rows[1].contains(": release 2 of ") && rows[1].contains("failed: "), "{said}");
    project.run(["stop", "staging"]).success();
    assert!(project.run(["audit", "staging"]).success().stdout.contains("stop, demo/staging"));
}
