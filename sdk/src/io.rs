//! Whole blobs in one call, and messages to whoever watches the run.

use crate::bindings::pipe::step::log::{self, Level};
use crate::{Blob, BlobWriter, ErrorCode, Failure};

/// Bytes asked for in one call: large enough to amortise it, small enough for a guest's memory.
const CHUNK: u32 = 1 << 20;

/// Makes a blob of bytes.
pub fn blob(bytes: &[u8]) -> Result<Blob, Failure> {
    let writer = BlobWriter::new();
    for chunk in bytes.chunks(CHUNK as usize) {
        writer.write(chunk)?;
    }
    BlobWriter::finish(writer)
}

/// Reads a whole blob.
pub fn read(blob: &Blob) -> Result<Vec<u8>, Failure> {
    let size = blob.size();
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    while (bytes.len() as u64) < size {
        let chunk = blob.read(bytes.len() as u64, CHUNK)?;
        if chunk.is_empty() {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a whole blob as UTF-8; `name` is what a message calls it.
pub fn read_to_string(blob: &Blob, name: &str) -> Result<String, Failure> {
    String::from_utf8(read(blob)?).map_err(|error| {
        Failure::invalid(format!("`{name}` is not UTF-8: {}", error.utf8_error())).hint("save it as UTF-8")
    })
}

/// Says how far a long piece of work is; of what is said more often than ten times a second the rest is passed over.
pub fn progress(done: u64, total: Option<u64>, unit: &str) {
    log::progress(done, total, unit);
}

/// Logs what only someone who looks for a fault wants to see. Of any message, and of a failure's, 16 KiB are passed on.
pub fn debug(message: &str) {
    log::log(Level::Debug, message);
}

/// Logs what a user may want to know.
pub fn info(message: &str) {
    log::log(Level::Info, message);
}

/// Logs what a user should look at, though the step goes on.
pub fn warn(message: &str) {
    log::log(Level::Warn, message);
}

impl Failure {
    /// A failure with a code and a message: a sentence fragment that names the place and the cause.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retryable: false }
    }

    /// The config or an input is wrong, and the user can mend it.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidConfig, message)
    }

    /// The step's own work failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Failed, message)
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
