//! Takes connections, secures them, and hands their requests on.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::handle::{Asker, Handler};
use super::identity::{self, IdentityError, Trust};
use crate::core::Core;
use crate::pod::Pods;

/// For a client to agree on keys.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// For the head of a request to arrive.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Between tries to take a connection when the process has no file descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Opens the socket.
///
/// # Errors
/// When the address is not this host's, or the port is in use.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until it is dropped.
///
/// # Errors
/// When TLS cannot be set up; nothing is answered then.
pub(crate) fn serve(
    listener: TcpListener,
    core: Arc<Core>,
    pods: Pods,
    trust: &Trust,
) -> Result<impl Future<Output = ()> + Send + 'static, IdentityError> {
    let config = identity::server_config(&core.node_name, &core.node_ips, trust)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handler = Arc::new(Handler { core, pods });
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, acceptor.clone(), handler.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    })
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, handler: Arc<Handler>) {
    // Keystrokes are short and should not wait for more.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let asker = match certificate {
        None => Asker::Nobody,
        Some(certificate) if identity::may_ask(certificate) => Asker::ApiServer,
        Some(_) => Asker::Other,
    };
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.answer(request, asker).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}
