//! What all parts of a running agent share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::network::Cni;
use crate::runtime::Runtime;

/// The agent's means, and what it knows of itself.
pub(crate) struct Core {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) cni: Cni,
    pub(crate) client: Client,
    pub(crate) events: Recorder,
    pub(crate) node_name: String,
    /// The primary one first.
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) root_dir: PathBuf,
    pub(crate) dns: DnsSettings,
    /// Grows whenever a container ended.
    pub(crate) ends: watch::Sender<u64>,
    /// The agent ends; what it runs stays.
    pub(crate) stopping: CancellationToken,
}

/// Whom pods ask for names.
#[derive(Debug, Clone, Default)]
pub(crate) struct DnsSettings {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) domain: String,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Runs something that blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending and has not begun the work: whoever waits ends too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// An error with what caused it, in one line: events and statuses have no place for a chain.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors tell their cause themselves.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
