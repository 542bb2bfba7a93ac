//! Honest archives in and out, and dishonest ones refused.

use std::io::Write;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    (home, store)
}

fn tar_of(entries: &[(&str, ::tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.as_gnu_mut().expect("gnu").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        let body = if kind.is_file() { content.as_bytes() } else { b"" };
        if !kind.is_file() && !kind.is_dir() {
            header.set_link_name(content).expect("a link");
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).expect("appended");
    }
    builder.into_inner().expect("a tar")
}

fn unpack_bytes(store: &Store, bytes: &[u8], format: Format) -> Result<Digest, ArchiveError> {
    let archive = store.put(bytes).expect("kept");
    unpack(store, &archive, format, 0)
}

#[test]
fn what_is_packed_unpacks_to_the_same_tree_and_packs_to_the_same_bytes() {
    let (home, store) = store();
    let dir = home.path().join("in");
    std::fs::create_dir_all(dir.join("empty")).expect("made");
    let long = "n".repeat(180);
    std::fs::write(dir.join(&long), "a long name").expect("written");
    std::fs::write(dir.join("large"), vec![b'x'; 1 << 20]).expect("written");
    std::os::unix::fs::symlink(&long, dir.join("link")).expect("linked");
    let tree = store.import(&dir).expect("imported");
    for format in [Format::Tar, Format::TarZstd] {
        let packed = || {
            let mut bytes = Vec::new();
            pack(&store, &tree, format, &mut bytes).expect("packed");
            bytes
        };
        assert_eq!(packed(), packed());
        assert_eq!(unpack_bytes(&store, &packed(), format).expect("unpacked"), tree, "{}", format.name());
    }
}

#[test]
fn a_wheel_like_zip_keeps_its_executable_bits() {
    let (_home, store) = store();
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = ::zip::write::SimpleFileOptions::default();
    writer.start_file("pkg/__init__.py", options.unix_permissions(0o644)).expect("started");
    writer.start_file("pkg/tool", options.unix_permissions(0o755)).expect("started");
    writer.write_all(b"#!/bin/sh\n").expect("written");
    let bytes = writer.finish().expect("a zip").into_inner();
    let tree = unpack_bytes(&store, &bytes, Format::Zip).expect("unpacked");
    let executable = |path| match store.lookup(&tree, path).expect("looked up") {
        Some(Entry::File { executable, .. }) => executable,
        other => panic!("{path}: {other:?}"),
    };
    assert!(executable("pkg/tool") && !executable("pkg/__init__.py"));
}

#[test]
fn dishonest_entries_are_refused() {
    use ::tar::EntryType as Kind;
    let (_home, store) = store();
    let refused = |entries: &[(&str, Kind, &str)]| match unpack_bytes(&store, &tar_of(entries), Format::Tar) {
        Err(ArchiveError::Refused { why, .. }) => why.to_owned(),
        Err(ArchiveError::Store(error)) => error.to_string(),
        other => panic!("{entries:?}: {other:?}"),
    };
    assert_eq!(refused(&[("/etc/passwd", Kind::Regular, "x")]), "its path is absolute");
    assert_eq!(refused(&[("a/../../b", Kind::Regular, "x")]), "its path leaves the archive");
    assert_eq!(refused(&[("dev", Kind::Char, "x")]), "it is a device, a pipe or of an unknown kind");
    assert_eq!(refused(&[("a", Kind::Link, "b")]), "it is a link to what is not in the archive");
}

#[test]
fn an_entry_through_a_link_is_refused() {
    use ::tar::EntryType as Kind;
    let (_home, store) = store();
    let bytes = tar_of(&[("out", Kind::Symlink, "/tmp"), ("out/file", Kind::Regular, "x")]);
    let error = unpack_bytes(&store, &bytes, Format::Tar).expect_err("refused");
    assert!(error.to_string().contains("`out` is not a directory"), "{error}");
}

#[test]
fn what_cannot_be_packed_is_told_what_can() {
    let (_home, store) = store();
    let tree = TreeBuilder::new(&store, None).and_then(TreeBuilder::finish).expect("a tree");
    for format in [Format::Zip, Format::TarGzip, Format::TarBzip2, Format::TarXz] {
        let error = pack(&store, &tree, format, std::io::sink()).expect_err("refused").to_string();
        assert_eq!(error, format!("cannot pack as {}: what can be packed is tar and tar.zst", format.name()));
    }
    for format in [Format::Tar, Format::TarZstd] {
        pack(&store, &tree, format, std::io::sink()).expect("packed");
    }
}

#[test]
fn damaged_archives_are_errors_and_not_panics() {
    let (_home, store) = store();
    for format in [Format::Zip, Format::TarGzip, Format::TarBzip2, Format::TarXz, Format::TarZstd] {
        for bytes in [&b"not an archive at all, by any means"[..], b"PK\x03\x04", b"\x1f\x8b\x08\0\0\0\0\0"] {
            assert!(unpack_bytes(&store, bytes, format).is_err(), "{} {bytes:?}", format.name());
        }
    }
}

/// All that stays of an archive's entries is in the tree; what is refused leaves nothing.
fn unpack_anything(corpus: &str, unpack: impl Fn(&[u8], &mut Unpacker<'_>) -> Result<(), ArchiveError>) {
    let home = tempfile::tempdir().expect("a directory");
    let store = Store::open(home.path()).expect("a store");
    pipe_fuzz::attack(corpus, |bytes| {
        let builder = TreeBuilder::new(&store, None).expect("a builder");
        let mut unpacker = Unpacker { builder, store: &store, strip: 0, bytes: 0, entries: 0 };
        if unpack(bytes, &mut unpacker).is_ok() {
            let tree = unpacker.builder.finish().expect("a tree");
            for found in store.walk(&tree).expect("all of it is kept") {
                assert!(!found.path.split('/').any(|name| ["", ".", ".."].contains(&name)), "{}", found.path);
            }
        }
    });
}

#[test]
fn any_bytes_are_a_zip_or_refused() {
    unpack_anything("zip", |bytes, unpacker| zip::unpack(std::io::Cursor::new(bytes), unpacker));
}

#[test]
fn any_bytes_are_a_tar_or_refused() {
    unpack_anything("tar", |bytes, unpacker| tar::unpack(bytes, unpacker, Format::Tar));
}

#[test]
fn any_bytes_are_compressed_or_refused() {
    unpack_anything("packed", |bytes, unpacker| {
        let results = [
            tar::unpack(flate2::bufread::MultiGzDecoder::new(bytes), unpacker, Format::TarGzip),
            tar::unpack(bzip2::bufread::MultiBzDecoder::new(bytes), unpacker, Format::TarBzip2),
            tar::unpack(liblzma::bufread::XzDecoder::new_multi_decoder(bytes), unpacker, Format::TarXz),
        ];
        results.into_iter().find(Result::is_ok).unwrap_or(Err(ArchiveError::NoPacker("any")))
    });
}
