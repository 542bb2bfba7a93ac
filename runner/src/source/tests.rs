use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::known::Identity;
use super::read::{Named, read_unchanged};
use super::*;
use crate::tree::Entry;

struct Project {
    home: tempfile::TempDir,
    dir: tempfile::TempDir,
    exclude: Vec<String>,
}

impl Project {
    fn new() -> Self {
        let dir = || tempfile::tempdir().expect("a directory");
        Self { home: dir(), dir: dir(), exclude: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is in the project")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Makes all files look as if they had been written an hour ago.
    fn settle(&self) {
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        for name in self.names() {
            // Directories and links keep the time that they have.
            if let Ok(file) = File::options().write(true).open(self.path(&name)) {
                file.set_modified(hour_ago).expect("a time");
            }
        }
        // The time of the last change of an inode cannot be set, only waited for.
        std::thread::sleep(Duration::from_millis(150));
    }

    fn directory(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).expect("a directory");
        self
    }

    fn snapshot(&self) -> Result<SourceSnapshot, SourceError> {
        let store = Store::open(self.home.path()).expect("a store");
        let snapshot = snapshot(self.dir.path(), &self.exclude, &store);
        store.flush().expect("a store");
        snapshot
    }

    /// All files, links and empty directories (with a `/` behind) of a snapshot.
    fn names(&self) -> Vec<String> {
        let store = Store::open(self.home.path()).expect("a store");
        let snapshot = snapshot(self.dir.path(), &self.exclude, &store).expect("a snapshot");
        let mut names = Vec::new();
        list(&store, &snapshot.digest, "", &mut names);
        names
    }
}

fn list(store: &Store, digest: &Digest, prefix: &str, names: &mut Vec<String>) {
    let tree = store.tree(digest).expect("a tree");
    if tree.is_empty() {
        names.push(prefix.to_owned());
    }
    for (name, entry) in tree.entries() {
        match entry {
            Entry::Tree { digest } => list(store, digest, &format!("{prefix}{name}/"), names),
            _ => names.push(format!("{prefix}{name}")),
        }
    }
}

#[test]
fn links_modes_hidden_and_empty_directories_survive() {
    let project = Project::new().file("run.sh", "#!/bin/sh").file(".vite/manifest.json", "{}").directory("logs/empty");
    fs::set_permissions(project.path("run.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("nowhere/at/all", project.path("dangling")).expect("a link");
    symlink("logs", project.path("to-directory")).expect("a link");

    assert_eq!(project.names(), [".vite/manifest.json", "dangling", "logs/empty/", "run.sh", "to-directory"]);
    let store = Store::open(project.home.path()).expect("a store");
    let snapshot = snapshot(project.dir.path(), &[], &store).expect("a snapshot");
    let tree = store.tree(&snapshot.digest).expect("a tree");
    assert!(matches!(tree.get("run.sh"), Some(Entry::File { executable: true, .. })));
    assert_eq!(tree.get("dangling"), Some(&Entry::Symlink { target: "nowhere/at/all".to_owned() }));
}

#[test]
fn gitignore_is_honoured_at_every_level_and_can_keep_again() {
    let project = Project::new()
        .file(".gitignore", "*.log\n/build/\nmedia/*\n!media/.gitkeep\n")
        .file("a.log", "")
        .file("build/x", "")
        .file("app/build/y", "")
        .file("app/.gitignore", "!keep.log\nlocal.py\n")
        .file("app/keep.log", "")
        .file("app/other.log", "")
        .file("app/local.py", "")
        .file("local.py", "")
        .file("media/.gitkeep", "")
        .file("media/upload.jpg", "");
    let kept = [".gitignore", "app/.gitignore", "app/build/y", "app/keep.log", "local.py", "media/.gitkeep"];
    assert_eq!(project.names(), kept);
}

#[test]
fn what_git_tracks_is_kept_in_spite_of_gitignore_and_nothing_beside_it() {
    let project = Project::new()
        .file(".gitignore", "lib/\nbuild/\n*.map\n")
        .file("lib/kept.js", "")
        .file("lib/generated.js", "")
        .file("lib/deep/kept.js", "")
        .file("lib/deeper/generated.js", "")
        .file("build/generated.js", "")
        .file("web/a.js", "")
        .file("web/a.js.map", "")
        .file("web/b.js.map", "");
    assert_eq!(project.names(), [".gitignore", "web/a.js"]);
    let git = |arguments: &[&str]| git(project.dir.path(), arguments);
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["add", "-f", "lib/kept.js", "lib/deep/kept.js", "web/a.js.map"]);
    let tracked = [".gitignore", "lib/deep/kept.js", "lib/kept.js", "web/a.js", "web/a.js.map"];
    assert_eq!(project.names(), tracked);
    // The project's own word is stronger.
    project.write(".pipeignore", "!/lib/deeper/\n!/lib/deeper/**\n/lib/deep\n");
    let own = [".gitignore", ".pipeignore", "lib/deeper/generated.js", "lib/kept.js", "web/a.js", "web/a.js.map"];
    assert_eq!(project.names(), own);
    fs::write(project.path(".git/index"), "DIRC").expect("a file");
    assert!(matches!(project.snapshot(), Err(SourceError::Index(_))));
}

fn git(dir: &Path, arguments: &[&str]) {
    let done = std::process::Command::new("git").arg("-C").arg(dir).args(arguments).output().expect("git");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_repository_within_has_its_own_rules() {
    let project = Project::new()
        .file(".gitignore", "*.map\n")
        .file("a.map", "")
        .file("theme/.gitignore", "*.css\n/build/\n")
        .file("theme/a.map", "")
        .file("theme/generated.css", "")
        .file("theme/tracked.css", "")
        .file("theme/build/x", "")
        .file("theme/deep/b.css", "");
    let theme = project.path("theme");
    git(&theme, &["init", "-q"]);
    git(&theme, &["add", "-f", "tracked.css"]);
    let kept = [".gitignore", "theme/.gitignore", "theme/a.map", "theme/tracked.css"];
    assert_eq!(project.names(), kept, "of a source that is in no repository");
    git(project.dir.path(), &["init", "-q"]);
    assert_eq!(project.names(), kept);
    git(&theme, &["add", "-f", "generated.css"]);
    let kept = [".gitignore", "theme/.gitignore", "theme/a.map", "theme/generated.css", "theme/tracked.css"];
    assert_eq!(project.names(), kept, "though no directory has changed");
    project.write(".pipeignore", "*.css\n");
    assert_eq!(project.names(), [".gitignore", ".pipeignore", "theme/.gitignore", "theme/a.map"]);
    project.write(".gitignore", "theme/\n");
    assert_eq!(project.names(), [".gitignore", ".pipeignore", "a.map"]);
}

#[test]
fn what_a_submodule_tracks_is_tracked_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let [inner, middle] = ["inner", "middle"].map(|name| dir.path().join(name));
    let project = Project::new().file(".gitignore", "lib/\n");
    let outer = project.dir.path();
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "-f"];
    for (repository, below) in [(&*inner, None), (&middle, Some(&inner)), (outer, Some(&middle))] {
        fs::create_dir_all(repository).expect("a directory");
        git(repository, &["init", "--quiet"]);
        fs::write(repository.join("file"), "").expect("written");
        if let Some(below) = below {
            git(repository, &[&add[..], &[below.to_str().expect("a text"), "lib/sub"]].concat());
        }
        git(repository, &["add", "."]);
        git(repository, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a"]);
    }
    git(outer, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive"]);
    project.write("lib/other", "");
    let own = [".gitignore", ".gitmodules", "file"];
    let submodules = ["lib/sub/.gitmodules", "lib/sub/file", "lib/sub/lib/sub/file"];
    assert_eq!(project.names(), [&own[..], &submodules].concat());
}

#[test]
fn pipeignore_has_the_last_word_over_gitignore() {
    let project = Project::new()
        .file(".gitignore", "settings_local.py\ndist\n")
        .file("web/.gitignore", "*.js\n")
        .file(".pipeignore", "!settings_local.py\n!web/*.js\ndocs/\n")
        .file("settings_local.py", "")
        .file("dist", "")
        .file("web/a.js", "")
        .file("docs/index.md", "");
    assert_eq!(project.names(), [".gitignore", ".pipeignore", "settings_local.py", "web/.gitignore", "web/a.js"]);
}

/// Directories that have not changed are not listed again; what is in them may have.
#[test]
fn what_changes_in_a_directory_that_was_left_out_or_is_deep_is_seen() {
    let project = Project::new()
        .file("cache/.gitignore", "*\n!kept\n")
        .file("cache/a", "")
        .file("env/pyvenv.cfg", "")
        .file("env/lib/a", "")
        .file("app/deep/a", "")
        .directory("app/empty");
    project.settle();
    for _ in 0..3 {
        assert_eq!(project.names(), ["app/deep/a", "app/empty/"]);
    }
    project.write("cache/kept", "");
    project.write("app/deep/b", "");
    project.write("app/empty/c", "");
    fs::remove_file(project.path("env/pyvenv.cfg")).expect("removed");
    for _ in 0..3 {
        assert_eq!(project.names(), ["app/deep/a", "app/deep/b", "app/empty/c", "cache/kept", "env/lib/a"]);
        project.settle();
    }
    fs::remove_file(project.path("app/empty/c")).expect("removed");
    fs::rename(project.path("app/deep/b"), project.path("app/deep/a")).expect("renamed");
    fs::remove_dir_all(project.path("env")).expect("removed");
    symlink("app", project.path("env")).expect("a link");
    assert_eq!(project.names(), ["app/deep/a", "app/empty/", "cache/kept", "env"]);
}

#[test]
fn rules_that_change_are_asked_again_about_what_is_known() {
    let mut project = Project::new().file("a.log", "").file("app/b.log", "").file("app/deep/c.log", "");
    assert_eq!(project.names(), ["a.log", "app/b.log", "app/deep/c.log"]);
    project.write("app/.gitignore", "*.log\n");
    assert_eq!(project.names(), ["a.log", "app/.gitignore"]);
    project.write("app/deep/.pipeignore", "!c.log\n");
    assert_eq!(project.names(), ["a.log", "app/.gitignore", "app/deep/.pipeignore", "app/deep/c.log"]);
    project.exclude = vec!["a.log".to_owned(), "c.log".to_owned()];
    assert_eq!(project.names(), ["app/.gitignore", "app/deep/.pipeignore"]);
    fs::remove_file(project.path("app/.gitignore")).expect("removed");
    assert_eq!(project.names(), ["app/b.log", "app/deep/.pipeignore"]);
    project.exclude.clear();
    assert_eq!(project.names(), ["a.log", "app/b.log", "app/deep/.pipeignore", "app/deep/c.log"]);
    symlink(project.home.path().join("later"), project.path("app/.gitignore")).expect("a link");
    project.settle();
    for _ in 0..2 {
        assert!(project.names().contains(&"app/b.log".to_owned()));
    }
    fs::write(project.home.path().join("later"), "b.log\n").expect("a file");
    assert!(!project.names().contains(&"app/b.log".to_owned()));
}

#[test]
fn the_pipeline_can_exclude_more_and_keep_more() {
    let mut project = Project::new().file(".gitignore", "a\n").file("a", "").file("b/c", "").file("c", "");
    project.exclude = vec!["!a".to_owned(), "/c".to_owned()];
    assert_eq!(project.names(), [".gitignore", "a", "b/c"]);
}

#[test]
fn what_version_control_and_python_make_is_left_out() {
    let project = Project::new()
        .file(".git/config", "")
        .file("sub/.git", "gitdir: elsewhere")
        .file("sub/a.py", "")
        .file("sub/__pycache__/a.cpython-311.pyc", "")
        .file("env/pyvenv.cfg", "home = /usr/bin")
        .file("env/lib/x.py", "");
    assert_eq!(project.names(), ["sub/a.py"]);
}

#[test]
fn a_directory_of_only_ignored_files_is_left_out_and_an_empty_one_is_not() {
    let project = Project::new().file(".pytest_cache/.gitignore", "*").file(".pytest_cache/v/x", "").directory("logs");
    assert_eq!(project.names(), ["logs/"]);
}

#[test]
fn the_repository_around_the_source_has_a_say_and_what_is_around_that_has_none() {
    let project = Project::new()
        .file(".gitignore", "*.py\n")
        .file("repository/.git/HEAD", "")
        .file("repository/.git/info/exclude", "*.txt\n")
        .file("repository/.gitignore", "*.log\n/backend/generated\n")
        .file("repository/backend/a.py", "")
        .file("repository/backend/b.txt", "")
        .file("repository/backend/c.log", "")
        .file("repository/backend/generated/d", "");
    let store = Store::open(project.home.path()).expect("a store");
    let snapshot = snapshot(&project.path("repository/backend"), &[], &store).expect("a snapshot");
    let mut names = Vec::new();
    list(&store, &snapshot.digest, "", &mut names);
    assert_eq!(names, ["a.py", "b.txt"]);
}

#[test]
fn the_same_files_give_the_same_digest_anywhere() {
    let project = || Project::new().file("a/b", "1").file("c", "2").snapshot().expect("a snapshot").digest;
    assert_eq!(project(), project());
}

#[test]
fn an_unchanged_project_is_not_read_again_and_a_changed_file_is() {
    let project = Project::new().file("a", "1").file("b", "2");
    project.settle();
    let first = project.snapshot().expect("a snapshot");
    let again = project.snapshot().expect("a snapshot");
    assert_eq!((again.digest, again.files, again.read), (first.digest, 2, 0));

    project.write("b", "3");
    let changed = project.snapshot().expect("a snapshot");
    assert_eq!(changed.read, 1);
    assert_ne!(changed.digest, first.digest);
}

#[test]
fn a_file_written_just_now_is_read_again() {
    let project = Project::new().file("a", "1");
    let first = project.snapshot().expect("a snapshot");
    project.write("a", "2");
    let second = project.snapshot().expect("a snapshot");
    assert_ne!(first.digest, second.digest);
    assert_eq!(second.read, 1);
}

/// The bytes of `a` as the store reads them, after another snapshot.
fn bytes_of_a(project: &Project) -> Vec<u8> {
    let store = Store::open(project.home.path()).expect("a store");
    let snapshot = snapshot(project.dir.path(), &[], &store).expect("a snapshot");
    let tree = store.tree(&snapshot.digest).expect("a tree");
    let Some(Entry::File { digest, .. }) = tree.get("a") else { panic!("there is no file `a`") };
    store.get(digest).expect("its bytes")
}

#[test]
fn an_edit_of_the_same_size_with_its_time_put_back_is_seen() {
    let project = Project::new().file("a", "one");
    project.settle();
    assert_eq!(bytes_of_a(&project), b"one");
    let before = fs::metadata(project.path("a")).expect("a file").modified().expect("a time");
    project.write("a", "two");
    File::options().write(true).open(project.path("a")).expect("a file").set_modified(before).expect("a time");
    assert_eq!(bytes_of_a(&project), b"two");
}

#[test]
fn edits_within_one_tick_of_the_clock_are_seen() {
    let project = Project::new().file("a", "0000");
    for edit in 1..200_u32 {
        project.write("a", &format!("{edit:04}"));
        assert_eq!(bytes_of_a(&project), format!("{edit:04}").as_bytes());
    }
}

#[test]
fn a_file_of_the_same_size_and_times_in_its_place_is_seen() {
    let project = Project::new().file("a", "one").file("b", "two");
    project.settle();
    let time = fs::metadata(project.path("a")).expect("a file").modified().expect("a time");
    File::options().write(true).open(project.path("b")).expect("a file").set_modified(time).expect("a time");
    assert_eq!(bytes_of_a(&project), b"one");
    fs::rename(project.path("b"), project.path("a")).expect("renamed");
    assert_eq!(bytes_of_a(&project), b"two");
}

#[test]
fn files_that_change_their_names_with_each_other_are_seen() {
    let project = Project::new().file("a", "one").file("b", "two");
    project.settle();
    assert_eq!(bytes_of_a(&project), b"one");
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(project.path(from), project.path(to)).expect("renamed");
    }
    assert_eq!(bytes_of_a(&project), b"two");
}

#[test]
fn a_change_of_the_mode_alone_and_a_link_that_is_swapped_are_seen() {
    let project = Project::new().file("a", "one").file("d/x", "");
    symlink("a", project.path("link")).expect("a link");
    project.settle();
    let first = project.snapshot().expect("a snapshot").digest;
    fs::set_permissions(project.path("a"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let executable = project.snapshot().expect("a snapshot").digest;
    assert_ne!(executable, first);
    fs::remove_file(project.path("link")).expect("removed");
    symlink("b", project.path("link")).expect("a link");
    let swapped = project.snapshot().expect("a snapshot").digest;
    assert_ne!(swapped, executable);
    fs::remove_dir_all(project.path("d")).expect("removed");
    symlink("a", project.path("d")).expect("a link");
    assert_ne!(project.snapshot().expect("a snapshot").digest, swapped);
}

#[test]
fn a_file_from_the_future_is_read_every_time() {
    let project = Project::new().file("a", "one");
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    File::options().write(true).open(project.path("a")).expect("a file").set_modified(tomorrow).expect("a time");
    for _ in 0..2 {
        assert_eq!(project.snapshot().expect("a snapshot").read, 1);
    }
}

#[test]
fn what_is_known_is_enough_for_a_store_that_has_nothing() {
    let project = Project::new().file("a", "1");
    project.settle();
    let first = project.snapshot().expect("a snapshot");
    for lost in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(project.home.path().join("store").join(lost));
    }
    assert_eq!(project.snapshot().expect("a snapshot"), SourceSnapshot { read: 0, ..first });
    assert_eq!(bytes_of_a(&project), b"1");
}

#[test]
fn a_tree_that_is_kept_takes_in_the_files_that_it_names_and_no_others() {
    let project = Project::new().file("a", "1").file("b", "2").file("d/c", "3");
    let store = Store::open(project.home.path()).expect("a store");
    let snapshot = snapshot(project.dir.path(), &[], &store).expect("a snapshot");
    let mut builder = crate::store::TreeBuilder::new(&store, None).expect("a builder");
    for path in ["a", "d"] {
        let entry = store.lookup(&snapshot.digest, path).expect("read").expect("there");
        builder.put(path, entry).expect("put");
    }
    let part = builder.finish().expect("a tree");
    store.flush().expect("flushed");
    drop(store);
    fs::remove_dir_all(project.dir.path()).expect("gone");
    let store = Store::open(project.home.path()).expect("a store");
    let mut names = Vec::new();
    list(&store, &part, "", &mut names);
    assert_eq!(names, ["a", "d/c"]);
    let read = |text: &str| store.get(&Digest::of(text.as_bytes()));
    assert_eq!(read("3").expect("taken in"), b"3");
    assert!(matches!(read("2"), Err(StoreError::Missing(_))));
}

#[test]
fn a_file_that_changed_after_the_snapshot_is_refused_by_name() {
    let project = Project::new().file("a", "1");
    project.settle();
    project.snapshot().expect("a snapshot");
    let store = Store::open(project.home.path()).expect("a store");
    snapshot(project.dir.path(), &[], &store).expect("a snapshot");
    project.write("a", "2");
    let error = store.get(&Digest::of(b"1")).expect_err("it is gone");
    assert_eq!(error.to_string(), format!("`{}` was changed while the run used it", project.path("a").display()));
    assert!(error.hint().is_some());
}

fn named(path: &Path) -> Named<'_> {
    Named { fd: nix::fcntl::AT_FDCWD, dir: Path::new(""), name: path.as_os_str() }
}

fn seen(path: &Path) -> Identity {
    named(path).look().expect("a look").expect("a file")
}

#[test]
fn a_file_that_changes_once_while_it_is_read_is_read_anew() {
    let project = Project::new().file("a", "old");
    let path = project.path("a");
    let mut reads = 0;
    let seen = seen(&path);
    let read = read_unchanged(named(&path), seen, |mut file, _| {
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(SourceError::io("read", &path))?;
        reads += 1;
        if reads == 1 {
            project.write("a", "much newer");
        }
        Ok(text)
    });
    assert_eq!(read.expect("it held still").expect("it is there").1, "much newer");
}

#[test]
fn a_file_that_keeps_changing_is_refused_by_name() {
    let project = Project::new().file("a", "");
    let path = project.path("a");
    let mut reads = 0;
    let seen = seen(&path);
    let error = read_unchanged(named(&path), seen, |_, _| {
        reads += 1;
        project.write("a", &"x".repeat(reads));
        Ok(())
    });
    let error = error.expect_err("it never held still");
    assert_eq!(error.to_string(), format!("`{}` changed while it was read", path.display()));
    assert!(error.hint().is_some());
}

#[test]
fn a_file_that_another_is_put_in_place_of_is_noticed() {
    let project = Project::new().file("a", "1").file("b", "2");
    let mut reads = 0;
    let seen = seen(&project.path("a"));
    let read = read_unchanged(named(&project.path("a")), seen, |_, size| {
        reads += 1;
        if reads == 1 {
            fs::rename(project.path("b"), project.path("a")).expect("a new file");
        }
        Ok(size)
    });
    assert!(read.expect("it held still").is_some());
    assert_eq!(reads, 2);
}

#[test]
fn what_is_no_file_is_refused_by_name_and_can_be_ignored() {
    let project = Project::new();
    let _listener = UnixListener::bind(project.path("app.sock")).expect("a socket");
    let error = project.snapshot().expect_err("a socket cannot be kept");
    assert!(error.to_string().ends_with("app.sock` is a socket"), "{error}");
    project.write(".pipeignore", "*.sock\n");
    assert_eq!(project.names(), [".pipeignore"]);
}

#[test]
fn names_that_are_not_text_are_refused_by_name() {
    let project = Project::new();
    fs::write(project.dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.py")), "").expect("a file");
    let error = project.snapshot().expect_err("the name cannot be kept");
    assert!(error.to_string().contains("caf\u{fffd}.py` is not UTF-8"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let project = Project::new();
    let store = Store::open(project.home.path()).expect("a store");
    let error = snapshot(&project.path("missing"), &[], &store).expect_err("there is none");
    assert!(error.to_string().ends_with("missing` is not a directory"), "{error}");
}

#[test]
fn a_wrong_pattern_of_pipes_own_is_refused() {
    let project = Project::new().file(".pipeignore", "a{b\n");
    let error = project.snapshot().expect_err("the pattern cannot be read");
    assert!(matches!(error, SourceError::Pattern { .. }), "{error}");
}

#[test]
fn a_directory_that_is_too_deep_is_told_of() {
    let project = Project::new().file(&format!("{}f", "d/".repeat(DEEPEST - 1)), "");
    assert_eq!(project.snapshot().expect("a snapshot").files, 1);
    project.write(&format!("{}f", "d/".repeat(DEEPEST + 1)), "");
    let error = project.snapshot().expect_err("too deep");
    assert!(matches!(&error, SourceError::TooDeep(path) if path.ends_with("d/d")), "{error}");
}
