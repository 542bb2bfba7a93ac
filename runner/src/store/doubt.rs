//! Since when what programs gave is believed: those before may have seen a laid-out file that was damaged. Keys of what programs
//! have a part in hold it, so that nothing of before then is found under them, not even by an index that is made anew, and
//! nothing of a run that goes on meanwhile.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Store, StoreError};
use crate::private;

fn path(root: &Path) -> PathBuf {
    root.join("believed-since")
}

/// Nanoseconds since 1970, in digits; none where no damage was ever found. What cannot be read is not what it was before.
pub(super) fn read(root: &Path) -> Result<Option<String>, StoreError> {
    let path = path(root);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(Some(error.kind().to_string())),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// Believes nothing of before now, and that for good when this returns; gives since when it was until now.
pub(super) fn raise(root: &Path) -> Result<u64, StoreError> {
    let before = read(root)?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let path = path(root);
    private::heal(&path, || private::replace(&path, now.as_bytes()))
        .and_then(|()| File::open(root)?.sync_all())
        .map_err(StoreError::io("write", &path))?;
    Ok(before)
}

impl Store {
    /// Since when what programs gave is believed, where damage was ever found in what was laid out for them.
    pub fn believed_since(&self) -> Option<&str> {
        self.0.believed_since.as_deref()
    }

    /// The same for a home directory, whose store is not opened for that.
    pub fn believed_since_in(home: &Path) -> Result<Option<String>, StoreError> {
        read(&home.join("store"))
    }

    /// Believes nothing that programs gave so far: a file that was laid out for them is not what it was, and did not look changed.
    pub fn doubt(&self) -> Result<(), StoreError> {
        raise(self.root()).map(drop)
    }
}
