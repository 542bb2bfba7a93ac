//! What the author of a step uses: one trait, one macro, and the values that a step takes in and gives out.
//!
//! A step is a type with a config, a description and a `run`:
//!
//! ```
//! use pipe_sdk::{Description, Failure, Inputs, Outputs, Port, Step, TreeBuilder};
//!
//! /// Copies its input and adds a greeting.
//! struct Greet;
//!
//! #[derive(pipe_sdk::Deserialize, pipe_sdk::JsonSchema)]
//! #[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
//! #[schemars(crate = "pipe_sdk::schemars")]
//! struct Config {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! impl Step for Greet {
//!     type Config = Config;
//!
//!     fn describe() -> Description {
//!         Description::new("greet", "0.1.0", "Adds a greeting to a tree")
//!             .input(Port::tree("project", "the tree to add to"))
//!             .output(Port::tree("out", "the tree with `greeting.txt`"))
//!     }
//!
//!     fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
//!         let project = inputs.tree("project")?;
//!         let builder = TreeBuilder::new(Some(project));
//!         let text = pipe_sdk::blob(format!("hello {}\n", config.name).as_bytes())?;
//!         builder.put_file("greeting.txt", &text, false)?;
//!         Ok(Outputs::new().tree("out", TreeBuilder::finish(builder)?))
//!     }
//! }
//!
//! pipe_sdk::step!(Greet);
//! # fn main() {}
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` (or `wasm32-unknown-unknown`, which asks for less) makes the file that
//! a pipeline names: `plugin = "./greet.wasm"`. The functions that a step calls are what it imports, and so what a
//! pipeline must grant: only a step that calls [`exec`] or [`fetch`] needs a grant.
//!
//! Outside of a component the calls into the runner panic: keep a step's logic in functions of plain data, and test those.

mod bindings;
mod describe;
mod io;
mod step;

pub use bindings::pipe::step::archive;
pub use bindings::pipe::step::context;
pub use bindings::pipe::step::exec;
pub use bindings::pipe::step::fetch;
pub use bindings::pipe::step::store::{Blob, BlobWriter, Conflict, Entry, Kind, Tree, TreeBuilder};
pub use bindings::pipe::step::types::{ErrorCode, Failure};
pub use describe::{Description, Port};
pub use io::{blob, debug, info, progress, read, read_to_string, warn};
pub use schemars::{self, JsonSchema};
pub use serde::{self, Deserialize, Serialize};
pub use serde_json;
pub use step::{Inputs, Outputs, Step};

#[doc(hidden)]
pub use bindings::{export_step as __export_step, exports};
#[doc(hidden)]
pub use step::{describe as __describe, run as __run, used as __used};
