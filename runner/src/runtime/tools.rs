//! Programs that are no part of the runtime and that a pipeline wants in builds: shown at `/opt/tools/<name>`, identified by
//! content.
//!
//! A tool that has a directory of its own (`…/node-v22/bin/node`) is shown with all of it. One that lies among others
//! (`/usr/local/bin/node`) is shown alone, with the modules of its name (`/usr/local/lib/node_modules`) where there are any.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::RuntimeError;
use super::identity::Identities;
use crate::digest::Digest;
use crate::key::{Fields as _, KeyBuilder};
use crate::sandbox::Mount;

/// Directories that are no single tool's.
const SHARED: [&str; 4] = ["/", "/usr", "/usr/local", "/opt"];

/// The tools of a pipeline.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) names: Vec<String>,
    pub(super) digests: Vec<(String, Digest)>,
    pub(super) mounts: Vec<Mount>,
}

pub(super) fn resolve(wanted: &BTreeMap<String, PathBuf>, identities: &mut Identities) -> Result<Tools, RuntimeError> {
    let mut tools = Tools::default();
    for (name, path) in wanted {
        let missing = || RuntimeError::Tool { name: name.clone(), path: path.clone() };
        let real = path.canonicalize().map_err(|_| missing())?;
        let home = format!("/opt/tools/{name}");
        let digest = match own_directory(&real) {
            Some(directory) => {
                tools.mounts.push(bind(&directory, home));
                identities.directory(&directory)?
            }
            None => tools.add_alone(path, &real, &home, identities)?,
        };
        tools.names.push(name.clone());
        tools.digests.push((name.clone(), digest));
    }
    Ok(tools)
}

/// The directory that is all the tool's, where it has one.
fn own_directory(real: &Path) -> Option<PathBuf> {
    if real.is_dir() {
        return Some(real.to_owned());
    }
    let bin = real.parent()?;
    let prefix = bin.parent()?;
    let shared = SHARED.iter().any(|shared| prefix == Path::new(shared));
    (bin.file_name()? == "bin" && !shared).then(|| prefix.to_owned())
}

impl Tools {
    fn add_alone(
        &mut self,
        path: &Path,
        real: &Path,
        home: &str,
        identities: &mut Identities,
    ) -> Result<Digest, RuntimeError> {
        let program = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut key = KeyBuilder::new("tool").field("program", identities.file(real)?.as_bytes());
        self.mounts.push(bind(real, format!("{home}/bin/{program}")));
        let prefix = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let modules = prefix.join("lib").join(format!("{program}_modules"));
        if modules.is_dir() {
            key.add("modules", identities.directory(&modules)?.as_bytes());
            self.mounts.push(bind(&modules, format!("{home}/lib/{program}_modules")));
            for (name, target) in links_into(&prefix.join("bin"), &format!("../lib/{program}_modules/")) {
                key.add(&format!("bin/{name}"), target.as_bytes());
                self.mounts.push(Mount::Symlink { at: format!("{home}/bin/{name}"), target });
            }
        }
        Ok(key.finish())
    }
}

/// The links of a directory that lead to a place, in order.
fn links_into(bin: &Path, place: &str) -> BTreeMap<String, String> {
    let link = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
        target.starts_with(place).then_some((entry.file_name().to_str()?.to_owned(), target))
    };
    fs::read_dir(bin).map(|entries| entries.filter_map(|entry| link(entry.ok()?)).collect()).unwrap_or_default()
}

fn bind(source: &Path, at: String) -> Mount {
    Mount::Bind { source: source.to_owned(), at, writable: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_with_a_directory_of_its_own_is_shown_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let node = dir.path().canonicalize().expect("a path").join("node/bin/node");
        fs::create_dir_all(node.parent().expect("bin")).expect("directories");
        fs::write(&node, "node").expect("a file");
        let wanted = BTreeMap::from([("node".to_owned(), node.clone())]);
        let tools = resolve(&wanted, &mut Identities::default()).expect("tools");
        let prefix = node.ancestors().nth(2).expect("a prefix");
        assert_eq!(tools.mounts, [bind(prefix, "/opt/tools/node".into())]);
        fs::write(&node, "another").expect("a file");
        let again = resolve(&wanted, &mut Identities::default()).expect("tools");
        assert_ne!(tools.digests, again.digests);
    }

    #[test]
    fn a_missing_tool_is_named() {
        let wanted = BTreeMap::from([("node".to_owned(), PathBuf::from("/no/such/node"))]);
        let error = resolve(&wanted, &mut Identities::default()).expect_err("there is none");
        assert_eq!(error.to_string(), "the tool `node` is not at `/no/such/node`");
        assert_eq!(error.hint().expect("a hint"), "install it, or correct `[tools] node`");
    }
}
