//! A small HTTP/1.1 server for the health, metrics and service health check ports.
//!
//! Handlers are plain functions: all answers are short and already in memory. Every connection is bounded in header
//! and body size, in time and in number, because these ports face load balancers and, often, the whole network.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

pub type Reply = Response<Full<Bytes>>;
pub type Handler = Arc<dyn Fn(&Request<Bytes>) -> Reply + Send + Sync>;

/// Between two tries to listen, as upstream waits.
const LISTEN_RETRY: Duration = Duration::from_secs(5);
/// For one request to arrive, and for an idle connection to say something: longer than the usual scrape interval, so
/// that a scraper's connection is not closed just as it is used again.
const READ_TIMEOUT: Duration = Duration::from_secs(75);
/// After this a connection is closed, at once or when its current answer is read: the bound on clients that do not
/// read. Scrapers and load balancers reconnect.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
const LAST_ANSWER: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 1024;
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 64 << 10;

/// Which peers a socket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Go's network "tcp": a wildcard address of either family answers both families.
    Any,
    /// The family of the address alone ("tcp4", "tcp6").
    OwnFamily,
}

/// Opens a listening socket.
pub fn listen(address: SocketAddr, reach: Reach) -> io::Result<TcpListener> {
    if reach == Reach::OwnFamily || !address.ip().is_unspecified() {
        return open(address, true);
    }
    let both_families = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
    match open(both_families, false) {
        // A kernel without IPv6 has no such socket.
        Err(error) if address.is_ipv4() && no_ipv6(&error) => open(address, true),
        result => result,
    }
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections of an earlier listener that linger in TIME_WAIT must not keep its port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

const EAFNOSUPPORT: i32 = 97;

/// Tries to listen every five seconds until it works; each failure is handed to `failed`.
pub async fn listen_until_successful(address: SocketAddr, mut failed: impl FnMut(&io::Error)) -> TcpListener {
    loop {
        match listen(address, Reach::Any) {
            Ok(listener) => return listener,
            Err(error) => failed(&error),
        }
        tokio::time::sleep(LISTEN_RETRY).await;
    }
}

/// A running server. Dropping it closes the listening socket and every connection; the port is free at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Arc<tokio::net::TcpListener>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves on `runtime`; may be called from any thread. Fails if the runtime cannot watch the socket.
    pub fn start(runtime: &Handle, listener: TcpListener, handler: Handler) -> io::Result<Server> {
        let _inside = runtime.enter();
        let address = listener.local_addr()?;
        let listener = Arc::new(tokio::net::TcpListener::from_std(listener)?);
        let accepting = runtime.spawn(accept(listener.clone(), handler));
        Ok(Server { address, listener, accepting })
    }

    /// Where it listens; with the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The task closes the socket some time later. Until then shutdown(2) ends its listening state, so that the
        // same port can be opened again right away.
        let _ = SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both);
        self.accepting.abort();
    }
}

/// Accepts until aborted; its connections end with it.
async fn accept(listener: Arc<tokio::net::TcpListener>, handler: Handler) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(permit) = free.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = handler.clone();
                connections.spawn(async move {
                    serve(stream, handler).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, or the peer is gone already. Neither lasts.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, handler: Handler) {
    let service = service_fn(move |request| answer(request, handler.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What a client did wrong on its connection is its own affair: errors are not logged.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

async fn answer(request: Request<Incoming>, handler: Handler) -> Result<Reply, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "request body too large\n"));
    }
    let body = match within_read_timeout(Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(_)) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "request body too large\n")),
        None => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "request body did not arrive in time\n")),
    };
    Ok(handler(&Request::from_parts(parts, body)))
}

async fn within_read_timeout<T>(reading: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(READ_TIMEOUT, reading).await.ok()
}

/// A plain text answer.
pub fn plain(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body)
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "application/json", body)
}

/// Go's answer for an unknown path.
pub fn not_found() -> Reply {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Every answer says `nosniff`, so that no browser takes text for something else.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
