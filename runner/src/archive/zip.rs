//! Reads zip files, such as wheels. Knows nothing of what is in them.

use std::io::{self, Read, Seek};

use super::{ArchiveError, Format, Unpacker};

/// The longest that a link's target may be, in bytes.
const MAX_LINK: u64 = 4096;

pub(super) fn unpack(reader: impl Read + Seek, unpacker: &mut Unpacker<'_>) -> Result<(), ArchiveError> {
    let unreadable = |source: io::Error| ArchiveError::Unreadable { format: Format::Zip.name(), source };
    let mut archive = ::zip::ZipArchive::new(reader).map_err(|error| unreadable(error.into()))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| unreadable(error.into()))?;
        let name = entry.name().map_err(|error| unreadable(error.into()))?.into_owned();
        let mode = entry.unix_mode().unwrap_or(0);
        if entry.is_dir() {
            unpacker.directory(&name)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            (&mut entry).take(MAX_LINK).read_to_string(&mut target).map_err(unreadable)?;
            unpacker.symlink(&name, &target)?;
        } else {
            unpacker.file(&name, &mut entry, mode & 0o111 != 0, Format::Zip)?;
        }
    }
    Ok(())
}
