//! Listens, and carries HTTP/1.1 and HTTP/2 over TLS, within limits.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use listenfd::ListenFd;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Front;
use crate::authentication::{ClientVerifier, Peer};

const MOST_CONNECTIONS: usize = 4096;
/// For a client to agree on keys.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// For the head of a request to arrive, and for an idle connection to bring another one: longer than clients keep
/// theirs, which are then the ones to close it.
const HEAD_LIMIT: Duration = Duration::from_secs(100);
const MOST_HEAD_BYTES: u32 = 64 * 1024;
/// One connection carries all watches of a client.
const MOST_STREAMS: u32 = 1000;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How much of an answer may wait for a client, a stream.
const SEND_BUFFER: usize = 64 * 1024;
/// A client that is gone without a word is found out by asking.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(15);
/// For what is being answered when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Between tries to take a connection when the process has no file descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Opens the socket. An unspecified address of either family stands for both families.
///
/// # Errors
/// When the address is not this host's, or the port is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return open(address, true);
    }
    match open(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port()), false) {
        // A kernel without IPv6 has no such socket.
        Err(error) if address.is_ipv4() && error.kind() != io::ErrorKind::AddrInUse => open(address, true),
        result => result,
    }
}

/// Sockets that a supervisor opened for this process (`LISTEN_FDS`, as systemd passes them on): clients wait in them while the server
/// is started again, and they may be in another network namespace.
///
/// # Errors
/// When one of them is no TCP socket that listens.
pub fn inherited() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        if let Some(listener) = passed.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
    }
    Ok(listeners)
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections of an earlier process that linger in TIME_WAIT must not keep its port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// How connections are secured.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    verifier: Arc<ClientVerifier>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Tls {
    /// # Errors
    /// When the key is not that of the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        verifier: ClientVerifier,
    ) -> Result<Tls, rustls::Error> {
        let verifier = Arc::new(verifier);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
    }
}

/// Serves until `stopping`; then what is being answered is brought to an end.
pub async fn serve(listener: TcpListener, tls: Tls, front: Arc<Front>, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        // Beyond the limit clients wait in the backlog of the socket.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = stopping.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, tls.clone(), front.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = DRAIN_LIMIT.as_secs(), "gave up waiting for connections to end");
    }
}

async fn connection(stream: TcpStream, tls: Tls, front: Arc<Front>, watcher: Watcher) {
    let keep_alive = TcpKeepalive::new().with_time(PING_EVERY).with_interval(PING_EVERY);
    let prepared =
        stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keep_alive));
    if let Err(error) = prepared {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Arc::new(Peer::Remote { certificate: tls.verifier.judge(chain).map(Arc::new) });
    let service = service_fn(move |request| {
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, Infallible>(front.answer(request, &peer).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error, "a connection ended");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MOST_HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MOST_HEAD_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT);
    builder
}
