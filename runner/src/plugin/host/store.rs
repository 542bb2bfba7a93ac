//! Blobs and trees, read and made. Each read is recorded.

use std::io::{Read, Seek, SeekFrom, Write};

use wasmtime::component::Resource;

use super::{Blob, Builder, Code, Failure, Host, Observation, Origin, Place, Tree, Writer};
use crate::plugin::bindings::pipe::step::store as wit;
use crate::plugin::observe::{kind_name, listing, names_digest};
use crate::store::{Conflict, Globs, StoreError, TreeBuilder};
use crate::tree::Entry;

/// The longest target of a link, in bytes: the kernel makes no longer one.
const LONGEST_TARGET: usize = 4095;

/// The most that one read gives, in bytes.
const MAX_READ: u32 = 16 << 20;

fn below(origin: &Origin, path: &str) -> Origin {
    origin.as_ref().map(|place| Place { input: place.input, path: crate::store::join(&place.path, path) })
}

fn kind(entry: &Entry) -> wit::Kind {
    match entry {
        Entry::File { executable: false, .. } => wit::Kind::File,
        Entry::File { executable: true, .. } => wit::Kind::Executable,
        Entry::Symlink { .. } => wit::Kind::Symlink,
        Entry::Tree { .. } => wit::Kind::Directory,
    }
}

impl Host {
    /// What is at a path below a handle, with where that is in the inputs.
    fn entry(&mut self, tree: &Resource<Tree>, path: &str) -> Result<(Option<Entry>, Origin), Failure> {
        self.count()?;
        let tree = self.table.get(tree)?;
        let entry = self.store.lookup(&tree.digest, path)?;
        Ok((entry, below(&tree.origin, path)))
    }

    fn observe_kind(&mut self, origin: &Origin, entry: Option<&Entry>) -> Result<(), Failure> {
        let kind = entry.map(|entry| kind_name(entry).to_owned());
        self.observe(origin, |at| Observation::Kind { at, kind })
    }

    fn globs(&mut self, include: &[String], exclude: &[String]) -> Result<Globs, Failure> {
        include.iter().chain(exclude).try_for_each(|glob| self.hold(glob))?;
        Globs::new(include, exclude).map_err(|error| Failure::of(Code::InvalidConfig, &error).hint(error.hint()))
    }
}

impl wit::Host for Host {}

impl wit::HostBlob for Host {
    fn digest(&mut self, blob: Resource<Blob>) -> wasmtime::Result<String> {
        let (digest, origin) = {
            let blob = self.table.get(&blob)?;
            (blob.digest, blob.origin.clone())
        };
        self.observe_content(&origin, digest)?;
        Ok(digest.to_string())
    }

    fn size(&mut self, blob: Resource<Blob>) -> wasmtime::Result<u64> {
        let (digest, origin) = {
            let blob = self.table.get(&blob)?;
            (blob.digest, blob.origin.clone())
        };
        self.observe_content(&origin, digest)?;
        Ok(self.store.size(&digest)?)
    }

    fn read(&mut self, blob: Resource<Blob>, offset: u64, len: u32) -> Result<Vec<u8>, Failure> {
        self.count()?;
        let store = self.store.clone();
        let blob = self.table.get_mut(&blob)?;
        let (digest, origin) = (blob.digest, blob.origin.clone());
        let size = store.size(&digest)?;
        let reader = match &mut blob.reader {
            Some(reader) => reader,
            none => {
                let reader = none.insert(store.open_blob(&digest)?);
                self.memory.grow(reader.held())?;
                reader
            }
        };
        let len = u64::from(len.min(MAX_READ)).min(size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.read_exact(&mut bytes))
            .map_err(|error| Failure::of(Code::Unavailable, &error))?;
        self.observe_content(&origin, digest)?;
        Ok(bytes)
    }

    fn drop(&mut self, blob: Resource<Blob>) -> wasmtime::Result<()> {
        let reader = self.table.delete(blob)?.reader;
        self.memory.shrink(reader.map_or(0, |reader| reader.held()));
        Ok(())
    }
}

impl wit::HostTree for Host {
    fn digest(&mut self, tree: Resource<Tree>) -> wasmtime::Result<String> {
        let (digest, origin) = {
            let tree = self.table.get(&tree)?;
            (tree.digest, tree.origin.clone())
        };
        self.observe_content(&origin, digest)?;
        Ok(digest.to_string())
    }

    fn kind(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<wit::Kind>, Failure> {
        let (entry, origin) = self.entry(&tree, &path)?;
        self.observe_kind(&origin, entry.as_ref())?;
        Ok(entry.as_ref().map(kind))
    }

    fn entries(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<Vec<wit::Entry>>, Failure> {
        let (entry, origin) = self.entry(&tree, &path)?;
        let Some(Entry::Tree { digest }) = entry else {
            self.observe(&origin, |at| Observation::Entries { at, listing: None })?;
            return Ok(None);
        };
        let seen = listing(&self.store, &digest)?;
        self.observe(&origin, |at| Observation::Entries { at, listing: Some(seen) })?;
        let tree = self.store.tree(&digest)?;
        Ok(Some(tree.entries().map(|(name, entry)| wit::Entry { name: name.to_owned(), kind: kind(entry) }).collect()))
    }

    fn open(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<Resource<Blob>>, Failure> {
        let (entry, origin) = self.entry(&tree, &path)?;
        self.observe_kind(&origin, entry.as_ref())?;
        match entry {
            Some(Entry::File { digest, .. }) => Ok(Some(self.table.push(Blob { digest, origin, reader: None })?)),
            _ => Ok(None),
        }
    }

    fn read_link(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<String>, Failure> {
        let (entry, origin) = self.entry(&tree, &path)?;
        let target = match entry {
            Some(Entry::Symlink { target }) => Some(target),
            _ => None,
        };
        self.observe(&origin, |at| Observation::Link { at, target: target.clone() })?;
        Ok(target)
    }

    fn subtree(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<Resource<Tree>>, Failure> {
        let (entry, origin) = self.entry(&tree, &path)?;
        self.observe_kind(&origin, entry.as_ref())?;
        match entry {
            Some(Entry::Tree { digest }) => Ok(Some(self.table.push(Tree { digest, origin })?)),
            _ => Ok(None),
        }
    }

    fn glob(
        &mut self,
        tree: Resource<Tree>,
        include: Vec<String>,
        exclude: Vec<String>,
    ) -> Result<Vec<String>, Failure> {
        self.count()?;
        let globs = self.globs(&include, &exclude)?;
        let Tree { digest, origin } = self.table.get(&tree)?;
        let (digest, origin) = (*digest, origin.clone());
        let found = self.store.glob(&digest, &globs)?;
        let names = names_digest(&found);
        self.observe(&origin, |at| Observation::Glob { at, include, exclude, names })?;
        Ok(found)
    }

    fn select(
        &mut self,
        tree: Resource<Tree>,
        include: Vec<String>,
        exclude: Vec<String>,
    ) -> Result<Resource<Tree>, Failure> {
        self.count()?;
        let globs = self.globs(&include, &exclude)?;
        let Tree { digest, origin } = self.table.get(&tree)?;
        let (digest, origin) = (*digest, origin.clone());
        let part = self.store.select(&digest, &globs)?;
        self.observe(&origin, |at| Observation::Select { at, include, exclude, part })?;
        Ok(self.table.push(Tree { digest: part, origin: None })?)
    }

    fn drop(&mut self, tree: Resource<Tree>) -> wasmtime::Result<()> {
        self.table.delete(tree)?;
        Ok(())
    }
}

impl wit::HostBlobWriter for Host {
    fn new(&mut self) -> wasmtime::Result<Resource<Writer>> {
        Ok(self.table.push(Writer(self.store.writer()?))?)
    }

    fn write(&mut self, writer: Resource<Writer>, bytes: Vec<u8>) -> Result<(), Failure> {
        self.count()?;
        self.spend(bytes.len(), "output", "wrote more", |left| &mut left.output)?;
        let writer = self.table.get_mut(&writer)?;
        self.memory.shrink(writer.0.held());
        writer.0.write_all(&bytes).map_err(|error| match StoreError::inside(error) {
            Ok(error) => error.into(),
            Err(error) => Failure::of(Code::Unavailable, &error),
        })?;
        self.memory.grow(writer.0.held())
    }

    fn finish(&mut self, writer: Resource<Writer>) -> Result<Resource<Blob>, Failure> {
        self.count()?;
        let writer = self.table.delete(writer)?.0;
        self.memory.shrink(writer.held());
        let digest = writer.finish()?;
        Ok(self.table.push(Blob { digest, origin: None, reader: None })?)
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        let writer = self.table.delete(writer)?.0;
        self.memory.shrink(writer.held());
        Ok(())
    }
}

impl wit::HostTreeBuilder for Host {
    fn new(&mut self, base: Option<Resource<Tree>>) -> wasmtime::Result<Resource<Builder>> {
        let base = match base {
            Some(tree) => {
                let (digest, origin) = {
                    let tree = self.table.get(&tree)?;
                    (tree.digest, tree.origin.clone())
                };
                self.observe_content(&origin, digest)?;
                Some(digest)
            }
            None => None,
        };
        let builder = TreeBuilder::new(&self.store, base.as_ref())?;
        Ok(self.table.push(Builder(builder))?)
    }

    fn put_file(
        &mut self,
        builder: Resource<Builder>,
        path: String,
        content: Resource<Blob>,
        executable: bool,
    ) -> Result<(), Failure> {
        self.count()?;
        self.hold(&path)?;
        let blob = self.table.get(&content)?;
        let (digest, origin) = (blob.digest, blob.origin.clone());
        self.observe_content(&origin, digest)?;
        Ok(self.table.get_mut(&builder)?.0.put(&path, Entry::File { digest, executable })?)
    }

    fn put_symlink(&mut self, builder: Resource<Builder>, path: String, target: String) -> Result<(), Failure> {
        self.count()?;
        self.hold(&path)?;
        self.hold(&target)?;
        if target.is_empty() || target.len() > LONGEST_TARGET || target.contains('\0') {
            let why = format!("a link needs a target, of at most {LONGEST_TARGET} bytes and without NUL bytes");
            return Err(StoreError::Path { path, why }.into());
        }
        Ok(self.table.get_mut(&builder)?.0.put(&path, Entry::Symlink { target })?)
    }

    fn put_directory(&mut self, builder: Resource<Builder>, path: String) -> Result<(), Failure> {
        self.count()?;
        self.hold(&path)?;
        Ok(self.table.get_mut(&builder)?.0.put_directory(&path)?)
    }

    fn put_tree(
        &mut self,
        builder: Resource<Builder>,
        path: String,
        content: Resource<Tree>,
        on_conflict: wit::Conflict,
    ) -> Result<(), Failure> {
        self.count()?;
        self.hold(&path)?;
        let tree = self.table.get(&content)?;
        let (digest, origin) = (tree.digest, tree.origin.clone());
        self.observe_content(&origin, digest)?;
        let conflict = match on_conflict {
            wit::Conflict::Refuse => Conflict::Refuse,
            wit::Conflict::Keep => Conflict::Keep,
            wit::Conflict::Replace => Conflict::Replace,
        };
        Ok(self.table.get_mut(&builder)?.0.put_tree(&path, &digest, conflict)?)
    }

    fn remove(&mut self, builder: Resource<Builder>, path: String) -> Result<(), Failure> {
        self.count()?;
        Ok(self.table.get_mut(&builder)?.0.remove(&path)?)
    }

    fn finish(&mut self, builder: Resource<Builder>) -> Result<Resource<Tree>, Failure> {
        self.count()?;
        let digest = self.table.delete(builder)?.0.finish()?;
        Ok(self.table.push(Tree { digest, origin: None })?)
    }

    fn drop(&mut self, builder: Resource<Builder>) -> wasmtime::Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}
