//! What a step holds while it runs: the host's side of the contract's resources.
#![expect(unreachable_pub, reason = "the generated bindings re-export these")]

use crate::digest::Digest;
use crate::plugin::observe::Place;
use crate::store::{BlobReader, BlobWriter, TreeBuilder};

/// Where a value was taken from: an input, or nowhere, since the step made it itself.
pub(super) type Origin = Option<Place>;

/// A handle on bytes.
pub struct Blob {
    pub(super) digest: Digest,
    pub(super) origin: Origin,
    pub(super) reader: Option<BlobReader>,
}

/// A handle on a directory.
pub struct Tree {
    pub(super) digest: Digest,
    pub(super) origin: Origin,
}

/// Bytes in the making.
pub struct Writer(pub(super) BlobWriter);

/// A directory in the making.
pub struct Builder(pub(super) TreeBuilder);

/// A native program in the making.
pub struct Command(pub(super) crate::exec::Command);

/// What a native program left.
pub struct Outcome(pub(super) crate::exec::Outcome);
