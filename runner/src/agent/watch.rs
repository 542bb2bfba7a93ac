//! Whether a process that has answered still does. One that has gone silent, and yet runs, is started again: nobody else would
//! notice. Errors are answers: a database that is down is not mended by a restart.

use std::sync::Arc;
use std::time::Duration;

use super::health::answers;
use super::log;
use super::process::Process;

/// How often a process is asked, how long its answer may take, and how many silences in a row are one too many.
#[derive(Debug, Clone, Copy)]
struct Pace {
    every: Duration,
    patience: Duration,
    silences: u32,
}

/// A process that is busy with long requests must never be taken for a silent one.
const PACE: Pace = Pace { every: Duration::from_secs(10), patience: Duration::from_secs(30), silences: 3 };

/// Watches a process until it is gone for good.
pub(super) fn watch(process: &Arc<Process>, path: &str, host: &str) {
    let (process, path, host) = (Arc::clone(process), path.to_owned(), host.to_owned());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = process.ended() => return,
                () = silent(process.port, &path, &host, PACE) => {
                    log::note(format_args!("process `{}` does not answer `GET {path}`; it is started again", process.slot));
                    process.start_again();
                }
            }
        }
    });
}

/// Comes back once a process that has answered does so no more; one that never did is still coming up, or will never.
async fn silent(port: u16, path: &str, host: &str, pace: Pace) {
    let mut has_answered = false;
    let mut silences = 0;
    while silences < pace.silences {
        tokio::time::sleep(pace.every).await;
        if answers(port, path, host, pace.patience).await {
            (has_answered, silences) = (true, 0);
        } else if has_answered {
            silences += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const QUICK: Pace = Pace { every: Duration::from_millis(10), patience: Duration::from_millis(100), silences: 3 };

    /// A server that answers with an error as long as `speaks`, and then accepts and says nothing.
    async fn server(speaks: Arc<AtomicBool>) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                if speaks.load(Ordering::SeqCst) {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
                } else {
                    tokio::spawn(async move {
                        pending::<()>().await;
                        drop(stream);
                    });
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn who_has_answered_and_stops_is_silent_and_errors_are_answers() {
        let speaks = Arc::new(AtomicBool::new(true));
        let port = server(Arc::clone(&speaks)).await;
        let watching = tokio::spawn(silent(port, "/", "localhost", QUICK));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!watching.is_finished(), "errors are answers");
        speaks.store(false, Ordering::SeqCst);
        watching.await.expect("it is noticed");
    }

    #[tokio::test]
    async fn who_never_answered_is_left_to_come_up() {
        let port = server(Arc::new(AtomicBool::new(false))).await;
        let watching = tokio::spawn(silent(port, "/", "localhost", QUICK));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!watching.is_finished());
    }
}
