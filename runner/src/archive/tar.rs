//! Reads tars, however they were compressed. Knows nothing of what is in them.

use std::io::{self, Read};

use ::tar::{Archive, EntryType};

use super::{ArchiveError, Format, Unpacker};
use crate::tree::Entry;

pub(super) fn unpack(reader: impl Read, unpacker: &mut Unpacker<'_>, format: Format) -> Result<(), ArchiveError> {
    let unreadable = |source: io::Error| ArchiveError::Unreadable { format: format.name(), source };
    let mut archive = Archive::new(reader);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = text(&entry.path_bytes())?;
        let link = entry.link_name_bytes().map(|link| text(&link)).transpose()?;
        let refuse = |why| ArchiveError::Refused { path: name.clone(), why };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = entry.header().mode().map_err(unreadable)? & 0o111 != 0;
                unpacker.file(&name, &mut entry, executable, format)?;
            }
            EntryType::Directory => unpacker.directory(&name)?,
            EntryType::Symlink => {
                unpacker.symlink(&name, &link.ok_or_else(|| refuse("it is a link to nothing"))?)?;
            }
            EntryType::Link => {
                let target = link.ok_or_else(|| refuse("it is a link to nothing"))?;
                hard_link(unpacker, &name, &target)?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {}
            _ => return Err(refuse("it is a device, a pipe or of an unknown kind")),
        }
    }
    Ok(())
}

/// A hard link is the entry that it names, which must have come before.
fn hard_link(unpacker: &mut Unpacker<'_>, name: &str, target: &str) -> Result<(), ArchiveError> {
    let refuse = |why| ArchiveError::Refused { path: name.to_owned(), why };
    let (Some(target), Some(path)) = (unpacker.place(target)?, unpacker.place(name)?) else {
        return Err(refuse("it is a link to what was stripped"));
    };
    let entry = unpacker.builder.get(&target)?.ok_or_else(|| refuse("it is a link to what is not in the archive"))?;
    if matches!(entry, Entry::Tree { .. }) {
        return Err(refuse("it is a hard link to a directory"));
    }
    Ok(unpacker.builder.put(&path, entry)?)
}

fn text(bytes: &[u8]) -> Result<String, ArchiveError> {
    String::from_utf8(bytes.to_vec()).map_err(|error| ArchiveError::Refused {
        path: String::from_utf8_lossy(error.as_bytes()).into_owned(),
        why: "its name is not UTF-8",
    })
}
