//! What garbage collection lets go, and what not.

use std::collections::HashSet;
use std::fs::File;
use std::time::{Duration, SystemTime};

use super::{file, store};
use crate::digest::Digest;
use crate::store::{Collected, Policy, Roots, Store, StoreError, TreeBuilder};

const ALL: Policy = Policy { unused_for: Duration::ZERO, max_bytes: 0 };

fn collect(store: &Store, policy: &Policy, roots: &Roots) -> Collected {
    store.collect::<StoreError>(policy, || Ok(roots.clone())).expect("collected")
}

/// An action that gave a tree of a small and a large file.
fn act(store: &Store, name: &str) -> (Digest, Digest) {
    let mut builder = TreeBuilder::new(store, None).expect("a builder");
    builder.put("small", file(store, name)).expect("put");
    builder.put("large", file(store, &name.repeat(300_000))).expect("put");
    let tree = builder.finish().expect("a tree");
    let key = Digest::of(name.as_bytes());
    store.put_action(&key, b"record", &[tree]).expect("recorded");
    (key, tree)
}

#[test]
fn what_nothing_needs_goes_and_its_space_is_given_back() {
    let (home, store) = store();
    let (key, tree) = act(&store, "needless");
    let (kept, kept_tree) = act(&store, "rooted");
    let (_, rooted) = act(&store, "a released slug");
    store.lay_out(&tree).expect("laid out");
    store.flush().expect("flushed");
    drop(store);
    let store = Store::open(home.path()).expect("a store");
    let before = store.stats().expect("counted").disk_bytes;
    let roots = Roots { blobs: vec![rooted], actions: HashSet::from([kept]), ..Roots::default() };
    let collected = collect(&store, &ALL, &roots);
    let after = store.stats().expect("counted").disk_bytes;
    assert!(collected.freed > 1_000_000, "the blob, and the file that was laid out: {collected:?}");
    assert!(before - after >= collected.freed - 64_000, "honest: {before} - {after}, {collected:?}");
    assert_eq!((collected.actions, collected.layouts, collected.waiting), (2, 1, 0));
    assert!(store.action(&key).expect("read").is_none() && !store.contains(&tree));
    assert!(store.action(&kept).expect("read").is_some());
    for tree in [kept_tree, rooted] {
        assert!(store.walk(&tree).expect("whole").iter().all(|found| match &found.entry {
            crate::tree::Entry::File { digest, .. } => store.get(digest).is_ok(),
            _ => true,
        }));
    }
    assert!(Store::check(home.path()).expect("checked").is_sound());
}

#[test]
fn what_was_of_use_last_is_kept_where_not_all_fits() {
    let (home, store) = store();
    let spare = store.put(&vec![7; 900_000]).expect("kept");
    let keys: Vec<Digest> = ["one", "not second", "third"].iter().map(|name| act(&store, name).0).collect();
    store.flush().expect("flushed");
    drop(store);
    let roots = Roots { spare: vec![spare], ..Roots::default() };
    let store = Store::open(home.path()).expect("a store");
    let collect = |max_bytes| collect(&store, &Policy { max_bytes, ..Policy::default() }, &roots);
    let kept = || keys.iter().map(|key| store.action(key).expect("read").is_some()).collect::<Vec<_>>();
    // What is too large for what room there is makes way for what is not, and a slug that nobody released for any action.
    assert!(collect(2_500_000).kept <= 2_500_000);
    assert_eq!((kept(), store.contains(&spare)), (vec![true, false, true], false));
    assert!(collect(2_000_000).kept <= 2_000_000);
    assert_eq!(kept(), [false, false, true]);
}

#[test]
fn nothing_goes_that_a_living_process_could_stand_on() {
    let (home, store) = store();
    let (key, tree) = act(&store, "old");
    store.flush().expect("flushed");
    drop(store);
    // Two handles are two processes, as far as a store knows.
    let reader = Store::open(home.path()).expect("a store");
    let lease = File::open(reader.tmp().join("lease")).expect("a lease");
    lease.set_modified(SystemTime::now() + Duration::from_secs(2)).expect("it began after that");
    assert!(reader.action(&key).expect("read").is_some());
    let laid_out = reader.lay_out(&tree).expect("laid out");
    let unfinished = reader.put(&vec![1; 500_000]).expect("kept");
    let collector = Store::open(home.path()).expect("a store");
    let collected = collect(&collector, &ALL, &Roots::default());
    assert!(collected.waiting > 0 && collected.blobs == 0, "{collected:?}");
    assert!(collector.action(&key).expect("read").is_none(), "promised to nobody who asks anew");
    assert!(reader.walk(&tree).is_ok() && laid_out.join("large").exists());
    assert_eq!(reader.get(&unfinished).expect("there").len(), 500_000);
    // What it makes of it is kept, though that was condemned.
    let made = Digest::of(b"made");
    reader.put_action(&made, b"record", &[tree, unfinished]).expect("recorded");
    drop((reader, collector));
    let collector = Store::open(home.path()).expect("a store");
    let roots = Roots { actions: HashSet::from([made]), ..Roots::default() };
    let collected = collect(&collector, &ALL, &roots);
    assert!(collected.waiting == 0 && laid_out.exists(), "{collected:?}");
    assert!(collector.contains(&tree) && collector.get(&unfinished).is_ok());
    drop(collector);
    let collector = Store::open(home.path()).expect("a store");
    let collected = collect(&collector, &ALL, &Roots::default());
    assert!(collected.blobs > 0 && collected.waiting == 0 && !laid_out.exists(), "{collected:?}");
    drop(collector);
    assert!(Store::check(home.path()).expect("checked").is_sound());
}

#[test]
fn what_was_done_while_another_process_lives_is_there_when_that_asks() {
    let (home, store) = store();
    let waiting = Store::open(home.path()).expect("a store");
    let (key, tree) = act(&store, "new");
    store.flush().expect("flushed");
    drop(store);
    let collector = Store::open(home.path()).expect("a store");
    let collected = collect(&collector, &ALL, &Roots::default());
    assert_eq!((collected.actions, collected.freed), (0, 0));
    assert!(waiting.action(&key).expect("read").is_some() && waiting.walk(&tree).is_ok());
    drop(waiting);
    assert_eq!(collect(&collector, &ALL, &Roots::default()).actions, 1);
}

#[test]
fn segments_of_which_little_is_left_are_written_anew() {
    let (home, store) = store();
    let small = |name: &str| {
        (0..2_000).map(|n| store.put(format!("{name} {n}").repeat(10).as_bytes()).expect("kept")).collect::<Vec<_>>()
    };
    let (needless, needed) = (small("needless"), small("needed")[..100].to_vec());
    let key = Digest::of(b"key");
    store.put_action(&key, b"record", &needed).expect("recorded");
    store.flush().expect("flushed");
    drop(store);
    let store = Store::open(home.path()).expect("a store");
    let roots = Roots { actions: HashSet::from([key]), ..Roots::default() };
    let collected = collect(&store, &ALL, &roots);
    assert!(collected.freed > 400_000, "{collected:?}");
    assert!(needed.iter().all(|digest| store.get(digest).is_ok()));
    assert!(needless.iter().all(|digest| !store.contains(digest)));
    assert_eq!(store.action(&key).expect("read").as_deref(), Some(&b"record"[..]));
    drop(store);
    assert!(Store::check(home.path()).expect("checked").is_sound());
}
