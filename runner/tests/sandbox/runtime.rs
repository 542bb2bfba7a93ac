//! Runtimes to stand on.

use std::collections::BTreeMap;
use std::path::Path;

use runner::fetch::{FetchConfig, Fetcher};
use runner::lockfile::LockFile;
use runner::runtime::{Kind, Resolver, Runtime, RuntimeError, Wish};
use runner::store::Store;

pub(crate) fn host() -> Wish {
    Wish { kind: Kind::Host { python: None }, python: Some("3.11".into()), tools: BTreeMap::new() }
}

pub(crate) fn resolve(home: &Path, wish: &Wish) -> Result<Runtime, RuntimeError> {
    resolve_locked(home, wish, false)
}

pub(crate) fn resolve_locked(home: &Path, wish: &Wish, locked: bool) -> Result<Runtime, RuntimeError> {
    let store = Store::open(home).expect("a store");
    let fetcher = Fetcher::new(FetchConfig::default(), store.clone()).expect("a fetcher");
    let lock = LockFile::beside(home);
    Runtime::resolve(wish, &Resolver { store: &store, home, fetcher: &fetcher, lock: &lock, locked })
}
