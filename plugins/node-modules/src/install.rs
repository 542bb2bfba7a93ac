//! Makes the tree of the selected packages: everything is fetched in one call, and trees are put together as values.

use std::collections::BTreeMap;

use pipe_sdk::archive::{self, Format};
use pipe_sdk::{Blob, Conflict, Failure, Kind, Tree, TreeBuilder, fetch};

use crate::bins::{self, BinLink};
use crate::lock::{Lock, join};
use crate::origin::{Archive, Origin};

/// Bytes of a program in which its first line is looked for.
const FIRST_LINE: u32 = 2048;

/// The tree of the lock's directory with `places` in it.
pub(crate) fn install(project: &Tree, root: &str, lock: &Lock, places: &[&str]) -> Result<Tree, Failure> {
    let mut origins = Vec::with_capacity(places.len());
    for place in places {
        origins.push((*place, Origin::of(place, &lock.packages[*place], root)?));
    }
    let archives = unpack_all(&origins)?;
    let builder = TreeBuilder::new(None);
    for (place, origin) in &origins {
        match origin {
            Origin::Bundled => {}
            Origin::Link(target) => builder.put_symlink(place, target)?,
            Origin::Archive(archive) => put(&builder, place, &archives[archive.digest.as_str()])?,
            Origin::Git { url, commit } => put(&builder, place, &fetch::git(url, commit)?)?,
            Origin::File(path) => {
                let archive = project.open(path)?.ok_or_else(|| not_there(place, path))?;
                put(&builder, place, &unpack(&archive)?)?;
            }
            Origin::Directory(path) => {
                put(&builder, place, &project.subtree(path)?.ok_or_else(|| not_there(place, path))?)?;
            }
        }
    }
    let installed = TreeBuilder::finish(builder)?;
    let programs = TreeBuilder::new(Some(&installed));
    for bin in bins::links(lock, places) {
        link_program(&programs, &installed, &bin)?;
    }
    TreeBuilder::finish(programs)
}

/// Puts a package at its place, and nothing else: what its parent's archive had there goes.
fn put(builder: &TreeBuilder, place: &str, content: &Tree) -> Result<(), Failure> {
    builder.remove(place)?;
    builder.put_tree(place, content, Conflict::Replace)
}

fn not_there(place: &str, path: &str) -> Failure {
    Failure::invalid(format!("`{place}` is `{path}`, says the lock, and the project has no such thing"))
        .hint("see that neither `exclude` nor a `.gitignore` leaves it out of the source")
}

/// Fetches and unpacks all archives, each once; the trees are by digest.
fn unpack_all<'a>(origins: &'a [(&str, Origin)]) -> Result<BTreeMap<&'a str, Tree>, Failure> {
    let mut wanted: BTreeMap<&str, &Archive> = BTreeMap::new();
    for (_, origin) in origins {
        if let Origin::Archive(archive) = origin {
            wanted.entry(&archive.digest).or_insert(archive);
        }
    }
    let requests: Vec<fetch::Request> = wanted.values().map(|archive| request(archive)).collect();
    let blobs = fetch::get(&requests)?;
    let total = blobs.len() as u64;
    let mut trees = BTreeMap::new();
    for (done, (digest, blob)) in (1..).zip(wanted.keys().zip(blobs)) {
        trees.insert(*digest, unpack(&blob)?);
        pipe_sdk::progress(done, Some(total), "packages");
    }
    Ok(trees)
}

fn request(archive: &Archive) -> fetch::Request {
    let Archive { source, url, name, digest } = archive.clone();
    fetch::Request { source: source.to_owned(), url, name, digest }
}

/// Unpacks an archive of npm as npm does: what git is to ignore was meant for the author's machine.
fn unpack(archive: &Blob) -> Result<Tree, Failure> {
    let tree = archive::unpack(archive, Format::TarGzip, 1)?;
    let ignores = tree.glob(&["**/.gitignore".to_owned()], &[])?;
    if ignores.is_empty() {
        return Ok(tree);
    }
    let builder = TreeBuilder::new(Some(&tree));
    for path in ignores {
        let renamed = format!("{}.npmignore", path.trim_end_matches(".gitignore"));
        if let (Some(content), None) = (tree.open(&path)?, tree.kind(&renamed)?) {
            builder.put_file(&renamed, &content, false)?;
        }
        builder.remove(&path)?;
    }
    TreeBuilder::finish(builder)
}

/// Makes one link of `.bin`, and its program one that the system can start. A program that is missing has no link.
fn link_program(builder: &TreeBuilder, installed: &Tree, bin: &BinLink<'_>) -> Result<(), Failure> {
    if installed.kind(bin.package)? == Some(Kind::Symlink) {
        return builder.put_symlink(&bin.link, &bin.target);
    }
    let path = join(bin.package, &bin.file);
    let Some(kind) = installed.kind(&path)? else { return Ok(()) };
    builder.put_symlink(&bin.link, &bin.target)?;
    let Some(program) = installed.open(&path)? else { return Ok(()) };
    if let Some(end) = dos_shebang(&program.read(0, FIRST_LINE)?) {
        let mut text = pipe_sdk::read(&program)?;
        text.remove(end - 1);
        builder.put_file(&path, &pipe_sdk::blob(&text)?, true)
    } else if kind == Kind::File {
        builder.put_file(&path, &program, true)
    } else {
        Ok(())
    }
}

/// Where the first line ends, if it names an interpreter and ends as on Windows: no system finds `node\r`.
fn dos_shebang(program: &[u8]) -> Option<usize> {
    let end = program.iter().position(|&byte| byte == b'\n')?;
    (program.starts_with(b"#!") && program[end - 1] == b'\r').then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_a_program_is_mended() {
        assert_eq!(dos_shebang(b"#!/usr/bin/env node\r\nx\r\n"), Some(20));
        assert_eq!(dos_shebang(b"#!/usr/bin/env node\nx\r\n"), None);
        assert_eq!(dos_shebang(b"x\r\n"), None);
        assert_eq!(dos_shebang(b"\n"), None);
        assert_eq!(dos_shebang(b""), None);
    }
}
