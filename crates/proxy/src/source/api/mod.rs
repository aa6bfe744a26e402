//! Objects from a Kubernetes API server: one list-and-watch for each kind.
//!
//! Bytes are cut into objects as they arrive ([`framing`]), each object is first asked who it is and decoded only if
//! that is news ([`decode`], [`inventory`]), and a pure state machine ([`machine`]) decides what to ask next. Whatever
//! happens to a connection, the updates end in the server's state.

mod backoff;
mod connection;
mod decode;
mod framing;
mod inventory;
mod machine;
mod request;
mod revision;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use backoff::BackoffPolicy;

use crate::client::ApiClient;
use crate::klog_error;
use crate::logging::error;
use crate::source::{Kind, Update};

/// How long to bear silence, and how to come back after a failure.
#[derive(Debug, Clone, Copy)]
pub struct ApiSourceSettings {
    pub backoff: BackoffPolicy,
    /// Without a byte of a streamed list for this long, the server is taken not to know streamed lists.
    pub listing_silence: Duration,
    /// Without a byte of a watch for this long, the connection is taken to be dead. The server sends a bookmark each
    /// minute. A server that does not is asked again, which costs it one request and changes nothing.
    pub watch_silence: Duration,
}

impl Default for ApiSourceSettings {
    fn default() -> ApiSourceSettings {
        ApiSourceSettings {
            backoff: BackoffPolicy::default(),
            listing_silence: Duration::from_secs(10),
            watch_silence: Duration::from_secs(150),
        }
    }
}

/// Watches that run until they are dropped, or nobody reads their updates.
#[derive(Debug)]
pub struct ApiSource {
    client: ApiClient,
    node_name: String,
    settings: ApiSourceSettings,
    updates: mpsc::Sender<Update>,
    watches: Vec<JoinHandle<()>>,
}

impl ApiSource {
    pub fn new(
        client: ApiClient,
        node_name: impl Into<String>,
        settings: ApiSourceSettings,
        updates: mpsc::Sender<Update>,
    ) -> ApiSource {
        ApiSource { client, node_name: node_name.into(), settings, updates, watches: Vec::new() }
    }

    /// Starts to follow a kind. The node comes first, since the rest of the start depends on it.
    pub fn watch(&mut self, kind: Kind) {
        let watch = connection::Watch {
            client: self.client.clone(),
            kind,
            node_name: self.node_name.clone(),
            settings: self.settings,
            updates: self.updates.clone(),
        };
        self.watches.push(tokio::spawn(watch.run()));
    }
}

impl Drop for ApiSource {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

/// The one line an operator sees for each failure.
fn log_failure(kind: Kind, host: &str, failure: &machine::Failure, delay: Duration) {
    let retry_in = format!("{:.1}s", delay.as_secs_f64());
    klog_error!(
        "Failed to watch",
        err = error(failure),
        kind = kind.as_str(),
        server = host,
        retryIn = retry_in
    );
}
