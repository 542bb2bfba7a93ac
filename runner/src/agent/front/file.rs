//! A part of a file as a body, read as it is sent. Knows nothing of what it is a part of.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf, Take};

use super::proxy::BoxError;

/// How much of a file is sent at once.
const CHUNK: usize = 64 << 10;

/// From where a file has been read up to, so many bytes.
pub(super) struct FilePart(Take<File>);

impl FilePart {
    pub(super) fn new(file: File, count: u64) -> Self {
        Self(file.take(count))
    }
}

impl Body for FilePart {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut chunk = vec![0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        let length = buffer.filled().len();
        chunk.truncate(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.limit() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.limit())
    }
}
