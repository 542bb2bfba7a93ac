//! Runtimes to stand on.

use std::collections::BTreeMap;
use std::path::Path;

use runner::fetch::{FetchConfig, Fetcher};
use runner::lockfile::LockFile;
use runner::runtime::{Kind, Resolver, Runtime, RuntimeError, Wanted, Wish};
use runner::store::Store;

pub(crate) fn host() -> Wish {
    Wish { kind: Kind::Host { python: None }, python: Some("3.11".into()), tools: BTreeMap::new() }
}

pub(crate) fn resolve(home: &Path, wish: Wish) -> Result<Runtime, RuntimeError> {
    let store = Store::open(home).expect("a store");
    let fetcher = Fetcher::new(FetchConfig::default(), store.clone()).expect("a fetcher");
    let lock = LockFile::beside(home);
    let resolver = Resolver { store: &store, home, fetcher: &fetcher, lock: &lock, locked: false };
    Runtime::resolve(&wish, &resolver)
}

pub(crate) fn packages(system: &[&str], build_system: &[&str]) -> Wish {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let wanted = Wanted {
        system: texts(system),
        build_system: texts(build_system),
        mirror: "https://deb.debian.org/debian".into(),
        suite: "bookworm".into(),
    };
    Wish { kind: Kind::Packages(wanted), python: Some("3.11".into()), tools: BTreeMap::new() }
}
