//! The threads that speak with clients, one for each processor. A connection stays on the thread that it was given to, with the
//! connections to processes that it needs: nothing of a request waits for another thread. Unaware of what is spoken.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How often a thread wakes up by itself. It is woken, by a system call, for every time limit that is due before all others;
/// those of connections are all longer than this, so that none is.
const BEAT: Duration = Duration::from_secs(10);

/// The threads, for whoever has something to do on them.
pub(crate) struct Threads {
    handles: Vec<Handle>,
    /// Counts what was given to them, so that they take turns.
    turn: AtomicUsize,
}

/// Ends them, with all that is spoken on them, when it is dropped.
#[derive(Default)]
pub(crate) struct Running(Vec<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Threads {
    /// Starts one for each processor.
    pub(crate) fn start() -> io::Result<(Arc<Self>, Running)> {
        let (mut handles, mut running) = (Vec::new(), Running::default());
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel();
            let thread = std::thread::Builder::new().name("front".to_owned()).spawn(move || {
                runtime.block_on(until(stopped));
                runtime.shutdown_background();
            })?;
            running.0.push((stop, thread));
        }
        Ok((Self::of(handles), running))
    }

    /// Threads of somebody else.
    pub(super) fn of(handles: Vec<Handle>) -> Arc<Self> {
        Arc::new(Self { handles, turn: AtomicUsize::new(0) })
    }

    /// The one whose turn it is.
    pub(super) fn next(&self) -> &Handle {
        &self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }

    /// Does something on one of them, and waits for it.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.next().block_on(future)
    }

    /// How many things are being done on them.
    pub(super) fn tasks(&self) -> usize {
        self.handles.iter().map(|handle| handle.metrics().num_alive_tasks()).sum()
    }
}

async fn until(mut stopped: oneshot::Receiver<()>) {
    while tokio::time::timeout(BEAT, &mut stopped).await.is_err() {}
}

impl Drop for Running {
    fn drop(&mut self) {
        for (stop, thread) in self.0.drain(..) {
            drop(stop);
            // It ends by itself: nothing of it panics.
            let _ = thread.join();
        }
    }
}
