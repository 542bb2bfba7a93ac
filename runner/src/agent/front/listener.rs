//! Addresses that are listened at, each as long as somebody holds it. What an earlier agent listened at is taken from it instead
//! of being bound anew, and connections wait until it is known where their requests go. Unaware of what is spoken over them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::super::{held, lock};
use super::Entrance;
use super::connection::{Connection, Heir, go_on, welcome};
use super::threads::Threads;

/// By which way clients come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// The front of a target.
    Target {
        /// The application.
        app: String,
        /// The target.
        target: String,
    },
    /// The front of all domains.
    Domains,
    /// The same, over TLS.
    DomainsOverTls,
}

/// An address that an earlier agent listened at.
pub(crate) struct Inherited {
    pub(crate) way: Way,
    pub(crate) address: SocketAddr,
    pub(crate) socket: std::net::TcpListener,
}

/// All that an agent listens at for the public.
pub(crate) struct Listeners {
    /// Where connections are spoken over: they may outlive all else of the agent.
    threads: Arc<Threads>,
    open: Mutex<Vec<Weak<Listener>>>,
    inherited: Mutex<Vec<Inherited>>,
    /// Who holds the same sockets for the next agent.
    keeper: Mutex<Option<UnixStream>>,
    heir: watch::Sender<Option<Heir>>,
}

/// An address that is listened at until nobody holds it any more; connections that are open go on then.
pub(crate) struct Listener {
    pub(crate) way: Way,
    pub(crate) address: SocketAddr,
    /// Closed once nobody accepts from it.
    socket: Weak<TcpListener>,
    accepts: Arc<Notify>,
    accepting: JoinHandle<()>,
    /// Whether somebody else listens there from now on.
    is_given: AtomicBool,
}

impl Listeners {
    pub(crate) fn new(threads: Arc<Threads>, inherited: Vec<Inherited>) -> Self {
        let inherited = Mutex::new(inherited);
        let (open, keeper) = (Mutex::default(), Mutex::default());
        Self { threads, open, inherited, keeper, heir: watch::Sender::new(None) }
    }

    /// Has a keeper hold all that is listened at, now and later.
    pub(crate) fn keep_at(&self, keeper: UnixStream) {
        *lock(&self.keeper) = Some(keeper);
        self.all().iter().for_each(|listener| self.keep(listener));
    }

    fn keep(&self, listener: &Listener) {
        if let (Some(keeper), Some(socket)) = (&*lock(&self.keeper), listener.socket()) {
            // One that is gone is followed by another.
            let _ = held::give(keeper, &listener.way, listener.address, &socket);
        }
    }

    /// Listens, where that is not done already; whoever connects waits until [`Listener::accept`].
    pub(crate) async fn listen(&self, address: SocketAddr, entrance: Entrance) -> io::Result<Arc<Listener>> {
        let way = entrance.way();
        if let Some(listener) = self.at(&way, address) {
            return Ok(listener);
        }
        let accepting = self.threads.next();
        let socket = match self.inherited_at(&way, address) {
            Some(socket) => {
                let _thread = accepting.enter();
                TcpListener::from_std(socket)
            }
            None => accepting.spawn(bind(address)).await.map_err(io::Error::other)?,
        };
        let socket = match socket {
            Ok(socket) => Arc::new(socket),
            // Another release has just been quicker.
            Err(error) => return self.at(&way, address).ok_or(error),
        };
        let accepts = Arc::new(Notify::new());
        let weak = Arc::downgrade(&socket);
        let accepting = {
            let (accepts, heir, threads) = (Arc::clone(&accepts), self.heir.subscribe(), Arc::clone(&self.threads));
            accepting.spawn(async move {
                accepts.notified().await;
                listen(&socket, &Arc::new(entrance), &heir, &threads).await;
            })
        };
        let is_given = AtomicBool::new(false);
        let listener = Arc::new(Listener { way, address, socket: weak, accepts, accepting, is_given });
        {
            let mut open = lock(&self.open);
            open.retain(|listener| listener.strong_count() > 0);
            open.push(Arc::downgrade(&listener));
        }
        self.keep(&listener);
        Ok(listener)
    }

    fn at(&self, way: &Way, address: SocketAddr) -> Option<Arc<Listener>> {
        self.all().into_iter().find(|listener| listener.way == *way && listener.address == address)
    }

    /// All that is listened at.
    pub(crate) fn all(&self) -> Vec<Arc<Listener>> {
        lock(&self.open).iter().filter_map(Weak::upgrade).collect()
    }

    fn inherited_at(&self, way: &Way, address: SocketAddr) -> Option<std::net::TcpListener> {
        let mut inherited = lock(&self.inherited);
        let at = inherited.iter().position(|left| left.way == *way && left.address == address)?;
        Some(inherited.swap_remove(at).socket)
    }

    /// Where an earlier agent listened for a target.
    pub(crate) fn inherited(&self, app: &str, target: &str) -> Option<SocketAddr> {
        let way = Way::Target { app: app.to_owned(), target: target.to_owned() };
        lock(&self.inherited).iter().find(|left| left.way == way).map(|left| left.address)
    }

    /// Closes what an earlier agent listened at and nobody has asked for.
    pub(crate) fn close_inherited(&self) {
        lock(&self.inherited).drain(..).for_each(|inherited| close(&inherited.socket));
    }

    /// Goes on with a connection that an earlier agent had.
    pub(crate) fn adopt(&self, connection: Connection, entrance: Entrance) {
        let heir = self.heir.subscribe();
        self.threads.next().spawn(go_on(connection, entrance, heir));
    }

    /// Accepts nobody any more: whoever connects waits for somebody else who has the same sockets.
    pub(crate) fn stop(&self) {
        for listener in self.all() {
            listener.is_given.store(true, Ordering::SeqCst);
            listener.accepting.abort();
        }
    }

    /// Gives each connection away at its next pause, and waits until all are gone or have ended, and no more can be adopted.
    pub(crate) async fn give_to(&self, heir: Heir, mut is_alone: watch::Receiver<bool>) {
        self.heir.send_replace(Some(heir));
        let _ = is_alone.wait_for(|is_alone| *is_alone).await;
        while self.threads.tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.heir.send_replace(None);
    }
}

impl Listener {
    /// From now on clients are answered.
    pub(crate) fn accept(&self) {
        // Said before anybody waits for it, it is remembered; said again, it changes nothing.
        self.accepts.notify_one();
    }

    pub(crate) fn socket(&self) -> Option<Arc<TcpListener>> {
        self.socket.upgrade()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(socket) = self.socket().filter(|_| !self.is_given.load(Ordering::SeqCst)) {
            close(&socket);
        }
        self.accepting.abort();
    }
}

/// Has nobody listen at a socket any more, whoever holds it too: who did lets go of it then.
fn close(socket: &impl AsRawFd) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // All addresses of a machine without IPv6.
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_no_family(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn is_no_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

async fn listen(
    socket: &TcpListener,
    entrance: &Arc<Entrance>,
    heir: &watch::Receiver<Option<Heir>>,
    threads: &Threads,
) {
    loop {
        let (stream, peer) = accept(socket).await;
        // A socket belongs to the thread that has first taken it up: this one lets go of it.
        if let Ok(stream) = stream.into_std() {
            threads.next().spawn(welcome(stream, peer, Arc::clone(entrance), heir.clone()));
        }
    }
}

/// The next connection.
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            // Out of descriptors, or the client was gone already: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    use super::*;

    fn threads() -> Arc<Threads> {
        Threads::of(vec![tokio::runtime::Handle::current()])
    }

    fn entrance() -> Entrance {
        Entrance::Target { app: "demo".into(), target: "staging".into(), current: super::super::Current::default() }
    }

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port")
    }

    async fn asked(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: demo.test\r\n\r\n").await.expect("sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        stream.readable().await.expect("the rest");
        let _ = stream.try_read(&mut [0; 1000]);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn whoever_connects_early_waits_until_clients_are_answered() {
        let listeners = Listeners::new(threads(), Vec::new());
        let listener = listeners.listen(free_address(), entrance()).await.expect("it is free");
        let mut stream = TcpStream::connect(listener.address).await.expect("it waits");
        let early = tokio::time::timeout(Duration::from_millis(300), asked(&mut stream)).await;
        assert!(early.is_err(), "{early:?}");
        listener.accept();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 503");
    }

    #[tokio::test]
    async fn an_heir_goes_on_with_sockets_and_connections_and_nobody_else_listens() {
        let old = Arc::new(Listeners::new(threads(), Vec::new()));
        let listener = old.listen(free_address(), entrance()).await.expect("it is free");
        listener.accept();
        let address = listener.address;
        let mut kept = TcpStream::connect(address).await.expect("it listens");
        assert_eq!(asked(&mut kept).await, "HTTP/1.1 503");
        let socket = listener.socket().expect("it listens").as_fd().try_clone_to_owned().expect("a copy");
        old.stop();
        let (heir, mut given) = mpsc::unbounded_channel();
        old.heir.send_replace(Some(heir));
        let (left, connection) = given.recv().await.expect("the connection is given away");
        drop(listener);

        let inherited = Inherited { way: entrance().way(), address, socket: socket.into() };
        let new = Listeners::new(threads(), vec![inherited]);
        assert_eq!(new.inherited("demo", "staging"), Some(address));
        let listener = new.listen(address, entrance()).await.expect("it is inherited");
        assert_eq!(new.inherited("demo", "staging"), None);
        listener.accept();
        let mut fresh = TcpStream::connect(address).await.expect("it listens");
        assert_eq!(asked(&mut fresh).await, "HTTP/1.1 503");
        new.adopt((left, connection), entrance());
        assert_eq!(asked(&mut kept).await, "HTTP/1.1 503");
        drop(listener);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
