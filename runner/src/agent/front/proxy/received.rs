//! The body of a request, received whole before a process is asked: a client that is slow keeps none of them waiting, and an
//! application is always told how long it is. What is long lies in a file without a name. Unaware of where the request goes.

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes};
use hyper::{Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::super::log;
use super::super::file::FilePart;
use super::exactly;

/// What is longer is not kept in memory.
const IN_MEMORY: usize = 64 << 10;

/// How long a client may send nothing.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_mins(1) };

/// How long it is listened to somebody who sends too much, so that the answer is read: most read none before they have sent all.
const LINGER: Duration = Duration::from_secs(30);

/// A body with its length.
pub(in super::super) type Received = Either<Full<Bytes>, FilePart>;

/// Why there is none.
#[derive(Debug)]
pub(in super::super) enum Refused {
    /// It has more bytes than it may have.
    TooLong { most: u64 },
    /// Nothing came for too long.
    TooSlow,
    /// The client is gone, or speaks no HTTP.
    Broken,
    /// The disk does not take it.
    NoRoom(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::NoRoom(error)
    }
}

/// No body.
pub(in super::super) fn nothing() -> Received {
    Either::Left(Full::default())
}

/// Receives a body of so many bytes at most. `waits` is whether the client sends nothing before it is told to.
pub(in super::super) async fn receive<B>(body: B, most: u64, waits: bool) -> Result<Received, Refused>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    if body.size_hint().lower() > most {
        if !waits {
            linger(body).await;
        }
        return Err(Refused::TooLong { most });
    }
    let mut memory = Vec::new();
    let mut file: Option<File> = None;
    let mut length = 0;
    while let Some(data) = next(&mut body).await? {
        length += data.len() as u64;
        if length > most {
            linger(body).await;
            return Err(Refused::TooLong { most });
        }
        match &mut file {
            Some(file) => file.write_all(&data).await?,
            None => memory.extend_from_slice(&data),
        }
        if file.is_none() && memory.len() > IN_MEMORY {
            let mut long = unnamed().await?;
            long.write_all(&memory).await?;
            memory = Vec::new();
            file = Some(long);
        }
    }
    let Some(mut file) = file else { return Ok(Either::Left(Full::new(memory.into()))) };
    file.flush().await?;
    file.rewind().await?;
    Ok(Either::Right(FilePart::new(file, length)))
}

/// The next bytes of a body, as long as there are more.
async fn next<B>(body: &mut Pin<&mut B>) -> Result<Option<Bytes>, Refused>
where
    B: Body<Data = Bytes>,
{
    loop {
        let frame = timeout(PAUSE, body.frame()).await.map_err(|_| Refused::TooSlow)?;
        match frame.transpose().map_err(|_| Refused::Broken)?.map(hyper::body::Frame::into_data) {
            // Nobody behind the front reads trailers.
            Some(Err(_)) => {}
            data => return Ok(data.and_then(Result::ok)),
        }
    }
}

/// Reads on for a while, for nothing.
async fn linger<B>(mut body: Pin<&mut B>)
where
    B: Body<Data = Bytes>,
{
    let until = Instant::now() + LINGER;
    while let Ok(Ok(Some(_))) = timeout_at(until, next(&mut body)).await {}
}

async fn unnamed() -> io::Result<File> {
    let made = tokio::task::spawn_blocking(tempfile::tempfile).await?;
    made.map(File::from_std)
}

impl Refused {
    /// What the client is told.
    pub(in super::super) fn answer(&self) -> Response<super::Body> {
        match self {
            Self::TooLong { most } => exactly(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a request may have {most} bytes here: `body` in the target's `limits` says how many\n"),
            ),
            Self::TooSlow => exactly(StatusCode::REQUEST_TIMEOUT, format!("nothing came for {} s\n", PAUSE.as_secs())),
            Self::Broken => exactly(StatusCode::BAD_REQUEST, "the request was not sent to its end\n".to_owned()),
            Self::NoRoom(error) => {
                log::note(format_args!("cannot keep the body of a request: {error}"));
                exactly(StatusCode::INSUFFICIENT_STORAGE, "there is no room for the request\n".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body that comes in pieces, of an unknown length.
    struct Pieces(VecDeque<&'static [u8]>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }

    /// What is received of a body, with the length that is told before.
    async fn received(pieces: &[&'static [u8]], most: u64) -> Result<(u64, Vec<u8>), Refused> {
        let body = receive(Pieces(pieces.iter().copied().collect()), most, false).await?;
        let length = body.size_hint().exact().expect("a length");
        Ok((length, body.collect().await.expect("a body").to_bytes().to_vec()))
    }

    #[tokio::test]
    async fn short_bodies_and_long_ones_are_received_with_their_length() {
        static LONG: [u8; 3 * IN_MEMORY] = [7; 3 * IN_MEMORY];
        assert_eq!(received(&[], 10).await.expect("a body"), (0, Vec::new()));
        assert_eq!(received(&[b"a", b"", b"bc"], 3).await.expect("a body"), (3, b"abc".to_vec()));
        let expected = [b"a", &LONG[..], b"b"].concat();
        let (length, body) = received(&[b"a", &LONG, b"b"], u64::MAX).await.expect("a body");
        assert!(length == expected.len() as u64 && body == expected);
    }

    #[tokio::test]
    async fn one_byte_too_many_is_refused_however_it_comes() {
        assert!(matches!(received(&[b"ab", b"cd"], 3).await, Err(Refused::TooLong { most: 3 })));
        let told = receive(Full::new(Bytes::from_static(b"abcd")), 3, true).await;
        assert!(matches!(told, Err(Refused::TooLong { most: 3 })));
    }

    #[tokio::test]
    async fn who_sends_nothing_for_long_is_told() {
        struct Silent;
        impl Body for Silent {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }
        assert!(matches!(receive(Silent, 3, false).await, Err(Refused::TooSlow)));
    }
}
