//! What a store promises, tried on a real directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;
use crate::archive;
use crate::plugin::{Code, Failure};
use crate::tree::Entry;

mod faults;
mod garbage;
mod together;

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    (home, store)
}

fn file(store: &Store, text: &str) -> Entry {
    Entry::File { digest: store.put(text.as_bytes()).expect("a blob"), executable: false }
}

#[test]
fn small_and_large_blobs_come_back_before_and_after_a_flush() {
    let (home, store) = store();
    for size in [0, 1, 4096, (1 << 20) - 1, 1 << 20, 3 << 20] {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let digest = store.put(&bytes).expect("kept");
        assert_eq!(store.get(&digest).expect("there"), bytes, "{size}");
        assert_eq!(store.size(&digest).expect("there"), bytes.len() as u64);
        store.put_action(&digest, b"record", &[digest]).expect("recorded");
        store.flush().expect("flushed");
        let other = Store::open(home.path()).expect("a second handle");
        assert_eq!(other.get(&digest).expect("there"), bytes, "{size}");
        assert_eq!(other.action(&digest).expect("read").expect("known"), b"record");
    }
}

#[test]
fn what_was_not_flushed_is_not_promised_to_others() {
    let (home, store) = store();
    let digest = store.put(b"not yet").expect("kept");
    assert!(store.contains(&digest));
    assert!(!Store::open(home.path()).expect("a second handle").contains(&digest));
}

#[test]
fn what_is_promised_while_another_reads_everything_stays() {
    let (home, store) = store();
    let before = store.put(b"before").expect("kept");
    store.put_action(&before, b"first", &[before]).expect("recorded");
    store.flush().expect("flushed");
    let root = home.path().join("store");
    let mut survey = Survey::of(&root).expect("read");

    let large = store.put(&vec![7; 2 << 20]).expect("kept");
    let mut tree = Tree::default();
    tree.insert("meanwhile", file(&store, "meanwhile")).expect("a name");
    tree.insert("before", Entry::File { digest: before, executable: false }).expect("a name");
    let tree = store.put_tree(&tree).expect("kept");
    store.put_action(&large, b"second", &[tree, large]).expect("recorded");
    store.put_action(&before, b"again", &[before]).expect("recorded");
    store.flush().expect("flushed");

    let taken_back = survey.write(&Files::of(&root), &store.0.index, &[]).expect("written");
    assert_eq!(taken_back, TakenBack::default());
    let other = Store::open(home.path()).expect("a second handle");
    assert_eq!(other.action(&large).expect("read").expect("known"), b"second");
    assert_eq!(other.action(&before).expect("read").expect("known"), b"again");
    assert_eq!(other.get(&Digest::of(b"meanwhile")).expect("there"), b"meanwhile");
    assert_eq!(other.get(&large).expect("there").len(), 2 << 20);
    assert_eq!(other.tree(&tree).expect("there").entries().count(), 2);
}

#[test]
fn what_was_never_kept_is_not_called_missing() {
    let (home, store) = store();
    assert!(store.recall(&Digest::of(b"a directory of long ago")).is_none());
    assert!(!Store::is_damaged(home.path()));
}

#[test]
fn a_directory_survives_the_way_in_and_out() {
    let (home, store) = store();
    let dir = home.path().join("project");
    fs::create_dir_all(dir.join("empty/.hidden")).expect("made");
    fs::create_dir_all(dir.join("a")).expect("made");
    fs::write(dir.join("a/run"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(dir.join("a/run"), fs::Permissions::from_mode(0o755)).expect("set");
    fs::write(dir.join("a/same"), "x").expect("written");
    fs::write(dir.join("a/too"), "x").expect("written");
    symlink("../nowhere", dir.join("a/link")).expect("linked");
    let tree = store.import(&dir).expect("imported");
    let out = store.lay_out(&tree).expect("laid out");
    assert_eq!(store.import(&out).expect("imported again"), tree);
    assert_eq!(fs::read_link(out.join("a/link")).expect("a link").to_str(), Some("../nowhere"));
    assert_eq!(store.lay_out(&tree).expect("laid out"), out);
}

#[test]
fn a_directory_that_is_not_kept_in_time_is_given_up() {
    let (home, store) = store();
    let dir = home.path().join("out");
    fs::create_dir_all(dir.join("a/b")).expect("made");
    let error = store.wanted(for_millis(0)).import(&dir).expect_err("the time is up");
    assert!(matches!(&error, StoreError::TooLate(_)), "{error:?}");
    assert_eq!(Failure::from(error).code, Code::TimedOut);
    store.import(&dir).expect("kept");
    // Hours of reading.
    fs::File::create(dir.join("a/b/long")).and_then(|file| file.set_len(1 << 43)).expect("a hole");
    let error = store.wanted(for_millis(100)).import(&dir).expect_err("the time is up");
    assert!(matches!(&error, StoreError::TooLate(_)), "{error:?}");
}

fn for_millis(millis: u64) -> Until {
    let limit = Duration::from_millis(millis);
    Until::default().within(limit, Instant::now() + limit)
}

/// A directory of 100, each of 100 directories, each of 100 files: few that are many, and all of them allowed.
fn million(store: &Store) -> Digest {
    let entry = file(store, "text");
    let all = |entry: Entry| {
        let mut tree = Tree::default();
        (0..100).for_each(|number| tree.insert(&format!("name-{number:02}"), entry.clone()).expect("a name"));
        store.put_tree(&tree).expect("kept")
    };
    (0..2).fold(all(entry), |digest, _| all(Entry::Tree { digest }))
}

type Work<'a> = &'a dyn Fn(&Store) -> Option<Failure>;

#[test]
fn work_that_is_no_longer_wanted_ends_soon_and_leaves_nothing_in_use() {
    let (_home, store) = store();
    let tree = million(&store);
    let all = Globs::new(&["**".to_owned()], &["nothing".to_owned()]).expect("globs");
    let into = || store.writer().expect("a writer");
    let works: [(&str, Work<'_>); 5] = [
        ("walk", &|store| store.walk(&tree).err().map(Failure::from)),
        ("glob", &|store| store.glob(&tree, &all).err().map(Failure::from)),
        ("select", &|store| store.select(&tree, &all).err().map(Failure::from)),
        ("lay out", &|store| store.lay_out(&tree).err().map(Failure::from)),
        ("pack", &|store| archive::pack(store, &tree, archive::Format::Tar, into()).err().map(Failure::from)),
    ];
    for (name, work) in works {
        let began = Instant::now();
        let failure = work(&store.wanted(for_millis(20))).unwrap_or_else(|| panic!("{name} ended in no time"));
        assert_eq!(failure.code, Code::TimedOut, "{name}: {failure}");
        assert!(began.elapsed() < Duration::from_secs(2), "{name}: {:?}", began.elapsed());
        let cancel = Arc::new(AtomicBool::new(true));
        let failure = work(&store.wanted(Until::cancelled(&cancel))).expect("it is cancelled");
        assert_eq!(failure.code, Code::Cancelled, "{name}: {failure}");
    }
    assert_eq!(fs::read_dir(store.root().join("pool/trees")).expect("listed").count(), 0);
    let began = Instant::now();
    drop(store);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn merging_refuses_keeps_or_replaces() {
    let (_home, store) = store();
    let tree = |text: &str| {
        let mut builder = TreeBuilder::new(&store, None).expect("a builder");
        builder.put("dir/file", file(&store, text)).expect("put");
        builder.put(&format!("dir/{text}"), file(&store, text)).expect("put");
        builder.finish().expect("a tree")
    };
    let (old, new) = (tree("old"), tree("new"));
    let merged = |conflict| {
        let mut builder = TreeBuilder::new(&store, Some(&old)).expect("a builder");
        builder.put_tree("", &new, conflict)?;
        let merged = builder.finish()?;
        assert!(store.lookup(&merged, "dir/new")?.is_some() && store.lookup(&merged, "dir/old")?.is_some());
        store.lookup(&merged, "dir/file")
    };
    assert!(matches!(merged(Conflict::Refuse), Err(StoreError::Conflict(path)) if path == "dir/file"));
    assert_eq!(merged(Conflict::Keep).expect("merged"), Some(file(&store, "old")));
    assert_eq!(merged(Conflict::Replace).expect("merged"), Some(file(&store, "new")));
}

#[test]
fn globs_that_are_too_much_are_counted_and_the_longest_is_named() {
    let said = |globs: &[String]| Globs::new(globs, &[]).map(drop).expect_err("refused").to_string();
    let many: Vec<String> = (0..20_000).map(|number| format!("**/{number}-?/*.[ch]")).collect();
    assert_eq!(
        said(&many),
        "too much to look for at once (globs: 20000; the longest, of 17 bytes, begins with `**/19999-?/*.[ch]`)"
    );
    assert_eq!(
        said(&["*é".repeat(70_000)]),
        format!(
            "too much to look for at once (globs: 1; the longest, of 210000 bytes, begins with `{}`)",
            "*é".repeat(20)
        )
    );
    assert!(said(&["[".to_owned()]).contains("unclosed character class"));
}

#[test]
fn globs_mean_files_directories_and_all_below() {
    let (_home, store) = store();
    let mut builder = TreeBuilder::new(&store, None).expect("a builder");
    for path in ["a.py", "a/b.py", "a/c/d.py", "a/c/d.txt", "static/x.css"] {
        builder.put(path, file(&store, path)).expect("put");
    }
    builder.put_directory("static/empty").expect("put");
    let tree = builder.finish().expect("a tree");
    let glob = |include: &[&str], exclude: &[&str]| {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        let globs = Globs::new(&owned(include), &owned(exclude)).expect("globs");
        let selected = store.select(&tree, &globs).expect("selected");
        let named = store.glob(&tree, &globs).expect("named");
        let kept: Vec<String> = store.walk(&selected).expect("walked").into_iter().map(|found| found.path).collect();
        assert!(named.iter().all(|path| kept.contains(path)), "{named:?} {kept:?}");
        for found in store.walk(&tree).expect("walked") {
            assert_eq!(globs.mean(&found.path), kept.contains(&found.path), "{}", found.path);
        }
        (named, kept)
    };
    assert_eq!(glob(&["*.py"], &[]).0, ["a.py"]);
    assert_eq!(glob(&["**/*.py"], &["a/c"]).0, ["a.py", "a/b.py"]);
    assert_eq!(glob(&["a"], &["**/*.txt"]).0, ["a/b.py", "a/c/d.py"]);
    assert_eq!(glob(&["static"], &[]).1, ["static/empty", "static/x.css"]);
    assert!(glob(&["nothing"], &[]).0.is_empty());
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let (_home, store) = store();
    let mut builder = TreeBuilder::new(&store, None).expect("a builder");
    for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/."] {
        assert!(builder.put(path, file(&store, "x")).is_err(), "{path:?}");
    }
}

#[test]
fn several_who_find_a_laid_out_tree_changed_have_it_made_anew_once() {
    let (home, store) = store();
    let digest = store.put(b"content").expect("kept");
    let mut tree = Tree::default();
    tree.insert("file", Entry::File { digest, executable: false }).expect("a name");
    let tree = store.put_tree(&tree).expect("kept");
    let laid_out = store.lay_out(&tree).expect("laid out");
    store.flush().expect("flushed");
    for round in 0..30 {
        // Two handles are two processes, as far as a store knows.
        let stores = [(); 2].map(|()| Store::open(home.path()).expect("a store"));
        fs::write(laid_out.join("more"), "").expect("changed");
        let lay_out = |store: &Store| {
            let found = store.lay_out(&tree).expect("laid out");
            assert_eq!(fs::read(found.join("file")).expect("there"), b"content", "round {round}");
            assert!(!found.join("more").exists(), "round {round}");
        };
        std::thread::scope(|scope| {
            for store in stores.iter().chain(&stores) {
                scope.spawn(|| lay_out(store));
            }
        });
    }
}

#[test]
fn few_directories_that_are_many_are_refused_by_whoever_goes_through_all() {
    let (_home, store) = store();
    let bottom = store.put_tree(&Tree::default()).expect("kept");
    let bomb = (0..60).fold(bottom, |digest, _| {
        let mut tree = Tree::default();
        for name in ["a", "b"] {
            tree.insert(name, Entry::Tree { digest }).expect("a name");
        }
        store.put_tree(&tree).expect("kept")
    });
    assert!(matches!(store.lay_out(&bomb), Err(StoreError::TooLarge)));
    assert!(matches!(store.walk(&bomb), Err(StoreError::TooLarge)));
    let all = Globs::new(&["**/none".to_owned()], &[]).expect("a glob");
    assert!(matches!(store.glob(&bomb, &all), Err(StoreError::TooLarge)));
    assert!(matches!(store.select(&bomb, &all), Err(StoreError::TooLarge)));
    let packed = archive::pack(&store, &bomb, archive::Format::Tar, std::io::sink());
    assert!(matches!(packed, Err(archive::ArchiveError::Store(StoreError::TooLarge))));
}

#[test]
fn a_tree_is_as_deep_as_whoever_goes_through_it_can_come_back_from() {
    let (_home, store) = store();
    let within = |digest| {
        let mut tree = Tree::default();
        tree.insert("d", Entry::Tree { digest }).expect("a name");
        store.put_tree(&tree)
    };
    let bottom = store.put_tree(&Tree::default()).expect("kept");
    let deepest = (1..DEEPEST).try_fold(bottom, |digest, _| within(digest)).expect("kept");
    let laid_out = store.lay_out(&deepest).expect("laid out");
    assert!(laid_out.join(["d"; DEEPEST - 1].join("/")).is_dir());
    assert_eq!(store.walk(&deepest).expect("gone through").len(), 1, "the last of them");
    assert!(matches!(within(deepest), Err(StoreError::TooDeep)));

    let path = ["d"; DEEPEST / 2].join("/");
    let mut builder = TreeBuilder::new(&store, None).expect("a builder");
    builder.put_tree(&path, &deepest, Conflict::Refuse).expect("put");
    assert!(matches!(builder.finish(), Err(StoreError::TooDeep)), "of two that each are not");
    let path = "d/".repeat(100_000) + "d";
    let mut builder = TreeBuilder::new(&store, None).expect("a builder");
    assert!(matches!(builder.put_directory(&path), Err(StoreError::TooDeep)));
}
