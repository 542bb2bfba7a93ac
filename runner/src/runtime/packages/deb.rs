//! Opens a Debian package: an `ar` archive with a compressed tar of its files. Its scripts are not even read.

use std::io::{self, Read, Seek, SeekFrom};

use crate::archive::{self, Format};
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::runtime::RuntimeError;
use crate::store::Store;

const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Name (16), time (12), owner (6), group (6), mode (8), size (10), and two bytes that are always the same.
const HEADER: usize = 60;

/// The files of a package, as a tree; cached by the package's digest.
pub(super) fn unpack(store: &Store, name: &str, package: &Digest) -> Result<Digest, RuntimeError> {
    let key = KeyBuilder::new("deb").field("package", package.as_bytes()).finish();
    let known = store.action(&key)?.and_then(|record| serde_json::from_slice(&record).ok());
    if let Some(tree) = known {
        return Ok(tree);
    }
    let damaged = |why: &str| RuntimeError::Damaged { name: name.to_owned(), why: why.to_owned() };
    let mut reader = store.open_blob(package)?;
    let (member, size) = find_data(&mut reader)
        .map_err(|error| damaged(&error.to_string()))?
        .ok_or_else(|| damaged("there is no `data.tar` in it"))?;
    let format = match member.trim_start_matches("data.tar") {
        ".xz" => Format::TarXz,
        ".zst" => Format::TarZstd,
        ".gz" => Format::TarGzip,
        ".bz2" => Format::TarBzip2,
        "" => Format::Tar,
        _ => return Err(damaged("its files are compressed in an unknown way")),
    };
    let mut data = store.writer()?;
    io::copy(&mut reader.take(size), &mut data).map_err(|error| damaged(&error.to_string()))?;
    let tree = archive::unpack(store, &data.finish()?, format, 0)?;
    let record = serde_json::to_vec(&tree).expect("a digest is plain data");
    store.put_action(&key, &record, &[tree])?;
    Ok(tree)
}

/// Reads up to the content of the member that holds the files: its name and size.
fn find_data(reader: &mut (impl Read + Seek)) -> io::Result<Option<(String, u64)>> {
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not an ar archive"));
    }
    let mut header = [0; HEADER];
    while reader.read_exact(&mut header).is_ok() {
        let field = |range| String::from_utf8_lossy(&header[range]).trim().trim_end_matches('/').to_owned();
        let name: String = field(0..16);
        let size = field(48..58).parse::<u64>();
        let size = size.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if name.starts_with("data.tar") {
            return Ok(Some((name, size)));
        }
        // Members start at even places.
        let next = i64::try_from(size + size % 2).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        reader.seek(SeekFrom::Current(next))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &str) -> String {
        let pad = if content.len() % 2 == 1 { "\n" } else { "" };
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n{content}{pad}", 0, 0, 0, 100_644, content.len())
    }

    #[test]
    fn the_files_are_found_behind_members_of_odd_length() {
        let archive = format!("!<arch>\n{}{}", member("debian-binary", "2.0"), member("data.tar.xz/", "files"));
        let mut reader = io::Cursor::new(archive);
        assert_eq!(find_data(&mut reader).expect("an archive"), Some(("data.tar.xz".into(), 5)));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "files\n");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        assert!(find_data(&mut io::Cursor::new("<html>no such file</html>")).is_err());
    }

    #[test]
    fn any_bytes_are_a_package_or_damaged() {
        pipe_fuzz::attack("deb", |bytes| drop(find_data(&mut io::Cursor::new(bytes))));
    }
}
