//! The engine behind `pipe`. The way of the data, in the order of the modules below:
//!
//! ```text
//! release.pipeline ── pipeline ──▶ Pipeline ── plan ──▶ Graph ── execute ──▶ slug ── release ──▶ target
//!                                                        │  ▲
//!                                                  key ──┘  └── step ── plugin ── archive │ fetch │ sandbox
//!                                                        store (blobs, trees, actions)
//! ```

pub mod agent;
pub mod archive;
pub mod description;
pub mod diagnostic;
pub mod digest;
pub mod doctor;
pub mod event;
pub mod exec;
pub mod execute;
pub mod fetch;
pub mod graph;
pub mod key;
pub mod lock;
pub mod lockfile;
pub mod pipeline;
pub mod plan;
pub mod plugin;
pub mod release;
pub mod run;
pub mod runtime;
pub mod sandbox;
pub mod slug;
pub mod source;
pub mod step;
pub mod store;
pub mod tree;
pub mod verify;
