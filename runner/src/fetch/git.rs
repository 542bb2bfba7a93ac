//! The tree of a commit, by the system's `git`, with the user's own keys and helpers for private repositories.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Url;

use super::error::{FetchError, shown};
use super::http::Http;
use crate::digest::Digest;
use crate::key::KeyBuilder;
use crate::store::{Store, StoreError};

/// What the user's own settings may not change, since the tree must be the same everywhere. Local repositories may be
/// named by the lock, never by a repository that the lock names.
const SETTINGS: [&str; 14] = [
    "core.autocrlf=false",
    "core.eol=lf",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.attributesFile=/dev/null",
    "core.hooksPath=/dev/null",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "protocol.file.allow=user",
];

/// Variables that would point `git` at another repository, when `pipe` runs in a hook.
const FOREIGN: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"];

/// The tree of a commit; what was fetched once is remembered by the commit alone, for its hash names its content.
pub(super) fn tree(store: &Store, http: &Http, url: &str, commit: &str) -> Result<Digest, FetchError> {
    if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(FetchError::Commit(commit.to_owned()));
    }
    let commit = commit.to_ascii_lowercase();
    let key = KeyBuilder::new("fetch.git").field("commit", commit.as_bytes()).finish();
    if let Some(digest) = store.action(&key)?.and_then(|record| serde_json::from_slice(&record).ok()) {
        return Ok(digest);
    }
    if http.offline() {
        return Err(FetchError::Offline { name: format!("commit {commit}") });
    }
    let scratch = store.scratch()?;
    let checkout = Checkout { directory: scratch.path(), url, commit: &commit };
    checkout.make()?;
    let digest = store.import(checkout.directory)?;
    let record = serde_json::to_vec(&digest).expect("a string always serialises");
    store.put_action(&key, &record, &[digest])?;
    Ok(digest)
}

struct Checkout<'a> {
    directory: &'a Path,
    url: &'a str,
    commit: &'a str,
}

impl Checkout<'_> {
    fn make(&self) -> Result<(), FetchError> {
        if self.url.starts_with('-') {
            return Err(self.failed("its address looks like an option"));
        }
        self.git(["init", "--quiet"])?;
        let one = self.git(["fetch", "--quiet", "--no-tags", "--depth=1", "--", self.url, self.commit]);
        if one.is_err() {
            // Not every server gives a commit that no branch points at: then everything is fetched.
            let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            self.git(["fetch", "--quiet", "--", self.url, all[0], all[1]])?;
        }
        self.git(["checkout", "--quiet", "--detach", self.commit])?;
        if self.directory.join(".gitmodules").exists() {
            // Relative addresses of submodules are relative to this one.
            self.git(["remote", "add", "origin", self.url])?;
            self.git(["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        remove_git(self.directory).map_err(|source| {
            FetchError::Store(StoreError::Io { action: "clean", path: self.directory.to_owned(), source })
        })
    }

    fn git<const N: usize>(&self, arguments: [&str; N]) -> Result<(), FetchError> {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for variable in FOREIGN {
            command.env_remove(variable);
        }
        command.args(arguments).current_dir(self.directory).stdin(Stdio::null());
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_LFS_SKIP_SMUDGE", "1").env("LC_ALL", "C");
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed("there is no `git` on the PATH"),
            _ => self.failed(&error.to_string()),
        })?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| line.contains("fatal:") || line.contains("error:"));
        let last = last.or_else(|| text.lines().last()).unwrap_or("git failed without a word");
        Err(self.failed(last))
    }

    fn failed(&self, message: &str) -> FetchError {
        let url = Url::parse(self.url).map_or_else(|_| self.url.to_owned(), |url| shown(&url));
        // `git` quotes the address as it was given.
        let message = message.replace(self.url, &url);
        FetchError::Git { url, commit: self.commit.to_owned(), message }
    }
}

/// Removes `.git`, and what submodules have in its place.
fn remove_git(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        match (entry.file_name() == OsStr::new(".git"), is_directory) {
            (true, true) => fs::remove_dir_all(entry.path())?,
            (true, false) => fs::remove_file(entry.path())?,
            (false, true) => remove_git(&entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}
