//! Builds twice, from two copies of the project in two directories and into two homes, and says whether the slugs are the
//! same bytes. How a build is done is the caller's: nothing here knows of steps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::paths::plain;
use crate::slug::{self, Change, Manifest, Pack, Record, SlugError};
use crate::store::{Store, StoreError};

/// What two builds gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The same slug, and the same file to the last byte.
    Same {
        /// The slug.
        id: crate::digest::Digest,
        /// The bytes of its `tar.zst`.
        pack: Pack,
    },
    /// Two slugs.
    Different {
        /// The id from the first build, and that from the second.
        ids: [crate::digest::Digest; 2],
        /// The first path that differs, from the top of the slug.
        first: Change,
        /// How many paths differ below `app`.
        paths: usize,
    },
    /// One slug that was packed to two files.
    PackedDifferently {
        /// The slug.
        id: crate::digest::Digest,
        /// What the bytes were.
        packs: [Pack; 2],
    },
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError<E: std::error::Error + 'static> {
    /// A copy of the project could not be made.
    #[error("cannot copy `{}`", .path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A build failed.
    #[error(transparent)]
    Build(E),
    /// A slug could not be looked at.
    #[error(transparent)]
    Slug(#[from] SlugError),
}

impl<E: std::error::Error + 'static> From<StoreError> for VerifyError<E> {
    fn from(error: StoreError) -> Self {
        Self::Slug(error.into())
    }
}

/// Builds the pipeline `file` twice. What is copied is the nearest directory that holds both the file and `source`, the directory
/// that the pipeline builds, and what the pipeline reads outside of it: the files and directories of `beside` that are relative to
/// the pipeline file. The second copy is one of the first, so that both build from the same lock. `build` gets a copy of the
/// pipeline file and a new home, keeps what it downloads wherever it likes as long as it verifies it, and gives the slug.
pub fn verify<E: std::error::Error + 'static>(
    file: &Path,
    source: &Path,
    beside: &[&Path],
    build: impl Fn(&Path, &Path) -> Result<Record, E>,
) -> Result<Verdict, VerifyError<E>> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| VerifyError::Copy { path, source }
    };
    // A pipeline that is built in has no file: its path only says where it would be.
    let name = file.file_name().map(PathBuf::from).unwrap_or_default();
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = directory.canonicalize().map_err(unusable(directory))?;
    let source = source.canonicalize().map_err(unusable(source))?;
    let layout = Layout::of(&directory, &source, beside);
    let below = directory.strip_prefix(&layout.top).unwrap_or(Path::new("")).join(name);

    let scratch = tempfile::tempdir().map_err(unusable(&std::env::temp_dir()))?;
    // Of different lengths, so that a path which gets into an output shows there too.
    let places = ["a", "another/directory"].map(|name| scratch.path().join(name));
    let mut slugs = Vec::new();
    let mut original = layout.top.clone();
    for place in &places {
        let (project, home) = (place.join("project"), place.join("home"));
        layout.copy(&original, &project).map_err(|(path, source)| VerifyError::Copy { path, source })?;
        original = project;
        let record = build(&original.join(&below), &home).map_err(VerifyError::Build)?;
        slugs.push((Store::open(&home)?, record));
    }
    Ok(compare(&slugs[0], &slugs[1])?)
}

fn compare(a: &(Store, Record), b: &(Store, Record)) -> Result<Verdict, SlugError> {
    let sides = ((&a.0, &a.1.tree), (&b.0, &b.1.tree));
    let (id, _) = Manifest::read(&a.0, &a.1.tree)?;
    let (other, _) = Manifest::read(&b.0, &b.1.tree)?;
    if let Some(first) = slug::first_difference(sides.0, sides.1)? {
        let changes = slug::trees(sides.0, sides.1)?;
        let paths = changes.iter().filter(|change| change.name.starts_with("app/")).count();
        return Ok(Verdict::Different { ids: [id, other], first, paths });
    }
    let packs = [slug::pack(&a.0, &a.1, io::sink())?, slug::pack(&b.0, &b.1, io::sink())?];
    if packs[0] != packs[1] {
        return Ok(Verdict::PackedDifferently { id, packs });
    }
    let [pack, _] = packs;
    Ok(Verdict::Same { id, pack })
}

/// What is copied, and where it lies.
struct Layout {
    /// Above all of it.
    top: PathBuf,
    /// What is below the top: the directory with the project, and what lies outside of that.
    parts: Vec<PathBuf>,
}

impl Layout {
    fn of(directory: &Path, source: &Path, beside: &[&Path]) -> Self {
        // What has an absolute path is found from the copies too.
        let named = beside.iter().filter(|path| path.is_relative()).map(|path| plain(&directory.join(path)));
        let named: Vec<PathBuf> = named.collect();
        let root = common(directory, source);
        // A directory that holds the project is copied with it.
        let root =
            named.iter().filter(|path| root.starts_with(path)).fold(root.clone(), |root, path| common(&root, path));
        let outside = named.into_iter().filter(|path| !path.starts_with(&root));
        let mut parts = vec![root.clone()];
        for path in outside {
            if !parts.iter().any(|part| path.starts_with(part)) {
                parts.push(path);
            }
        }
        let top = parts.iter().skip(1).fold(root, |top, path| common(&top, path.parent().unwrap_or(path)));
        let below = |part: PathBuf| part.strip_prefix(&top).map(Path::to_owned).unwrap_or(part);
        let parts = parts.into_iter().map(below).collect();
        Self { top, parts }
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
        for part in &self.parts {
            let (source, target) = (from.join(part), to.join(part));
            let parent = target.parent().unwrap_or(to);
            fs::create_dir_all(parent).map_err(|error| (parent.to_owned(), error))?;
            if source.is_dir() {
                copy(&source, &target)?;
            } else {
                fs::copy(&source, &target).map_err(|error| (source, error))?;
            }
        }
        Ok(())
    }
}

/// The nearest directory above both.
fn common(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Copies a directory as it is, without what can be made again: directories that say so by a `CACHEDIR.TAG`
/// (<https://bford.info/cachedir/>), and of `.git` all but what tells ignored files.
fn copy(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    fs::create_dir(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(at(&source))?;
        if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(at(&source))?;
            std::os::unix::fs::symlink(link, &target).map_err(at(&target))?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(at(&source))?;
        } else if kind.is_dir() && entry.file_name() == ".git" {
            fs::create_dir(&target).map_err(at(&target))?;
            if source.join("info").is_dir() {
                copy(&source.join("info"), &target.join("info"))?;
            }
        } else if kind.is_dir() && !source.join("CACHEDIR.TAG").is_file() {
            copy(&source, &target)?;
        }
    }
    Ok(())
}

impl Verdict {
    /// Whether the builds gave the same bytes.
    pub fn is_same(&self) -> bool {
        matches!(self, Self::Same { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::store::{Conflict, TreeBuilder};
    use crate::tree::Entry;

    /// Makes a slug of `views.py` beside the pipeline file; `stain` is what a build that isn't reproducible adds.
    fn build(file: &Path, home: &Path, stain: &str) -> Result<Record, SlugError> {
        let project = file.parent().expect("a directory");
        assert!(!project.join("target").exists(), "a cache was copied");
        let store = Store::open(home)?;
        let text = fs::read_to_string(project.join("views.py")).expect("the project's copy") + stain;
        let mut builder = TreeBuilder::new(&store, None)?;
        builder.put("views.py", Entry::File { digest: store.put(text.as_bytes())?, executable: false })?;
        let src = builder.finish()?;
        let manifest = format!(
            r#"{{"app":"a","format":1,"platform":"p","processes":{{}},"runtime":"{}","trees":{{"src":"{src}"}}}}"#,
            Digest::of(b"runtime")
        );
        let id = store.put(manifest.as_bytes())?;
        let mut builder = TreeBuilder::new(&store, None)?;
        builder.put("manifest.json", Entry::File { digest: id, executable: false })?;
        builder.put_tree("app/src", &src, Conflict::Refuse)?;
        let tree = builder.finish()?;
        store.flush()?;
        Ok(Record { id, tree, app: "a".into(), created: 0, built: 0, attestation: None, believed_since: None })
    }

    fn project() -> tempfile::TempDir {
        let project = tempfile::tempdir().expect("a directory");
        fs::write(project.path().join("views.py"), "x").expect("written");
        fs::create_dir(project.path().join("target")).expect("made");
        fs::write(project.path().join("target/CACHEDIR.TAG"), "").expect("written");
        project
    }

    #[test]
    fn a_build_that_depends_on_its_inputs_only_is_the_same_twice() {
        let project = project();
        let file = project.path().join("release.pipeline");
        let verdict = verify(&file, project.path(), &[], |file, home| build(file, home, "")).expect("a verdict");
        assert!(verdict.is_same(), "{verdict:?}");
    }

    #[test]
    fn a_build_that_keeps_its_directory_shows_the_path() {
        let project = project();
        let file = project.path().join("release.pipeline");
        let stained = |file: &Path, home: &Path| build(file, home, &file.display().to_string());
        match verify(&file, project.path(), &[], stained).expect("a verdict") {
            Verdict::Different { ids, first, paths } => {
                assert_ne!(ids[0], ids[1]);
                assert_eq!((first.name.as_str(), paths), ("app/src/views.py", 1));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_pipeline_reads_outside_of_its_project_is_copied_too() {
        let top = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("site/app/views.py", "x");
        write("steps/greet.wasm", "greet");
        write("steps/other.wasm", "other");
        write("wheels/a.whl", "a");
        let file = top.path().join("site/app/release.pipeline");
        let beside = ["../../steps/greet.wasm", "../../wheels", "./views.py", "/nowhere"].map(Path::new);
        let reads = |file: &Path, home: &Path| {
            let directory = file.parent().expect("a directory");
            assert!(!directory.join("../../steps/other.wasm").exists(), "nobody asked for it");
            let read = |path: &str| fs::read_to_string(directory.join(path)).expect("it was copied");
            assert_eq!(read("../../steps/greet.wasm") + &read("../../wheels/a.whl"), "greeta");
            build(file, home, "")
        };
        let verdict = verify(&file, file.parent().expect("a directory"), &beside, reads).expect("a verdict");
        assert!(verdict.is_same(), "{verdict:?}");
        // Where one of them holds the project, that is what is copied.
        let above = [Path::new("..")];
        let verdict = verify(&file, file.parent().expect("a directory"), &above, |file, home| build(file, home, ""));
        assert!(verdict.expect("a verdict").is_same());
    }

    #[test]
    fn the_common_directory_is_the_nearest() {
        assert_eq!(common(Path::new("/a/b/c"), Path::new("/a/b/d")), Path::new("/a/b"));
        assert_eq!(common(Path::new("/a/b"), Path::new("/a/b/d")), Path::new("/a/b"));
    }
}
