//! One at a time: whoever does a thing claims it, here and among all processes of the store, and others wait for what it gives.
//!
//! A claim is a lock on one byte of a file, at a place that comes of the key. The kernel gives it back when its owner dies.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::{POISONED, Store, StoreError, Until};
use crate::digest::Digest;
use crate::private;

/// All that this process has claimed.
pub(super) struct Claims {
    path: PathBuf,
    file: File,
    held: Mutex<HashMap<u64, Held>>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    /// Whether somebody here does it.
    busy: bool,
    /// How many have the byte's lock: who does it, and those before whose work is not promised to other processes yet.
    locks: usize,
}

/// The right to do a thing. What was put under it is promised before another process gets the same claim.
pub struct Claim {
    store: Store,
    byte: Option<Byte>,
}

/// The lock of a byte, given back when dropped.
pub(super) struct Byte {
    claims: Arc<Claims>,
    place: u64,
}

impl Claims {
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("claims");
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let file = private::heal(&path, open).map_err(StoreError::io("open", &path))?;
        Ok(Self { path, file, held: Mutex::default(), changed: Condvar::new() })
    }

    /// Waits until nobody in this process has a place.
    fn enter(&self, place: u64, until: &Until) -> Result<(), StoreError> {
        let mut held = self.held.lock().expect(POISONED);
        loop {
            let entry = held.entry(place).or_default();
            if !entry.busy {
                entry.busy = true;
                return Ok(());
            }
            until.look()?;
            held = self.changed.wait_timeout(held, Until::PAUSE).expect(POISONED).0;
        }
    }

    fn leave(&self, place: u64) {
        if let Some(held) = self.held.lock().expect(POISONED).get_mut(&place) {
            held.busy = false;
        }
        self.changed.notify_all();
    }

    /// Takes the lock of a byte, if no other process has it.
    fn try_lock(self: &Arc<Self>, place: u64) -> Result<Option<Byte>, StoreError> {
        let mut held = self.held.lock().expect(POISONED);
        let entry = held.entry(place).or_default();
        if entry.locks == 0 {
            match self.set(place, libc::F_WRLCK) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(StoreError::io("lock", &self.path)(errno.into())),
            }
        }
        entry.locks += 1;
        Ok(Some(Byte { claims: Arc::clone(self), place }))
    }

    fn set(&self, place: u64, kind: libc::c_int) -> Result<(), Errno> {
        let kind = libc::c_short::try_from(kind).map_err(|_| Errno::EINVAL)?;
        let start = libc::off_t::try_from(place).map_err(|_| Errno::EINVAL)?;
        let whence = libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?;
        let lock = libc::flock { l_type: kind, l_whence: whence, l_start: start, l_len: 1, l_pid: 0 };
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

impl Drop for Byte {
    fn drop(&mut self) {
        let mut held = self.claims.held.lock().expect(POISONED);
        let Some(entry) = held.get_mut(&self.place) else { return };
        entry.locks -= 1;
        if entry.locks == 0 {
            // Unlocking what is locked cannot fail; if it did, the process's end would do it.
            let _ = self.claims.set(self.place, libc::F_UNLCK);
            if !entry.busy {
                held.remove(&self.place);
            }
        }
    }
}

impl Store {
    /// Waits until nobody else does what `key` names, in any process, for as long as that is wanted. Whoever gets the claim looks
    /// first whether it has been done meanwhile.
    pub fn claim(&self, key: &Digest) -> Result<Claim, StoreError> {
        let place = u64::from_le_bytes(*key.as_bytes().first_chunk().expect("a digest has 32 bytes")) >> 2;
        let claims = &self.0.claims;
        claims.enter(place, self.until())?;
        match self.wait_for(place) {
            Ok(byte) => Ok(Claim { store: self.clone(), byte: Some(byte) }),
            Err(error) => {
                claims.leave(place);
                Err(error)
            }
        }
    }

    fn wait_for(&self, place: u64) -> Result<Byte, StoreError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(byte) = self.0.claims.try_lock(place)? {
                return Ok(byte);
            }
            self.until().look()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Until::PAUSE);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(byte) = self.byte.take() {
            let place = byte.place;
            self.store.0.log.give_back(byte);
            self.store.0.claims.leave(place);
        }
    }
}
