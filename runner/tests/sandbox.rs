//! Programs that try to get out of a sandbox, and ones that only want to work in it.
//!
//! They are the machine's own, run as root where the tests are run as root; `a_plain_user_has_the_same_sandbox` then runs them
//! all again as a made-up user.

#[path = "sandbox/escapes.rs"]
mod escapes;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/monitors.rs"]
mod monitors;
#[path = "sandbox/runtime.rs"]
mod runtime;
#[path = "sandbox/runtimes.rs"]
mod runtimes;
#[path = "sandbox/try.rs"]
mod trying;
#[path = "sandbox/users.rs"]
mod users;
#[path = "sandbox/works.rs"]
mod works;
