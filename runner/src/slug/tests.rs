use std::fs;
use std::path::Path;

use super::*;
use crate::store::{Conflict, TreeBuilder};

struct Bench {
    home: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        Self { home, store }
    }

    fn tree(&self, files: &[(&str, &str)]) -> Digest {
        let mut builder = TreeBuilder::new(&self.store, None).expect("a builder");
        for (path, content) in files {
            let digest = self.store.put(content.as_bytes()).expect("a blob");
            builder.put(path, Entry::File { digest, executable: path.starts_with("bin/") }).expect("a path");
        }
        builder.finish().expect("a tree")
    }

    fn slug(&self, view: &str, django: &str) -> Record {
        let src = self.tree(&[("manage.py", ""), ("polls/views.py", view)]);
        let info = format!("lib/python3.11/site-packages/Django-{django}.dist-info/METADATA");
        let venv = self.tree(&[("bin/gunicorn", "#!"), (&info, "")]);
        let empty = self.tree(&[]);
        let manifest = Manifest {
            app: "polls".into(),
            directory: String::new(),
            environment: vec!["SECRET_KEY".into()],
            format: FORMAT,
            links: Vec::new(),
            platform: "linux-x86_64-gnu".into(),
            processes: BTreeMap::from([("web".into(), "gunicorn".into())]),
            python: Some("3.11".into()),
            release: None,
            runtime: Digest::of(b"runtime"),
            static_url: None,
            trees: BTreeMap::from([("src".into(), src), ("venv".into(), venv), ("static".into(), empty)]),
        };
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        let digest = self.store.put(&bytes).expect("a blob");
        let mut builder = TreeBuilder::new(&self.store, None).expect("a builder");
        builder.put("manifest.json", Entry::File { digest, executable: false }).expect("a path");
        for (name, tree) in &manifest.trees {
            builder.put_tree(&format!("app/{name}"), tree, Conflict::Refuse).expect("no conflict");
        }
        let tree = builder.finish().expect("a tree");
        Record {
            id: Digest::of(&bytes),
            tree,
            app: "polls".into(),
            created: 1,
            built: 0,
            attestation: None,
            believed_since: None,
        }
    }

    fn registry(&self) -> Registry {
        Registry::of(self.home.path())
    }
}

#[test]
fn a_manifest_is_read_and_its_hash_is_the_id() {
    let bench = Bench::new();
    let record = bench.slug("a", "5.2");
    let (id, manifest) = Manifest::read(&bench.store, &record.tree).expect("a slug");
    assert_eq!(id, record.id);
    assert_eq!(manifest.packages(&bench.store).expect("packages"), BTreeMap::from([("django".into(), "5.2".into())]));
}

#[test]
fn a_tree_that_the_manifest_does_not_name_is_no_slug() {
    let bench = Bench::new();
    let record = bench.slug("a", "5.2");
    let mut builder = TreeBuilder::new(&bench.store, Some(&record.tree)).expect("a builder");
    builder.remove("app/src/manage.py").expect("a path");
    let error = Manifest::read(&bench.store, &builder.finish().expect("a tree")).expect_err("no slug");
    assert_eq!(error.to_string(), "not a slug: `app/src` is not the tree that its manifest names");
}

#[test]
fn slugs_are_found_by_the_beginning_of_their_id_and_the_one_that_was_built_last_comes_first() {
    let bench = Bench::new();
    let (a, b) = (bench.slug("a", "5.2"), bench.slug("b", "5.2"));
    bench.registry().add(&bench.store, &a).expect("added");
    bench.registry().add(&bench.store, &Record { created: 2, ..b.clone() }).expect("added");
    // Built once more, as after a change that was taken back.
    std::thread::sleep(std::time::Duration::from_millis(2));
    bench.registry().add(&bench.store, &Record { created: 3, ..a.clone() }).expect("added");
    let list = bench.registry().list().expect("a list");
    assert_eq!(list.iter().map(|record| (record.id, record.created)).collect::<Vec<_>>(), [(a.id, 1), (b.id, 2)]);
    assert_eq!(bench.registry().find(&a.id.short()).expect("one").id, a.id);
    assert_eq!(bench.registry().find(&b.id.to_string()).expect("one").id, b.id);
}

#[test]
fn an_unknown_id_gets_the_nearest_and_an_ambiguous_one_all() {
    let bench = Bench::new();
    let error = bench.registry().find("abc").expect_err("none");
    assert_eq!(error.hint().as_deref(), Some("`pipe run` builds one, and `pipe slug list` names all"));
    let ids = [[0xaa; 32], [0xab; 32]].map(Digest::from_bytes);
    for id in ids {
        bench.registry().add(&bench.store, &Record { id, ..bench.slug("a", "5.2") }).expect("added");
        // So that it is known which was built last.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let error = bench.registry().find("abcd").expect_err("none");
    assert_eq!(error.to_string(), "no slug is called `abcd`");
    assert_eq!(error.hint().as_deref(), Some("did you mean `abababababab`? `pipe slug list` names all"));
    let error = bench.registry().find("zz").expect_err("none");
    assert!(!error.hint().expect("a hint").contains("did you mean"), "none is alike");
    let error = bench.registry().find("a").expect_err("two");
    assert_eq!(error.to_string(), "`a` is the beginning of 2 slugs: `abababababab`, `aaaaaaaaaaaa`");
}

#[test]
fn an_export_is_the_same_bytes_from_two_stores() {
    let export_in = |bench: &Bench, to: &Path| {
        let record = bench.slug("a", "5.2");
        export(&bench.store, &record, to).expect("an export")
    };
    let (one, two) = (Bench::new(), Bench::new());
    two.slug("other", "4.2");
    let (a, b) = (one.home.path().join("a.tar.zst"), two.home.path().join("b.tar.zst"));
    assert_eq!(export_in(&one, &a).pack, export_in(&two, &b).pack);
    assert_eq!(fs::read(a).expect("a file"), fs::read(b).expect("a file"));
}

#[test]
fn an_attestation_is_written_beside_the_file() {
    let bench = Bench::new();
    let statement = bench.store.put(br#"{"subject":[]}"#).expect("a blob");
    let record = Record { attestation: Some(statement), ..bench.slug("a", "5.2") };
    let exported = export(&bench.store, &record, &bench.home.path().join("x.tar.zst")).expect("an export");
    let beside = fs::read_to_string(exported.attestation.expect("an attestation")).expect("a file");
    assert!(beside.contains(&exported.pack.sha256), "{beside}");
}

#[test]
fn a_difference_names_packages_and_files() {
    let bench = Bench::new();
    let (a, b) = (bench.slug("a", "5.1"), bench.slug("b", "5.2"));
    assert!(diff(&bench.store, &a.tree, &a.tree).expect("a difference").is_empty());
    let text = diff(&bench.store, &a.tree, &b.tree).expect("a difference").to_string();
    let (from, to) = (Digest::of(b"a").short(), Digest::of(b"b").short());
    assert_eq!(text, format!("packages\n  ~ django  5.1 → 5.2\nsource\n  ~ polls/views.py  file {from} → file {to}\n"));
}

#[test]
fn trees_of_two_stores_are_compared_by_path() {
    let (one, two) = (Bench::new(), Bench::new());
    let a = one.tree(&[("a/x", "1"), ("a/y", "1"), ("b", "1")]);
    let b = two.tree(&[("a/x", "1"), ("a/y", "2"), ("c", "1")]);
    let changes = trees((&one.store, &a), (&two.store, &b)).expect("changes");
    assert_eq!(changes.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(), ["a/y", "b", "c"]);
    let first = first_difference((&one.store, &a), (&two.store, &b)).expect("a look").expect("one");
    assert_eq!(first.name, "a/y");
}
