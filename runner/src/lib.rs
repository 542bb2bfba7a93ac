//! The engine behind `pipe`. The way of the data:
//!
//! ```text
//! release.pipeline ── pipeline ──▶ Pipeline ── plan ──▶ Graph ── execute ──▶ slug ── release ──▶ target
//!                                                        │  ▲
//!                                                  key ──┘  └── step ── plugin ── archive │ fetch │ exec
//!                                                        store (blobs, trees, actions)
//! ```
//!
//! [`run`] does all of that in its order. The groups of modules below are, from the top: the way itself; what a step is and can
//! ask for; what native programs stand on; where everything is kept; what becomes of a slug; and how `pipe` itself
//! becomes a newer one; and what is said along the way.

pub mod run;

pub mod execute;
pub mod lock;
pub mod pipeline;
pub mod plan;
pub mod source;

pub mod archive;
pub mod description;
pub mod exec;
pub mod fetch;
pub mod key;
pub mod plugin;
pub mod step;

pub mod doctor;
pub mod runtime;
pub mod sandbox;
pub mod secret;

mod descriptors;
pub mod digest;
mod disk;
pub mod garbage;
pub mod lockfile;
mod paths;
mod private;
mod shell;
pub mod store;
pub mod tree;

pub mod agent;
pub mod release;
pub mod remote;
pub mod slug;
pub mod verify;

pub mod update;

pub mod diagnostic;
pub mod event;
pub mod graph;
