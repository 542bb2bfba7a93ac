//! One directory as a value: names in bytewise order, each a file, a link or another tree, in a canonical encoding.
//!
//! No times, owners or modes beyond the executable bit. A tree is named by the hash of its encoding, so that a directory of
//! directories is a Merkle tree. Knows nothing of where encodings are kept; [`crate::store`] does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::digest::Digest;

/// The first bytes of every encoded tree: what it is, and of which version.
pub(crate) const MAGIC: &[u8] = b"pipe.tree.1\n";

/// How many directories may be one in the other: whoever goes through them needs room on its stack for each, and many hold each open.
pub(crate) const DEEPEST: usize = 500;

/// The stack of threads that go through trees, in bytes.
pub(crate) const STACK: usize = 32 << 20;

/// Threads for whoever goes through a tree on all processors.
pub(crate) fn threads() -> &'static ThreadPool {
    static THREADS: LazyLock<ThreadPool> = LazyLock::new(|| {
        let threads = ThreadPoolBuilder::new().thread_name(|_| "tree".to_owned()).stack_size(STACK).build();
        threads.expect("a process that may start threads")
    });
    &THREADS
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A file.
    File {
        /// Its bytes.
        digest: Digest,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link; the target is opaque and never followed here.
    Symlink {
        /// What the link says, byte for byte.
        target: String,
    },
    /// A directory.
    Tree {
        /// Its encoding.
        digest: Digest,
    },
}

/// A directory: entries by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// What is wrong with a name or an encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Empty, `.`, `..`, or with a `/` or a NUL.
    #[error("`{}` cannot be the name of a file", .0.escape_debug())]
    Name(String),
    /// Longer than any file system takes.
    #[error("its name has {0} bytes, of at most {LONGEST}")]
    LongName(usize),
    /// Not the encoding of a tree.
    #[error("not a tree: {0}")]
    Encoding(&'static str),
}

impl Tree {
    /// The entries in bytewise order of names.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All that the directory names: its files and directories.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::File { digest, .. } | Entry::Tree { digest } => Some(digest),
            Entry::Symlink { .. } => None,
        })
    }

    /// Sets what `name` stands for; the name is checked here and nowhere else.
    pub fn insert(&mut self, name: &str, entry: Entry) -> Result<(), TreeError> {
        check_name(name)?;
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Removes `name`, if it is there.
    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        self.entries.remove(name)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The canonical bytes: `pipe.tree.1` and a newline, then for each entry a kind byte, the name and the payload, each with
    /// its length as a little-endian `u32` where it varies. A kind is `f` (file), `x` (executable), `l` (link) or `d` (directory).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + self.entries.len() * 64);
        out.extend_from_slice(MAGIC);
        for (name, entry) in &self.entries {
            let (kind, payload) = match entry {
                Entry::File { digest, executable: false } => (b'f', digest.as_bytes().as_slice()),
                Entry::File { digest, executable: true } => (b'x', digest.as_bytes().as_slice()),
                Entry::Symlink { target } => (b'l', target.as_bytes()),
                Entry::Tree { digest } => (b'd', digest.as_bytes().as_slice()),
            };
            out.push(kind);
            put_bytes(&mut out, name.as_bytes());
            if kind == b'l' {
                put_bytes(&mut out, payload);
            } else {
                out.extend_from_slice(payload);
            }
        }
        out
    }

    /// Reads an encoding back, and refuses any that [`Tree::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(TreeError::Encoding("it does not start like one"))?;
        let mut tree = Self::default();
        let mut last: Option<String> = None;
        while let Some((&kind, after)) = rest.split_first() {
            rest = after;
            let name = take_text(&mut rest)?;
            if last.as_deref().is_some_and(|last| last.as_bytes() >= name.as_bytes()) {
                return Err(TreeError::Encoding("its names are out of order"));
            }
            let entry = match kind {
                b'f' | b'x' => Entry::File { digest: take_digest(&mut rest)?, executable: kind == b'x' },
                b'l' => Entry::Symlink { target: take_text(&mut rest)?.to_owned() },
                b'd' => Entry::Tree { digest: take_digest(&mut rest)? },
                _ => return Err(TreeError::Encoding("it holds an entry of an unknown kind")),
            };
            tree.insert(name, entry)?;
            last = Some(name.to_owned());
        }
        Ok(tree)
    }
}

/// The longest name of a file, in bytes: no file system has longer ones.
const LONGEST: usize = 255;

fn check_name(name: &str) -> Result<(), TreeError> {
    if name.len() > LONGEST {
        return Err(TreeError::LongName(name.len()));
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(TreeError::Name(name.to_owned()));
    }
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("names and links are shorter than 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], TreeError> {
    let (taken, after) = rest.split_at_checked(len).ok_or(TreeError::Encoding("it ends too early"))?;
    *rest = after;
    Ok(taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, TreeError> {
    let len: [u8; 4] = take(rest, 4)?.try_into().expect("four bytes were taken");
    let bytes = take(rest, u32::from_le_bytes(len) as usize)?;
    str::from_utf8(bytes).map_err(|_| TreeError::Encoding("a name or a link is not UTF-8"))
}

fn take_digest(rest: &mut &[u8]) -> Result<Digest, TreeError> {
    let bytes: [u8; 32] = take(rest, 32)?.try_into().expect("32 bytes were taken");
    Ok(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        let digest = Digest::of(b"x");
        tree.insert("run", Entry::File { digest, executable: true }).expect("a name");
        tree.insert("a", Entry::Tree { digest: Digest::of(&Tree::default().encode()) }).expect("a name");
        tree.insert("link", Entry::Symlink { target: "../x".into() }).expect("a name");
        tree.insert("data", Entry::File { digest, executable: false }).expect("a name");
        tree
    }

    #[test]
    fn an_encoding_is_read_back() {
        assert_eq!(Tree::decode(&sample().encode()).expect("a tree"), sample());
    }

    /// The encoding is a contract: a change here makes every store forget what it has.
    #[test]
    fn the_encoding_is_pinned() {
        assert_eq!(
            Digest::of(&Tree::default().encode()).to_string(),
            "blake3:24955d100076dbfdb152f1c691c55dd5d1cc23cc8935c865aaff14e74c1e2f7e"
        );
        assert_eq!(
            Digest::of(&sample().encode()).to_string(),
            "blake3:26ddcfcfa5b63134a94642fa43955e99fd64694d5509384cc1a8171b50ea8ffe"
        );
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0"] {
            let entry = Entry::Symlink { target: String::new() };
            assert!(Tree::default().insert(name, entry).is_err(), "{name:?}");
        }
    }

    #[test]
    fn damaged_encodings_are_refused() {
        let whole = sample().encode();
        for len in 0..whole.len() {
            if let Ok(tree) = Tree::decode(&whole[..len]) {
                assert_eq!(tree.encode(), &whole[..len], "a prefix that is whole itself");
            }
        }
        let mut swapped = MAGIC.to_vec();
        for name in ["b", "a"] {
            swapped.push(b'l');
            put_bytes(&mut swapped, name.as_bytes());
            put_bytes(&mut swapped, b"t");
        }
        assert_eq!(Tree::decode(&swapped), Err(TreeError::Encoding("its names are out of order")));
    }

    #[test]
    fn any_bytes_are_the_one_encoding_of_a_tree_or_none() {
        pipe_fuzz::attack("tree", |bytes| {
            if let Ok(tree) = Tree::decode(bytes) {
                assert_eq!(tree.encode(), bytes);
            }
        });
    }
}
