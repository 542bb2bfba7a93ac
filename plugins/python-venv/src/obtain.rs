//! From the packages of a lock to their content: wheels unpacked, and sources to build.

use pipe_sdk::archive::{self, Format};
use pipe_sdk::fetch::{self, Found, Lookup, Request};
use pipe_sdk::{Blob, Failure, Kind, Tree, read};
use python_packaging::lock::{File, Formats, Git, Origin, Package};
use sha2::{Digest as _, Sha256};

use crate::layout::Interpreter;

/// A wheel, unpacked.
pub(crate) struct Wheel {
    /// The project, normalised.
    pub(crate) name: String,
    /// The version that was locked, where it was.
    pub(crate) version: Option<String>,
    /// The file's name, for messages.
    pub(crate) file: String,
    pub(crate) tree: Tree,
}

/// A project to build.
pub(crate) struct Source {
    /// Normalised.
    pub(crate) name: String,
    /// The version that was locked, where it was.
    pub(crate) version: Option<String>,
    /// Where in the project it is, if it is the project's own.
    pub(crate) place: Option<String>,
    /// The directory that holds `pyproject.toml` or `setup.py`.
    pub(crate) tree: Tree,
}

/// A package as it comes.
pub(crate) enum Content {
    Wheel(Wheel),
    Source(Source),
}

/// The tree that the lock lies in.
pub(crate) struct Project<'a>(pub(crate) Option<&'a Tree>);

/// A file of a package, and how it is used.
struct Wanted<'a> {
    package: &'a Package,
    file: File,
    kind: Use,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Wheel,
    Sdist,
}

/// The content of every package; all files are fetched in one call.
pub(crate) fn obtain(packages: &[Package], python: &Interpreter, project: &Project) -> Result<Vec<Content>, Failure> {
    let mut contents = Vec::with_capacity(packages.len());
    let mut wanted = Vec::new();
    let mut unnamed = Vec::new();
    for package in packages {
        match &package.origin {
            Origin::Wheel(file) => wanted.push(Wanted { package, file: file.clone(), kind: Use::Wheel }),
            Origin::Sdist(file) => wanted.push(Wanted { package, file: file.clone(), kind: Use::Sdist }),
            Origin::Hashes(_) => unnamed.push(package),
            Origin::Git(git) => contents.push(source(package, checkout(package, git)?, None)),
            Origin::Directory(directory) => {
                let tree = project.tree(package)?.subtree(&directory.path)?.ok_or_else(|| {
                    Failure::invalid(format!(
                        "`{}`: there is no directory `{}` in the project",
                        package.name, directory.path
                    ))
                    .hint("lock again, and see that `[source] exclude` and .gitignore leave it in")
                })?;
                contents.push(source(package, tree, Some(&directory.path)));
            }
        }
    }
    wanted.extend(find(&unnamed, python)?);
    let (local, remote): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|wanted| is_local(&wanted.file));
    for wanted in local {
        let blob = project.file(&wanted)?;
        contents.push(unpack(&wanted, &blob)?);
    }
    let requests: Vec<Request> = remote.iter().map(|wanted| request(&wanted.file)).collect();
    let blobs = if requests.is_empty() { Vec::new() } else { fetch::get(&requests)? };
    for (wanted, blob) in remote.iter().zip(&blobs) {
        contents.push(unpack(wanted, blob)?);
    }
    Ok(contents)
}

/// A file of an index, to fetch.
pub(crate) fn request(file: &File) -> Request {
    Request {
        source: "index".to_owned(),
        url: file.url.clone(),
        name: file.name.clone(),
        digest: format!("sha256:{}", file.sha256),
    }
}

/// A wheel of an index, unpacked.
pub(crate) fn unpack_wheel(name: &str, version: Option<&str>, file: &str, blob: &Blob) -> Result<Wheel, Failure> {
    let tree = archive::unpack(blob, Format::Zip, 0).map_err(|failure| in_file(failure, file))?;
    Ok(Wheel { name: name.to_owned(), version: version.map(str::to_owned), file: file.to_owned(), tree })
}

fn unpack(wanted: &Wanted, blob: &Blob) -> Result<Content, Failure> {
    let Wanted { package, file, kind } = wanted;
    if *kind == Use::Wheel {
        return unpack_wheel(&package.name, package.version.as_deref(), &file.name, blob).map(Content::Wheel);
    }
    let format = format_of(&file.name).ok_or_else(|| {
        Failure::invalid(format!("`{}` is not a source distribution: its format is not known", file.name))
            .hint(format!("lock a version of `{}` that has a wheel, a .tar.gz or a .zip", package.name))
    })?;
    let tree = archive::unpack(blob, format, 0).map_err(|failure| in_file(failure, &file.name))?;
    let top = only_directory(tree)?;
    let tree = below(package, top, file.subdirectory.as_deref())?;
    Ok(source(package, tree, None))
}

fn source(package: &Package, tree: Tree, place: Option<&String>) -> Content {
    Content::Source(Source {
        name: package.name.clone(),
        version: package.version.clone(),
        place: place.cloned(),
        tree,
    })
}

fn checkout(package: &Package, git: &Git) -> Result<Tree, Failure> {
    below(package, fetch::git(&git.url, &git.commit)?, git.subdirectory.as_deref())
}

fn below(package: &Package, tree: Tree, subdirectory: Option<&str>) -> Result<Tree, Failure> {
    let Some(path) = subdirectory else { return Ok(tree) };
    tree.subtree(path)?.ok_or_else(|| {
        Failure::invalid(format!("`{}`: there is no directory `{path}` in its sources", package.name))
            .hint("lock again")
    })
}

/// An archive of sources holds one directory, named after the project and its version.
fn only_directory(tree: Tree) -> Result<Tree, Failure> {
    let entries = tree.entries("")?.unwrap_or_default();
    // Some archives carry a file of metadata beside it.
    let mut directories = entries.iter().filter(|entry| entry.kind == Kind::Directory);
    match (directories.next(), directories.next()) {
        (Some(only), None) if tree.kind("pyproject.toml")?.is_none() && tree.kind("setup.py")?.is_none() => {
            Ok(tree.subtree(&only.name)?.unwrap_or(tree))
        }
        _ => Ok(tree),
    }
}

/// The files of packages of which the lock has only hashes; all are looked up in one call.
fn find<'a>(packages: &[&'a Package], python: &Interpreter) -> Result<Vec<Wanted<'a>>, Failure> {
    let lookup = |package: &&Package| {
        let Origin::Hashes(hashes) = &package.origin else { return None };
        let digests = hashes.iter().filter(|hash| hash.starts_with("sha256:")).cloned().collect();
        Some(Lookup { project: package.name.clone(), digests })
    };
    let lookups: Vec<Lookup> = packages.iter().filter_map(lookup).collect();
    let found = if lookups.is_empty() { Vec::new() } else { fetch::find_all("index", &lookups)? };
    packages.iter().zip(&found).map(|(package, found)| choose(package, found, python)).collect()
}

/// The wheel that fits best, else the sources, as far as the lock admits them.
fn choose<'a>(package: &'a Package, found: &[Found], python: &Interpreter) -> Result<Wanted<'a>, Failure> {
    let named = || found.iter().map(|file| file.name.as_str());
    let best = named().filter(|_| package.formats.admits_wheels());
    let chosen = match python.tags.best(best) {
        Some(name) => found.iter().find(|file| file.name == name).map(|file| (file, Use::Wheel)),
        None if package.formats.admits_sources() => {
            found.iter().find(|file| format_of(&file.name).is_some()).map(|file| (file, Use::Sdist))
        }
        None => None,
    };
    let Some((file, kind)) = chosen else { return Err(no_file(package, found.len(), python.tags.wanted())) };
    let sha256 = file.digest.strip_prefix("sha256:").unwrap_or(&file.digest).to_owned();
    let file = File { name: file.name.clone(), url: file.url.clone(), sha256, subdirectory: None };
    Ok(Wanted { package, file, kind })
}

fn no_file(package: &Package, found: usize, tag: &str) -> Failure {
    let name = &package.name;
    match found {
        0 => Failure::failed(format!("`{name}`: no index has a file with one of the locked hashes"))
            .hint("name the index that it was locked from in `[index]`, or lock again"),
        _ => {
            let what = match package.formats {
                Formats::Any => format!("is for {tag}, and none is a source"),
                Formats::Wheels => format!("is a wheel for {tag}, and `--only-binary` admits no sources"),
                Formats::Sources => "is a source, and `--no-binary` admits no wheels".to_owned(),
            };
            Failure::failed(format!("`{name}`: none of the locked files {what}"))
                .hint("lock again for the Python and the platform that the pipeline names")
        }
    }
}

impl Project<'_> {
    fn tree(&self, package: &Package) -> Result<&Tree, Failure> {
        self.0.ok_or_else(|| {
            Failure::invalid(format!("`{}` is in the project, and this step does not see the project", package.name))
                .hint("add `project = \"source\"` to this step's inputs")
        })
    }

    /// A file that lies in the project, which must be what was locked.
    fn file(&self, wanted: &Wanted) -> Result<Blob, Failure> {
        let path = wanted.file.url.trim_start_matches("./");
        let blob = self.tree(wanted.package)?.open(path)?.ok_or_else(|| {
            Failure::invalid(format!("`{}`: there is no file `{path}` in the project", wanted.package.name))
                .hint("lock again, and see that .gitignore leaves it in")
        })?;
        let actual = format!("{:x}", Sha256::digest(read(&blob)?));
        if wanted.file.sha256.is_empty() || actual == wanted.file.sha256 {
            return Ok(blob);
        }
        Err(Failure::invalid(format!("`{path}` is sha256:{actual}, and the lock says sha256:{}", wanted.file.sha256))
            .hint("lock again if the change is meant"))
    }
}

fn is_local(file: &File) -> bool {
    !file.url.is_empty() && !file.url.contains("://")
}

/// Whether a file is called as source distributions are.
pub(crate) fn is_sdist(name: &str) -> bool {
    format_of(name).is_some()
}

/// How a source distribution is packed.
fn format_of(name: &str) -> Option<Format> {
    let known = [
        (".tar.gz", Format::TarGzip),
        (".tgz", Format::TarGzip),
        (".zip", Format::Zip),
        (".tar.bz2", Format::TarBzip2),
        (".tar.xz", Format::TarXz),
        (".tar", Format::Tar),
    ];
    known.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
}

/// Says which file a failure is about.
fn in_file(failure: Failure, file: &str) -> Failure {
    Failure { message: format!("`{file}`: {}", failure.message), ..failure }
}
