//! Damage of every kind, done to the files of a store: it is noticed, set aside, and what is whole goes on being served.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::store::{Store, StoreError, TreeBuilder};
use crate::tree::Entry;

/// The key of an action that gave a tree of small and large files, and that tree.
fn try_to_fill(home: &Path) -> Result<(Digest, Digest), StoreError> {
    let store = Store::open(home)?;
    let file = |text: &str| -> Result<Entry, StoreError> {
        Ok(Entry::File { digest: store.put(text.as_bytes())?, executable: false })
    };
    let mut builder = TreeBuilder::new(&store, None)?;
    for number in 0..8_u32 {
        builder.put(&format!("a/b{number}/small"), file(&format!("small {number}"))?)?;
    }
    builder.put("large", file(&"large ".repeat(200_000))?)?;
    let tree = builder.finish()?;
    let key = Digest::of(b"key");
    store.put_action(&key, b"record", &[tree])?;
    store.flush()?;
    Ok((key, tree))
}

fn fill(home: &Path) -> (Digest, Digest) {
    try_to_fill(home).expect("filled")
}

/// Reads all that an action gave, as a run would; what is damaged is an error, or a miss.
fn read(store: &Store, key: &Digest, tree: &Digest) -> Result<bool, StoreError> {
    let Some(record) = store.action(key)? else { return Ok(false) };
    assert_eq!(record, b"record");
    for found in store.walk(tree)? {
        if let Entry::File { digest, .. } = found.entry {
            assert_eq!(Digest::of(&store.get(&digest)?), digest);
        }
    }
    Ok(true)
}

/// The files of a store that hold what is kept.
fn files(home: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = ignore::WalkBuilder::new(home.join("store"))
        .standard_filters(false)
        .build()
        .map(|found| found.expect("listed").into_path())
        .filter(|path| path.is_file() && path.metadata().expect("there").len() > 0)
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, bit: u64) {
    let mut bytes = fs::read(path).expect("read");
    let at = usize::try_from(bit / 8).expect("small") % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("made writable");
    fs::write(path, bytes).expect("written");
}

/// After damage: what an action gave is all there, or it is built anew; where damage is noticed on the way, from the beginning.
fn hold(home: &Path, key: &Digest, tree: &Digest, about: &str) {
    for _ in 0..4 {
        let built = Store::open(home).and_then(|store| read(&store, key, tree)).and_then(|hit| {
            if hit {
                return Ok(true);
            }
            assert_eq!(try_to_fill(home)?, (*key, *tree));
            Ok(false)
        });
        match built {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => assert!(error.is_damage(), "{about}: {error:?}"),
        }
    }
    panic!("{about}: it is not to be had");
}

#[test]
fn any_flipped_bit_of_any_file_is_noticed_and_what_it_hurt_is_built_anew() {
    let home = tempfile::tempdir().expect("a directory");
    let (key, tree) = fill(home.path());
    let whole = tempfile::tempdir().expect("a directory");
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
        assert!(copied.success());
    };
    copy(&home.path().join("store"), whole.path());
    // Places that differ from file to file, yet are the same in every run.
    let mut random = 7_u64;
    for path in files(home.path()) {
        let name = path.strip_prefix(home.path()).expect("below").to_owned();
        for _ in 0..TRIES {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let damaged = tempfile::tempdir().expect("a directory");
            copy(&whole.path().join("store"), damaged.path());
            flip(&damaged.path().join(&name), random >> 11);
            hold(damaged.path(), &key, &tree, &format!("bit {} of {}", random >> 11, name.display()));
        }
    }
}

/// How many bits of each file are flipped, one at a time.
const TRIES: usize = 12;

#[test]
fn files_that_are_gone_or_cut_short_are_noticed() {
    for cut in [None, Some(0), Some(40), Some(100)] {
        let home = tempfile::tempdir().expect("a directory");
        let (key, tree) = fill(home.path());
        for path in files(home.path()) {
            if path.ends_with("index.db-wal") || path.ends_with("index.db-shm") {
                continue;
            }
            match cut {
                None => fs::remove_file(&path).expect("removed"),
                Some(len) => {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("made writable");
                    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(len)).expect("cut");
                }
            }
            hold(home.path(), &key, &tree, &format!("{} cut at {cut:?}", path.display()));
        }
    }
}

#[test]
fn an_index_that_is_gone_is_made_anew_with_all_actions() {
    let home = tempfile::tempdir().expect("a directory");
    let (key, tree) = fill(home.path());
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(home.path().join(format!("store/index.db{end}")));
    }
    let store = Store::open(home.path()).expect("a store");
    assert!(read(&store, &key, &tree).expect("all there"));
}

#[test]
fn what_is_in_the_way_of_the_index_makes_room_for_it() {
    let (dir, link) = (false, true);
    for (name, is_link) in [
        ("index.db", dir),
        ("index.db-wal", dir),
        ("index.db-wal", link),
        ("index.db-shm", dir),
        ("index.db-shm", link),
    ] {
        let home = tempfile::tempdir().expect("a directory");
        let (key, tree) = fill(home.path());
        let path = home.path().join("store").join(name);
        let _ = fs::remove_file(&path);
        if is_link {
            std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        } else {
            fs::create_dir_all(path.join("inside")).expect("a directory");
        }
        let store = Store::open(home.path()).expect("a store");
        assert!(read(&store, &key, &tree).expect("all there"), "{name}");
    }
}

#[test]
fn an_index_that_was_never_whole_is_made_anew_with_all_actions() {
    for rest in ["DELETE FROM blobs", "DROP TABLE blobs", "DROP TABLE counters"] {
        let home = tempfile::tempdir().expect("a directory");
        let (key, tree) = fill(home.path());
        let index = rusqlite::Connection::open(home.path().join("store/index.db")).expect("opened");
        index.execute_batch(&format!("PRAGMA user_version = 0; {rest}")).expect("changed");
        drop(index);
        let store = Store::open(home.path()).expect("a store");
        assert!(read(&store, &key, &tree).expect("all there"), "{rest}");
    }
}

#[test]
fn a_hit_counts_only_if_all_is_there_to_the_deepest_blob() {
    let home = tempfile::tempdir().expect("a directory");
    let (key, tree) = fill(home.path());
    let store = Store::open(home.path()).expect("a store");
    let Some(Entry::File { digest, .. }) = store.lookup(&tree, "large").expect("read") else { panic!("a file") };
    let path = store.0.files.loose(&digest);
    drop(store);
    fs::remove_file(path).expect("removed");
    let store = Store::open(home.path()).expect("a store");
    assert!(matches!(store.get(&digest), Err(StoreError::Missing(missing)) if missing == digest));
    drop(store);
    assert!(Store::is_damaged(home.path()));
    let store = Store::open(home.path()).expect("a store");
    assert!(store.action(&key).expect("read").is_none(), "what stands on it is taken back");
    assert!(!store.contains(&tree));
    assert!(!Store::is_damaged(home.path()));
}

#[test]
fn a_check_names_what_is_damaged_and_a_second_one_finds_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (_, tree) = fill(home.path());
    assert!(Store::check(home.path()).expect("checked").is_sound());
    let store = Store::open(home.path()).expect("a store");
    let Some(Entry::File { digest, .. }) = store.lookup(&tree, "large").expect("read") else { panic!("a file") };
    flip(&store.0.files.loose(&digest), 77);
    drop(store);
    let checked = Store::check(home.path()).expect("checked");
    assert!(!checked.is_sound());
    assert!(checked.taken_back.contains(&digest) && checked.taken_back.contains(&tree), "{checked:?}");
    assert_eq!(checked.actions_taken_back, 1);
    assert!(Store::check(home.path()).expect("checked").is_sound());
}

#[test]
fn bytes_of_a_killed_process_are_no_debris_and_no_obstacle() {
    let home = tempfile::tempdir().expect("a directory");
    let (key, tree) = fill(home.path());
    let tmp = home.path().join("store/tmp");
    // What a process leaves that was killed: its lease, and a record that is not finished.
    fs::create_dir_all(tmp.join("dead/scratch-1/closed")).expect("made");
    fs::write(tmp.join("dead/lease"), "1").expect("written");
    fs::write(tmp.join("old-debris"), "1").expect("written");
    let segment = files(home.path()).into_iter().find(|path| path.extension().is_some_and(|end| end == "segment"));
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    let half = bytes[32..100].to_vec();
    bytes.extend(half);
    fs::write(&segment, bytes).expect("written");
    let store = Store::open(home.path()).expect("a store");
    let other = store.put(b"after the half").expect("kept");
    store.flush().expect("flushed");
    drop(store);
    assert_eq!(fs::read_dir(&tmp).expect("listed").count(), 0);
    assert!(Store::check(home.path()).expect("checked").is_sound());
    let store = Store::open(home.path()).expect("a store");
    assert!(read(&store, &key, &tree).expect("all there"));
    assert_eq!(store.get(&other).expect("there"), b"after the half");
}

#[test]
fn what_programs_saw_of_a_laid_out_file_that_rots_is_not_believed_once_a_check_has_found_it() {
    let home = tempfile::tempdir().expect("a directory");
    let (_, tree) = fill(home.path());
    let store = Store::open(home.path()).expect("a store");
    assert_eq!(store.believed_since(), None);
    let (large, family) = (store.lay_out(&tree).expect("laid out").join("large"), Digest::of(b"family"));
    let whole = fs::read(&large).expect("read");
    let rot = || {
        let (mut bytes, before) = (fs::read(&large).expect("read"), large.metadata().expect("there"));
        bytes[1_000] ^= 1;
        fs::write(&large, bytes).expect("written");
        let file = fs::File::open(&large).expect("opened");
        file.set_modified(before.modified().expect("a time")).expect("the time is as it was");
    };
    let mut since = None;
    for results in [2_u8, 1] {
        for number in 0..results {
            store.put_action_of(Some(&family), &Digest::of(&[results, number]), b"record", &[]).expect("put");
        }
        store.flush().expect("flushed");
        rot();
        // The tree is in use all the while.
        let checked = Store::check(home.path()).expect("checked");
        assert_eq!((checked.layouts, checked.doubted), (1, usize::from(results)));
        assert!(Store::check(home.path()).expect("checked").is_sound());
        let later = Store::open(home.path()).expect("a store");
        assert_eq!(fs::read(later.lay_out(&tree).expect("laid out").join("large")).expect("read"), whole);
        assert!(later.believed_since() > since.as_deref());
        since = later.believed_since().map(str::to_owned);
    }
    assert_eq!(store.believed_since(), None, "what goes on meanwhile is not believed either");
    // An index that is made anew knows it too.
    fs::remove_file(home.path().join("store/index.db")).expect("removed");
    assert_eq!(Store::open(home.path()).expect("a store").believed_since(), since.as_deref());
}

#[test]
fn laid_out_files_that_were_changed_are_made_anew() {
    let home = tempfile::tempdir().expect("a directory");
    let (_, tree) = fill(home.path());
    let lay_out = || Store::open(home.path()).and_then(|store| store.lay_out(&tree)).expect("laid out");
    let large = lay_out().join("large");
    let whole = fs::read(&large).expect("read");
    let mut bytes = whole.clone();
    bytes[1_000] ^= 1;
    fs::write(&large, bytes).expect("written");
    assert_eq!(fs::read(lay_out().join("large")).expect("read"), whole);
    fs::write(lay_out().join("more"), "").expect("written");
    assert!(!lay_out().join("more").exists());
    fs::remove_dir_all(lay_out().join("a/b3")).expect("removed");
    assert!(lay_out().join("a/b3/small").exists());
}
