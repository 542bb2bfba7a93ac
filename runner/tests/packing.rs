//! The files that slugs become: cut into frames, of which those that have not changed are kept, and the same bytes whatever
//! is kept.

use runner::archive::{Format, pack, unpack};
use runner::digest::Digest;
use runner::store::{Store, TreeBuilder};
use runner::tree::Entry;

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    (home, store)
}

/// A tree of more than one group: `files` files in each of a few directories, one of which is large in itself. Bytes that do
/// not compress, the same on every machine.
fn large_tree(store: &Store, changed: bool) -> Digest {
    let mut builder = TreeBuilder::new(store, None).expect("a builder");
    for directory in ["a", "b/deep", "c"] {
        for index in 0..40 {
            let path = format!("{directory}/{index:02}");
            let seed = if changed && path == "b/deep/20" { "changed" } else { path.as_str() };
            let mut bytes = vec![0; 150_000];
            blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
            let digest = store.put(&bytes).expect("kept");
            builder.put(&path, Entry::File { digest, executable: false }).expect("put");
        }
    }
    let whole = store.put(&vec![b'x'; 6 << 20]).expect("kept");
    builder.put("b/whole", Entry::File { digest: whole, executable: true }).expect("put");
    builder.finish().expect("a tree")
}

fn packed(store: &Store, tree: &Digest, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(store, tree, format, &mut bytes).expect("packed");
    bytes
}

/// The compressed frames of an archive, one after the other.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let length = zstd::zstd_safe::find_frame_compressed_size(bytes).expect("a frame");
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

#[test]
fn the_frames_of_an_archive_hold_the_very_tar() {
    let (_home, store) = store();
    let tree = large_tree(&store, false);
    let bytes = packed(&store, &tree, Format::TarZstd);
    assert!(frames(&bytes).len() > 5, "it is cut");
    let tar = packed(&store, &tree, Format::Tar);
    assert!(zstd::decode_all(bytes.as_slice()).expect("decoded") == tar);
    let archive = store.put(&tar).expect("kept");
    assert_eq!(unpack(&store, &archive, Format::Tar, 0).expect("unpacked"), tree);
}

/// What is cached must not show: a store that has packed much gives the bytes that a new one gives.
#[test]
fn a_change_touches_one_frame_and_the_bytes_follow_from_the_tree_alone() {
    let (_home, store) = self::store();
    let before = packed(&store, &large_tree(&store, false), Format::TarZstd);
    let after = packed(&store, &large_tree(&store, true), Format::TarZstd);
    let (before, after) = (frames(&before), frames(&after));
    assert_eq!(before.len(), after.len());
    assert_eq!(before.iter().zip(&after).filter(|(one, other)| one != other).count(), 1);

    let (_home, other) = self::store();
    assert!(packed(&other, &large_tree(&other, true), Format::TarZstd) == after.concat());
}

/// A slug's file is named by its bytes wherever it was written: a change here is one that users see.
#[test]
fn the_bytes_of_an_archive_are_pinned() {
    let (_home, store) = store();
    let bytes = packed(&store, &large_tree(&store, false), Format::TarZstd);
    let digest = "blake3:58215d8a6df2411a3d159d7be77a3984f9e36e467163118ac884d8af6ce35027";
    assert_eq!((bytes.len(), Digest::of(&bytes).to_string().as_str()), (18_064_567, digest));
}
