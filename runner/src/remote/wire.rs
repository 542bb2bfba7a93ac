//! The words between a command and the `pipe` at a host, beside those that it passes on to its agent.
//!
//! The host begins with a line that says of which version it is. The command sends one [`Asked`], as JSON in a line. Where it
//! brings a slug, the host then asks for what its store lacks, each time with a [`Want`] behind its length, and is answered in
//! the order of its asking inside of one zstd frame; it stops with [`Want::Nothing`]. Everything else is lines of JSON: one
//! [`Heard`], or the replies of the agent.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::agent::protocol::{Failure, Order, PROTOCOL, Request};
use crate::digest::Digest;
use crate::release::{Person, PublicKey, Release, Role, SlugRef, Trail, Who};

/// How the first line begins. Shells that greet everybody may write others before it.
const GREETING: &str = "pipe agent ";

/// The longest message that is believed to be one.
const LONGEST: u32 = 64 << 20;

/// What a command says to a host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The name of its user, where it comes from.
    pub(crate) by: String,
    pub(crate) call: Call,
}

/// What a command wants of a host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    /// Something of the agent.
    Ask(Request),
    /// A release of a slug that may have to be sent first.
    Release { order: Box<Order>, slug: SlugRef, runtime: Option<RuntimeRecord> },
    /// The releases of a target.
    Releases { app: String, target: String },
    /// The config of a target.
    Config { app: String, target: String },
    /// The names that the config of a target sets.
    ConfigNames { app: String, target: String },
    /// The names of the variables that a release of a target gives to its processes.
    VariableNames { app: String, target: String, release: u64 },
    /// What was done to a target and to the host.
    Audit { app: String, target: String },
    /// The people of the host.
    People,
    /// Somebody more, or another role or key for somebody.
    AddPerson { name: String, role: Role, key: Option<PublicKey> },
    /// Somebody less.
    RemovePerson { name: String },
}

impl Call {
    /// Says who asks, whatever the call says itself.
    pub(super) fn set_who(&mut self, by: &Who) {
        match self {
            Self::Ask(Request::Deploy(order)) | Self::Release { order, .. } => order.who = by.clone(),
            Self::Ask(Request::Stop { who, .. } | Request::Remove { who, .. }) => *who = by.clone(),
            Self::Ask(Request::Hello | Request::Status | Request::Domains | Request::Succeed | Request::Retire)
            | Self::Releases { .. }
            | Self::Config { .. }
            | Self::ConfigNames { .. }
            | Self::VariableNames { .. }
            | Self::Audit { .. }
            | Self::People
            | Self::AddPerson { .. }
            | Self::RemovePerson { .. } => {}
        }
    }
}

/// How a runtime is found again where the slug was built.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeRecord {
    pub(crate) digest: Digest,
    pub(crate) record: String,
}

/// What a host answers by itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Heard {
    /// To [`Call::Releases`].
    Releases(Vec<Release>),
    /// To [`Call::Config`].
    Config(BTreeMap<String, String>),
    /// To [`Call::ConfigNames`].
    ConfigNames(Vec<String>),
    /// To [`Call::VariableNames`].
    VariableNames(Vec<String>),
    /// To [`Call::Audit`].
    Audit(Trail),
    /// To [`Call::People`].
    People(Vec<Person>),
    /// To [`Call::AddPerson`] and [`Call::RemovePerson`].
    Done,
    /// To anything.
    Failed(Failure),
}

/// What a host lacks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Want {
    /// These trees.
    Trees(Vec<Digest>),
    /// These blobs; of large ones only what parts they have, where the host may have some of those.
    Blobs { digests: Vec<Digest>, in_parts: bool },
    /// These parts of blobs, by their numbers.
    Parts(Vec<(Digest, Vec<u32>)>),
    /// All is there.
    Nothing,
    /// Nothing more, for it cannot go on.
    Failed(Failure),
}

/// How an answer to a wish for something begins.
pub(super) mod answer {
    /// The bytes, behind their number.
    pub(in super::super) const WHOLE: u8 = 0;
    /// The parts, behind their number: of each its digest and its length.
    pub(in super::super) const PARTS: u8 = 1;
    /// It is not there. What is said behind that is why.
    pub(in super::super) const MISSING: u8 = 2;
}

/// The first line of a host.
pub(super) fn greeting() -> String {
    format!("{GREETING}{PROTOCOL} {}", env!("CARGO_PKG_VERSION"))
}

/// The version in a line, if it is the first line of a host.
pub(super) fn version(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix(GREETING)
}

/// The version that this program answers with.
pub(super) fn own_version() -> String {
    greeting()[GREETING.len()..].to_owned()
}

pub(super) fn write_want(out: &mut impl Write, want: &Want) -> io::Result<()> {
    let bytes = postcard::to_stdvec(want).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)?;
    out.flush()
}

pub(super) fn read_want(from: &mut impl Read) -> io::Result<Want> {
    let length = read_u32(from)?;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // As much room as comes, and not as was announced.
    let mut bytes = Vec::new();
    if from.take(length.into()).read_to_end(&mut bytes)? < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

pub(super) fn write_line(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

pub(super) fn read_u8(from: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    Ok(byte[0])
}

pub(super) fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

pub(super) fn read_u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

pub(super) fn read_digest(from: &mut impl Read) -> io::Result<Digest> {
    let mut bytes = [0; 32];
    from.read_exact(&mut bytes)?;
    Ok(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::Reply;

    #[test]
    fn any_bytes_are_words_of_a_command_or_a_host_or_refused() {
        pipe_fuzz::attack("wire", |bytes| {
            drop(read_want(&mut &*bytes));
            drop(serde_json::from_slice::<Asked>(bytes));
            drop(serde_json::from_slice::<Heard>(bytes));
            drop(serde_json::from_slice::<Request>(bytes));
            drop(serde_json::from_slice::<Reply>(bytes));
            drop(version(&String::from_utf8_lossy(bytes)).map(str::to_owned));
        });
    }
}
