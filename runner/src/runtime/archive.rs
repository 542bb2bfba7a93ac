//! A standalone Python, such as python-build-standalone makes them, at `/opt/python` over the machine's `/usr`. Identified by
//! the archive's content and by the machine's packages.

use std::path::{Path, PathBuf};

use super::identity::Identities;
use super::{Parts, Record, Resolver, RuntimeError, host};
use crate::archive::{Format, unpack};
use crate::digest::Digest;
use crate::fetch::Request;
use crate::key::{Explanation, KeyBuilder};
use crate::sandbox::Mount;
use crate::store::Store;
use crate::tree::Entry;

pub(super) fn resolve(
    url: &str,
    sha256: &str,
    version: Option<&str>,
    resolver: &Resolver<'_>,
    identities: &mut Identities,
) -> Result<Parts, RuntimeError> {
    let name = url.rsplit('/').next().unwrap_or(url).to_owned();
    let format = match () {
        () if name.ends_with(".tar.zst") => Format::TarZstd,
        () if name.ends_with(".tar.xz") => Format::TarXz,
        () => Format::TarGzip,
    };
    let request =
        Request { source: "https".into(), url: url.into(), name: name.clone(), digest: format!("sha256:{sha256}") };
    let blobs = resolver.fetcher.get(&[request])?;
    let mut tree = unpack(resolver.store, &blobs[0], format, 1)?;
    // Archives with everything that the build made keep what is to be installed apart.
    if let Some(Entry::Tree { digest }) = resolver.store.lookup(&tree, "install")? {
        tree = digest;
    }
    of_tree(resolver.store, &tree, version, identities)
}

pub(super) fn of_tree(
    store: &Store,
    tree: &Digest,
    version: Option<&str>,
    identities: &mut Identities,
) -> Result<Parts, RuntimeError> {
    let fail = |why: String| RuntimeError::Python { path: PathBuf::from("/opt/python"), why };
    let found = python_version(store, tree)?.ok_or_else(|| fail("the archive holds no `bin/python3`".into()))?;
    if let Some(wanted) = version.filter(|wanted| !host::has_version(&found, wanted)) {
        return Err(fail(format!("the archive holds {found}, and `[app] python` is {wanted}")));
    }
    let mut key = (KeyBuilder::new("runtime archive").field("python", tree.as_bytes()), Explanation::default());
    let mut mounts = host::system(&mut key, identities)?;
    mounts.push(Mount::Bind { source: store.lay_out(tree)?, at: "/opt/python".into(), writable: false });
    let (key, made_of) = key;
    let record = Record::Archive { tree: *tree };
    Ok(Parts { record, digest: key.finish(), made_of, python: found, mounts, build: None })
}

/// What the headers say, for there is no need to run it.
fn python_version(store: &Store, tree: &Digest) -> Result<Option<String>, RuntimeError> {
    if store.lookup(tree, "bin/python3")?.is_none() {
        return Ok(None);
    }
    let Some(Entry::Tree { digest }) = store.lookup(tree, "include")? else { return Ok(None) };
    let includes = store.tree(&digest)?;
    for (name, _) in includes.entries() {
        let path = Path::new("include").join(name).join("patchlevel.h");
        if let Some(Entry::File { digest, .. }) = store.lookup(tree, &path.to_string_lossy())? {
            let header = store.get(&digest)?;
            let header = String::from_utf8_lossy(&header).into_owned();
            return Ok(header.lines().find_map(|line| {
                Some(line.strip_prefix("#define PY_VERSION")?.trim().trim_matches('"').trim_end_matches('+').to_owned())
            }));
        }
    }
    Ok(None)
}
