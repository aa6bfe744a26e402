//! Starting the health and metrics servers.

use std::net::SocketAddr;

use thiserror::Error;
use tokio::runtime::Handle;

use crate::http_server::{Handler, Reach, Server, listen, listen_until_successful};
use crate::{klog_error, klog_info, logging};

/// A server that must listen could not (`--bind-address-hard-fail`).
#[derive(Debug, Error)]
#[error(
    "{what} server failed: failed to start proxy {what} on {address}: {source}; free the address or give another one"
)]
pub struct ServerError {
    what: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves until the process ends. Without `hard_fail` an address that is taken is tried again until it is free.
pub(super) fn start(
    what: &'static str,
    address: SocketAddr,
    hard_fail: bool,
    handler: Handler,
) -> Result<(), ServerError> {
    klog_info!(v = 3, format!("Starting {what} HTTP server"), address = address.to_string());
    match listen(address, Reach::Any) {
        Ok(listener) => {
            let failed = |source| ServerError { what, address, source };
            keep(Server::start(&Handle::current(), listener, handler).map_err(failed)?);
        }
        Err(source) if hard_fail => return Err(ServerError { what, address, source }),
        Err(error) => {
            report(what, address, &error);
            tokio::spawn(async move {
                let listener = listen_until_successful(address, |error| report(what, address, error)).await;
                match Server::start(&Handle::current(), listener, handler) {
                    Ok(server) => keep(server),
                    Err(error) => report(what, address, &error),
                }
            });
        }
    }
    Ok(())
}

/// A server lives as long as its value: for the rest of the process.
fn keep(server: Server) {
    tokio::spawn(async move {
        let _listening = server;
        std::future::pending::<()>().await;
    });
}

fn report(what: &'static str, address: SocketAddr, error: &std::io::Error) {
    klog_error!(
        format!("Failed to start {what} server"),
        err = logging::error(error),
        address = address.to_string()
    );
}
