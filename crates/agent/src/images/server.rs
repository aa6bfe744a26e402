//! Serving TCP connections, a thread each, until SIGTERM: then no more are taken, and those that are being served are served
//! to the end.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// For requests that are being served when the end is asked for: less than the 30 seconds that pods have by default.
const DRAIN: Duration = Duration::from_secs(25);
/// For a client that was let in just before the end to say what it wants.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// Connections at a time; more wait in the kernel until one of these is done.
const CONNECTIONS_MAX: usize = 1000;
/// Handlers keep little on their stacks, in bytes.
const STACK: usize = 256 * 1024;

/// Serves connections to these ports, on all addresses, in the calling thread, until SIGTERM or SIGINT. A handler has a
/// connection for as long as it lasts.
pub(super) fn serve(
    ports: &[u16],
    handler: impl Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let listeners = ports.iter().map(|port| listen(*port)).collect::<io::Result<Vec<_>>>()?;
    let (signalled, signals) = UnixStream::pair()?;
    pipe::register(SIGTERM, signals.try_clone()?)?;
    pipe::register(SIGINT, signals)?;
    let (handler, open) = (Arc::new(handler), Arc::new(Open::default()));
    while !wait(&listeners, &signalled)? {
        accept_all(&listeners, &handler, &open)?;
    }
    // Clients that the kernel has let in already count on an answer.
    accept_all(&listeners, &handler, &open)?;
    drop(listeners);
    open.drain();
    Ok(())
}

/// A connection in its handler's hands.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    id: u64,
    open: Arc<Open>,
}

impl Connection {
    /// To be called when a request begins, and when it is answered: in between the connection is not closed by the server's end.
    pub(super) fn set_busy(&self, busy: bool) {
        if let Some((_, phase)) = self.open.lock().get_mut(&self.id) {
            *phase = if busy { Phase::Busy } else { Phase::Idle };
        }
        self.open.changed.notify_all();
        if !busy && self.open.ending() {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether the server is about to end, so that this should be the last request.
    pub(super) fn is_last(&self) -> bool {
        self.open.ending()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
        self.open.changed.notify_all();
    }
}

/// What a connection is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has not asked for anything yet.
    New,
    Busy,
    /// The client may ask for more.
    Idle,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    connections: Mutex<HashMap<u64, (TcpStream, Phase)>>,
    changed: Condvar,
    is_ending: AtomicBool,
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (TcpStream, Phase)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Waits until there is room for one more.
    fn add(self: &Arc<Open>, id: u64, stream: TcpStream) -> io::Result<Connection> {
        let full = |open: &mut HashMap<_, _>| open.len() >= CONNECTIONS_MAX;
        let open = self.changed.wait_while(self.lock(), full);
        open.unwrap_or_else(PoisonError::into_inner).insert(id, (stream.try_clone()?, Phase::New));
        Ok(Connection { stream, id, open: Arc::clone(self) })
    }

    /// Ends connections as soon as nobody waits for an answer. What a client has sent by then is read all the same.
    fn drain(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.end_those_in(Phase::Idle);
        self.wait_until_none(FIRST_WORD, |phase| phase == Phase::New);
        self.end_those_in(Phase::New);
        self.wait_until_none(DRAIN, |_| true);
    }

    fn end_those_in(&self, phase: Phase) {
        for (stream, _) in self.lock().values().filter(|(_, found)| *found == phase) {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    fn wait_until_none(&self, limit: Duration, counts: impl Fn(Phase) -> bool) {
        let some_left =
            |open: &mut HashMap<u64, (TcpStream, Phase)>| open.values().any(|(_, phase)| counts(*phase));
        drop(self.changed.wait_timeout_while(self.lock(), limit, some_left));
    }
}

/// Waits for a client, or for the end: true.
fn wait(listeners: &[TcpListener], signalled: &UnixStream) -> io::Result<bool> {
    let mut files = vec![PollFd::new(signalled.as_fd(), PollFlags::POLLIN)];
    files.extend(listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
    match poll(&mut files, PollTimeout::NONE) {
        Ok(_) => Ok(files.first().and_then(PollFd::any).unwrap_or(false)),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn accept_all<H>(listeners: &[TcpListener], handler: &Arc<H>, open: &Arc<Open>) -> io::Result<()>
where
    H: Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
{
    for listener in listeners {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A client that was gone before it was let in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            start(stream, handler, open)?;
        }
    }
    Ok(())
}

fn start<H>(stream: TcpStream, handler: &Arc<H>, open: &Arc<Open>) -> io::Result<()>
where
    H: Fn(&Connection) -> io::Result<()> + Send + Sync + 'static,
{
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let connection = open.add(NEXT.fetch_add(1, Ordering::Relaxed), stream)?;
    let handler = Arc::clone(handler);
    thread::Builder::new().stack_size(STACK).spawn(move || {
        // A client that goes away is its own affair.
        let _ = handler(&connection);
    })?;
    Ok(())
}

/// Listens on all addresses of both families, or of the one that there is.
fn listen(port: u16) -> io::Result<TcpListener> {
    let listener =
        TcpListener::bind(any(port).as_slice()).map_err(|error| cannot_listen("TCP", port, &error))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The same for datagrams.
pub(super) fn datagram_socket(port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind(any(port).as_slice()).map_err(|error| cannot_listen("UDP", port, &error))
}

/// The first takes clients of both families (bindv6only is 0 everywhere), the second is for hosts without IPv6.
fn any(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}

fn cannot_listen(protocol: &str, port: u16, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {protocol} port {port}: {error}"))
}
