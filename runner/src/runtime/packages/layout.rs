//! Merges packages into one tree, and does by rule what their scripts would have done: links of alternatives, the file of all
//! certificates.

use std::io::{self, Write};

use crate::digest::Digest;
use crate::runtime::RuntimeError;
use crate::store::{Conflict, Store, TreeBuilder};
use crate::tree::Entry;

/// Raised when the same packages would give another tree.
pub(super) const RULES: &[u8] = b"2";

/// Directories that are links into `/usr`, whatever a package says.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What no program reads.
const LEFT_OUT: [&str; 6] =
    ["usr/share/bug", "usr/share/doc", "usr/share/doc-base", "usr/share/info", "usr/share/lintian", "usr/share/man"];

/// Links that `update-alternatives` and scripts make, where what they lead to is there and they are not.
const LINKS: [(&str, &str); 13] = [
    ("usr/bin/awk", "mawk"),
    ("usr/bin/c++", "g++"),
    ("usr/bin/c89", "c89-gcc"),
    ("usr/bin/c99", "c99-gcc"),
    ("usr/bin/cc", "gcc"),
    ("usr/bin/f77", "gfortran"),
    ("usr/bin/f95", "gfortran"),
    ("usr/bin/sh", "dash"),
    ("usr/bin/which", "which.debianutils"),
    ("usr/lib/x86_64-linux-gnu/libblas.so.3", "blas/libblas.so.3"),
    ("usr/lib/x86_64-linux-gnu/liblapack.so.3", "lapack/liblapack.so.3"),
    ("usr/lib/aarch64-linux-gnu/libblas.so.3", "blas/libblas.so.3"),
    ("usr/lib/aarch64-linux-gnu/liblapack.so.3", "lapack/liblapack.so.3"),
];

/// Where the certificates of public authorities lie one by one, and where libraries want them in one file.
const CERTIFICATES: &str = "usr/share/ca-certificates/mozilla";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
const BUNDLE_LINK: (&str, &str) = ("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt");

/// One tree with `usr` and `etc`; later packages win over earlier ones.
pub(super) fn merge(store: &Store, packages: &[Digest]) -> Result<Digest, RuntimeError> {
    let mut builder = TreeBuilder::new(store, None)?;
    for package in packages {
        for (name, entry) in store.tree(package)?.entries() {
            let path = match name {
                name if MERGED.contains(&name) => format!("usr/{name}"),
                "usr" | "etc" | "opt" => name.to_owned(),
                _ => continue,
            };
            if let Entry::Tree { digest } = entry {
                builder.put_tree(&path, digest, Conflict::Replace)?;
            }
        }
    }
    for path in LEFT_OUT {
        builder.remove(path)?;
    }
    // Named once, so that what is in it can be looked up.
    let tree = builder.finish()?;
    let mut builder = TreeBuilder::new(store, Some(&tree))?;
    for (path, target) in LINKS {
        let place = path.rsplit_once('/').map_or(target.to_owned(), |(dir, _)| format!("{dir}/{target}"));
        if store.lookup(&tree, path)?.is_none() && store.lookup(&tree, &place)?.is_some() {
            builder.put(path, Entry::Symlink { target: target.to_owned() })?;
        }
    }
    add_certificates(store, &tree, &mut builder)?;
    Ok(builder.finish()?)
}

fn add_certificates(store: &Store, tree: &Digest, builder: &mut TreeBuilder) -> Result<(), RuntimeError> {
    let Some(Entry::Tree { digest }) = store.lookup(tree, CERTIFICATES)? else { return Ok(()) };
    let failed = |error: io::Error| RuntimeError::Damaged { name: "ca-certificates".into(), why: error.to_string() };
    let mut bundle = store.writer()?;
    for (_, entry) in store.tree(&digest)?.entries() {
        if let Entry::File { digest, .. } = entry {
            bundle.write_all(&store.get(digest)?).map_err(failed)?;
        }
    }
    builder.put(BUNDLE, Entry::File { digest: bundle.finish()?, executable: false })?;
    Ok(builder.put(BUNDLE_LINK.0, Entry::Symlink { target: BUNDLE_LINK.1.to_owned() })?)
}
