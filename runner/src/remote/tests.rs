//! Slugs from one store to another, over a pair of sockets in the place of SSH.

use std::fs;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use super::receive::receive;
use super::send::{SendError, send};
use super::wire::{RuntimeRecord, Want, answer, read_want, write_want};
use crate::agent::protocol::Failure;
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::release::{Role, SlugRef};
use crate::runtime::Runtime;
use crate::store::Store;

/// Has a host take a slug from whoever is at the other end.
fn taken<T: Send>(
    home: &Path,
    slug: &SlugRef,
    runtime: Option<&RuntimeRecord>,
    giver: impl FnOnce(&UnixStream) -> T + Send,
) -> (T, Result<Store, Failure>) {
    let (host, command) = UnixStream::pair().expect("sockets");
    thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let taken = receive(home, ("demo", slug, runtime), Role::Admin, &mut BufReader::new(&host), &mut &host);
            // It says nothing more, and hears the other end out.
            let _ = host.shutdown(Shutdown::Write);
            let _ = io::copy(&mut &host, &mut io::sink());
            taken
        });
        let given = giver(&command);
        // It may have been shut by the other end.
        let _ = command.shutdown(Shutdown::Both);
        (given, taking.join().expect("no panic"))
    })
}

/// A store with a tree of this many files of this size.
fn tree(store: &Store, files: usize, size: usize) -> Digest {
    let dir = tempfile::tempdir().expect("a directory");
    for number in 0..files {
        let folder = dir.path().join(format!("usr/folder{}", number % 3));
        fs::create_dir_all(&folder).expect("a directory");
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(folder.join(number.to_string()), bytes).expect("written");
    }
    let tree = store.import(dir.path()).expect("a tree");
    store.flush().expect("flushed");
    tree
}

fn slug_of(tree: Digest) -> SlugRef {
    SlugRef { id: Digest::of(b"manifest"), tree }
}

#[test]
fn a_slug_goes_with_its_runtime_and_neither_goes_twice() {
    let homes = [tempfile::tempdir().expect("a home"), tempfile::tempdir().expect("a home")];
    let store = Store::open(homes[0].path()).expect("a store");
    let (slug, packages) = (slug_of(tree(&store, 9, 300_000)), tree(&store, 4, 100));
    let key = KeyBuilder::new("runtime packages").field("tree", packages.as_bytes()).field("python", b"3.11.2");
    let digest = key.finish();
    let record = serde_json::json!({ "kind": "packages", "tree": packages, "python": "3.11.2" }).to_string();
    Runtime::keep_record(&digest, &record, &store).expect("kept");
    let (record, trees) = Runtime::record(&digest, &store).expect("a look-up").expect("a record");
    let roots = [vec![slug.tree], trees].concat();
    let runtime = RuntimeRecord { digest, record };

    let (sent, taken_first) =
        taken(homes[1].path(), &slug, Some(&runtime), |end| send(&store, &roots, &mut &*end, end));
    sent.expect("sent");
    let host = taken_first.expect("taken");
    assert!(host.contains(&slug.tree) && host.contains(&packages));
    let found = Runtime::find(&digest, &host, homes[1].path()).expect("the runtime is there");
    assert_eq!((found.digest(), found.python()), (digest, "3.11.2"));
    drop(host);

    // Whoever has nothing to give is asked for nothing.
    let empty = tempfile::tempdir().expect("a home");
    let nothing = Store::open(empty.path()).expect("a store");
    let (sent, again) = taken(homes[1].path(), &slug, Some(&runtime), |end| send(&nothing, &roots, &mut &*end, end));
    sent.expect("nothing was lacking");
    again.expect("all was there");
}

#[test]
fn a_host_gets_nothing_that_is_no_part_of_the_slug() {
    let home = tempfile::tempdir().expect("a home");
    let store = Store::open(home.path()).expect("a store");
    let slug = slug_of(tree(&store, 1, 10));
    let secret = store.put(b"what another project holds").expect("kept");
    let (host, command) = UnixStream::pair().expect("sockets");
    write_want(&mut &host, &Want::Blobs { digests: vec![secret], in_parts: false }).expect("asked");
    let sent = send(&store, &[slug.tree], &mut &command, &command);
    assert!(
        matches!(&sent, Err(SendError::Refused(failure)) if failure.message.contains("no part of the slug")),
        "{sent:?}"
    );
}

#[test]
fn bytes_that_are_not_those_that_were_asked_for_are_refused() {
    let homes = [tempfile::tempdir().expect("a home"), tempfile::tempdir().expect("a home")];
    let store = Store::open(homes[0].path()).expect("a store");
    let root = tree(&store, 1, 10);
    let (_, taken) = taken(homes[1].path(), &slug_of(root), None, |mut end| {
        use std::io::Write as _;
        let mut to = zstd::stream::write::Encoder::new(end, 0).expect("an encoder");
        read_want(&mut end).expect("a wish");
        // The tree is one, and not the one that was asked for.
        let other = crate::tree::Tree::default().encode();
        to.write_all(&[answer::WHOLE]).expect("written");
        to.write_all(&(other.len() as u64).to_le_bytes()).expect("written");
        to.write_all(&other).and_then(|()| to.flush()).expect("written");
        read_want(&mut end)
    });
    let failure = taken.expect_err("it is refused");
    assert!(failure.message.contains("has not come as it was sent"), "{}", failure.message);
    assert!(!Store::open(homes[1].path()).expect("a store").contains(&root));
}
