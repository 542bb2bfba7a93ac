//! Python's packaging specifications, as far as installing a locked environment needs them: plain data and functions.
//!
//! Knows nothing of steps, stores and networks, and compiles to Wasm as it does to anything else.

pub mod files;
pub mod lock;
pub mod locks;
pub mod marker;
pub mod name;
pub mod platform;
pub mod poetry;
pub mod problem;
pub mod project;
pub mod pylock;
pub mod record;
pub mod requirement;
pub mod requirements;
pub mod tags;
pub mod wheel;

pub use pep440_rs as pep440;
