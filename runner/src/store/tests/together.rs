//! Many handles on one store at once, as many processes have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::store::{Policy, Roots, Store, StoreError, Until};

#[test]
fn of_all_who_want_an_action_done_one_does_it() {
    let home = tempfile::tempdir().expect("a directory");
    let done = AtomicUsize::new(0);
    let act = |store: &Store, number: u32| {
        let key = Digest::of(&number.to_le_bytes());
        if store.action(&key).expect("read").is_some() {
            return;
        }
        let _claim = store.claim(&key).expect("claimed");
        if store.action(&key).expect("read").is_none() {
            done.fetch_add(1, Ordering::Relaxed);
            let given = store.put(&vec![1; 1 + number as usize * 10_000]).expect("kept");
            store.put_action(&key, b"record", &[given]).expect("recorded");
        }
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = Store::open(home.path()).expect("a store");
                // Threads of one process, too.
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| (0..20).for_each(|number| act(&store, number)));
                    }
                });
                store.flush().expect("flushed");
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                let store = Store::open(home.path()).expect("a store");
                store.collect::<StoreError>(&Policy::default(), || Ok(Roots::default())).expect("collected");
            }
        });
    });
    assert_eq!(done.into_inner(), 20);
    assert!(Store::check(home.path()).expect("checked").is_sound());
}

#[test]
fn whoever_waits_for_a_claim_can_be_told_to_stop() {
    let home = tempfile::tempdir().expect("a directory");
    let (one, other) = (Store::open(home.path()).expect("a store"), Store::open(home.path()).expect("a store"));
    let key = Digest::of(b"key");
    let claim = one.claim(&key).expect("claimed");
    let soon = Until::default().within(Duration::ZERO, Instant::now());
    for store in [&other, &one] {
        assert!(matches!(store.wanted(soon.clone()).claim(&key), Err(StoreError::TooLate(_))));
    }
    drop(claim);
    other.wanted(soon).claim(&key).expect("nobody is waited for");
}
