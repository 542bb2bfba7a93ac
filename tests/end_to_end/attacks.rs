//! The cache under attack: whatever is done to files between two runs, and however little it shows in their times and sizes, what
//! a run gives is what the files say. Each attack is on a cache that is warm and settled, and its result is held against what
//! is on the disk; a state that was there before is found again and not built anew.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use pipe_tests::Project;

/// Shows all of the source, its kinds and modes too.
const PIPELINE: &str = "\
[app]
name = \"attacked\"

[source]
path = \"src\"

[steps.all]
plugin = \"files\"
inputs = { trees = \"source\" }

[steps.show]
plugin = \"command\"
inputs = { project = \"all\" }
config = { run = '''find . -mindepth 1 | LC_ALL=C sort | while read -r f; do
if [ -L $f ]; then echo $f link $(readlink $f)
elif [ -d $f ]; then echo $f directory
elif [ -x $f ]; then echo $f executable $(cat $f)
else echo $f file $(cat $f); fi; done | tee /out/shown''', collect = \"/out\", directories = [\"/out\"] }
grants = { exec = [\"sh\"] }
";

const BUILD: [&str; 3] = ["run", "--no-release", "--json"];

/// What the pipeline's program would show.
fn truth(dir: &Path, at: &str, shown: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = format!("{at}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.path().symlink_metadata().expect("something");
        if metadata.is_dir() {
            shown.push(format!("{path} directory"));
            truth(&entry.path(), &path, shown);
        } else if metadata.is_symlink() {
            shown.push(format!("{path} link {}", fs::read_link(entry.path()).expect("a link").display()));
        } else {
            let kind = if metadata.mode() & 0o100 == 0 { "file" } else { "executable" };
            shown.push(format!("{path} {kind} {}", fs::read_to_string(entry.path()).expect("text")));
        }
    }
}

struct Attacked(Project);

impl Attacked {
    /// A project whose every state is known and old enough to be believed.
    fn new() -> Self {
        let project = Project::new().pipeline(PIPELINE).file("src/a.txt", "aaaa").file("src/sub/b.txt", "bbbb");
        let attacked = Self(project);
        attacked.check("the first run", true);
        std::thread::sleep(Duration::from_millis(300));
        attacked.check("nothing", false);
        attacked
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("src").join(name)
    }

    /// Runs, and holds what the program showed against what is there. A program that was cached shows nothing: then what it
    /// collected is read out of what the next step would get.
    fn check(&self, attack: &str, runs: bool) {
        let said = self.0.run(BUILD).success();
        let ran = !said.steps("ran").is_empty();
        assert_eq!(ran, runs, "{attack}: {}", said.stdout);
        if ran {
            let mut expected = Vec::new();
            truth(&self.path(""), ".", &mut expected);
            expected.sort();
            let output: String = said
                .events()
                .iter()
                .filter(|event| event["event"] == "step-output")
                .map(|event| event["text"].as_str().expect("text").to_owned())
                .collect();
            let mut shown: Vec<&str> = output.lines().collect();
            shown.sort_unstable();
            assert_eq!(shown, expected, "{attack}");
        }
    }

    fn attack(&self, name: &str, change: impl FnOnce(&Self)) -> &Self {
        change(self);
        self.check(name, true);
        self
    }
}

/// Puts the times of a file back to what they were, as `touch -d` and archivers do.
fn with_times_of_before(path: &Path, change: impl FnOnce()) {
    let before = fs::metadata(path).expect("a file");
    change();
    let times = FileTimes::new()
        .set_modified(before.modified().expect("a time"))
        .set_accessed(before.accessed().expect("a time"));
    File::options().write(true).open(path).and_then(|file| file.set_times(times)).expect("times are set");
}

#[test]
fn edits_that_leave_size_and_time_as_they_were_are_noticed() {
    let attacked = Attacked::new();
    let file = attacked.path("a.txt");
    attacked
        .attack("an edit of the same size", |_| fs::write(&file, "AAAA").expect("written"))
        .attack("one with the time put back", |_| {
            with_times_of_before(&file, || fs::write(&file, "BBBB").expect("written"));
        })
        .attack("another file in its place, with its time", |attacked| {
            let other = attacked.path("other");
            fs::write(&other, "CCCC").expect("written");
            let time = fs::metadata(&file).expect("a file").modified().expect("a time");
            File::options().write(true).open(&other).and_then(|other| other.set_modified(time)).expect("set");
            fs::rename(&other, &file).expect("renamed");
        })
        .attack("an edit by way of a hard link", |attacked| {
            let aside = attacked.0.path().join("hard");
            fs::hard_link(&file, &aside).expect("linked");
            fs::write(aside, "DDDD").expect("written");
        });
}

#[test]
fn edits_within_one_tick_of_the_clock_are_noticed() {
    let attacked = Attacked::new();
    let file = attacked.path("a.txt");
    for round in 0..8 {
        // Right before a run that reads it, and right after: the times are as near as they can be.
        fs::write(&file, format!("x{round:03}")).expect("written");
        let mut running =
            attacked.0.command().args(BUILD).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        fs::write(&file, format!("y{round:03}")).expect("written");
        running.wait().expect("ended");
        fs::write(&file, format!("z{round:03}")).expect("written");
        attacked.check("edits around a run", true);
    }
}

#[test]
fn a_file_from_the_past_or_from_the_future_is_read_again() {
    let attacked = Attacked::new();
    let file = attacked.path("a.txt");
    let set = |time: SystemTime| File::options().write(true).open(&file).and_then(|file| file.set_modified(time));
    let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_hours(24 * 365));
    for (round, time) in [past, future, past, future].into_iter().enumerate() {
        attacked.attack("a clock that goes to and fro", |_| {
            fs::write(&file, format!("{round:04}")).expect("written");
            set(time).expect("set");
        });
    }
    set(SystemTime::now()).expect("set");
    attacked.check("touched", false);
}

#[test]
fn modes_links_names_and_kinds_are_noticed() {
    let attacked = Attacked::new();
    let file = attacked.path("a.txt");
    attacked
        .attack("chmod +x", |_| fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("set"))
        .attack("renamed", |attacked| fs::rename(&file, attacked.path("c.txt")).expect("renamed"))
        .attack("only the case of its name", |attacked| {
            fs::rename(attacked.path("c.txt"), attacked.path("C.txt")).expect("renamed");
        })
        .attack("a link in its place", |attacked| {
            fs::remove_file(attacked.path("C.txt")).expect("removed");
            symlink("sub/b.txt", attacked.path("C.txt")).expect("linked");
        })
        .attack("the link leads elsewhere", |attacked| {
            fs::remove_file(attacked.path("C.txt")).expect("removed");
            symlink("sub/d.txt", attacked.path("C.txt")).expect("linked");
        })
        .attack("a directory in its place", |attacked| {
            fs::remove_file(attacked.path("C.txt")).expect("removed");
            fs::create_dir(attacked.path("C.txt")).expect("made");
        })
        .attack("two files swapped", |attacked| {
            fs::write(attacked.path("e.txt"), "eeee").expect("written");
            attacked.check("a new file", true);
            fs::rename(attacked.path("e.txt"), attacked.path("t")).expect("renamed");
            fs::rename(attacked.path("sub/b.txt"), attacked.path("e.txt")).expect("renamed");
            fs::rename(attacked.path("t"), attacked.path("sub/b.txt")).expect("renamed");
        })
        .attack("two directories swapped", |attacked| {
            fs::create_dir(attacked.path("other")).expect("made");
            fs::write(attacked.path("other/b.txt"), "oooo").expect("written");
            attacked.check("a new directory", true);
            fs::rename(attacked.path("other"), attacked.path("t")).expect("renamed");
            fs::rename(attacked.path("sub"), attacked.path("other")).expect("renamed");
            fs::rename(attacked.path("t"), attacked.path("sub")).expect("renamed");
        });
    fs::set_permissions(attacked.path("e.txt"), Permissions::from_mode(0o600)).expect("set");
    attacked.check("a mode that no step sees", false);
}

#[test]
fn what_is_ignored_and_what_no_longer_is_are_noticed() {
    let attacked = Attacked::new();
    // What is shown is compared with the whole directory, so only what stays out is asked here.
    let steps = || {
        let said = attacked.0.run(BUILD).success();
        (said.stdout.contains("a.txt file"), said.steps("ran").len())
    };
    fs::write(attacked.path(".gitignore"), "/a.txt\n").expect("written");
    assert_eq!(steps(), (false, 2), "a new line of .gitignore takes a file away");
    fs::write(attacked.path("a.txt"), "not seen").expect("written");
    assert_eq!(steps().1, 0, "what is ignored runs nothing");
    fs::write(attacked.path(".gitignore"), "/b.txt\n").expect("written");
    assert_eq!(steps(), (true, 2), "and gives it back as it is now");
    fs::remove_file(attacked.path(".gitignore")).expect("removed");
    attacked.check("no .gitignore", true);
}

#[test]
fn a_file_that_appears_where_none_was_found_is_noticed() {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/probe.wasm");
    let project = Project::new().file("src/x", "x").pipeline(&format!(
        "[app]\nname = \"a\"\n[source]\npath = \"src\"\n[steps.s]\nplugin = {probe:?}\ninputs = {{ trees = \"source\" }}\n\
         config = {{ looks = [{{ look = \"read\", input = 0, path = \"conf/local.toml\" }}] }}\n"
    ));
    let ran = || project.run(BUILD).success().steps("ran").len();
    assert_eq!(ran(), 1);
    project.write("src/y", "y");
    assert_eq!(ran(), 0, "somewhere else");
    project.write("src/conf/other.toml", "");
    assert_eq!(ran(), 0, "beside it");
    project.write("src/conf/local.toml", "now");
    assert_eq!(ran(), 1, "there");
    fs::remove_dir_all(project.path().join("src/conf")).expect("removed");
    assert_eq!(ran(), 0, "as it was at first");
    project.write("src/conf", "a file where a directory was");
    assert_eq!(ran(), 0, "still nothing there");
}
