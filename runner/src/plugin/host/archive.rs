//! Bulk work on archives, done here rather than in the sandbox, each result cached by what went in.

use wasmtime::component::Resource;

use super::{Blob, Code, Failure, Host, Tree};
use crate::archive::{self, ArchiveError, Format};
use crate::plugin::bindings::pipe::step::archive as wit;

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            error => Self::of(Code::Failed, &error),
        }
    }
}

fn format(format: wit::Format) -> Format {
    match format {
        wit::Format::Zip => Format::Zip,
        wit::Format::Tar => Format::Tar,
        wit::Format::TarGzip => Format::TarGzip,
        wit::Format::TarBzip2 => Format::TarBzip2,
        wit::Format::TarXz => Format::TarXz,
        wit::Format::TarZstd => Format::TarZstd,
    }
}

impl wit::Host for Host {
    fn unpack(&mut self, archive: Resource<Blob>, packed: wit::Format, strip: u32) -> Result<Resource<Tree>, Failure> {
        self.count()?;
        let blob = self.table.get(&archive)?;
        let (digest, origin) = (blob.digest, blob.origin.clone());
        self.observe_content(&origin, digest)?;
        let tree = archive::unpack(&self.store, &digest, format(packed), strip)?;
        Ok(self.table.push(Tree { digest: tree, origin: None })?)
    }

    fn pack(&mut self, contents: Resource<Tree>, packed: wit::Format) -> Result<Resource<Blob>, Failure> {
        self.count()?;
        let tree = self.table.get(&contents)?;
        let (digest, origin) = (tree.digest, tree.origin.clone());
        self.observe_content(&origin, digest)?;
        let mut writer = self.store.writer()?;
        archive::pack(&self.store, &digest, format(packed), &mut writer)?;
        let digest = writer.finish()?;
        Ok(self.table.push(Blob { digest, origin: None, reader: None })?)
    }
}
