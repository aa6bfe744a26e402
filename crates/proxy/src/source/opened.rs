//! The source that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::api::{ApiSource, ApiSourceSettings};
use super::manifests::{ManifestSource, ManifestSourceError};
use super::{Kind, NodeWait, NodeWaitError, NodeWaitLimits, Update, wait_for_node};
use crate::client::{ApiClient, ClientError, RequestError};
use crate::config::{Configuration, DetectLocalMode};
use crate::events::EventRecorder;
use crate::metrics::Metrics;

#[derive(Debug, Error)]
pub enum SourceError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Manifests(#[from] ManifestSourceError),
}

/// Delivers updates until it is dropped.
#[derive(Debug)]
pub enum Source {
    Api { client: ApiClient, source: ApiSource },
    Manifests(JoinHandle<()>),
}

impl Source {
    /// Opens `--manifests` where it is given, and follows it; an API server otherwise, of which nothing is asked yet.
    pub async fn open(
        config: &Configuration,
        node: &str,
        updates: mpsc::Sender<Update>,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Source, SourceError> {
        if let Some(path) = &config.manifests {
            let manifests = ManifestSource::open(path, node)?;
            return Ok(Source::Manifests(tokio::spawn(manifests.run(updates))));
        }
        let client = ApiClient::configured(config, metrics).await?;
        let source = ApiSource::new(client.clone(), node, ApiSourceSettings::default(), updates);
        Ok(Source::Api { client, source })
    }

    /// Whether the API server answers and knows who asks, for those who would rather give up than wait.
    pub async fn check(&self) -> Result<(), RequestError> {
        let Source::Api { client, .. } = self else { return Ok(()) };
        match client.get("/version").await {
            // That a server keeps its version to itself says nothing of the rest.
            Err(RequestError::Status { code, .. }) if code != 401 => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Follows this node's object: first, since the rest of the start depends on it.
    pub fn watch_node(&mut self) {
        if let Source::Api { source, .. } = self {
            source.watch(Kind::Node);
        }
    }

    /// Follows everything else. Files are followed as a whole from the beginning.
    pub fn watch_services(&mut self) {
        if let Source::Api { source, .. } = self {
            for kind in [Kind::Service, Kind::EndpointSlice, Kind::ServiceCidr] {
                source.watch(kind);
            }
        }
    }

    /// Events go where the objects come from; files have no place for them, so there they become log lines.
    pub fn event_recorder(&self) -> EventRecorder {
        match self {
            Source::Api { client, .. } => {
                let host = nix::unistd::gethostname().unwrap_or_default();
                EventRecorder::start(client.clone(), &host.to_string_lossy())
            }
            Source::Manifests(_) => EventRecorder::log_only(),
        }
    }

    /// Waits until what the rules need to know of the node is known. Files say at once all that they will say.
    pub async fn wait_for_node(
        &self,
        updates: &mut mpsc::Receiver<Update>,
        node: &str,
        config: &Configuration,
    ) -> Result<NodeWait, NodeWaitError> {
        let limits = match self {
            Source::Api { .. } => NodeWaitLimits::default(),
            Source::Manifests(_) => NodeWaitLimits { addresses: Duration::ZERO, pod_cidrs: Duration::ZERO },
        };
        let needs_pod_cidrs = config.detect_local_mode == DetectLocalMode::NodeCidr;
        wait_for_node(updates, node, needs_pod_cidrs, limits).await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Manifests(following) = self {
            following.abort();
        }
    }
}
