//! Memory that was freed, given back to the system: the allocator would keep for ever what a burst of requests has taken.

use std::time::Duration;

use super::usage;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(30);

/// Bytes below which nothing is given back.
const LITTLE: u64 = 24 << 20;

/// Gives back what is not used, as long as the agent lives.
pub(super) async fn give_back() {
    loop {
        tokio::time::sleep(LOOK).await;
        if own().is_some_and(|bytes| bytes > LITTLE) {
            // It goes through all that is free, which other threads wait for.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

/// What this process has by itself, in bytes.
fn own() -> Option<u64> {
    let (all, shared) = usage::memory(std::process::id())?;
    Some(all.saturating_sub(shared))
}

fn trim() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "no safe wrapper of malloc_trim is at hand")]
        // SAFETY: takes no pointers, and may be called by any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_is_given_back() {
        // Held in between, so that what is free is not at the end.
        let (many, _held): (Vec<_>, Vec<_>) = (0..6000).map(|_| (vec![1_u8; 32 << 10], vec![1_u8; 64])).unzip();
        let most = own().expect("a number");
        drop(many);
        trim();
        // Other tests take and give some meanwhile.
        assert!(own().expect("a number") + (100 << 20) < most, "of {most} bytes");
    }
}
