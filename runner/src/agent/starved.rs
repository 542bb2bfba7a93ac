//! What the kernel ends of a process for want of memory, by what the process's control group counts. Knows nothing of what becomes
//! of the process.

use std::convert::Infallible;
use std::time::Duration;

use super::instance::Instance;

/// What to do about it.
pub(super) const REMEDY: &str = "give it more: `memory` in the target's `limits`";

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// How often a group is looked for: a process that has a limit is put into one as it starts, where there are any.
const TRIES: u32 = 3;

/// Tells each time that something was ended. Of a process that is taken over, what was ended before has been told.
pub(super) async fn watch(instance: &Instance, is_new: bool, tell: impl Fn()) -> Infallible {
    let mut found = None;
    for _ in 0..TRIES {
        tokio::time::sleep(LOOK).await;
        found = instance.group().await;
        if found.is_some() {
            break;
        }
    }
    let Some(group) = found else { return std::future::pending().await };
    let mut told = if is_new { 0 } else { group.killed() };
    loop {
        let killed = group.killed();
        if killed > told {
            tell();
            told = killed;
        }
        tokio::time::sleep(LOOK).await;
    }
}
