//! Databases that a process has made beside the code, where nothing is kept: whoever migrates such a one migrates in vain.
//!
//! Knows them by the first bytes of their files, whatever they are called.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// What every database of SQLite begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The databases in the writable layer of a process, relative to the project, in order.
pub(super) fn databases(layer: &Path) -> Vec<String> {
    let mut found = Vec::new();
    look(layer, "", &mut found);
    found.sort();
    found
}

fn look(layer: &Path, below: &str, found: &mut Vec<String>) {
    // What cannot be looked at says nothing: this is advice, and no check.
    for entry in fs::read_dir(layer.join(below)).into_iter().flatten().flatten() {
        let (Ok(kind), Some(name)) = (entry.file_type(), entry.file_name().to_str().map(str::to_owned)) else {
            continue;
        };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if kind.is_dir() {
            look(layer, &path, found);
        } else if kind.is_file() && is_database(&entry.path()) {
            found.push(path);
        }
    }
}

fn is_database(path: &Path) -> bool {
    let mut first = [0; SQLITE.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *SQLITE
}
