#![doc = include_str!("../README.md")]

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
