use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use super::*;
use crate::diagnostic::{Colour, render};
use crate::store::{Conflict, Store, StoreError, TreeBuilder, Until};
use crate::tree::Entry;

const TOKEN: &str = "tok-0123456789";

fn pipeline(dir: &Path, declared: &str) -> Pipeline {
    let text = format!(
        "[app]\nname = \"a\"\n[secrets]\ntoken = {declared}\nunused = {{ env = \"NO_SUCH_VARIABLE\" }}\n\
         [steps.s]\nplugin = \"command\"\ngrants = {{ exec = [\"sh\"], secrets = [\"token\"] }}\n"
    );
    pipeline::parse(&dir.join("p"), &text).expect("a pipeline")
}

fn secrets(dir: &Path, text: &str) -> Secrets {
    fs::write(dir.join("token"), text).expect("written");
    Secrets::read(&pipeline(dir, "{ file = \"token\" }"), dir).expect("secrets")
}

fn refused(declared: &str, content: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("token"), content).expect("written");
    let error = Secrets::read(&pipeline(dir.path(), declared), dir.path()).expect_err("it cannot be one");
    let SecretError::Unreadable(diagnostics) = error else { panic!("{error}") };
    render(&diagnostics, Colour::Never).replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn what_a_step_is_granted_is_read_and_hashed_under_a_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = secrets(dir.path(), "tok-0123456789\n");
    let token = first.get("token").expect("it was granted");
    assert_eq!(token.text(), "tok-0123456789\n");
    assert!(first.get("unused").is_none(), "what nobody is granted need not be there");
    assert_eq!(secrets(dir.path(), "tok-0123456789\n").get("token").expect("read").mac(), token.mac());
    assert_ne!(secrets(dir.path(), "tok-other-token").get("token").expect("read").mac(), token.mac());
    assert_ne!(*token.mac(), Digest::of(b"tok-0123456789\n"), "nobody can try texts against it");
    assert_eq!(format!("{first:?}"), "{\"token\"}");
    assert!(first.only(&[]).is_empty() && !first.only(&["token".to_owned()]).is_empty());
}

#[test]
fn what_cannot_be_a_secret_is_refused_where_it_is_declared() {
    let said = refused("{ env = \"NO_SUCH_VARIABLE\" }", b"");
    assert!(said.starts_with("DIR/p:4:17: the secret `token` is not there: the variable `NO_SUCH_VARIABLE` is not"));
    assert!(said.contains("hint: set `NO_SUCH_VARIABLE` in the environment of `pipe`"), "{said}");
    let said = refused("{ file = \"nowhere\" }", b"");
    assert!(said.starts_with("DIR/p:4:18: the secret `token` is not there: cannot read `nowhere`: "), "{said}");
    let long = vec![b'x'; LONGEST + 1];
    let cases: [(&[u8], &str); 4] = [
        (b"", "holds 0 bytes"),
        (b" short\n", "holds 5 bytes"),
        (&long, "more than 64 KiB"),
        (b"\xff1234567890", "is not UTF-8"),
    ];
    for (content, fault) in cases {
        let said = refused("{ file = \"token\" }", content);
        assert!(said.starts_with("DIR/p:4:18: `token` cannot be a secret: `token` ") && said.contains(fault), "{said}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("packed")
}

fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).and_then(|()| tar.into_inner()).expect("packed")
}

fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("a file");
    zip.write_all(bytes).expect("written");
    zip.finish().expect("packed").into_inner()
}

fn found(search: &Search, bytes: Vec<u8>) -> Option<String> {
    search.file(&mut Cursor::new(bytes), "f").expect("searched").map(|leak| format!("{} in {}", leak.secret, leak.path))
}

#[test]
fn a_secret_is_found_in_files_and_in_the_archives_among_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let search =
        Search::new(&secrets(dir.path(), &format!("{TOKEN}\n")), Until::default()).expect("something to look for");
    let text = [b"\0".repeat(100_000), format!("token={TOKEN};").into_bytes()].concat();
    let (in_file, in_tar) = (Some("token in f".to_owned()), Some("token in a/.npmrc` in `f".to_owned()));
    assert_eq!(found(&search, text.clone()), in_file);
    assert_eq!(found(&search, text[..text.len() - 2].to_vec()), None);
    assert_eq!(found(&search, gzip(&text)), in_file);
    assert_eq!(found(&search, zstd::encode_all(&text[..], 1).expect("packed")), in_file);
    assert_eq!(found(&search, zip("a/.npmrc", &text)), in_tar);
    assert_eq!(found(&search, gzip(&tar("a/.npmrc", &text))), in_file, "a tar's bytes are the files'");
    assert_eq!(found(&search, gzip(&tar("a/.npmrc", &gzip(&text)))), in_tar);
    assert_eq!(
        found(&search, zip("x.whl", &zip("a/.npmrc", &text))),
        Some("token in a/.npmrc` in `x.whl` in `f".to_owned())
    );
    assert_eq!(found(&search, [gzip(b"harmless"), text].concat()), in_file, "behind an archive");
    for broken in [&b"\x1f\x8bnot gzip"[..], b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"] {
        assert_eq!(found(&search, broken.to_vec()), None);
    }
}

#[test]
fn a_secret_is_found_in_names_and_links_of_directories_and_of_trees() {
    let dir = tempfile::tempdir().expect("a directory");
    let search = Search::new(&secrets(dir.path(), TOKEN), Until::default()).expect("something to look for");
    let store = Store::open(dir.path()).expect("a store");
    let leak = |path: &str| Some(Leak { secret: "token".to_owned(), path: path.to_owned() });
    let file = Entry::File { digest: store.put(TOKEN.as_bytes()).expect("kept"), executable: false };
    let link = Entry::Symlink { target: format!("../{TOKEN}") };
    let name = format!("x/{TOKEN}");
    let nothing = Entry::File { digest: store.put(b"").expect("kept"), executable: false };
    for (path, entry) in [("x/file", file), ("x/link", link), (name.as_str(), nothing)] {
        let mut builder = TreeBuilder::new(&store, None).expect("a builder");
        builder.put("a", Entry::Symlink { target: "harmless".to_owned() }).expect("put");
        let harmless = builder.finish().expect("a tree");
        assert_eq!(search.tree(&store, &harmless, "out").expect("searched"), None);
        let mut builder = TreeBuilder::new(&store, None).expect("a builder");
        builder.put(path, entry).expect("put");
        builder.put_tree("", &harmless, Conflict::Refuse).expect("put");
        let tree = builder.finish().expect("a tree");
        let path = path.replace(TOKEN, "***");
        assert_eq!(search.tree(&store, &tree, "out").expect("searched"), leak(&format!("out/{path}")));
        let laid_out = store.lay_out(&tree).expect("laid out");
        assert_eq!(search.directory(&laid_out, "out").expect("searched"), leak(&format!("out/{path}")));
    }
}

#[test]
fn a_secret_that_is_several_names_is_found_in_a_path() {
    let (dir, kept) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = Store::open(dir.path()).expect("a store");
    for (text, path) in [
        ("abcd/efgh+ij", "out/***"),
        ("/abcd//efgh/", "out/***"),
        ("bcd/efgh", "out/a***+ij"),
        ("abcd/efgh+ij/x", "out/***"),
        ("abcd/efgh+ij/y", ""),
        ("////////a", ""),
    ] {
        let search = Search::new(&secrets(kept.path(), text), Until::default()).expect("something to look for");
        let plus = if text.starts_with('/') { "" } else { "+ij" };
        let mut builder = TreeBuilder::new(&store, None).expect("a builder");
        let nothing = Entry::File { digest: store.put(b"").expect("kept"), executable: false };
        builder.put(&format!("abcd/efgh{plus}/x"), nothing).expect("put");
        let tree = builder.finish().expect("a tree");
        let leak = (!path.is_empty()).then(|| Leak { secret: "token".to_owned(), path: path.to_owned() });
        assert_eq!(search.tree(&store, &tree, "out").expect("searched"), leak, "{text}");
        let laid_out = store.lay_out(&tree).expect("laid out");
        assert_eq!(search.directory(&laid_out, "out").expect("searched"), leak, "{text}");
    }
}

#[test]
fn any_bytes_can_be_looked_through() {
    let dir = tempfile::tempdir().expect("a directory");
    let search = Search::new(&secrets(dir.path(), TOKEN), Until::default()).expect("something to look for");
    pipe_fuzz::attack("packed", |bytes| drop(search.file(&mut Cursor::new(bytes), "f")));
}

#[test]
fn a_search_that_is_no_longer_wanted_ends_soon() {
    let dir = tempfile::tempdir().expect("a directory");
    let left = dir.path().join("left");
    fs::create_dir(&left).expect("made");
    // Hours of reading.
    fs::File::create(left.join("long")).and_then(|file| file.set_len(1 << 43)).expect("a hole");
    let limit = Duration::from_millis(100);
    let until = Until::default().within(limit, Instant::now() + limit);
    let search = Search::new(&secrets(dir.path(), TOKEN), until).expect("something to look for");
    let error = search.directory(&left, "left").expect_err("there is no time");
    assert!(matches!(error, SearchError::Store(StoreError::TooLate(_))), "{error}");
}
