//! `RECORD`: the files of an installed distribution, with hashes and sizes, by paths relative to site-packages.
//!
//! See Python's specification "Recording installed projects". Rows of files that move keep their hash; only what is generated
//! here is hashed here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// From site-packages to the environment's own directory.
const TO_PREFIX: &str = "../../..";

/// The rows by path. What follows the path in a row is kept as it is: `sha256=…,<size>`, both of which may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record(BTreeMap<String, String>);

impl Record {
    /// Reads a `RECORD`. Rows are CSV; a path may be quoted.
    pub(crate) fn parse(text: &str) -> Self {
        let rows = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let (path, rest) = split_path(line);
            (path, rest.trim().to_owned())
        });
        Self(rows.collect())
    }

    /// Whether a file with this ending is among them.
    pub(crate) fn has(&self, ending: &str) -> bool {
        self.0.keys().any(|path| path.ends_with(ending))
    }

    /// Moves all rows below `directory` into site-packages itself.
    pub(crate) fn move_to_site(&mut self, directory: &str) {
        self.relocate(directory, str::to_owned);
    }

    /// Moves all rows below `directory` to below `target`, relative to the environment.
    pub(crate) fn move_to_prefix(&mut self, directory: &str, target: &str) {
        self.relocate(directory, |path| {
            in_prefix(&if target.is_empty() { path.to_owned() } else { format!("{target}/{path}") })
        });
    }

    fn relocate(&mut self, directory: &str, target: impl Fn(&str) -> String) {
        let directory = format!("{directory}/");
        let below = |path: &String| path.starts_with(&directory);
        let moved: Vec<String> = self.0.keys().filter(|path| below(path)).cloned().collect();
        for path in moved {
            if let Some(row) = self.0.remove(&path) {
                self.0.insert(target(&path[directory.len()..]), row);
            }
        }
    }

    /// Adds a file in site-packages that was made here.
    pub(crate) fn add(&mut self, path: &str, content: &[u8]) {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(content));
        self.0.insert(path.to_owned(), format!("sha256={hash},{}", content.len()));
    }

    /// Adds a file of the environment that was made here.
    pub(crate) fn add_in_prefix(&mut self, path: &str, content: &[u8]) {
        self.add(&in_prefix(path), content);
    }

    /// The text, in bytewise order of paths; `own` is the path of the file itself, which has no hash.
    pub(crate) fn render(mut self, own: &str) -> String {
        self.0.insert(own.to_owned(), ",".to_owned());
        let rows: Vec<String> = self.0.iter().map(|(path, row)| format!("{},{row}\n", quoted(path))).collect();
        rows.concat()
    }
}

fn in_prefix(path: &str) -> String {
    format!("{TO_PREFIX}/{path}")
}

/// The path that a row starts with, and what follows the comma after it.
fn split_path(line: &str) -> (String, &str) {
    let Some(quoted) = line.strip_prefix('"') else {
        // A path that holds a comma is quoted, so the first one ends it.
        let (path, rest) = line.split_once(',').unwrap_or((line, ","));
        return (path.to_owned(), rest);
    };
    let mut path = String::new();
    let mut rest = quoted;
    while let Some((piece, after)) = rest.split_once('"') {
        path.push_str(piece);
        rest = after;
        // A quote in a path is doubled.
        match after.strip_prefix('"') {
            Some(after) => {
                path.push('"');
                rest = after;
            }
            None => break,
        }
    }
    (path, rest.strip_prefix(',').unwrap_or(rest))
}

fn quoted(path: &str) -> String {
    if path.contains([',', '"']) { format!("\"{}\"", path.replace('"', "\"\"")) } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_EMPTY: &str = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0";

    #[test]
    fn files_that_move_keep_their_hash() {
        let mut record = Record::parse(
            "a/__init__.py,sha256=x,1\r\na-1.data/scripts/run,sha256=y,2\na-1.data/purelib/b.py,sha256=z,3\n\
             a-1.data/data/share/man,sha256=m,4\na-1.dist-info/RECORD,,\n",
        );
        record.move_to_prefix("a-1.data/scripts", "bin");
        record.move_to_site("a-1.data/purelib");
        record.move_to_prefix("a-1.data/data", "");
        record.add("a-1.dist-info/INSTALLER", b"");
        record.add_in_prefix("bin/tool", b"");
        assert!(record.has(".py") && !record.has(".so"));
        let expected = format!(
            "../../../bin/run,sha256=y,2\n../../../bin/tool,{OF_EMPTY}\n../../../share/man,sha256=m,4\n\
             a-1.dist-info/INSTALLER,{OF_EMPTY}\na-1.dist-info/RECORD,,\na/__init__.py,sha256=x,1\nb.py,sha256=z,3\n"
        );
        assert_eq!(record.render("a-1.dist-info/RECORD"), expected);
    }

    #[test]
    fn paths_with_commas_and_quotes_survive() {
        let text = "\"a,\"\"b\"\"\",sha256=x,1\n\"a,b\",,\nR,,\n";
        let record = Record::parse(text);
        assert_eq!(record.0.keys().collect::<Vec<_>>(), ["R", "a,\"b\"", "a,b"]);
        assert_eq!(record.render("R"), "R,,\n\"a,\"\"b\"\"\",sha256=x,1\n\"a,b\",,\n");
    }
}
