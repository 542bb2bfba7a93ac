//! The cache in which the loader looks libraries up. Programs ask it too where a library is, as Python's `ctypes.util.find_library`
//! does, and find none without it. Written by the `ldconfig` of the packages, which sees nothing but them.

use std::io::Read;

use super::{Mount, mounts_of};
use crate::digest::Digest;
use crate::runtime::RuntimeError;
use crate::sandbox::{self, Ended, Found, Monitors, Run, Spec};
use crate::store::{Store, TreeBuilder};
use crate::tree::Entry;

const LDCONFIG: &str = "usr/sbin/ldconfig";
const CACHE: &str = "etc/ld.so.cache";
/// Where it is written, in the root.
const WRITTEN: &str = "/tmp/ld.so.cache";

/// The tree with the cache, where its packages can write one.
pub(super) fn add_cache(store: &Store, tree: Digest) -> Result<Digest, RuntimeError> {
    if store.lookup(&tree, LDCONFIG)?.is_none() {
        return Ok(tree);
    }
    let digest = cache(store, mounts_of(store, &tree)?)?;
    let mut builder = TreeBuilder::new(store, Some(&tree))?;
    builder.put(CACHE, Entry::File { digest, executable: false })?;
    Ok(builder.finish()?)
}

fn cache(store: &Store, mounts: Vec<Mount>) -> Result<Digest, RuntimeError> {
    // Links to libraries come with the packages.
    let spec = Spec { mounts, ..Spec::new(["/usr/sbin/ldconfig", "-X", "-C", WRITTEN]) };
    let failed = |why: String| RuntimeError::Damaged { name: "libc-bin".into(), why };
    let keep = |root: &sandbox::Root| {
        let found = root.open(WRITTEN).map_err(|error| failed(error.to_string()))?;
        let Found::File { mut file, .. } = found else { return Err(failed("its `ldconfig` writes nothing".into())) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        Ok(store.put(&bytes)?)
    };
    let outcome = sandbox::run(&Monitors::default(), &spec, Run::default(), |_, _| (), |root, _| keep(root))?;
    match (outcome.ended, outcome.collected) {
        (Ended::Exited(0), Some(kept)) => kept,
        _ => Err(failed(format!("its `ldconfig` failed: {}", String::from_utf8_lossy(&outcome.stderr).trim()))),
    }
}
