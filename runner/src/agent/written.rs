//! What processes write below the static files while they run, such as a stylesheet that is compressed when a page first asks
//! for it.
//!
//! Each process has a layer above the slug's files, which stays when it is started again; the front looks into those of all
//! processes, so that it does not matter whose page a browser shows. They are the release's and no slug's: a new release
//! begins without, and those of old ones go as soon as their hashed files are of no more use. Nothing here trusts what it
//! finds: it is the application's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::process::Slot;
use super::root;
use crate::sandbox;

/// The layers of a target, each in a directory for its release and in that one for its process.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    directory: PathBuf,
}

impl Written {
    pub(super) fn of(target_directory: &Path) -> Self {
        Self { directory: target_directory.join("written") }
    }

    /// Where the layer of a process of a release is.
    pub(super) fn layer(&self, release: u64, process: &Slot) -> PathBuf {
        self.directory.join(release.to_string()).join(process.to_string())
    }

    /// The file at a path that a process of a release has written, of the newest such release from `since` on.
    pub(super) fn open(&self, path: &str, since: u64) -> Option<File> {
        let mut releases: Vec<(u64, PathBuf)> = self.releases().filter(|(number, _)| *number >= since).collect();
        releases.sort_by(|one, other| other.cmp(one));
        let layers = releases.iter().flat_map(|(_, release)| entries(release));
        layers.map(|layer| root::layer(&layer)).find_map(|layer| open_in(&layer, path).ok())
    }

    /// Removes what was written for one release, of which nothing runs.
    pub(super) fn remove(&self, release: u64) {
        // What cannot be removed now goes with those of old releases.
        let _ = sandbox::remove_all(&self.directory.join(release.to_string()));
    }

    /// Removes what was written for releases before `first`, but for those of which something still `runs`.
    pub(super) fn remove_before(&self, first: u64, runs: &[u64]) {
        let is_old = |number: &u64| *number < first && !runs.contains(number);
        self.releases().map(|(number, _)| number).filter(is_old).for_each(|number| self.remove(number));
    }

    /// Removes all of it, where nothing of the target runs.
    pub(super) fn clear(&self) {
        self.remove_before(u64::MAX, &[]);
    }

    fn releases(&self) -> impl Iterator<Item = (u64, PathBuf)> {
        let number = |release: &PathBuf| release.file_name()?.to_str()?.parse().ok();
        entries(&self.directory).filter_map(move |release| Some((number(&release)?, release)))
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Opens a plain file below a directory, by no link and without waiting for anybody.
fn open_in(directory: &Path, path: &str) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    let file = File::from(openat2(File::open(directory)?, path, how)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(written: &Written, path: &str, since: u64) -> Option<String> {
        let mut text = String::new();
        written.open(path, since)?.read_to_string(&mut text).expect("text");
        Some(text)
    }

    #[test]
    fn the_newest_that_any_process_wrote_is_found_and_nothing_else() {
        let home = tempfile::tempdir().expect("a directory");
        let written = Written::of(home.path());
        assert_eq!(text(&written, "a.css", 0), None);
        for (number, name, instance, file) in
            [(2, "web", 1, "a.css"), (10, "web", 2, "a.css"), (10, "worker", 1, "b.css")]
        {
            let slot = Slot { name: name.into(), instance };
            let layer = root::layer(&written.layer(number, &slot));
            fs::create_dir_all(layer.join("css")).expect("a layer");
            fs::write(layer.join("css").join(file), number.to_string()).expect("written");
            symlink("/etc/passwd", layer.join("link")).expect("a link");
            symlink("/etc", layer.join("links")).expect("a link");
            nix::unistd::mkfifo(&layer.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        }
        assert_eq!(text(&written, "css/a.css", 0).as_deref(), Some("10"));
        assert_eq!(text(&written, "css/b.css", 10).as_deref(), Some("10"));
        assert_eq!(text(&written, "css/a.css", 11), None);
        for path in
            ["", "css", "link", "links/passwd", "pipe", "../scratch/upper/css/a.css", "/etc/passwd", "css/../link"]
        {
            assert_eq!(text(&written, path, 0), None, "{path}");
        }
        written.remove_before(10, &[2]);
        assert_eq!(written.releases().count(), 2, "one still runs");
        written.remove_before(10, &[]);
        assert_eq!(written.releases().map(|(number, _)| number).collect::<Vec<_>>(), [10]);
        written.remove(10);
        assert_eq!(text(&written, "css/a.css", 0), None);
    }
}
