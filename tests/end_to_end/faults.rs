//! What crashes, full disks, damage and other runs do to a run: nothing that the next one does not mend by itself.
//!
//! Short here; `make torture` tries each many times, and pulls the plug too.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pipe_tests::{Project, is_root};

use super::small;

const CHAIN: usize = 6;

/// A chain of steps, each of which sees all that was written; what the last gives is a file in the project's `out` at its end.
fn chain() -> Project {
    let mut text = "[app]\nname = \"chain\"\n\n[source]\nexclude = [\"release.pipeline\"]\n".to_owned();
    for number in 0..CHAIN {
        let from = number.checked_sub(1).map_or("source".to_owned(), |before| format!("s{before}"));
        write!(
            text,
            "\n[steps.s{number}]\nplugin = \"command\"\ninputs = {{ project = \"{from}\" }}\ngrants = {{ exec = [\"sh\"] }}\n\
             config = {{ run = \"mkdir out && cat data/* last > out/sum && cp -r data out/ && echo {number} > out/last\", collect = \"out\" }}\n"
        )
        .expect("written");
    }
    let project = Project::new().pipeline(&text).file("last", "none");
    for number in 0..20 {
        project.write(&format!("data/{number}"), &format!("file {number}\n").repeat(500));
    }
    project
}

const BUILD: [&str; 3] = ["run", "--no-release", "--json"];

/// How many times something is tried.
fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("PIPE_TORTURE").is_some() { long } else { short }
}

/// Places and times that differ, and are the same each time.
struct Random(u64);

impl Random {
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The next run is right, needs no repair, and leaves nothing lying about.
fn holds(project: &Project, about: &str) {
    let said = project.run(BUILD).success();
    assert_eq!(said.end()["outcome"], "succeeded", "{about}");
    assert_eq!(project.run(BUILD).success().steps("ran"), [""; 0], "{about}");
    project.run(["store", "check"]).success();
    let left = fs::read_dir(project.home().join("store/tmp")).expect("listed").count();
    assert_eq!(left, 0, "{about}: debris");
}

#[test]
fn a_run_that_is_killed_at_any_moment_costs_its_unfinished_steps_only() {
    let project = chain();
    project.run(BUILD).success();
    let mut random = Random(1);
    for round in 0..times(6, 200) {
        project.write("data/0", &format!("round {round}"));
        let mut run =
            project.command().args(BUILD).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        std::thread::sleep(Duration::from_millis(random.below(700)));
        // It may have ended already.
        let _ = run.kill();
        let told = run.wait_with_output().expect("ended").stdout;
        let next = project.run(BUILD).success();
        let (ran_before, cached) = (ran(&String::from_utf8(told).expect("text")), next.steps("cached"));
        let lost: Vec<_> = ran_before.iter().filter(|step| !cached.contains(step)).collect();
        assert!(lost.is_empty(), "round {round}: it was told that they ran, and they ran again: {lost:?}");
        if round % 3 == 0 {
            holds(&project, &format!("round {round}"));
        }
    }
    holds(&project, "at the end");
}

#[test]
fn what_is_known_of_the_source_and_cannot_be_kept_is_the_stores_failure() {
    let project = chain();
    project.run(BUILD).success();
    let sources = project.home().join("store/sources");
    fs::remove_dir_all(&sources).expect("removed");
    fs::write(&sources, "").expect("a file in its place");
    let said = project.run(["run", "--no-release"]).code(5);
    assert!(said.stderr.starts_with("error: store: cannot write `"), "no line of the pipeline: {}", said.stderr);
    assert!(said.stderr.contains("hint: remove what is in the way of `"), "{}", said.stderr);
    fs::remove_file(&sources).expect("removed");
    holds(&project, "once it is out of the way");
}

#[test]
fn a_directory_in_the_place_of_a_file_that_can_be_made_anew_makes_way() {
    let project = chain();
    project.run(BUILD).success();
    let spoil = |directory: &str| {
        for entry in fs::read_dir(project.home().join(directory)).expect("listed") {
            let path = entry.expect("listed").path();
            fs::remove_file(&path).expect("removed");
            fs::create_dir(&path).expect("made");
            fs::write(path.join("file"), "").expect("written");
        }
    };
    for directory in ["components", "store/sources"] {
        spoil(directory);
        // A file that changes: what is known of it is written anew.
        project.write("data/0", directory);
        project.run(BUILD).success();
        holds(&project, directory);
    }
    spoil("components");
    project.run(["store", "check"]).code(5);
    project.run(["store", "check"]).success();
    project.run(BUILD).success();
    spoil("components");
    project.run(["store", "gc", "--max-age", "0"]).success();
    holds(&project, "at the end");
}

#[test]
fn a_compiled_plugin_in_the_place_of_another_is_noticed_and_compiled_anew() {
    let project = Project::new().file("page", "1").pipeline(
        "[app]\nname = \"two\"\n\n[steps.files]\nplugin = \"files\"\ninputs = { trees = \"source\" }\nconfig = { include = [\"page\"] }\n\n\
         [steps.show]\nplugin = \"command\"\ninputs = { project = \"files\" }\ngrants = { exec = [\"sh\"] }\nconfig = { run = \"cat page\" }\n",
    );
    project.run(BUILD).success();
    // Of each kind two: machine code, and what plugins say of themselves.
    let swap = || {
        let entries = fs::read_dir(project.home().join("components")).expect("listed");
        let files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        let is_description = |path: &&PathBuf| path.to_string_lossy().contains("-described-");
        let is_code = |path: &&PathBuf| !is_description(path) && !path.to_string_lossy().contains("-made");
        for mut two in [files.iter().filter(is_description).collect::<Vec<_>>(), files.iter().filter(is_code).collect()]
        {
            two.truncate(2);
            let held: Vec<_> = two.iter().map(|path| fs::read(path).expect("read")).collect();
            assert_ne!(held[0], held[1]);
            for (path, held) in two.iter().rev().zip(held) {
                fs::write(path, held).expect("written");
            }
        }
    };
    swap();
    let said = project.run(["store", "check"]).code(5);
    assert!(said.stdout.ends_with("4 compiled plugins were damaged\n"), "{}", said.stdout);
    project.write("page", "2");
    project.run(BUILD).success();
    swap();
    project.write("page", "3");
    // Another text of the pipeline: what is known of the whole of it is not asked.
    project.edit("release.pipeline", "\"two\"", "\"other\"");
    assert_eq!(project.run(BUILD).success().steps("ran"), ["files", "show"]);
    holds(&project, "at the end");
}

/// The steps of which a run that may have been cut off has told that they ran.
fn ran(told: &str) -> Vec<String> {
    let events = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let ran = events.filter(|event| event["event"] == "step-finished" && event["outcome"] == "ran");
    ran.map(|event| event["step"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_file_that_may_not_grow_is_an_error_of_the_environment_and_the_next_run_is_right() {
    let project = chain();
    let limits = [0, 1, 4, 16, 64, 100, 200, 400, 1_000, 4_000, 16_000];
    for (round, limit) in limits.into_iter().enumerate().take(times(7, limits.len())) {
        project.write("data/0", &format!("round {round}"));
        let pipe = project.command();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f $0 && exec \"$@\"", &limit.to_string()]).arg(pipe.get_program()).args(BUILD);
        command
            .current_dir(project.path())
            .env_clear()
            .envs(pipe.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().expect("ran");
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) => {}
            // A program that writes too much itself is a step that fails.
            Some(5 | 1) => assert!(text.contains("hint"), "{limit} blocks: {text}"),
            code => panic!("{limit} blocks: {code:?}: {text}"),
        }
        holds(&project, &format!("{limit} blocks"));
    }
}

/// The files of a home that a run reads.
fn kept(home: &Path) -> Vec<PathBuf> {
    let (mut files, mut todo) = (Vec::new(), vec![home.join("store"), home.join("components")]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() && !path.ends_with("damaged") && !path.ends_with("tmp") {
                todo.push(path);
            } else if path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed_and_what_it_hurt_is_built_anew_in_the_same_run() {
    let project = chain();
    project.run(BUILD).success();
    let mut random = Random(2);
    for round in 0..times(8, 300) {
        let files = kept(&project.home());
        let path = &files[random.index(files.len())];
        let mut bytes = fs::read(path).expect("read");
        let at = random.index(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("made writable");
        fs::write(path, bytes).expect("written");
        // So that steps run and read what others gave.
        project.write("data/1", &format!("round {round}"));
        let said = project.run(BUILD).success();
        assert_eq!(said.end()["outcome"], "succeeded", "byte {at} of {}", path.display());
    }
    // What was not read meanwhile is found now.
    let _ = project.command().args(["store", "check"]).output().expect("ran");
    holds(&project, "at the end");
}

#[test]
fn what_a_program_made_of_a_laid_out_file_that_rots_is_made_anew_once_a_check_has_found_it() {
    let project = Project::new().file("text", &"whole ".repeat(400_000)).file("other", "1").pipeline(
        "[app]\nname = \"rot\"\n\n[source]\nexclude = [\"release.pipeline\"]\n\n\
         [steps.copy]\nplugin = \"command\"\ninputs = { project = \"source\" }\ngrants = { exec = [\"sh\"] }\n\
         config = { run = \"mkdir out && cp text out\", collect = \"out\" }\n\n\
         [steps.look]\nplugin = \"command\"\ninputs = { project = \"copy\" }\ngrants = { exec = [\"sh\"] }\n\
         config = { run = \"mkdir -p seen && cp text seen\", collect = \"seen\" }\n\n\
         [steps.pick]\nplugin = \"files\"\ninputs = { trees = \"source\" }\nconfig = { include = [\"text\"] }\n",
    );
    project.run(BUILD).success();
    let mut files = kept(&project.home()).into_iter();
    let is_text = |path: &PathBuf| fs::read(path).expect("read").starts_with(b"whole");
    let pooled = files.find(|path| path.to_string_lossy().contains("/pool/files/") && is_text(path));
    let pooled = pooled.expect("the text is laid out");
    let before = pooled.metadata().expect("there");
    let mut bytes = fs::read(&pooled).expect("read");
    bytes[1] ^= 1;
    fs::write(&pooled, bytes).expect("written");
    let file = fs::File::open(&pooled).expect("opened");
    file.set_modified(before.modified().expect("a time")).expect("the time is as it was");
    project.write("other", "2");
    assert_eq!(project.run(BUILD).success().steps("ran"), ["copy", "look"], "what they see has rotted");
    let said = project.run(["store", "check"]).code(5);
    assert!(
        said.stdout.ends_with(
            "1 laid-out files were damaged\n\
             5 results of steps were made before, and where programs had a part in one it is not believed any more: \
             they may have seen those\n"
        ),
        "{}",
        said.stdout
    );
    project.run(["store", "check"]).success();
    let said = project.run(["run", "--no-release"]).success();
    assert!(said.stdout.contains("copy         runs: its programs may have seen a damaged file\n"), "{}", said.stdout);
    assert!(said.stdout.contains("3 steps, 1 cached"), "what runs no program is believed: {}", said.stdout);
    holds(&project, "at the end");
}

#[test]
fn a_check_looks_at_what_is_noted_of_slugs_and_at_foreign_files_too() {
    let project = Project::new().file("Procfile", "web: true\n").pipeline(
        "[app]\nname = \"demo\"\n\n[steps.copy]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
         grants = { exec = [\"sh\"] }\nconfig = { run = \"mkdir out && head -c 3000000 /dev/zero > out/zero\", collect = \"out\" }\n\n\
         [steps.look]\nplugin = \"command\"\ninputs = { project = \"copy\" }\ngrants = { exec = [\"sh\"] }\n\
         config = { run = \"test -e zero\" }\n\n\
         [steps.slug]\nplugin = \"slug\"\ninputs = { project = \"source\", venv = \"source\" }\n",
    );
    project.run(BUILD).success();
    let check = || project.command().args(["store", "check"]).output().expect("ran").stdout;
    let check = || String::from_utf8(check()).expect("text");
    assert!(!check().contains("slugs") && !check().contains("trees held"));
    let within = |place: &str| {
        let entries = fs::read_dir(project.home().join(place)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).next().expect("something in it")
    };
    let record = within("slugs");
    let text = fs::read_to_string(&record).expect("a record");
    let id = text.find("blake3:").expect("an id") + "blake3:".len();
    let other = if text[id..].starts_with('0') { "1" } else { "0" };
    fs::write(&record, [&text[..id], other, &text[id + 1..]].concat()).expect("written");
    let tree = within("store/pool/trees");
    fs::write(tree.join("foreign"), "").expect("written");
    let said = check();
    assert!(said.contains("1 slugs cannot be had any more"), "{said}");
    assert!(said.contains("1 laid-out trees held other names"), "{said}");
    fs::remove_file(project.home().join("store/claims")).expect("removed");
    fs::create_dir(project.home().join("store/claims")).expect("a directory in its place");
    project.run(["store", "check"]).success();
    project.run(BUILD).success();
    assert_eq!(fs::read_to_string(&record).expect("a record").matches(&text[id..id + 64]).count(), 1);
    holds(&project, "at the end");
}

/// Records of steps are gone with what the steps gave, which still has rows in the index.
#[test]
fn what_was_in_a_file_that_is_gone_is_built_anew_in_the_same_run() {
    let project = chain();
    project.run(BUILD).success();
    for place in [None, Some("/nonexistent"), Some("/etc/passwd")] {
        let dir = project.home().join("store/segments");
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            fs::remove_file(&path).expect("removed");
            if let Some(place) = place {
                std::os::unix::fs::symlink(place, &path).expect("a link");
            }
        }
        let said = project.run(BUILD).success();
        assert_eq!(said.end()["outcome"], "succeeded");
        holds(&project, &format!("{place:?}"));
        assert_eq!(project.run(BUILD).success().end()["cached"], CHAIN);
    }
}

#[test]
fn many_runs_at_once_with_garbage_collection_beside_them_do_each_step_once() {
    let project = chain();
    project.run(BUILD).success();
    project.write("data/0", "for all of them");
    let run = |args: &[&str]| {
        let mut command = project.command();
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let runs: Vec<_> = (0..times(8, 50)).map(|_| run(&BUILD)).collect();
    for _ in 0..times(3, 20) {
        let output = run(&["store", "gc", "--max-age", "0"]).wait_with_output().expect("ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut ran = 0;
    for run in runs {
        let output = run.wait_with_output().expect("ran");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        ran += text.lines().filter(|line| line.contains("\"outcome\":\"ran\"")).count();
    }
    assert_eq!(ran, CHAIN);
    holds(&project, "at the end");
}

#[test]
fn what_is_kept_can_be_counted_and_let_go() {
    let project = chain();
    project.run(BUILD).success();
    let stats = |project: &Project| -> serde_json::Value {
        serde_json::from_str(&project.run(["store", "stats", "--json"]).success().stdout).expect("JSON")
    };
    let before = stats(&project);
    assert!(before["actions"].as_u64() >= Some(CHAIN as u64) && before["blob_bytes"].as_u64() > Some(0), "{before}");
    assert!(before["runs"] == 1 && before["run_bytes"].as_u64() > Some(0), "{before}");
    let cleared = project.run(["store", "clear", "--json"]).success().stdout;
    let cleared: serde_json::Value = serde_json::from_str(&cleared).expect("JSON");
    assert!(cleared["freed"].as_u64() > Some(0), "{cleared}");
    let after = stats(&project);
    assert_eq!((after["actions"].as_u64(), after["blobs"].as_u64()), (Some(0), Some(0)), "{after}");
    assert!(after["runs"] == 0 && after["run_bytes"] == 0, "{after}");
    assert_eq!(project.run(BUILD).success().steps("ran").len(), CHAIN);
    project.run(["store", "gc", "--max-size", "much"]).code(2);
}

/// Runs a script as root, or as what a user takes for that, with mounts of its own.
fn script(text: &str) -> bool {
    let own = if is_root() { "--mount" } else { "--map-root-user" };
    Command::new("unshare").args([own, "--mount", "sh", "-euc", text]).status().is_ok_and(|status| status.success())
}

/// A disk image is copied while a run writes to it: what the copy holds is what had reached the disk.
#[test]
#[ignore = "needs root and a loop device, and takes minutes: `make torture`"]
fn a_power_cut_at_any_moment_costs_unfinished_steps_only() {
    let project = chain();
    let scratch = tempfile::tempdir().expect("a directory");
    let mut random = Random(3);
    for round in 0..200 {
        let pause = random.below(900);
        project.write("data/0", &format!("round {round}"));
        let text = format!(
            "cd {scratch}; if [ ! -e disk ]; then truncate -s 256M disk; mkfs.ext4 -q disk; mkdir -p at; fi
             mount -o loop disk at
             cd {project}; export PIPE_HOME={scratch}/at/home
             {pipe} run --no-release --json > {scratch}/log 2>&1 & run=$!
             sleep {pause}; kill -STOP $run 2>/dev/null || true
             cp --sparse=always {scratch}/disk {scratch}/cut
             grep -o '\"step-finished\",\"step\":\"[^\"]*\",\"outcome\":\"ran\"' {scratch}/log > {scratch}/ran || true
             kill -KILL $run 2>/dev/null || true; wait $run 2>/dev/null || true
             sleep 0.2; umount -l {scratch}/at; sync; mv {scratch}/cut {scratch}/disk
             cd {scratch}; mount -o loop disk at; cd {project}
             {pipe} run --no-release --json > {scratch}/log 2>&1 || {{ cat {scratch}/log; exit 1; }}
             if grep -qFf {scratch}/ran {scratch}/log; then cat {scratch}/ran {scratch}/log; exit 1; fi
             {pipe} store check || exit 1
             [ -z \"$(ls {scratch}/at/home/store/tmp)\" ]
             cd /; umount {scratch}/at",
            scratch = scratch.path().display(),
            project = project.path().display(),
            pipe = project.command().get_program().display(),
            pause = format_args!("{}.{:03}", pause / 1000, pause % 1000),
        );
        assert!(script(&text), "round {round}, after {pause} ms");
    }
}

/// Trees of many files are laid out for programs, and laid-out files are not read again before they are used.
#[test]
#[ignore = "needs root and a loop device: `make torture`"]
fn what_was_laid_out_before_a_power_cut_is_on_the_disk_or_made_anew() {
    const FILES: usize = 700;
    let step = |words: &str| {
        format!(
            "[app]\nname = \"many\"\n\n[source]\nexclude = [\"release.pipeline\"]\n\n[steps.count]\nplugin = \"command\"\n\
             inputs = {{ project = \"source\" }}\ngrants = {{ exec = [\"sh\"] }}\n\
             config = {{ run = \"{words} test $(cat data/* | wc -c) = {}\" }}\n",
            FILES * "a file\n".len()
        )
    };
    let project = Project::new().pipeline(&step("true;"));
    (0..FILES).for_each(|number| project.write(&format!("data/{number}"), "a file\n"));
    project.write("again.pipeline", &step("true; true;"));
    let scratch = tempfile::tempdir().expect("a directory");
    let text = format!(
        "cd {scratch}; truncate -s 512M disk; mkfs.ext4 -q disk; mkdir at; mount -o loop disk at
         cd {project}; export PIPE_HOME={scratch}/at/home; {pipe} run --no-release
         cp --sparse=always {scratch}/disk {scratch}/cut; umount {scratch}/at; mount -o loop {scratch}/cut {scratch}/at
         {pipe} run --no-release again.pipeline; cd /; umount {scratch}/at",
        scratch = scratch.path().display(),
        project = project.path().display(),
        pipe = project.command().get_program().display(),
    );
    assert!(script(&text));
}

#[test]
fn a_slug_whose_programs_may_have_seen_damage_is_marked_and_released_with_a_warning() {
    let project = small::project();
    let port = small::free_port();
    small::release_to(
        &project,
        &format!("\n[targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\naddress = \"127.0.0.1:{port}\"\n"),
    );
    project.run(["run"]).success();
    let doubted = "may have seen a damaged file";
    let listed = || project.run(["slug", "list"]).success().stdout.contains(doubted);
    let released = || {
        let said = project.run(["release", "staging"]).success();
        (said.stdout + &said.stderr).contains(doubted)
    };
    assert!(!listed() && !released());
    // What a check leaves that finds a laid-out file damaged.
    fs::write(project.home().join("store/believed-since"), "1").expect("written");
    assert!(listed() && released());
    assert!(project.run(["slug", "list", "--json"]).success().stdout.contains("\"doubted\": true"));
    project.run(["run", "--no-release"]).success();
    assert!(!listed() && !released());
}

#[test]
fn who_only_looks_is_answered_where_nothing_can_be_written() {
    let project = Project::new().file("Procfile", "web: true\n").pipeline(
        "[app]\nname = \"demo\"\n\n[steps.files]\nplugin = \"files\"\ninputs = { trees = \"source\" }\n\n\
         [steps.slug]\nplugin = \"slug\"\ninputs = { project = \"files\", venv = \"files\" }\n",
    );
    let slug = project.run(BUILD).success().end()["slug"].as_str().expect("a slug").to_owned();
    project.write("new", "to be read");
    let scratch = tempfile::tempdir().expect("a directory");
    fs::create_dir(scratch.path().join("tmp")).expect("a directory");
    let read_only = |text: &str| {
        let (home, scratch) = (project.home(), scratch.path().display());
        let home = home.display();
        script(&format!(
            "pipe() {{ {} \"$@\"; }}; export PIPE_HOME={home} TMPDIR={scratch}/tmp; cd {}
             mount --bind {home} {home}; mount -o remount,ro,bind {home}
             {text}
             [ -z \"$(ls {scratch}/tmp)\" ]",
            project.command().get_program().display(),
            project.path().display(),
        ))
    };
    assert!(read_only(&format!(
        "pipe plan | grep -qF 'runs: `new` in `trees` was added'
         pipe why files | grep -qF '`new` in `trees` was added'
         pipe store stats; pipe store check; pipe runs | grep -q succeeded; pipe graph > /dev/null
         pipe slug list | grep -q {slug}; pipe slug show {slug}; pipe slug export {slug} -o {}/slug.tar.zst
         if pipe run --no-release 2> $TMPDIR/../said; then exit 1; fi; grep -q 'hint: make .* writable' $TMPDIR/../said",
        scratch.path().display()
    )));
    let segments = fs::read_dir(project.home().join("store/segments")).expect("a directory");
    let segment = segments.map(|entry| entry.expect("an entry").path()).next().expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).expect("written");
    assert!(read_only(
        "if pipe store check > $TMPDIR/../said 2>&1; then exit 1; fi; grep -qF 'stays where it is' $TMPDIR/../said"
    ));
    project.run(["store", "check"]).code(5);
    project.run(["store", "check"]).success();
    for entry in fs::read_dir(project.home().join("components")).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    assert!(read_only("pipe plan"), "a plugin that is not compiled yet is compiled for the moment");
}

/// On a full disk what was done stays done, who only looks is answered, and room can be made.
#[test]
fn a_full_disk_hinders_nobody_who_has_nothing_to_write_and_room_can_be_made() {
    let project = chain();
    let scratch = tempfile::tempdir().expect("a directory");
    project.run(BUILD).success();
    let text = format!(
        "cd {project}; mkdir {scratch}/at; mount -t tmpfs -o size=64M none {scratch}/at
         cp -a {home}/components {scratch}/at/; export PIPE_HOME={scratch}/at
         {pipe} run --no-release --json > {scratch}/log
         head -c 100M /dev/zero > {scratch}/at/ballast 2> {scratch}/full || true
         {pipe} run --no-release --json > {scratch}/log
         [ $(grep -c '\"outcome\":\"cached\"' {scratch}/log) = {CHAIN} ]
         for look in plan 'why s0' 'store stats' 'store check'; do {pipe} $look > {scratch}/log; done
         echo changed > data/0
         code=0; {pipe} run --no-release > {scratch}/log 2>&1 || code=$?
         [ $code = 5 ] && grep -q 'pipe store gc' {scratch}/log
         {pipe} store gc --max-age 0 > {scratch}/log
         {pipe} run --no-release > {scratch}/log",
        scratch = scratch.path().display(),
        home = project.home().display(),
        project = project.path().display(),
        pipe = project.command().get_program().display(),
    );
    assert!(script(&text), "{}", fs::read_to_string(scratch.path().join("log")).unwrap_or_default());
}

#[test]
fn a_program_that_fails_on_a_full_disk_is_no_step_that_failed() {
    let step = |script: &str| {
        format!(
            "[app]\nname = \"filled\"\n\n[steps.fills]\nplugin = \"command\"\ngrants = {{ exec = [\"sh\"] }}\n\
             config = {{ run = \"{script}\" }}\nlimits = {{ output = \"1GiB\" }}\n"
        )
    };
    let project = Project::new().pipeline(&step("echo on; cat /dev/zero > zeros"));
    project.write("tidy.pipeline", &step("cat /dev/zero > zeros || sleep 1; rm zeros; echo less is good enough"));
    project.write("fails.pipeline", &step("exit 3"));
    let scratch = tempfile::tempdir().expect("a directory");
    let text = format!(
        "cd {project}; mkdir {scratch}/at; mount -t tmpfs -o size=64M none {scratch}/at; export PIPE_HOME={scratch}/at
         code=0; {pipe} run --no-release > {scratch}/log 2>&1 || code=$?
         [ $code = 5 ] && grep -q '| on' {scratch}/log && grep -qi 'no space left on device$' {scratch}/log
         grep -q 'pipe store gc' {scratch}/log
         code=0; {pipe} run --no-release tidy.pipeline > {scratch}/log 2>&1 || code=$?
         [ $code = 5 ] && grep -q 'less is good enough' {scratch}/log
         code=0; {pipe} run --no-release fails.pipeline > {scratch}/log 2>&1 || code=$?
         [ $code = 1 ]",
        scratch = scratch.path().display(),
        project = project.path().display(),
        pipe = project.command().get_program().display(),
    );
    assert!(script(&text), "{}", fs::read_to_string(scratch.path().join("log")).unwrap_or_default());
}

/// The disk is full at any write, or cannot be written at all.
#[test]
#[ignore = "needs root, and takes minutes: `make torture`"]
fn a_full_or_read_only_disk_is_an_error_with_a_remedy_and_the_next_run_is_right() {
    let project = chain();
    let scratch = tempfile::tempdir().expect("a directory");
    project.run(BUILD).success();
    for free in (0..12_000).step_by(100) {
        let text = format!(
            "mkdir -p {scratch}/at; mount -t tmpfs -o size=64M none {scratch}/at
             cp -a {home}/components {scratch}/at/; export PIPE_HOME={scratch}/at; cd {project}
             avail=$(df -k --output=avail {scratch}/at | tail -1)
             head -c $(( (avail - {free}) * 1024 )) /dev/zero > {scratch}/at/ballast
             code=0; {pipe} run --no-release > {scratch}/log 2>&1 || code=$?
             case $code in 0) ;; 5|1) grep -q hint {scratch}/log ;; *) cat {scratch}/log; exit 1 ;; esac
             rm {scratch}/at/ballast
             {pipe} run --no-release > {scratch}/log 2>&1 || {{ cat {scratch}/log; exit 1; }}
             {pipe} store check
             mount -o remount,ro {scratch}/at
             code=0; {pipe} run --no-release > {scratch}/log 2>&1 || code=$?
             [ $code = 5 ] && grep -q hint {scratch}/log",
            scratch = scratch.path().display(),
            home = project.home().display(),
            project = project.path().display(),
            pipe = project.command().get_program().display(),
        );
        assert!(script(&text), "{free} KiB free");
    }
}
